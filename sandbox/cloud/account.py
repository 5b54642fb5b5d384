"""Calls about the account: STS GetCallerIdentity, Location DescribeEndpoints, and the answer to any call nobody takes.

Sources: STS 2015-04-01, Location 2015-06-12; pulumi-alicloud asks the location service for products without a
configured endpoint.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.cloud.errors import ApiError, json_error, request_id
from sandbox.cloud.openapi import openapi_call
from sandbox.keys import ACCOUNT_ID

if TYPE_CHECKING:
    from sandbox.cloud.state import CloudState


class AccountProduct:
    """Takes every OpenAPI call that no product before it took."""

    def __init__(self, port: int) -> None:
        self._port = port

    def matches(self, request: web.Request) -> bool:
        return openapi_call(request) is not None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        call = openapi_call(request)
        action = call.action if call else ""
        match action:
            case "GetCallerIdentity":
                return web.json_response(
                    {
                        "AccountId": ACCOUNT_ID,
                        "Arn": f"acs:ram::{ACCOUNT_ID}:root",
                        "IdentityType": "Account",
                        "PrincipalId": ACCOUNT_ID,
                        "UserId": ACCOUNT_ID,
                        "RequestId": request_id(),
                    }
                )
            case "DescribeEndpoints":
                form = await request.post()
                parameters = {**{k: str(v) for k, v in form.items()}, **request.query}
                product = parameters.get("ServiceCode", "")
                endpoint = {
                    "Endpoint": f"127.0.0.1:{self._port}",
                    "Id": parameters.get("Id", ""),
                    "Namespace": "",
                    "Protocols": {"Protocols": ["HTTP"]},
                    "SerivceCode": product,  # spelt like this by the real service
                    "ServiceCode": product,
                    "Type": "openAPI",
                }
                return web.json_response({"RequestId": request_id(), "Endpoints": {"Endpoint": [endpoint]}})
        name = call.name if call else request.method
        version = f" ({call.version})" if call and call.version else ""
        # Not a 404 and not "NotFound": the Go provider takes either for "the resource is gone".
        code = "UnsupportedAction." + re.sub(r"[^A-Za-z0-9]+", ".", name).strip(".")
        return json_error(ApiError(400, code, f"The sandbox cloud does not offer {name}{version}."), request.host)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""


def register(app: web.Application, state: CloudState) -> None:
    """Adds the service. It must come after every other OpenAPI product."""
    state.add(AccountProduct(state.port))
