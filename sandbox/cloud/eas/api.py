"""The EAS OpenAPI 2021-07-01 (ROA) and the tag calls of 2021-07-02 (RPC), as official SDK and Go provider use them.

Sources: ``alibabacloud_eas20210701`` 7.0.0 (paths, query and body names, answers), the API reference (messages, states,
time formats), ``terraform-provider-alicloud`` (tag calls). A call that is not offered is refused by name with a 4xx.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.cloud.eas import answers, group_calls, groups, scalers, service_json
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.gateway import PREFIX
from sandbox.cloud.eas.instance import Timing
from sandbox.cloud.eas.process import read_logs
from sandbox.cloud.eas.records import DEFAULT_REGION, ServiceRecord
from sandbox.cloud.eas.runtime import Runtime
from sandbox.cloud.eas.service_json import invalid
from sandbox.cloud.errors import ApiError, request_id
from sandbox.cloud.openapi import openapi_call
from sandbox.cloud.oss.mounts import LiveView

VERSION = "2021-07-01"
TAG_VERSION = "2021-07-02"
TAG_ACTIONS = ("TagResources", "UntagResources", "ListTagResources")
REGION_HEADER = "x-acs-region-id"
"""Says the region of calls that name none in their path: all regions share the sandbox's one endpoint."""
_SERVICE_PATH = re.compile(r"/api/v2/services/([^/]+)/([^/]+)(?:/([a-z]+))?/?")
_EVENTS_PAGE, _LOG_PAGE, _LIST_PAGE = 100, 500, 100
_LOCKS = ("none", "dangerous", "all")


@dataclass(frozen=True)
class Call:
    """One call about one service.

    Attributes:
        deployment: the service.
        region: the ClusterId in the path.
        query: query parameters.
        body: the decoded JSON body, an empty object without one.
    """

    deployment: Deployment
    region: str
    query: Mapping[str, str]
    body: Any

    @property
    def record(self) -> ServiceRecord:
        """What is stored of the service."""
        return self.deployment.record

    def change(self, **fields: Any) -> None:
        """Stores a changed record."""
        self.deployment.change(dataclasses.replace(self.record, updated=time.time(), **fields))

    def reply(self, text: str, **fields: Any) -> dict[str, Any]:
        """An answer with a message that names the service as the real API does."""
        message = text.format(service=f"[{self.record.name}]", region=f"[{self.region}]")
        return {"Message": message, **fields}


class EasProduct:
    """EAS in the sandbox cloud: its API and its gateway."""

    def __init__(
        self,
        directory: Path,
        port: int,
        live_view: LiveView,
        model_server_command: Sequence[str] = (),
        timing: Timing | None = None,
    ) -> None:
        """Args:
        directory: where everything durable lies.
        port: the cloud's own port.
        live_view: OSS prefixes as directories.
        model_server_command: see :class:`sandbox.cloud.eas.runtime.Runtime`.
        timing: how patient to be.
        """
        self.runtime = Runtime(directory, port, live_view, tuple(model_server_command), timing)
        self._groups = group_calls.GroupCalls(self.runtime)
        self._calls: dict[tuple[str, str], Callable[[Call], dict[str, Any]]] = {
            ("GET", ""): self._describe,
            ("PUT", ""): self._update,
            ("DELETE", ""): self._delete,
            ("PUT", "start"): self._start,
            ("PUT", "stop"): self._stop,
            ("PUT", "restart"): self._restart,
            ("GET", "endpoints"): self._endpoints,
            ("GET", "events"): self._events,
            ("GET", "logs"): self._logs,
            ("GET", "instances"): self._instances,
            ("GET", "versions"): self._versions,
            ("PUT", "version"): self._roll_back,
            ("PUT", "release"): self._release,
            ("PUT", "lock"): self._lock,
            ("PUT", "label"): self._put_labels,
            ("DELETE", "label"): self._delete_labels,
            ("POST", "autoscaler"): self._put_autoscaler,
            ("PUT", "autoscaler"): self._put_autoscaler,
            ("GET", "autoscaler"): self._describe_autoscaler,
            ("DELETE", "autoscaler"): self._delete_autoscaler,
            ("POST", "cronscaler"): self._put_cronscaler,
            ("PUT", "cronscaler"): self._put_cronscaler,
            ("GET", "cronscaler"): self._describe_cronscaler,
            ("DELETE", "cronscaler"): self._delete_cronscaler,
            ("POST", "mirror"): self._put_mirror,
            ("PUT", "mirror"): self._put_mirror,
            ("GET", "mirror"): self._describe_mirror,
            ("DELETE", "mirror"): self._delete_mirror,
        }

    def matches(self, request: web.Request) -> bool:
        """Gateway paths, ROA calls of EAS, and its tag calls."""
        if request.path.startswith(PREFIX):
            # An OSS client that has a bucket called "api" signs its requests.
            return not request.headers.get("Authorization", "").startswith("OSS")
        call = openapi_call(request)
        if call is None:
            return False
        if call.action in TAG_ACTIONS:
            return call.version == TAG_VERSION
        if call.version == VERSION:
            return True
        return not call.version and request.path.startswith(("/api/v2/services", "/api/v2/groups"))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Raises:
        ApiError: the call is refused.
        """
        if request.path.startswith(PREFIX):
            return await self.runtime.gateway.handle(request)
        body = await self._answer(request)
        identifier = request_id()
        return web.json_response({**body, "RequestId": identifier}, headers={"x-acs-request-id": identifier})

    async def start(self) -> None:
        """Starts every stored service."""
        await self.runtime.start()

    async def stop(self) -> None:
        """Ends every process."""
        await self.runtime.stop()

    async def _answer(self, request: web.Request) -> dict[str, Any]:
        call = openapi_call(request)
        if call is not None and call.action in TAG_ACTIONS:
            return await self._tags(request, call.action)
        path, method = request.path.rstrip("/"), request.method
        if path == "/api/v2/services" and method == "POST":
            return self._create(request.query, await _json_body(request), _region(request))
        if path == "/api/v2/services" and method == "GET":
            return self._list(request.query, _region(request))
        if path == "/api/v2/public/instance_types" and method == "GET":
            return answers.machine_spec(request.query)
        if path == "/api/v2/groups" and method == "GET":
            return self._groups.list(request.query, _region(request))
        if group := group_calls.PATH.fullmatch(request.path):
            called = self._groups.calls.get((method, group[3] or ""))
            if called is not None:
                return called(self.runtime.groups.get(group[2], group[1]), await _json_body(request))
        match = _SERVICE_PATH.fullmatch(request.path)
        handler = self._calls.get((method, match[3] or "")) if match else None
        if match is None or handler is None:
            name = call.name if call else f"{method} {path}"
            code = "UnsupportedAction." + re.sub(r"[^A-Za-z0-9]+", ".", name).strip(".")
            raise ApiError(400, code, f"The sandbox EAS does not offer {name}.")
        body = await _json_body(request)
        deployment = self.runtime.get(match[2], match[1])
        changes = method != "GET"
        if changes and deployment.record.desired == "deleted" and (method, match[3]) != ("DELETE", None):
            raise ApiError(409, "InvalidService.Conflict", f"Service [{match[2]}] is being deleted.")
        if changes and deployment.record.lock == "all" and match[3] != "lock":
            raise _locked(deployment.record)
        made = Call(deployment, match[1], request.query, body)
        if handler == self._logs:
            return await asyncio.to_thread(handler, made)
        return handler(made)

    # Services.

    def _create(self, query: Mapping[str, str], body: Any, region: str) -> dict[str, Any]:
        if query.get("Develop", "false").lower() == "true":
            raise ApiError(400, "UnsupportedAction.Develop", "The sandbox EAS has no development mode.")
        if isinstance(body, dict):
            if labels := answers.json_parameter(query, "Labels", dict):
                given = body.get("labels", {})
                body = {**body, "labels": {**given, **labels} if isinstance(given, dict) else given}
            if workspace := query.get("WorkspaceId"):
                body = {**body, "workspace_id": workspace}
        deployment = self.runtime.create(service_json.validate(body), region)
        record = deployment.record
        return {
            "Region": region or DEFAULT_REGION,
            "ServiceId": record.service_id,
            "ServiceName": record.name,
            "Status": "Creating",
            "InternetEndpoint": self.url(record),
            "IntranetEndpoint": self.url(record),
        }

    def _update(self, call: Call) -> dict[str, Any]:
        kind = call.query.get("UpdateType", "merge")
        if kind not in ("merge", "replace"):
            raise invalid(f"UpdateType {kind!r} is neither merge nor replace.")
        body = call.body if kind == "replace" else service_json.merge(call.record.config, call.body)
        if not service_json.service_name(body):
            body = service_json.merge(body, {"metadata": {"name": call.record.name}})
        if "workspace_id" in call.record.config:  # a service stays in its workspace
            body = {"workspace_id": call.record.config["workspace_id"], **body}
        config = service_json.validate(body)
        if service_json.service_name(config) != call.record.name:
            raise invalid(f"The name of service [{call.record.name}] cannot be changed.")
        self.runtime.update(call.deployment, config)
        return call.reply("Succeed to update service {service} in region {region}")

    def _delete(self, call: Call) -> dict[str, Any]:
        self._must_not_be_locked(call)
        if call.record.desired != "deleted":
            record = dataclasses.replace(call.record, desired="deleted", phase="")
            call.deployment.change(record.with_event("Normal", "Deleting", "Service is terminating"))
        return call.reply("Service {service} in region {region} is terminating")

    def _start(self, call: Call) -> dict[str, Any]:
        if call.record.desired == "stopped":
            record = dataclasses.replace(call.record, desired="running", phase="Starting")
            call.deployment.change(record.with_event("Normal", "Starting", "Service is starting"))
        return call.reply("Service {service} in region {region} is starting")

    def _stop(self, call: Call) -> dict[str, Any]:
        self._must_not_be_locked(call)
        if call.record.desired == "running":
            record = dataclasses.replace(call.record, desired="stopped", phase="")
            call.deployment.change(record.with_event("Normal", "Stopping", "Service is stopping"))
        return call.reply("Service {service} in region {region} is stopping")

    def _restart(self, call: Call) -> dict[str, Any]:
        if call.record.desired != "running":
            raise ApiError(409, "InvalidService.Conflict", f"Service [{call.record.name}] is not running.")
        record = dataclasses.replace(call.record, restarts=call.record.restarts + 1, phase="Updating")
        call.deployment.change(record.with_event("Normal", "Restarting", "Service is restarting"))
        return call.reply("Service is restarting")

    def _describe(self, call: Call) -> dict[str, Any]:
        return answers.service(call.deployment, self.url(call.deployment.record))

    def _list(self, query: Mapping[str, str], region: str) -> dict[str, Any]:
        labels = answers.json_parameter(query, "Label", dict)
        views = [
            answers.service(deployment, self.url(deployment.record))
            for deployment in self.runtime.all()
            if deployment.record.is_in(region)
        ]
        tests: list[Callable[[dict[str, Any]], bool]] = [
            lambda view: query.get("Filter", "") in view["ServiceName"],
            lambda view: labels.items() <= {item["LabelKey"]: item["LabelValue"] for item in view["Labels"]}.items(),
        ]
        exact = {
            "ServiceName": "ServiceName",
            "ServiceStatus": "Status",
            "ServiceUid": "ServiceUid",
            "WorkspaceId": "WorkspaceId",
            "GroupName": "ServiceGroup",
            "Gateway": "Gateway",
            "ResourceName": "Resource",
        }
        for parameter, field in exact.items():
            if wanted := query.get(parameter):
                tests.append(lambda view, field=field, wanted=wanted: view[field] == wanted)  # type: ignore[misc]
        views = [view for view in views if all(test(view) for test in tests)]
        by_name = query.get("Sort", "").lower() == "servicename"
        key = "ServiceName" if by_name else "CreateTime"
        views.sort(key=lambda view: (view[key], view["ServiceName"]), reverse=query.get("Order", "desc") != "asc")
        page, fields = answers.page_of(views, query, "PageNumber", _LIST_PAGE)
        return {"Services": page, **fields}

    def _endpoints(self, call: Call) -> dict[str, Any]:
        url = self.url(call.record)
        return {
            "AccessToken": call.record.token,
            "Endpoints": [answers.endpoint(call.deployment, url, self.runtime.port)],
        }

    def url(self, record: ServiceRecord) -> str:
        """Where a service is reached; a gRPC service takes no HTTP there."""
        if service_json.is_root(record.config):
            return f"http://127.0.0.1:{record.own_port}"
        return f"http://127.0.0.1:{self.runtime.port}{PREFIX}{record.key}"

    def group_url(self, group: groups.Group) -> str:
        """Where a service group is reached; one of gRPC services takes no HTTP there."""
        return self._groups.url(group)

    # What happened.

    def _events(self, call: Call) -> dict[str, Any]:
        since, until = answers.time_parameter(call.query, "StartTime"), answers.time_parameter(call.query, "EndTime")
        found = [
            {
                "Time": answers.plain_time(event.time),
                "Type": event.type,
                "Reason": event.reason,
                "Message": event.message,
            }
            for event in reversed(call.record.events)
            if (since is None or event.time >= since)
            and (until is None or event.time <= until)
            and call.query.get("EventType", event.type) == event.type
            and call.query.get("InstanceName", event.instance) == event.instance
        ]
        page, fields = answers.numbered_page(found, call.query, _EVENTS_PAGE)
        return {"Events": page, **fields}

    def _logs(self, call: Call) -> dict[str, Any]:
        """Page 1 holds the newest lines; the lines of a page are in the order in which they were written."""
        query, keyword = call.query, call.query.get("Keyword", "")
        answers.time_parameter(query, "StartTime"), answers.time_parameter(query, "EndTime")
        since, until = f"[{query.get('StartTime', '')}", f"[{query.get('EndTime', '9999')}"
        names = {answers.address_of(index): i.name for index, i in enumerate(call.deployment.instances)}
        instance = query.get("InstanceName") or names.get(query.get("Ip", ""), query.get("Ip", ""))
        lines = [
            line
            for _, line in read_logs(self.runtime.logs / call.record.key, instance)
            if keyword in line and since <= line[: len("[2006-01-02 15:04:05")] <= until
        ]
        lines.sort(key=lambda line: line[: len("[2006-01-02 15:04:05]")])  # stable: by instance within a second
        page, fields = answers.numbered_page(lines[::-1], query, _LOG_PAGE)
        return {"Logs": page[::-1], **fields}

    def _instances(self, call: Call) -> dict[str, Any]:
        views = [
            answers.instance_view(instance, answers.address_of(index), call.record)
            for index, instance in enumerate(call.deployment.instances)
        ]
        for parameter, field in (("InstanceName", "InstanceName"), ("InstanceStatus", "Status"), ("Filter", "InnerIP")):
            if wanted := call.query.get(parameter):
                views = [view for view in views if view[field] == wanted]
        page, fields = answers.page_of(views, call.query, "PageNumber", _LIST_PAGE)
        return {"Instances": page, **fields}

    # Versions and traffic.

    def _versions(self, call: Call) -> dict[str, Any]:
        versions = [
            {
                "BuildTime": answers.iso_time(version.created),
                "ImageAvailable": "true",
                "ImageId": version.number,
                "Message": "",
                "ServiceConfig": json.dumps(version.config),
                "ServiceRunnable": "true",
            }
            for version in reversed(call.record.versions)
        ]
        page, fields = answers.page_of(versions, call.query, "PageNumber", _LIST_PAGE)
        return {"Versions": page, **fields}

    def _roll_back(self, call: Call) -> dict[str, Any]:
        self.runtime.roll_back(call.deployment, _body_int(call, "Version"))
        return call.reply("Service {service} in region {region} is starting")

    def _release(self, call: Call) -> dict[str, Any]:
        weight = _body_int(call, "Weight") if "Weight" in call.body else call.record.weight
        state = call.body.get("TrafficState", call.record.traffic_state)
        if not -1 <= weight <= 1000:
            raise invalid(f"Weight {weight} is not between -1 and 1000.")
        if state not in ("standalone", "grouping"):
            raise invalid(f"TrafficState {state!r} is neither standalone nor grouping.")
        call.change(weight=weight, traffic_state=state)
        status = call.deployment.condition.status
        text = "Releasing service {service} in region {region} with weight "
        return call.reply(f"{text}[{weight}], service status: [{status}]")

    def _put_mirror(self, call: Call) -> dict[str, Any]:
        mirror = groups.mirror(call.body)
        for name in mirror["Target"]:
            if self.runtime.get(name, call.region) is call.deployment:
                raise invalid(f"Service [{name}] cannot be its own mirror.")
        call.change(mirror=mirror)
        text = "Traffic mirroring is ON for service {service} in region {region}, ratio "
        return call.reply(f"{text}[{mirror['Ratio']}%]")

    def _describe_mirror(self, call: Call) -> dict[str, Any]:
        mirror = call.record.mirror
        if mirror is None:
            message = f"The traffic mirror of service [{call.record.name}] is not found."
            raise ApiError(404, "InvalidMirror.NotFound", message)
        ratio, target = str(mirror["Ratio"]), ",".join(mirror["Target"])
        return {"ServiceName": call.record.name, "Ratio": ratio, "Target": target}

    def _delete_mirror(self, call: Call) -> dict[str, Any]:
        self._describe_mirror(call)
        call.change(mirror=None)
        return call.reply("Traffic mirroring is OFF for service {service} in region {region}")

    def _lock(self, call: Call) -> dict[str, Any]:
        lock = call.body.get("Lock")
        if lock not in _LOCKS:
            raise invalid(f"Lock {lock!r} is none of {', '.join(_LOCKS)}.")
        call.change(lock=lock)
        return call.reply(f"service safety lock updated to {lock}")

    def _must_not_be_locked(self, call: Call) -> None:
        if call.record.lock != "none":
            raise _locked(call.record)

    # Labels.

    def _put_labels(self, call: Call) -> dict[str, Any]:
        self._set_labels(call.deployment, call.body.get("Labels"), ())
        return call.reply("Succeed to update service {service} labels.")

    def _delete_labels(self, call: Call) -> dict[str, Any]:
        text = call.query.get("Keys", "")
        keys = answers.json_parameter(call.query, "Keys", list) if text.startswith("[") else text.split(",")
        self._set_labels(call.deployment, {}, [str(key) for key in keys])
        return call.reply("Succeed to delete service {service} labels.")

    def _set_labels(self, deployment: Deployment, added: Any, removed: Sequence[str]) -> None:
        if not isinstance(added, dict):
            raise invalid("Labels must be an object of strings.")
        labels = {key: value for key, value in deployment.record.config.get("labels", {}).items() if key not in removed}
        config = {**deployment.record.config, "labels": {**labels, **added}}
        self.runtime.update(deployment, service_json.validate(config))

    async def _tags(self, request: web.Request, action: str) -> dict[str, Any]:
        form = await request.post()
        parameters = {**{key: str(value) for key, value in form.items()}, **request.query}
        services = {d.record.service_id: d for d in self.runtime.all()}
        ids = [parameters[key] for key in sorted(parameters) if key.startswith("ResourceId.")]
        unknown = [identifier for identifier in ids if identifier not in services]
        if unknown:
            raise ApiError(404, "InvalidService.NotFound", f"The specified service [{unknown[0]}] is not found.")
        if action == "ListTagResources":
            tags = [
                {"ResourceId": i, "ResourceType": "service", "TagKey": key, "TagValue": value}
                for i in ids or services
                for key, value in services[i].record.config.get("labels", {}).items()
            ]
            return {"TagResources": tags}
        indexes = sorted({key.split(".")[1] for key in parameters if re.fullmatch(r"Tag\.\d+\.Key", key)})
        added = {parameters[f"Tag.{index}.Key"]: parameters.get(f"Tag.{index}.Value", "") for index in indexes}
        removed = [value for key, value in parameters.items() if re.fullmatch(r"TagKey\.\d+", key)]
        for identifier in ids:
            deployment = services[identifier]
            if parameters.get("All", "").lower() == "true":
                removed = list(deployment.record.config.get("labels", {}))
            self._set_labels(deployment, added, removed)
        return {}

    # Scalers.

    def _put_autoscaler(self, call: Call) -> dict[str, Any]:
        scaler = scalers.autoscaler(call.body)
        replicas = min(max(call.deployment.replicas, scaler["min"], 1), scaler["max"])
        changed = replicas != call.deployment.replicas and call.record.desired == "running"
        phase = (call.record.phase or "Scaling") if changed else call.record.phase
        call.change(autoscaler=scaler, scaled_to=replicas, phase=phase)
        return call.reply("Succeed to auto scale service {service}")

    def _describe_autoscaler(self, call: Call) -> dict[str, Any]:
        return scalers.describe_autoscaler(call.record)

    def _delete_autoscaler(self, call: Call) -> dict[str, Any]:
        scalers.describe_autoscaler(call.record)
        call.change(autoscaler=None)
        return call.reply("Autoscaler for service {service} deleted successfully")

    def _put_cronscaler(self, call: Call) -> dict[str, Any]:
        call.change(cronscaler=scalers.cronscaler(call.body))
        return call.reply("Create cron scaler for service {service} successfully")

    def _describe_cronscaler(self, call: Call) -> dict[str, Any]:
        return scalers.describe_cronscaler(call.record)

    def _delete_cronscaler(self, call: Call) -> dict[str, Any]:
        scalers.describe_cronscaler(call.record)
        call.change(cronscaler=None)
        return call.reply("Cron scaler for service {service} deleted successfully")


def _locked(record: ServiceRecord) -> ApiError:
    return ApiError(403, "OperationDenied.SafetyLock", f"Service [{record.name}] has the safety lock [{record.lock}].")


def _region(request: web.Request) -> str:
    """The region that a call without one in its path is for; empty where it does not say."""
    return request.query.get("RegionId") or str(request.headers.get(REGION_HEADER, ""))


async def _json_body(request: web.Request) -> Any:
    text = await request.text()
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
        if isinstance(body, str):  # the SDK takes a JSON string for the body and encodes it again
            body = json.loads(body)
    except ValueError as error:
        raise invalid(f"The request body is not JSON: {error}.") from None
    if not isinstance(body, dict) and request.path.startswith(("/api/v2/services", "/api/v2/groups")):
        raise invalid("The request body must be a JSON object.")
    return body


def _body_int(call: Call, name: str) -> int:
    value = call.body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{name} {value!r} is not a whole number.")
    return value
