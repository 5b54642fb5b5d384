"""The calls of EAS 2021-07-01 about service groups, traffic weights and mirrors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tfserving.errors import CloudError
from tfserving.traffic import GROUPING, STANDALONE, Mirror

TRAFFIC_LABEL = "pulumi-traffic-by"
"""Label with the create of the TrafficSplit that holds the shares of a member's group. A group has no labels."""


@dataclass(frozen=True)
class ServiceGroup:
    """What the EAS API says about a service group.

    Attributes:
        name: its name.
        token: access token.
        internet_endpoint: URL on the internet, or empty.
        intranet_endpoint: URL inside the VPC, or empty.
        mode: ``auto`` or ``customized``.
    """

    name: str
    token: str = field(repr=False)
    internet_endpoint: str
    intranet_endpoint: str
    mode: str


class GroupCalls(ABC):
    """A part of :class:`provider.clients.EasApi`. What each call raises is said there."""

    _client: Any
    _models: Any
    _runtime: Any
    _region: str

    @abstractmethod
    def _service_call(self, action: str, name: str, call: Callable[..., Any], *request: Any) -> Any:
        """Calls about one service."""

    @abstractmethod
    def _call(self, action: str, name: str, call: Callable[[], Any], *, repeat: bool) -> Any:
        """Calls about anything."""

    def group(self, name: str) -> ServiceGroup | None:
        """DescribeGroup; None where there is no such group."""
        found = self._or_none("DescribeGroup", name, self._client.describe_group_with_options)
        if found is None:
            return None
        return ServiceGroup(
            name=found.name or name,
            token=found.access_token or "",
            internet_endpoint=found.internet_endpoint or "",
            intranet_endpoint=found.intranet_endpoint or "",
            mode=(found.traffic_mode or "").lower(),
        )

    def set_traffic_mode(self, group: str, mode: str) -> None:
        """UpdateGroup, which release 7.0.0 of the SDK has no method for."""
        from alibabacloud_tea_openapi.models import OpenApiRequest, Params

        params = Params(
            action="UpdateGroup",
            version="2021-07-01",
            protocol="HTTPS",
            pathname=f"/api/v2/groups/{self._region}/{group}",
            method="PUT",
            auth_type="AK",
            style="ROA",
            req_body_type="json",
            body_type="json",
        )
        request = OpenApiRequest(headers={}, body={"TrafficMode": mode})
        self._call("UpdateGroup", group, lambda: self._client.call_api(params, request, self._runtime), repeat=True)

    def release(self, name: str, weight: int, *, grouping: bool) -> None:
        """ReleaseService: weight and traffic state of a service in its group."""
        state = GROUPING if grouping else STANDALONE
        request = self._models.ReleaseServiceRequest(weight=weight, traffic_state=state)
        self._service_call("ReleaseService", name, self._client.release_service_with_options, request)

    def set_label(self, name: str, key: str, value: str) -> None:
        """UpdateServiceLabel: one label of a service; the others stay."""
        request = self._models.UpdateServiceLabelRequest(labels={key: value})
        self._service_call("UpdateServiceLabel", name, self._client.update_service_label_with_options, request)

    def mirror(self, name: str) -> Mirror | None:
        """DescribeServiceMirror; None where no requests of the service are copied."""
        found = self._or_none("DescribeServiceMirror", name, self._client.describe_service_mirror_with_options)
        percent = int(found.ratio) if found is not None and str(found.ratio or "").isdigit() else 0
        return Mirror(found.target or "", percent) if percent else None

    def set_mirror(self, name: str, mirror: Mirror, *, exists: bool) -> None:
        """CreateServiceMirror, or UpdateServiceMirror where one ``exists``."""
        if exists:
            update = self._models.UpdateServiceMirrorRequest(ratio=mirror.percent, target=[mirror.to])
            self._service_call("UpdateServiceMirror", name, self._client.update_service_mirror_with_options, update)
        else:
            create = self._models.CreateServiceMirrorRequest(ratio=mirror.percent, target=[mirror.to])
            self._service_call("CreateServiceMirror", name, self._client.create_service_mirror_with_options, create)

    def delete_mirror(self, name: str) -> None:
        """DeleteServiceMirror; nothing is wrong where there is none."""
        self._or_none("DeleteServiceMirror", name, self._client.delete_service_mirror_with_options)

    def _or_none(self, action: str, name: str, call: Callable[..., Any]) -> Any:
        try:
            return self._service_call(action, name, call).body
        except CloudError as error:
            if "NotFound" in error.code or error.code == "404":
                return None
            raise
