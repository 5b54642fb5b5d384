"""What EAS answers: services, instances and instance types in the API's words, pages, times, query values.

Sources: ``alibabacloud_eas20210701`` 7.0.0 (fields), the API reference (time formats).
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.entry import Entry
from sandbox.cloud.eas.groups import Group
from sandbox.cloud.eas.instance import Instance
from sandbox.cloud.eas.machines import MACHINES
from sandbox.cloud.eas.records import DEFAULT_REGION, ServiceRecord
from sandbox.cloud.eas.service_json import invalid

_TIME = "%Y-%m-%d %H:%M:%S"


def service(deployment: Deployment, url: str) -> dict[str, Any]:
    """A service as DescribeService and ListServices return it.

    Args:
        url: where the service is reached.
    """
    record, condition = deployment.record, deployment.condition
    config, metadata = record.config, record.config["metadata"]
    cpu, memory, gpu = service_json.resources(config)
    containers = config.get("containers") or [{}]
    running = sum(instance.ready for instance in deployment.live)
    total = deployment.replicas if record.desired == "running" else len(deployment.instances)
    return {
        "AccessToken": record.token,
        "Cpu": cpu,
        "CreateTime": iso_time(record.created),
        "CurrentVersion": record.version,
        "Gateway": str(config.get("networking", {}).get("gateway", "")),
        "Gpu": gpu,
        "Image": containers[0].get("image", ""),
        "InternetEndpoint": url,
        "IntranetEndpoint": url,
        "Labels": [{"LabelKey": k, "LabelValue": v} for k, v in config.get("labels", {}).items()],
        "LatestVersion": record.versions[-1].number,
        "Memory": memory,
        "Message": condition.message,
        "Namespace": record.name,
        "PendingInstance": max(total - running, 0),
        "Reason": condition.reason,
        "Region": record.region or DEFAULT_REGION,
        "Resource": str(metadata.get("resource", "")),
        "Role": "Standard",
        "RunningInstance": running,
        "SafetyLock": record.lock,
        "ServiceConfig": service_json.StoredConfig(config, deployment.replicas).to_json(),
        "ServiceGroup": service_json.group(config),
        "ServiceId": record.service_id,
        "ServiceName": record.name,
        "ServiceUid": record.service_id,
        "Status": condition.status,
        "TotalInstance": total,
        "TrafficState": record.traffic_state,
        "UpdateTime": iso_time(record.updated),
        "Weight": record.weight,
        "WorkspaceId": service_json.workspace_id(config),
    }


def endpoint(entry: Entry, url: str, port: int) -> dict[str, Any]:
    """An address as DescribeServiceEndpoints and DescribeGroupEndpoints return it.

    Args:
        url: the address.
        port: the cloud's own port.
    """
    return {
        "EndpointType": "DefaultGateway",
        "InternetEndpoints": [url],
        "IntranetEndpoints": [url],
        "Port": entry.own_port if entry.is_root else port,
    }


def group(group: Group, url: str) -> dict[str, Any]:
    """A service group as DescribeGroup and ListGroups return it.

    Args:
        url: where it is reached.
    """
    record = group.record
    return {
        "AccessToken": record.token,
        "ClusterId": record.region or DEFAULT_REGION,
        "CreateTime": iso_time(record.created),
        "InternetEndpoint": url,
        "IntranetEndpoint": url,
        "Name": record.name,
        "QueueService": "",
        "TrafficMode": record.traffic_mode,
        "UpdateTime": iso_time(record.updated),
    }


def machine_spec(query: Mapping[str, str]) -> dict[str, Any]:
    """The answer of DescribeMachineSpec."""
    wanted = query.get("InstanceTypes", "")
    names = [str(n) for n in json_parameter(query, "InstanceTypes", list)] if wanted.startswith("[") else []
    names = names or [name for name in wanted.split(",") if name and not wanted.startswith("[")]
    metas = []
    for name, machine in MACHINES.items():
        if names and name not in names:
            continue
        meta: dict[str, Any] = {
            "CPU": machine.cpu,
            "InstanceType": name,
            "IsAvailable": True,
            "Memory": machine.memory_gb,
            "StockStatus": "WithStock",
            "Vendor": "ECS",
        }
        if machine.gpus:
            meta |= {"GPU": machine.gpu, "GPUAmount": machine.gpus, "GPUMemory": machine.gpu_memory_gb}
        metas.append(meta)
    sizes: dict[int, set[int]] = {}
    for machine in MACHINES.values():
        if not machine.gpus:
            sizes.setdefault(machine.cpu, set()).add(int(machine.memory_gb))
    types = [{"CPU": cpu, "Memory": sorted(memory)} for cpu, memory in sorted(sizes.items())]
    return {"InstanceMetas": metas, "Types": types}


def instance_view(instance: Instance, address: str, record: ServiceRecord) -> dict[str, Any]:
    """An instance as ListServiceInstances returns it."""
    failure = instance.failure
    if instance.retired:
        status, reason = "Terminating", "TERMINATING"
    elif instance.ready:
        status, reason = "Running", "RUNNING"
    else:
        status, reason = ("Pending", failure.reason) if failure else ("Pending", "ContainersNotReady")
    return {
        "HostIP": "127.0.0.1",
        "HostName": instance.name,
        "InnerIP": address,
        "InstanceName": instance.name,
        "InstancePort": instance.blueprint.command.port,
        "InstanceType": service_json.instance_type(instance.blueprint.config),
        "IsSpot": False,
        "Isolated": False,
        "LastState": [{"Reason": failure.reason, "Message": failure.message}] if failure else [],
        "Namespace": record.name,
        "ReadyProcesses": int(instance.ready),
        "Reason": reason,
        "ResourceType": "DedicatedResource" if record.config["metadata"].get("resource") else "PublicResource",
        "RestartCount": instance.restarts,
        "Role": "Standard",
        "StartAt": iso_time(instance.started) if instance.started else "",
        "StartTime": iso_time(instance.started) if instance.started else "",
        "Status": status,
        "TotalProcesses": 1,
    }


def address_of(index: int) -> str:
    """A made-up address inside the cluster that tells the instances of a service apart."""
    return f"127.0.1.{index + 1}"


def page_of(
    items: Sequence[Any], query: Mapping[str, str], name: str, default: int
) -> tuple[list[Any], dict[str, int]]:
    """One page of a list, and the answer's fields about it.

    Args:
        name: the parameter with the page number.
        default: page size where none is asked for.

    Raises:
        ApiError: 400 ``InvalidParameter``, as for every reader of query values here.
    """
    number, size = positive_number(query, name, 1), positive_number(query, "PageSize", default)
    page = list(items[(number - 1) * size : number * size])
    return page, {name: number, "PageSize": size, "TotalCount": len(items)}


def numbered_page(items: Sequence[Any], query: Mapping[str, str], default: int) -> tuple[list[Any], dict[str, int]]:
    """One page in the form of events and logs, which count pages and name the number ``PageNum``."""
    page, fields = page_of(items, query, "PageNum", default)
    size = fields.pop("PageSize")
    return page, {**fields, "TotalPageNum": -(-len(items) // size)}


def positive_number(query: Mapping[str, str], name: str, default: int) -> int:
    """A query value that is a whole number from 1.

    Raises:
        ApiError: it is not.
    """
    text = query.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise invalid(f"{name} {text!r} is not a positive number.")
    return int(text)


def time_parameter(query: Mapping[str, str], name: str) -> float | None:
    """A time in a query, in seconds since the epoch.

    It is UTC, ``2006-01-02 15:04:05``; ISO 8601 is refused by the real API too.

    Raises:
        ApiError: it has another form.
    """
    if not query.get(name):
        return None
    try:
        return float(calendar.timegm(time.strptime(query[name], _TIME)))
    except ValueError:
        raise invalid(f"{name} {query[name]!r} is not of the form 2006-01-02 15:04:05.") from None


def plain_time(seconds: float) -> str:
    """A time as events have it, UTC."""
    return time.strftime(_TIME, time.gmtime(seconds))


def iso_time(seconds: float) -> str:
    """A time as services have it, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def json_parameter(query: Mapping[str, str], name: str, kind: type) -> Any:
    """A query value that is a JSON object (``kind`` dict) or list, an empty one where it is missing.

    Raises:
        ApiError: it is something else.
    """
    if not query.get(name):
        return kind()
    try:
        value = json.loads(query[name])
    except ValueError:
        value = None
    if not isinstance(value, kind):
        raise invalid(f"{name} is not a JSON {'object' if kind is dict else 'list'}.")
    return value
