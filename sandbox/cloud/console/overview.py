"""What the console shows: every service, and what each of its replicas says it serves.

What a service is to serve is read from its start command and the model config file it has mounted; what it does serve
is asked of the replicas themselves. They are asked directly: a look must not count as traffic, which the rate limit and
the autoscaler measure.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.cloud.eas import command, service_json
from sandbox.cloud.eas.answers import iso_time
from sandbox.cloud.eas.api import EasService
from sandbox.cloud.eas.command import NotRunnableError
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.records import ServiceRecord
from sandbox.cloud.eas.service_json import Json
from sandbox.cloud.oss.errors import OssError
from sandbox.cloud.oss.store import ObjectStore
from tfserving import model_config
from tfserving.client import ModelClient, VersionStatus, connect
from tfserving.errors import ModelConfigError, ServiceError, ServiceUnreachableError
from tfserving.model_config import Model

_ANSWER_SECONDS = 2.0
_FRESH_SECONDS = 1.0
_CONFIG_FILE_LIMIT = 1 << 20
_WARNINGS = 3


@dataclass(frozen=True)
class Declared:
    """What a service is to serve.

    Attributes:
        models: as its config file or its start command has them.
        problem: why that is not known, for a person; empty where it is.
    """

    models: tuple[Model, ...] = ()
    problem: str = ""


@dataclass
class Replica:
    """What one replica answered.

    Attributes:
        versions: states of the versions, by model.
        labels: version that answers, by model and label; None where no version does.
        problems: what it said instead, by model.
    """

    versions: dict[str, list[VersionStatus]] = field(default_factory=dict)
    labels: dict[tuple[str, str], int | None] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Target:
    """A replica that can be asked.

    Attributes:
        port: of the replica itself.
        grpc: whether it speaks gRPC there.
        secret: by which it knows who may ask.
    """

    port: int
    grpc: bool
    secret: str = field(default="", repr=False)


class Overview:
    """Looks at all services, at most once a second however many pages are open."""

    def __init__(self, objects: ObjectStore, executor: Executor) -> None:
        """Args:
        objects: holds the config files.
        executor: for calls that block.
        """
        self._objects = objects
        self._executor = executor
        self._lock = asyncio.Lock()
        self._last: dict[str, Any] = {}
        self._expires = 0.0

    async def get(self, eas: EasService) -> dict[str, Any]:
        """``{"services": [...]}``, sorted by name. Never a token, and no service JSON, which may hold one."""
        async with self._lock:
            if time.monotonic() >= self._expires:
                deployments = sorted(eas.runtime.all(), key=lambda each: each.record.key)
                self._last = {"services": await asyncio.gather(*(self._service(eas, each) for each in deployments))}
                self._expires = time.monotonic() + _FRESH_SECONDS
            return self._last

    async def _service(self, eas: EasService, deployment: Deployment) -> dict[str, Any]:
        record, condition = deployment.record, deployment.condition
        config = record.config
        live = deployment.live
        targets = [
            _Target(each.port, service_json.is_grpc(each.blueprint.config), each.secret)
            for each in live
            if each.ready and each.port
        ]
        containers = config.get("containers") or [{}]
        facts = {
            "name": record.key,
            "status": condition.status,
            "message": condition.message,
            "protocol": "grpc" if deployment.grpc else "http",
            "address": address(eas, deployment),
            "image": str(containers[0].get("image", "")),
            "deployment": "scenario" if service_json.is_scenario(config) else "custom",
            "replicas": {"ready": len(targets), "wanted": deployment.replicas},
            "changed": iso_time(record.updated),
            "warnings": [] if condition.status == "Running" else _warnings(record),
        }
        loop = asyncio.get_running_loop()
        declared = await loop.run_in_executor(self._executor, declared_models, config, self._objects)
        replicas = await asyncio.gather(
            *(loop.run_in_executor(self._executor, ask, target, declared.models) for target in targets)
        )
        models = [model_view(model, replicas) for model in declared.models]
        return {**facts, "models": models, "problem": declared.problem}


def _warnings(record: ServiceRecord) -> list[str]:
    """The newest warnings of a service, oldest first, each of them once."""
    texts = [f"{event.reason}: {event.message}" for event in record.events if event.type == "Warning"]
    return list(dict.fromkeys(reversed(texts)))[:_WARNINGS][::-1]


def address(eas: EasService, deployment: Deployment) -> str:
    """Where clients reach a service: its URL, or ``host:port`` for gRPC."""
    url = eas.url(deployment.record)
    return url.removeprefix("http://") if deployment.grpc else url


def declared_models(config: Json, objects: ObjectStore) -> Declared:
    """The models of a service: those of its mounted config file, or the one its start command names. Blocks."""
    try:
        flags = command.resolve(config).flags
    except NotRunnableError as error:
        return Declared(problem=str(error))
    file = command.flag(flags, "model_config_file")
    if file is None:
        name = command.flag(flags, "model_name") or "default"
        return Declared((Model(name, command.flag(flags, "model_base_path") or ""),))
    try:
        text = _mounted_file(config, file, objects)
        return Declared(model_config.parse(text).models)
    except FileNotFoundError as error:
        return Declared(problem=str(error))
    except ModelConfigError as error:
        return Declared(problem=f"{file} cannot be read, so the server keeps what it had: {error}")


def _mounted_file(config: Json, path: str, objects: ObjectStore) -> str:
    """A file of a container, read from the bucket that is mounted there.

    Raises:
        FileNotFoundError: no OSS mount covers it, or the object is not there.
        ModelConfigError: too large, or no text.
    """
    for item in sorted(config.get("storage", []), key=lambda each: -len(each["mount_path"])):
        mount = item["mount_path"].rstrip("/") + "/"
        if "oss" not in item or not path.startswith(mount):
            continue
        location = urlsplit(item["oss"]["path"])
        key = "/".join(part for part in (location.path.strip("/"), path.removeprefix(mount)) if part)
        version = objects.find_any(location.netloc, key)
        if version is None:
            break
        try:
            with objects.open_blob(version) as blob:
                data = blob.read(_CONFIG_FILE_LIMIT + 1)
        except OssError:
            break
        if len(data) > _CONFIG_FILE_LIMIT:
            raise ModelConfigError("model config file: larger than 1 MiB")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ModelConfigError(f"model config file: not UTF-8: {error}") from None
    raise FileNotFoundError(f"There is no {path} in what the service has mounted.")


def ask(target: _Target, models: Iterable[Model]) -> Replica:
    """Asks one replica what it serves. Blocks; a replica that does not answer is asked once only."""
    replica = Replica()
    where = f"127.0.0.1:{target.port}"
    address = {"target": where} if target.grpc else {"url": f"http://{where}"}
    with connect(**address, token=target.secret, timeout=_ANSWER_SECONDS) as client:
        silent = ""
        for model in models:
            if silent:
                replica.problems[model.name] = silent
                continue
            try:
                _ask_model(client, model, replica)
            except ServiceUnreachableError as error:
                silent = replica.problems[model.name] = str(error)
            except ServiceError as error:
                replica.problems[model.name] = str(error)
    return replica


def _ask_model(client: ModelClient, model: Model, replica: Replica) -> None:
    replica.versions[model.name] = client.status(model.name)
    for label in model.labels:
        try:
            replica.labels[model.name, label] = client.labelled_version(model.name, label)
        except ServiceUnreachableError:
            raise
        except ServiceError:
            replica.labels[model.name, label] = None


def model_view(model: Model, replicas: Sequence[Replica]) -> dict[str, Any]:
    """One model of a service: what is declared, and how many replicas say what."""
    states: dict[int, Counter[str]] = {}
    errors: dict[int, str] = {}
    for replica in replicas:
        for status in replica.versions.get(model.name, ()):
            failed = status.error_code != "OK"
            if status.state == "END" and not failed:
                continue  # an unloaded version stays listed for as long as the server runs
            states.setdefault(status.version, Counter())["FAILED" if failed else status.state] += 1
            if failed:
                errors[status.version] = status.error_message or status.error_code
    if not replicas:
        versions = sorted({*model.policy.versions, *model.labels.values()}, reverse=True)
        states = {version: Counter() for version in versions}
    return {
        "name": model.name,
        "policy": str(model.policy),
        "versions": [
            {"version": version, "states": dict(sorted(states[version].items())), "error": errors.get(version, "")}
            for version in sorted(states, reverse=True)
        ],
        "labels": [
            {"label": label, "wanted": wanted, "answered": _answered(replicas, model.name, label)}
            for label, wanted in model.labels.items()
        ],
        "problem": next((each.problems[model.name] for each in replicas if model.name in each.problems), ""),
    }


def _answered(replicas: Sequence[Replica], model: str, label: str) -> list[int]:
    """The versions that answer requests by a label: one, unless replicas differ."""
    found = {replica.labels.get((model, label)) for replica in replicas}
    return sorted(version for version in found if version is not None)
