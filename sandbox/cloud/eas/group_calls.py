"""The calls of the EAS API about service groups: ListGroups, DescribeGroup, DescribeGroupEndpoints, UpdateGroup."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.cloud.eas import answers, groups
from sandbox.cloud.eas.gateway import PREFIX
from sandbox.cloud.eas.groups import Group
from sandbox.cloud.eas.runtime import Runtime

PATH = re.compile(r"/api/v2/groups/([^/]+)/([^/]+)(?:/([a-z]+))?/?")
_PAGE = 100


class GroupCalls:
    """Answers them.

    Attributes:
        calls: by method and last part of the path, those about one group.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.calls: dict[tuple[str, str], Callable[[Group, Any], dict[str, Any]]] = {
            ("GET", ""): self._describe,
            ("PUT", ""): self._update,
            ("GET", "endpoints"): self._endpoints,
        }

    def list(self, query: Mapping[str, str], region: str) -> dict[str, Any]:
        """ListGroups.

        Raises:
            ApiError: 400 ``InvalidParameter``.
        """
        found = [
            answers.group(group, self.url(group))
            for group in self._runtime.groups.all()
            if region in ("", group.record.region or region) and query.get("Filter", "") in group.record.name
        ]
        page, fields = answers.page_of(found, query, "PageNumber", _PAGE)
        return {"Groups": page, **fields}

    def _describe(self, group: Group, _: Any) -> dict[str, Any]:
        return answers.group(group, self.url(group))

    def _update(self, group: Group, body: Any) -> dict[str, Any]:
        group.change(traffic_mode=groups.traffic_mode(body))
        return {"Message": f"Update service group {group.record.name} successfully"}

    def _endpoints(self, group: Group, _: Any) -> dict[str, Any]:
        url = self.url(group)
        return {"AccessToken": group.token, "Endpoints": [answers.endpoint(group, url, self._runtime.port)]}

    def url(self, group: Group) -> str:
        """Where a group is reached; one of gRPC services takes no HTTP there."""
        if group.is_root:
            return f"http://127.0.0.1:{group.own_port}"
        return f"http://127.0.0.1:{self._runtime.port}{PREFIX}{group.route}"
