"""One instance of a service: a model server process that is started, checked, restarted when it ends, and drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from sandbox import confinement, paths, ports
from sandbox.cloud.eas import probes, servers
from sandbox.cloud.eas.command import NotRunnableError, ServerCommand
from sandbox.cloud.eas.mounts import Mounts
from sandbox.cloud.eas.process import InstanceLog, ServerProcess
from sandbox.cloud.oss.mounts import LiveView
from sandbox.model_server import callers

log = logging.getLogger("sandbox.cloud.eas")

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Timing:
    """How patient the runtime is. All in seconds.

    Attributes:
        startup: time an instance has to become ready where its service has no startup check.
        poll: time between checks of an instance that is starting.
        slot: time an instance that is starting keeps others from starting.
        backoff: wait before the first restart; it doubles.
        backoff_limit: longest wait before a restart.
        stable: time after which an instance that is ready has put its failures behind it.
        dwell: least time a passing state is shown.
        gateway_lag: time the gateway needs to notice the first ready instance of a service.
        term: time a server has to obey SIGTERM.
    """

    startup: float = 120
    poll: float = 0.1
    slot: float = 20
    backoff: float = 1
    backoff_limit: float = 30
    stable: float = 30
    dwell: float = 0.3
    gateway_lag: float = 0.5
    term: float = 5


@dataclass(frozen=True)
class Host:
    """What all instances of a sandbox cloud share.

    Attributes:
        live_view: OSS prefixes as directories.
        scratch: temporary files, emptied at start.
        pids: one file per running process.
        logs: one directory per service.
        own_server: server program for tests; empty for the usual choice.
        slots: how many instances may be starting at once: each start keeps a CPU busy for seconds.
        timing: see :class:`Timing`.
    """

    live_view: LiveView
    scratch: Path
    pids: Path
    logs: Path
    own_server: tuple[str, ...]
    slots: asyncio.Semaphore
    timing: Timing


_PORTS_TRIED = 5
"""How often in a row an instance is started again at once because somebody else took its port."""


@dataclass(frozen=True)
class Failure:
    """Why an instance is not ready.

    Attributes:
        reason: a word for machines.
        message: a sentence for a person.
        is_final: waiting longer is not expected to help.
    """

    reason: str
    message: str
    is_final: bool = False


class _PortTakenError(Exception):
    """A server could not listen at the port that was found for it."""


@dataclass
class _Ready:
    """The two things that must hold for requests to be sent."""

    started: bool = False
    healthy: bool = True


@dataclass(frozen=True)
class Blueprint:
    """What an instance is made from.

    Attributes:
        service: service name.
        template: digest, see :func:`sandbox.cloud.eas.service_json.template`.
        config: the service JSON.
        command: what its container runs.
    """

    service: str
    template: str
    config: Mapping[str, Any] = field(repr=False)
    command: ServerCommand


class Instance:
    """A replica. It looks after itself from :meth:`start` until :meth:`retire` has been called and :attr:`gone` is set.

    Attributes:
        name: ``<service>-<template>-<random>``.
        restarts: times it was started again.
        started: when the process that runs now was started, seconds since the epoch.
        failure: why it is not ready, None while it is or while it starts for the first time.
        failures: failures since it was last well for a while.
        in_flight: requests it is answering.
        retired: it takes no more requests and is about to end.
        gone: nothing of it is left.
        secret: what its server wants to see in every request, so that nobody goes around the gateway.
    """

    def __init__(self, blueprint: Blueprint, host: Host, on_change: Callable[[], None], on_event: EventSink) -> None:
        self.blueprint = blueprint
        suffix = "".join(secrets.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))
        self.name = f"{blueprint.service.replace('_', '-')}-{blueprint.template}-{suffix}"
        self.secret = secrets.token_urlsafe(32)
        self.restarts = 0
        self.started = 0.0
        self.failure: Failure | None = None
        self.failures = 0
        self.in_flight = 0
        self.retired = False
        self.gone = False
        self._host = host
        self._changed = on_change
        self._event = on_event
        self._ready = _Ready()
        self._grpc_port = 0
        self._rest_port = 0
        self._ports_lost = 0
        self._channel: grpc.aio.Channel | None = None
        self._retiring = asyncio.Event()
        self._grace = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def template(self) -> str:
        """Digest of what it was made from."""
        return self.blueprint.template

    @property
    def ready(self) -> bool:
        """Whether requests may be sent to it."""
        return self._ready.started and self._ready.healthy and not self.retired

    @property
    def port(self) -> int:
        """Loopback port that stands for the container port of the service; 0 if the server does not listen on it."""
        return self._local(self.blueprint.command.port)

    @property
    def rest_port(self) -> int:
        """Loopback port on which the server speaks HTTP, whatever the service does; 0 where it does not."""
        return self._rest_port

    def channel(self) -> grpc.aio.Channel:
        """A channel to the process that runs now."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=CHANNEL_OPTIONS)
        return self._channel

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Around each request: the instance is not stopped in the middle of one."""
        self.in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    def start(self) -> None:
        """Begins to run, in the background."""
        self._task = asyncio.create_task(self._run())

    def retire(self, grace: float) -> None:
        """Takes no more requests, finishes those it has, then ends, in the background.

        Args:
            grace: seconds after which it ends whatever it is doing.
        """
        if not self.retired:
            self.retired = True
            self._grace = grace
            self._retiring.set()

    async def ended(self) -> None:
        """Waits until a retired instance is gone."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        timing = self._host.timing
        output: InstanceLog | None = None
        try:
            while not self.retired:
                try:
                    if output is None:
                        output = InstanceLog(self._host.logs / self.blueprint.service / f"{self.name}.log")
                    async with Mounts(self.blueprint.config, self._host.live_view, self._host.scratch) as mounts:
                        await self._run_once(mounts, output)
                except _PortTakenError:
                    self._ports_lost += 1
                    self._event("Normal", "PortTaken", "Another program took its port; it gets another.", self.name)
                    continue
                except NotRunnableError as error:
                    self._fail(Failure(error.reason, str(error)))
                except OSError as error:
                    self._fail(Failure("CannotStart", f"The sandbox cannot start a model server: {error}."))
                if self.retired:
                    break
                delay = min(timing.backoff * 2 ** min(self.failures - 1, 16), timing.backoff_limit)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._retiring.wait(), delay)
                self.restarts += 1
        except Exception as error:  # a fault of the sandbox: say so instead of hanging
            log.exception("instance %s failed", self.name)
            self._fail(Failure("InternalError", f"The sandbox failed: {error}.", is_final=True))
            await self._retiring.wait()
        finally:
            if output is not None:
                output.close()
            shutil.rmtree(self._host.scratch / self.name, ignore_errors=True)
            self.gone = True
            self._changed()

    async def _run_once(self, mounts: Mounts, output: InstanceLog) -> None:
        """One life of the process, from its start to its end."""
        retiring = asyncio.create_task(self._retiring.wait())
        process: ServerProcess | None = None
        exited: asyncio.Task[int] | None = None
        slot = _Slot(self._host.slots, self._host.timing.slot)
        try:
            await slot.take(retiring)
            if self.retired:
                return
            launch = self._launch(mounts.paths, output)
            scratch = self._host.scratch / self.name
            argv = confinement.guarded(
                launch.program, launch.arguments, [*mounts.paths.values(), scratch], mounts.writable
            )
            pid_file = self._host.pids / f"{self.name}.pid"
            env = {**launch.env, callers.VARIABLE: self.secret}
            process = await ServerProcess.start(argv, env, paths.CODE.parent, output, pid_file)
            self.started = time.time()
            self._event("Normal", "Started", f"Started the model server, process {process.pid}.", self.name)
            for reason, warning in launch.warnings.items():
                self._event("Warning", reason, warning, self.name)
            exited = asyncio.create_task(process.wait())
            copying = asyncio.create_task(_keep_up_to_date(launch.config_copy))
            try:
                if await self._becomes_ready(exited, output):
                    slot.give_back()
                    await self._serve(exited, retiring, output)
            finally:
                copying.cancel()
        finally:
            slot.give_back()
            self._ready = _Ready()
            self._changed()
            retiring.cancel()
            if process is not None and exited is not None:
                if not exited.done():
                    await process.stop(self._host.timing.term)
                exited.cancel()
            if self._channel is not None:
                channel, self._channel = self._channel, None
                await channel.close(grace=1)

    def _launch(self, mounts: Mapping[str, Path], output: InstanceLog) -> servers.Launch:
        command, host = self.blueprint.command, self._host
        self._grpc_port = ports.free_port() if command.grpc_port else 0
        self._rest_port = ports.free_port() if command.rest_port else 0
        output.lacks_port.clear()
        scratch = host.scratch / self.name
        return servers.launch(command, host.own_server, mounts, self._grpc_port, self._rest_port, scratch)

    async def _becomes_ready(self, exited: asyncio.Task[int], output: InstanceLog) -> bool:
        """Waits for the startup check; False if the process ended, is to end, or had its time.

        Raises:
            _PortTakenError: between being found free and being listened on, a port was taken by somebody else.
        """
        timing = self._host.timing
        container = self.blueprint.config["containers"][0]
        startup = probes.read(container, "startup_check")
        probe = startup or probes.Probe(budget=timing.startup)
        if probe.is_substitute:
            self._event("Normal", "ProbeReplaced", "exec checks need a container; the port is checked.", self.name)
        deadline = time.monotonic() + probe.budget
        while not self.retired:
            self._check_ports(exited.done(), output)
            if exited.done():
                self._fail(self._exit_failure(exited.result(), output))
                return False
            if self.port and await probes.passes(probe, self._local(probe.port), self.secret):
                self._ready.started = True
                self.failure = None
                self._event("Normal", "Ready", "The instance is ready.", self.name)
                self._changed()
                return True
            if time.monotonic() > deadline:
                self._fail(self._startup_failure(probe, output))
                return False
            await asyncio.wait([exited], timeout=min(timing.poll, probe.period))
        return False

    async def _serve(self, exited: asyncio.Task[int], retiring: asyncio.Task[bool], output: InstanceLog) -> None:
        """Watches a ready process until it ends or is to end."""
        container = self.blueprint.config["containers"][0]
        dead = asyncio.create_task(self._wait_dead(probes.read(container, "liveness_check")))
        health = asyncio.create_task(self._watch_health(probes.read(container, "readiness_check", "health_check")))
        # Whoever took its port may have passed the startup check in its place.
        lost = asyncio.create_task(output.lacks_port.wait())
        stable = asyncio.get_running_loop().call_later(self._host.timing.stable, self._is_stable)
        try:
            await asyncio.wait([exited, retiring, dead, lost], return_when=asyncio.FIRST_COMPLETED)
            if retiring.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._idle.wait(), self._grace)
                return
            self._ready.started = False
            self._check_ports(exited.done(), output)
            if exited.done():
                self._fail(self._exit_failure(exited.result(), output))
            elif dead.done():
                self._fail(Failure("LivenessCheckFailed", "The liveness check failed; the instance is restarted."))
            else:
                self._fail(
                    Failure("CannotStart", "The model server could not listen on its REST port, again and again.")
                )
        finally:
            lost.cancel()
            stable.cancel()
            dead.cancel()
            health.cancel()

    async def _wait_dead(self, probe: probes.Probe | None) -> None:
        """Returns when the liveness check has failed often enough; never without one."""
        failed = 0
        while True:
            await asyncio.sleep(probe.period if probe else 3600)
            if probe is not None:
                failed = 0 if await probes.passes(probe, self._local(probe.port), self.secret) else failed + 1
                if failed >= probe.failures:
                    return

    async def _watch_health(self, probe: probes.Probe | None) -> None:
        """Takes the instance out of service while its readiness check fails."""
        failed = 0
        while probe is not None:
            await asyncio.sleep(probe.period)
            failed = 0 if await probes.passes(probe, self._local(probe.port), self.secret) else failed + 1
            healthy = failed < probe.failures
            if healthy != self._ready.healthy:
                self._ready.healthy = healthy
                if not healthy:
                    self._event("Warning", "Unhealthy", f"The health check ({probe.text}) failed.", self.name)
                self._changed()

    def _check_ports(self, has_ended: bool, output: InstanceLog) -> None:
        """Raises:
        _PortTakenError: somebody else listens where the server was to, and it was not always so lately.
        """
        mine = [port for port in (self._grpc_port, self._rest_port) if port]
        # A server ends without its gRPC port, and goes on without its REST port.
        is_taken = not all(map(ports.is_free, mine)) if has_ended else output.lacks_port.is_set()
        if is_taken and self._ports_lost < _PORTS_TRIED:
            raise _PortTakenError

    def _is_stable(self) -> None:
        self.failures = self._ports_lost = 0

    def _local(self, port: int) -> int:
        """The loopback port that stands for a container port; 0 for the service's own where it has none."""
        command = self.blueprint.command
        wanted = port or command.port
        return {command.grpc_port: self._grpc_port, command.rest_port: self._rest_port}.get(wanted, 0)

    def _fail(self, failure: Failure) -> None:
        self.failure = failure
        self.failures += 1
        self._event("Warning", failure.reason, failure.message, self.name)
        self._changed()

    def _exit_failure(self, status: int, output: InstanceLog) -> Failure:
        how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        last = f" Its last line: {output.last_line}" if output.last_line else ""
        return Failure("CrashLoopBackOff", f"The model server {how}.{last}")

    def _startup_failure(self, probe: probes.Probe, output: InstanceLog) -> Failure:
        command = self.blueprint.command
        if not self.port:
            message = (
                f"The startup check failed: nothing listens on containers[0].port {command.port}; "
                f"the model server listens on {command.listens}."
            )
        else:
            target = probe.port or command.port
            last = f" Its last line: {output.last_line}" if output.last_line else ""
            message = f"The startup check ({probe.text} on port {target}) failed for {probe.budget:.0f} s.{last}"
        return Failure("StartupCheckFailed", message, is_final=True)


EventSink = Callable[[str, str, str, str], None]
"""Called with type, reason, message and instance name."""


class _Slot:
    """One of the places for instances that are starting, given back by itself after a while."""

    def __init__(self, slots: asyncio.Semaphore, seconds: float) -> None:
        self._slots = slots
        self._seconds = seconds
        self._held = False
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, unless: asyncio.Task[bool]) -> None:
        """Waits for a place, but no longer than until ``unless`` is done."""
        waiting = asyncio.create_task(self._slots.acquire())
        try:
            await asyncio.wait([waiting, unless], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if waiting.done() and not waiting.cancelled():
                self._held = True
                self._timer = asyncio.get_running_loop().call_later(self._seconds, self.give_back)
            else:
                waiting.cancel()

    def give_back(self) -> None:
        """Lets the next one start."""
        if self._held:
            self._held = False
            self._slots.release()
        if self._timer is not None:
            self._timer.cancel()


async def _keep_up_to_date(copy: servers.ConfigCopy | None) -> None:
    while copy is not None:
        await asyncio.sleep(1)
        try:
            await asyncio.to_thread(copy.refresh)
        except OSError as error:
            log.error("cannot rewrite a model config file: %s", error)
