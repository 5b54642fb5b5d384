"""Pins the model config file before files of a version appear (see :mod:`tfserving.pinning`).

Done by the publication of a model, which comes before the services in a stack and so knows none of them as its inputs.
Who reads the file is asked of the cloud: the services of the stack on EAS by their owner's label, and the pods that
mount the ConfigMap. That includes services which this very update is about to remove.

Models of one stack are published side by side. Those that arrive while a pin is under way are pinned together next, so
that many models take two waits and not one each.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from provider.cluster import Cluster, readers_of
from provider.eas_service import CONFIG_FILE_FLAG, OWNER_LABEL, address_of
from provider.model_config_file import ConfigObject
from provider.oss import Bucket
from provider.resource import Context, table, text
from provider.serving import MOUNT_CACHE_SECONDS, Answers, Fleet, Service
from provider.values import Properties
from tfserving import model_config, pinning
from tfserving.errors import RolloutError
from tfserving.model_config import ModelServerConfig
from tfserving.pinning import Coming

PIN_SECONDS = 120.0
"""Least time that services get to follow a pin."""

RESTART_SECONDS = 900.0
_SETTLE_SECONDS = 15.0
_UNKNOWN_POLL_SECONDS = 60.0

_POLL = re.compile(r"--model_config_file_poll_wait_seconds=(\d+)")


@dataclass
class _Request:
    """One model that waits to be pinned."""

    model: str
    coming: Coming
    done: bool = False


@dataclass
class _Queue:
    """The models that wait for one file."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[_Request] = field(default_factory=list)


_GUARD = threading.Lock()
_QUEUES: dict[str, _Queue] = {}


def pin(ctx: Context, inputs: Properties, model: str, coming: Coming) -> None:
    """See that no service of the stack changes what it serves because files of ``model`` appear.

    Args:
        ctx: the operation that is about to put files in place.
        inputs: those of a published model: bucket, owner, configFile, configMap, readers, serving.
        model: its name.
        coming: the versions.

    Raises:
        RolloutError: a service does not follow in time; no file has appeared.
        CloudError: the cloud refused.
    """
    if not coming.coming:
        return
    for file in _files(ctx, inputs):
        with _GUARD:
            queue = _QUEUES.setdefault(file.config.uri, _Queue())
            request = _Request(model, coming)
            queue.waiting.append(request)
        with queue.lock:
            if request.done:
                continue
            with _GUARD:
                together, queue.waiting = queue.waiting, []
            file.pin({each.model: each.coming for each in together})
            for each in together:
                each.done = True


@dataclass(frozen=True)
class _File:
    """The file in one place, and who reads it there."""

    ctx: Context
    inputs: Properties
    config: ConfigObject
    config_map: str = ""

    def pin(self, coming: Mapping[str, Coming]) -> None:
        stored = self.config.find()
        in_force = stored.parse() if stored is not None and stored.owner == text(self.inputs, "owner") else None
        if in_force is None:
            return  # none yet, or not this stack's: nothing here decides what is served
        coming = {name: each for name, each in coming.items() if in_force.get(name) is not None}
        services = self._readers() if coming else []
        polling = [service for service in services if service.poll_seconds > 0]
        harmed = self._harmed(in_force, coming) if len(polling) < len(services) else []
        target = pinning.pinned(pinning.without_labels(in_force), coming)
        if (polling or harmed) and (target != in_force or self._fresh(polling)):
            self._follow(in_force, target, coming, polling)
        for service in services:
            if harmed and service.poll_seconds <= 0:
                self._restart(service.name, harmed)

    def _follow(
        self,
        in_force: ModelServerConfig,
        target: ModelServerConfig,
        coming: Mapping[str, Coming],
        polling: list[Service],
    ) -> None:
        """Write the pin, and see that every service that polls the file has read it."""
        try:
            marked, label, model, version = pinning.with_label(target, coming)
        except LookupError:
            return  # nothing is served, so nothing can be lost
        if lines := pinning.summary(in_force, target):
            self.ctx.info(f"pin: {'; '.join(lines)}; files appear once every service follows")
        if not polling:
            self.config.write(target)
            return
        self.config.write(marked)
        slowest = max(service.poll_seconds for service in polling)
        seconds = max(PIN_SECONDS, 3 * slowest + MOUNT_CACHE_SECONDS)
        fleet = Fleet(self.ctx, polling, Cluster.of(self.inputs))
        asked = [service for service in polling if service.reachable]
        pending: dict[str, str] = {}
        for _ in self.ctx.poll(seconds, longest=2) if asked else ():
            fleet.count_replicas()
            pending = {}
            for name, answer in fleet.ask(asked, {model: {label}}).items():
                if not isinstance(answer, Answers):
                    pending[name] = str(answer)
                elif answer.label(model, label) != version:
                    pending[name] = "has not read the file again yet"
            if not pending:
                break
            name, reason = next(iter(pending.items()))
            self.ctx.status(f"pin: {name} {reason}")
        else:
            if asked:
                raise RolloutError(
                    "\n".join(
                        [
                            f"pin: not done after {seconds:g} s; no file has appeared, everything serves as before",
                            *(f"  service {name}: {reason}" for name, reason in pending.items()),
                            "Fix: see why the service does not read the model config file, then run the update again; "
                            "if this machine cannot reach the service (VPC only), set reachable: false on it",
                        ]
                    )
                )
        if blind := [service for service in polling if not service.reachable]:
            wait = max(2 * service.poll_seconds for service in blind) + MOUNT_CACHE_SECONDS
            names = ", ".join(service.name for service in blind)
            self.ctx.info(f"pin: {names} cannot be asked; waiting {wait:g} s, nothing is proven")
            self.ctx.sleep(wait)
        self.config.write(target)

    def _fresh(self, polling: list[Service]) -> bool:
        """Whether the file was written so lately that a service may still follow the one before."""
        if not polling:
            return False
        age = self.config.age()
        return age is None or age < 2 * max(service.poll_seconds for service in polling) + MOUNT_CACHE_SECONDS

    def _harmed(self, in_force: ModelServerConfig, coming: Mapping[str, Coming]) -> list[str]:
        """Models that a service would serve wrongly which goes on with the policy it started with."""
        serving = model_config.from_dict(table(self.inputs, "serving"), "serving")
        return [name for name, each in coming.items() if pinning.harms(in_force.get(name), serving.get(name), each)]

    def _restart(self, name: str, harmed: list[str]) -> None:
        """Restart a service that reads the file only when it starts, replica by replica: it follows the pin then."""
        self.ctx.info(
            f"pin: restarting service {name}, which reads the model config file only when it starts, so that it keeps "
            f"serving {', '.join(harmed)} as before"
        )
        api = self.ctx.clients.eas
        api.restart(name)
        left_running = False
        found = None
        for gone in self.ctx.poll(RESTART_SECONDS):
            found = api.describe(name)
            left_running = left_running or found is None or found.status != "Running" or gone > _SETTLE_SECONDS
            if found is None or (left_running and found.status == "Running"):
                return
            self.ctx.status(f"pin: service {name} is {found.status}")
            if found.status == "Failed":
                break
        state = found.status if found else "gone"
        raise RolloutError(
            f"pin: service {name} was restarted and is {state}; no file has appeared. "
            "Fix: see its events and log, then run the update again"
        )

    def _readers(self) -> list[Service]:
        """Services with a running replica that read the file here."""
        known = table(self.inputs, "readers")
        if self.config_map:
            pods = readers_of(self.config_map)
            if not any(pod.ready for pod in Cluster.of(self.inputs).pods(pods)):
                return []
            declared = [value for value in known.values() if isinstance(value, Mapping) and value.get("pods")]
            polls = [float(value.get("pollSeconds") or 0) for value in declared]
            reachable = all(value.get("reachable", True) for value in declared)
            name = f"pods with {self.config_map}"
            return [Service(name, "", "", "", max(polls, default=_UNKNOWN_POLL_SECONDS), reachable, pods)]
        found = []
        for listed in self.ctx.clients.eas.labelled({OWNER_LABEL: text(self.inputs, "owner")}):
            service = self.ctx.clients.eas.describe(listed.name)
            command = str(service.config) if service is not None else ""
            if service is None or not service.running or CONFIG_FILE_FLAG not in command:
                continue
            grpc = bool((service.config.get("metadata") or {}).get("enable_grpc"))
            url, target = address_of(service, grpc=grpc)
            poll = _POLL.search(command)
            declared_here = known.get(service.name)
            reachable = not isinstance(declared_here, Mapping) or bool(declared_here.get("reachable", True))
            seconds = float(poll[1]) if poll else 0.0
            found.append(Service(service.name, url, target, service.token, seconds, reachable))
        return found


def _files(ctx: Context, inputs: Properties) -> list[_File]:
    key, owner = text(inputs, "configFile"), text(inputs, "owner")
    if not key:
        return []
    bucket = ConfigObject(Bucket(ctx.clients.oss, text(inputs, "bucket")), key, owner)
    files = [_File(ctx, inputs, bucket)]
    if config_map := text(inputs, "configMap"):
        store = Cluster.of(inputs).config_map(config_map)
        files.append(_File(ctx, inputs, ConfigObject(store, key.rpartition("/")[2], owner), config_map))
    return files
