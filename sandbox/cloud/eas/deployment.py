"""One service: its record, and the loop that makes its instances what the record says.

The loop only looks at what is there and what is wanted, so it does not matter where an earlier cloud stopped. Instances
are replaced one by one: a new one starts, is ready, then an old one finishes its requests and ends.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sandbox.cloud.eas import command, mounts, scalers, service_json
from sandbox.cloud.eas.command import NotRunnableError
from sandbox.cloud.eas.instance import Blueprint, Failure, Host, Instance
from sandbox.cloud.eas.limits import RateLimit
from sandbox.cloud.eas.records import RecordStore, ServiceRecord

log = logging.getLogger("sandbox.cloud.eas")

FAILURES_UNTIL_FAILED = 3
"""Failed starts of one instance after which its service counts as failed. Starting goes on nevertheless."""
LOGS_KEPT = 5
AUTOSCALER_TOLERANCE = 0.1
"""Relative change below which the autoscaler does nothing."""
DEFAULT_SCALE_DOWN_SECONDS = 300


@dataclass(frozen=True)
class Condition:
    """What DescribeService says about a service's state.

    Attributes:
        status: one of the documented states.
        reason: a word for machines.
        message: a sentence for a person.
    """

    status: str
    reason: str
    message: str


class Deployment:
    """A service that exists.

    Attributes:
        record: what is stored. Change it by :meth:`change` only.
        instances: every instance that is not gone.
    """

    def __init__(
        self,
        record: ServiceRecord,
        store: RecordStore[ServiceRecord],
        host: Host,
        on_step: Callable[[Deployment], None],
        on_gone: Callable[[Deployment], None],
    ) -> None:
        """Args:
        record: already stored.
        on_step: called whenever something may have changed that the gateway should know.
        on_gone: called once a deleted service has ended.
        """
        self.record = record
        self.instances: list[Instance] = []
        self._requests = 0
        self._limit = RateLimit()
        self._store = store
        self._host = host
        self._on_step = on_step
        self._on_gone = on_gone
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._phase_began = time.monotonic()
        self._failure: Failure | None = None
        self._failed_template = ""
        self._is_forgotten = False
        self._next = 0
        self._open_since: float | None = None
        self._grpc_in_force: bool | None = None
        self._desired_before: tuple[float, int] = (time.monotonic(), 0)

    # What the gateway asks: see :class:`sandbox.cloud.eas.gateway.Entry`.

    @property
    def identity(self) -> str:
        return self.record.service_id

    @property
    def title(self) -> str:
        return f"service {self.record.name}"

    @property
    def route(self) -> str:
        return self.record.key

    @property
    def token(self) -> str:
        return self.record.token

    @property
    def own_port(self) -> int:
        return self.record.own_port

    @property
    def is_root(self) -> bool:
        return service_json.is_root(self.record.config)

    def choose(self, tried: set[str]) -> Deployment | None:
        """Itself, once."""
        return None if self.record.key in tried else self

    @property
    def is_open(self) -> bool:
        """Whether an instance takes requests now."""
        return bool(self._open_instances(set()))

    @property
    def grpc(self) -> bool:
        """Whether the instances that serve now speak gRPC: a change holds once the first new instance is ready."""
        wanted = service_json.is_grpc(self.record.config)
        return wanted if self._grpc_in_force is None else self._grpc_in_force

    def admits(self) -> bool:
        """Counts one request; False if it is over the rate limit."""
        self._requests += 1
        return self._limit.allows(sum(instance.ready for instance in self.live))

    def pick(self, tried: set[str]) -> Instance | None:
        """The next ready instance, in turn, leaving out those already tried; None without one.

        After the first instance is ready there is none for a moment yet: the real gateway needs time to notice.
        """
        ready = self._open_instances(tried)
        if not ready:
            return None
        self._next += 1
        return ready[self._next % len(ready)]

    def _open_instances(self, tried: set[str]) -> list[Instance]:
        since = self._open_since
        if since is None or time.monotonic() - since < self._host.timing.gateway_lag:
            return []
        ready = [i for i in self.instances if i.ready and i.name not in tried and i.port]
        return [i for i in ready if service_json.is_grpc(i.blueprint.config) == self.grpc]

    # What the API asks.

    @property
    def replicas(self) -> int:
        """Replica count in force."""
        return self.record.scaled_to if self.record.scaled_to is not None else service_json.replicas(self.record.config)

    @property
    def live(self) -> list[Instance]:
        """Instances that are not on their way out."""
        return [instance for instance in self.instances if not instance.retired]

    @property
    def condition(self) -> Condition:
        """The state of the service now."""
        record, ready = self.record, [i for i in self.live if i.ready]
        if record.desired == "deleted":
            return Condition("Deleting", "DELETING", "Service is terminating")
        if record.desired == "stopped":
            if self.instances or not self._dwelt():
                return Condition("Stopping", "STOPPING", "Service is stopping")
            return Condition("Stopped", "STOPPED", "Service is stopped")
        if not record.phase and (ready or self.replicas == 0):
            return Condition("Running", "RUNNING", "Service is running")
        failure = self._failure_now()
        if failure is not None:
            return Condition("Failed", failure.reason, failure.message)
        if record.phase in ("", "Creating"):
            status = "Waiting" if self.instances or not record.phase else "Creating"
            message = f"[{len(ready)}/{self.replicas}] instances are ready"
            return Condition(status, status.upper(), message)
        message = f"[{len([i for i in ready if i.template == self._template()])}/{self.replicas}] instances are ready"
        return Condition(record.phase, record.phase.upper(), message)

    def change(self, record: ServiceRecord) -> None:
        """Stores a new state of the service and sets to work on it.

        Raises:
            OSError: the disk is full; nothing has changed.
        """
        if not self._is_forgotten:
            self._store.save(record)
        if record.phase != self.record.phase or record.desired != self.record.desired:
            self._phase_began = time.monotonic()
        self.record = record
        self._limit.set(*service_json.rate_limits(record.config))
        self.wake()

    def event(self, type: str, reason: str, message: str, instance: str = "") -> None:
        """Adds an event. That it cannot be stored is no reason to stop."""
        try:
            self.change(self.record.with_event(type, reason, message, instance))
        except OSError as error:
            log.error("cannot store an event of service %s: %s", self.record.name, error)

    def move_to_port(self, port: int) -> None:
        """Gives the service another port of its own, because its old one is taken."""
        message = f"Port {self.record.own_port} is taken by another program; the service is now at port {port}."
        log.warning("service %s: %s", self.record.name, message)
        record = dataclasses.replace(self.record, own_port=port)
        try:
            self.change(record.with_event("Warning", "PortChanged", message))
        except OSError as error:
            log.error("cannot store the new port of service %s: %s", record.name, error)
            self.record = record

    # Life.

    def start(self) -> None:
        """Begins to follow the record, in the background."""
        self._limit.set(*service_json.rate_limits(self.record.config))
        self._task = asyncio.create_task(self._follow())
        self.wake()

    def wake(self) -> None:
        """Has the loop look again."""
        self._wake.set()

    async def shut_down(self, grace: float) -> None:
        """Ends the processes and leaves the record as it is: the next cloud continues."""
        if self._task is not None:
            self._task.cancel()
        ending = list(self.instances)
        for instance in ending:
            instance.retire(grace)
        await asyncio.gather(*(instance.ended() for instance in ending))

    def scale_by_clock(self, since: datetime, until: datetime) -> None:
        """Runs the jobs of the cron scaler whose time came after ``since``, up to ``until``."""
        if self.record.cronscaler is None or self.record.desired != "running":
            return
        for job in scalers.due(self.record.cronscaler, since, until):
            current, size = self.replicas, int(job["TargetSize"])
            scaler = scalers.with_size(self.record.autoscaler, size, current)
            if scaler is not None:
                size = max(size, current)  # the autoscaler takes back what is too much
            if size == current and scaler == self.record.autoscaler:
                continue
            record = dataclasses.replace(
                self.record, autoscaler=scaler, scaled_to=size, phase=self.record.phase or "Scaling"
            )
            what = f"Job {job['Name']}: {current} -> {size} instances"
            self.change(record.with_event("Normal", "Scaling", what))

    def scale_by_load(self, seconds: float) -> None:
        """One round of the autoscaler: ``qps`` per instance against its threshold, within the limits.

        Args:
            seconds: time since the last round.
        """
        requests, self._requests = self._requests, 0
        scaler = self.record.autoscaler
        if scaler is None or self.record.desired != "running":
            return
        current = max(self.replicas, 1)
        desired = current
        for strategy in scaler["scaleStrategies"]:
            threshold = float(strategy["threshold"])
            if strategy["metricName"] != "qps" or threshold <= 0:
                continue  # what else real EAS measures has no meaning for processes that share one machine
            ratio = requests / seconds / current / threshold
            if abs(ratio - 1) > AUTOSCALER_TOLERANCE:
                desired = max(math.ceil(current * ratio), 1)
        desired = min(max(desired, int(scaler["min"]), 1), int(scaler["max"]))
        now = time.monotonic()
        window = (scaler.get("behavior") or {}).get("scaleDown") or {}
        if desired >= current:
            self._desired_before = (now, desired)
        elif now - self._desired_before[0] < float(
            window.get("stabilizationWindowSeconds", DEFAULT_SCALE_DOWN_SECONDS)
        ):
            return
        if desired != self.replicas:
            record = dataclasses.replace(self.record, scaled_to=desired, phase=self.record.phase or "Scaling")
            self.change(record.with_event("Normal", "Scaling", f"Autoscaler: {current} -> {desired} instances"))

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                is_over = self._step()
                self._on_step(self)
                if is_over:
                    return
            except Exception:
                log.exception("service %s", self.record.name)
                await asyncio.sleep(1)
                self.wake()

    def _step(self) -> bool:
        """Does what can be done now; True once a deleted service is gone."""
        for instance in [i for i in self.instances if i.gone]:
            self.instances.remove(instance)
            self._prune_logs()
        if not self._dwelt():
            asyncio.get_running_loop().call_later(self._host.timing.dwell, self.wake)
        if self.record.desired != "running":
            self._open_since = None
            for instance in self.live:
                instance.retire(service_json.grace_seconds(instance.blueprint.config))
            return self.record.desired == "deleted" and self._forget()
        self._adjust(self._template())
        self._open()
        self._finish_phase()
        return False

    def _adjust(self, template: str) -> None:
        """Starts and retires instances, within what the rolling strategy allows."""
        wanted = self.replicas
        surge, unavailable = service_json.rolling_limits(self.record.config, wanted)
        current = [i for i in self.live if i.template == template]
        old = [i for i in self.live if i.template != template]
        ready = sum(i.ready for i in self.live)
        for instance in sorted(old, key=lambda i: i.ready):
            if instance.ready and ready - 1 < wanted - unavailable:
                break
            ready -= instance.ready
            old.remove(instance)
            self._retire(instance)
        blueprint = self._blueprint(template)
        if blueprint is None:
            return  # what still runs goes on serving
        most = wanted + surge if old else wanted
        while len(current) < wanted and len(current) + len(old) < most:
            current.append(self._create(blueprint))
        surplus = sorted(current, key=lambda i: (i.ready, -i.started))[: max(len(current) - wanted, 0)]
        for instance in surplus:
            self._retire(instance)

    def _create(self, blueprint: Blueprint) -> Instance:
        instance = Instance(blueprint, self._host, self.wake, self.event)
        self.instances.append(instance)
        instance.start()
        return instance

    def _retire(self, instance: Instance) -> None:
        instance.retire(service_json.grace_seconds(instance.blueprint.config))
        self.event("Normal", "Killing", "Stopping the instance.", instance.name)

    def _blueprint(self, template: str) -> Blueprint | None:
        """What new instances are made from; None, with the reason noted, where the sandbox cannot run it."""
        config = self.record.config
        try:
            mounts.check(config)
            blueprint = Blueprint(self.record.key, template, config, command.resolve(config))
        except NotRunnableError as error:
            if self._failed_template != template:
                self._failed_template = template
                self._failure = Failure(error.reason, str(error), is_final=True)
                self.event("Warning", error.reason, str(error))
            return None
        self._failed_template = ""
        self._failure = None
        return blueprint

    def _open(self) -> None:
        ready = [i for i in self.live if i.ready]
        template = self._template()
        if any(i.template == template for i in ready):
            self._grpc_in_force = service_json.is_grpc(self.record.config)
        if not ready:
            self._open_since = None
        elif self._open_since is None:
            self._open_since = time.monotonic()

    def _finish_phase(self) -> None:
        """Ends a passing state once every instance is what it is to be."""
        record, template = self.record, self._template()
        if not record.phase or not self._dwelt() or self._failed_template:
            return
        current = [i for i in self.live if i.template == template and i.ready]
        if len(current) != self.replicas or len(self.live) != self.replicas:
            return
        progress = {
            "versionId": record.version,
            "message": f"Stage {record.phase.lower()} complete",
            "availableInstance": len(current),
            "unavailableInstance": 0,
        }
        finished = dataclasses.replace(record, phase="")
        try:
            self.change(finished.with_event("Normal", record.phase, json.dumps(progress)))
        except OSError as error:
            log.error("cannot store the state of service %s: %s", record.name, error)
            self.record = finished

    def _forget(self) -> bool:
        if self.instances or not self._dwelt():
            return False
        self._is_forgotten = True
        self._store.delete(self.record)
        shutil.rmtree(self._host.logs / self.record.key, ignore_errors=True)
        self._on_gone(self)
        return True

    def _failure_now(self) -> Failure | None:
        template = self._template()
        if self._failure is not None and self._failed_template == template:
            return self._failure
        for instance in self.live:
            failure = instance.failure
            if failure is None or instance.template != template or instance.ready:
                continue
            if failure.is_final or instance.failures >= FAILURES_UNTIL_FAILED:
                return failure
        return None

    def _template(self) -> str:
        return service_json.template(self.record.config, self.record.restarts)

    def _dwelt(self) -> bool:
        return time.monotonic() - self._phase_began >= self._host.timing.dwell

    def _prune_logs(self) -> None:
        """Keeps the logs of instances that exist, and the last few of those that do not."""
        names = {instance.name for instance in self.instances}
        gone = [path for path in (self._host.logs / self.record.key).glob("*.log") if path.stem not in names]
        gone.sort(key=lambda path: path.stat().st_mtime)
        for path in gone[:-LOGS_KEPT]:
            path.unlink(missing_ok=True)
            path.with_suffix(".log.1").unlink(missing_ok=True)
