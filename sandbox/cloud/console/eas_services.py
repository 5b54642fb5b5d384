"""The services of the sandbox's PAI-EAS, for the console."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sandbox.cloud.console.places import (
    Declared,
    Group,
    GrpcAddress,
    Happening,
    HttpAddress,
    Shown,
    Target,
    declared,
    metrics_path,
)
from sandbox.cloud.eas import command, service_json
from sandbox.cloud.eas.answers import iso_time
from sandbox.cloud.eas.api import EasProduct
from sandbox.cloud.eas.command import NotRunnableError
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.instance import Instance
from sandbox.cloud.eas.records import ServiceRecord
from sandbox.cloud.eas.service_json import Json
from sandbox.cloud.oss.errors import OssError
from sandbox.cloud.oss.store import ObjectStore
from tfserving.client import ModelClient, RestClient, connect
from tfserving.errors import ModelConfigError

_FILE_LIMIT = 1 << 20
_WARNINGS = 3
_LOG_TAIL = 1 << 18
"""Bytes at the end of each replica's log that are looked at."""
_EVENTS = 100
_METRICS_SECONDS = 5.0


class EasServices:
    """Services on PAI-EAS.

    Args:
        eas: the product.
        objects: holds the files they have mounted.
    """

    def __init__(self, eas: EasProduct, objects: ObjectStore) -> None:
        self._eas = eas
        self._objects = objects

    async def services(self) -> list[Shown]:
        """All of them, those that are being deleted included."""
        return [self._shown(each) for each in self._eas.runtime.all()]

    def groups(self) -> list[Group]:
        """Service groups."""
        found = []
        for group in self._eas.runtime.groups.all():
            weights = {each.record.key: group.weight(each) for each in group.members}
            total, url, token = sum(weights.values()), self._eas.group_url(group), group.record.token
            where = url.removeprefix("http://") if group.grpc else url
            facts = {
                "name": group.route,
                "address": where,
                "protocol": "grpc" if group.grpc else "http",
                "mode": group.record.traffic_mode,
                "members": [
                    {"service": name, "weight": weight, "percent": round(100 * weight / total) if total else 0}
                    for name, weight in weights.items()
                ],
            }
            address = GrpcAddress(where, token) if group.grpc else HttpAddress(url, token)
            found.append(Group(facts, address, {each.record.name: each.record.key for each in group.members}))
        return found

    def _shown(self, deployment: Deployment) -> Shown:
        record, condition = deployment.record, deployment.condition
        config = record.config
        ready = [each for each in deployment.live if each.ready and each.port]
        containers = config.get("containers") or [{}]
        where = address(self._eas, deployment)
        facts = {
            "name": record.key,
            "place": "PAI-EAS",
            "status": condition.status,
            "message": condition.message,
            "protocol": "grpc" if deployment.grpc else "http",
            "address": where,
            "image": str(containers[0].get("image", "")),
            "deployment": "scenario" if service_json.is_scenario(config) else "custom",
            "replicas": {"ready": len(ready), "wanted": deployment.replicas},
            "changed": iso_time(record.updated),
            "warnings": [] if condition.status == "Running" else _warnings(record),
            "group": service_json.group(config),
        }
        url = self._eas.url(record)
        return Shown(
            record.key,
            facts,
            functools.partial(declared_models, config, self._objects),
            [_target(each) for each in ready],
            GrpcAddress(where, record.token) if deployment.grpc else HttpAddress(url, record.token),
            _config_place(config),
            functools.partial(_metrics_path, config, self._objects),
            functools.partial(_log, self._eas.runtime.logs / record.key),
            functools.partial(_events, record),
        )


def _target(instance: Instance) -> Target:
    where, secret = f"127.0.0.1:{instance.port}", instance.secret
    is_grpc = service_json.is_grpc(instance.blueprint.config)

    def client(seconds: float) -> ModelClient:
        found = {"target": where} if is_grpc else {"url": f"http://{where}"}
        return connect(**found, token=secret, timeout=seconds)

    rest = f"http://127.0.0.1:{instance.rest_port}" if instance.rest_port else ""

    def metrics(path: str) -> str:
        with RestClient(rest, secret, _METRICS_SECONDS) as found:
            return found.metrics(path)

    return Target(instance.name, client, metrics if rest else None)


def _warnings(record: ServiceRecord) -> list[str]:
    """The newest warnings of a service, oldest first, each of them once."""
    texts = [f"{event.reason}: {event.message}" for event in record.events if event.type == "Warning"]
    return list(dict.fromkeys(reversed(texts)))[:_WARNINGS][::-1]


def address(eas: EasProduct, deployment: Deployment) -> str:
    """Where clients reach a service: its URL, or ``host:port`` for gRPC."""
    url = eas.url(deployment.record)
    return url.removeprefix("http://") if deployment.grpc else url


def declared_models(config: Json, objects: ObjectStore) -> Declared:
    """What a service is to serve. Blocks."""
    try:
        flags = command.resolve(config).flags
    except NotRunnableError as error:
        return Declared(problem=str(error))
    return declared(flags, functools.partial(_mounted_file, config, objects))


def _metrics_path(config: Json, objects: ObjectStore) -> str:
    try:
        flags = command.resolve(config).flags
    except NotRunnableError:
        return ""
    return metrics_path(flags, functools.partial(_mounted_file, config, objects))


def _config_place(config: Json) -> str:
    try:
        file = command.flag(command.resolve(config).flags, "model_config_file")
    except NotRunnableError:
        return ""
    found = next(_mounted_at(config, file), None) if file else None
    return f"oss://{found[0]}/{found[1]}" if found else ""


def _mounted_at(config: Json, path: str) -> Iterator[tuple[str, str]]:
    """Bucket and key of a file of a container, where an OSS mount covers it."""
    for item in sorted(config.get("storage", []), key=lambda each: -len(each["mount_path"])):
        mount = item["mount_path"].rstrip("/") + "/"
        if "oss" in item and path.startswith(mount):
            location = urlsplit(item["oss"]["path"])
            key = "/".join(part for part in (location.path.strip("/"), path.removeprefix(mount)) if part)
            yield location.netloc, key


def _mounted_file(config: Json, objects: ObjectStore, path: str) -> str:
    """A file of a container, read from the bucket that is mounted there.

    Raises:
        FileNotFoundError: no OSS mount covers it, or the object is not there.
        ModelConfigError: too large, or no text.
    """
    for bucket, key in _mounted_at(config, path):
        text = object_text(objects, bucket, key)
        if text is None:
            break
        return text
    raise FileNotFoundError(f"There is no {path} in what the service has mounted.")


def object_text(objects: ObjectStore, bucket: str, key: str) -> str | None:
    """The text of an object; None where there is none.

    Raises:
        ModelConfigError: too large, or no text.
    """
    version = objects.find_any(bucket, key)
    if version is None:
        return None
    try:
        with objects.open_blob(version) as blob:
            data = blob.read(_FILE_LIMIT + 1)
    except OssError:
        return None
    if len(data) > _FILE_LIMIT:
        raise ModelConfigError("model config file: larger than 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ModelConfigError(f"model config file: not UTF-8: {error}") from None


def _log(directory: Path, count: int, word: str) -> list[str]:
    """The newest lines, each with its replica where there are several."""
    files = sorted(directory.glob("*.log"))
    lines = []
    for file in files:
        prefix = f"{file.stem.rpartition('-')[2]} " if len(files) > 1 else ""
        found = deque((line for line in tail_of(file, _LOG_TAIL) if word in line), maxlen=count)
        lines += [(line[: len("[2006-01-02 15:04:05]")], prefix + line) for line in found]
    lines.sort(key=lambda each: each[0])  # stable: by replica within a second
    return [line for _, line in lines[-count:]]


def tail_of(file: Path, limit: int) -> list[str]:
    """The whole lines in the last bytes of a file; none where it is not there."""
    try:
        with open(file, "rb") as opened:
            start = max(0, opened.seek(0, 2) - limit)
            opened.seek(start)
            text = opened.read(limit).decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[1 if start else 0 :]


def _events(record: ServiceRecord) -> list[Happening]:
    return [
        Happening(iso_time(each.time), each.type, each.reason, each.message, each.instance)
        for each in reversed(record.events[-_EVENTS:])
    ]
