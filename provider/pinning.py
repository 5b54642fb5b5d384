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
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from provider.asking import MOUNT_CACHE_SECONDS, Answers, AskedService, Fleet
from provider.cluster import ClusterApi, readers_of
from provider.eas.labels import OWNER_LABEL, may_read, mounts
from provider.eas.spec import address_of
from provider.model_config_file import ConfigObject, config_files
from provider.oss import Bucket
from provider.resource import Context
from provider.restarts import restart
from tfserving import pinning
from tfserving.contract.storage import PublishedModelInputs
from tfserving.eas_spec import SCENARIO_LABEL
from tfserving.errors import RolloutError
from tfserving.model_config import Model, ModelServerConfig
from tfserving.pinning import Coming, Proof

PIN_SECONDS = 120.0
"""Least time that services get to follow a pin."""

_UNKNOWN_POLL_SECONDS = 60.0

_LABELS_FLAG = re.compile(r"--allow_version_labels_for_unavailable_models(?:=(?:true|1))?(?![\w=])", re.IGNORECASE)
_POLL = re.compile(r"--model_config_file_poll_wait_seconds=(\d+)")


@dataclass(frozen=True)
class _Reader:
    """A service that reads the file.

    Attributes:
        service: how it is asked.
        declared: whether this run still declares it.
        takes_labels: whether each of its replicas starts with a file that has labels.
    """

    service: AskedService
    declared: bool
    takes_labels: bool


@dataclass
class _Request:
    """One model that waits to be pinned."""

    model: str
    coming: Coming
    wanted: Model | None
    done: bool = False


@dataclass
class _Queue:
    """The models that wait for one file."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: list[_Request] = field(default_factory=list)


_GUARD = threading.Lock()
_QUEUES: dict[tuple[str, str], _Queue] = {}


def pin(ctx: Context, inputs: PublishedModelInputs, model: str, coming: Coming, formerly: str) -> None:
    """See that no service of the stack changes what it serves because files of ``model`` appear.

    Args:
        ctx: the operation that is about to put files in place.
        inputs: those of a published model.
        model: its name.
        coming: the versions.
        formerly: ``<project>/<stack>`` that the stack was called before this update.

    Raises:
        RolloutError: a service does not follow in time; no file has appeared.
        CloudError: the cloud refused.
    """
    if not coming.coming:
        return
    serving = inputs.serving or ModelServerConfig()
    for file in _files(ctx, inputs, formerly):
        with _GUARD:
            queue = _QUEUES.setdefault((file.config.uri, file.owner), _Queue())
            requests = [_Request(name, coming, serving.get(name)) for name in sorted({model, *serving.names})]
            queue.waiting += requests
        with queue.lock:
            if all(request.done for request in requests):
                continue
            with _GUARD:
                together, queue.waiting = queue.waiting, []
            file.pin({each.model: each for each in together})
            for each in together:
                each.done = True


@dataclass(frozen=True)
class _File:
    """The file in one place, and who reads it there."""

    ctx: Context
    inputs: PublishedModelInputs
    config: ConfigObject
    owner: str
    config_map: str = ""

    def pin(self, requests: Mapping[str, _Request]) -> None:
        stored = self.config.find()
        in_force = stored.parse() if stored is not None and stored.owner == self.owner else None
        if stored is None or in_force is None:
            return  # none yet, or not this stack's: nothing here decides what is served
        coming = {name: each.coming for name, each in requests.items() if in_force.get(name) is not None}
        readers = self._readers() if coming else []
        polling = [each.service for each in readers if each.service.poll_seconds > 0]
        # A service that reads the file only at start goes on with the policy it has.
        harmed = any(pinning.harms(in_force.get(name), requests[name].wanted, each) for name, each in coming.items())
        restarts = [
            each.service.name
            for each in readers
            if each.service.poll_seconds <= 0 and (harmed or each.service.name in stored.restarts)
        ]
        target = pinning.pinned(pinning.without_labels(in_force), coming)
        if (polling or restarts) and (target != in_force or self._fresh(polling)):
            self._follow(in_force, target, readers, restarts)
        for name in restarts:
            self._restart(name, sorted(coming))
        if restarts:
            self.config.write(target)

    def _follow(
        self,
        in_force: ModelServerConfig,
        target: ModelServerConfig,
        services: list[_Reader],
        restarts: list[str],
    ) -> None:
        """Write the pin, and wait until every service that polls the file follows it."""
        if line := pinning.announcement(in_force, target):
            self.ctx.info(line)
        polling = [each.service for each in services if each.service.poll_seconds > 0]
        if not polling:
            self.config.write(target, restarts=restarts)
            return
        fleet = Fleet(self.ctx, polling, ClusterApi.of(self.inputs))
        fleet.count_replicas()
        declared = {each.service.name for each in services if each.declared}
        asked = [service for service in polling if service.reachable]
        answers = fleet.ask(asked, {model.name: () for model in target.models})
        # Nobody can say of a service that is declared no more that it is out of reach: it is waited for by time.
        asked = [each for each in asked if each.name in declared or isinstance(answers[each.name], Answers)]
        heard = [answer for answer in (answers[each.name] for each in asked) if isinstance(answer, Answers)]
        available = [{model.name: answer.available(model.name) for model in target.models} for answer in heard]
        proof = pinning.proof(target, available) if all(each.takes_labels for each in services) else None
        started = time.monotonic()
        if proof is None:
            self.config.write(target, restarts=restarts)
            blind = polling
        else:
            self.config.write(proof.config, restarts=restarts)
            self._wait(fleet, asked, proof, {proof.version}, "has not read the file again yet")
            self.config.write(target, restarts=restarts)
            self._wait(fleet, asked, proof, {None}, "has not read the file a second time yet")
            blind = [service for service in polling if service not in asked]
        if blind:
            names = ", ".join(service.name for service in blind)
            seconds = max(2 * service.poll_seconds for service in blind) + MOUNT_CACHE_SECONDS
            self.ctx.info(f"pin: waiting {seconds:g} s, by when {names} will have read the file; that cannot be seen")
            self.ctx.sleep(started + seconds - time.monotonic())

    def _wait(
        self, fleet: Fleet, asked: list[AskedService], proof: Proof, versions: set[int | None], otherwise: str
    ) -> None:
        """Wait until every answer by the pin's label is as it should be."""
        slowest = max((service.poll_seconds for service in asked), default=0.0)
        seconds = max(PIN_SECONDS, 3 * slowest + MOUNT_CACHE_SECONDS)
        pending: dict[str, str] = {}
        for _ in self.ctx.poll(seconds, longest=2):
            fleet.count_replicas()
            pending = {}
            for name, answer in fleet.ask(asked, {proof.model: {proof.label}}).items():
                if not isinstance(answer, Answers):
                    pending[name] = str(answer)
                elif set(answer.labels[proof.model][proof.label]) != versions:
                    pending[name] = otherwise
            if not pending:
                return
            name, reason = next(iter(pending.items()))
            self.ctx.status(f"pin: {name} {reason}")
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

    def _fresh(self, polling: list[AskedService]) -> bool:
        """Whether the file was written so lately that a service may still follow the one before."""
        if not polling:
            return False
        age = self.config.age()
        return age is None or age < 2 * max(service.poll_seconds for service in polling) + MOUNT_CACHE_SECONDS

    def _restart(self, name: str, models: list[str]) -> None:
        """Restart a service that reads the file only when it starts, replica by replica: it follows the pin then."""
        self.ctx.info(
            f"pin: restarting service {name}, which reads the model config file only when it starts, so that it keeps "
            f"serving {', '.join(models)} as before"
        )
        found = None
        for found, is_back in restart(self.ctx, name):
            if found is None or is_back:
                return
            self.ctx.status(f"pin: service {name} is {found.status}")
            if found.status == "Failed":
                break
        state = found.status if found else "gone"
        raise RolloutError(
            f"pin: service {name} was restarted and is {state}; no file has appeared. "
            "Fix: see its events and log, then run the update again"
        )

    def _readers(self) -> list[_Reader]:
        """Services with a running replica that read the file here."""
        known = self.inputs.readers or {}
        if self.config_map:
            pods = readers_of(self.config_map)
            there = ClusterApi.of(self.inputs).pods(pods)
            if not any(pod.ready for pod in there):
                return []
            declared = [each for each in known.values() if each.pods]
            polls = [each.poll_seconds for each in declared]
            reachable = all(each.reachable for each in declared)
            name = f"pods with {self.config_map}"
            all_pods = AskedService(name, "", "", "", max(polls, default=_UNKNOWN_POLL_SECONDS), reachable, pods)
            return [_Reader(all_pods, bool(declared), all(_LABELS_FLAG.search(pod.command) for pod in there))]
        found = []
        name = self.config.uri.rpartition("/")[2]
        for listed in self.ctx.clients.eas.labelled({OWNER_LABEL: self.owner}):
            service = self.ctx.clients.eas.describe(listed.name)
            command = str(service.config) if service is not None else ""
            if service is None or not service.running or not may_read(command, name):
                continue
            if not mounts(service.config, self.config.uri):
                continue  # that of another bucket or root: the stack is about to move, and the service follows later
            grpc = bool((service.config.get("metadata") or {}).get("enable_grpc"))
            url, target = address_of(service, grpc=grpc)
            poll = _POLL.search(command)
            declared_here = known.get(service.name)
            reachable = declared_here is None or declared_here.reachable
            seconds = float(poll[1]) if poll else 0.0
            made = AskedService(service.name, url, target, service.token, seconds, reachable)
            # EAS starts scenario deployments in a way that takes files with labels.
            takes_labels = SCENARIO_LABEL in service.labels or bool(_LABELS_FLAG.search(command))
            found.append(_Reader(made, declared_here is not None, takes_labels))
        return found


def _files(ctx: Context, inputs: PublishedModelInputs, formerly: str) -> list[_File]:
    """Every model config file of the stack, in each place where it can lie; under both names of a stack that is renamed
    by this very update.

    In the bucket that includes files which this very update is about to remove: their services still read them.
    """
    key = inputs.config_file
    if not key:
        return []
    bucket = Bucket(ctx.clients.oss, inputs.bucket)
    others = inputs.config_files or {}
    in_config_maps = {key: inputs.config_map, **others}
    in_bucket = dict.fromkeys([key, *others, *config_files(bucket, key.removesuffix(key.rpartition("/")[2]))])
    files = []
    for owner in sorted({inputs.owner, formerly}):
        files += [_File(ctx, inputs, ConfigObject(bucket, each, owner), owner) for each in in_bucket]
        for each, config_map in in_config_maps.items():
            if config_map:
                store = ClusterApi.of(inputs).config_map(config_map)
                files.append(_File(ctx, inputs, ConfigObject(store, each.rpartition("/")[2], owner), owner, config_map))
    return files
