"""All services of one sandbox cloud: made, changed and deleted here, kept over restarts, ended with the cloud."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.cloud.eas import service_json
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.eas.entry import Entry
from sandbox.cloud.eas.gateway import Gateway
from sandbox.cloud.eas.groups import Group, Groups
from sandbox.cloud.eas.instance import Host, Timing
from sandbox.cloud.eas.mirroring import Mirrors
from sandbox.cloud.eas.process import reap
from sandbox.cloud.eas.records import ServiceRecord, key_of, service_store
from sandbox.cloud.errors import ApiError
from sandbox.cloud.oss.mounts import LiveView
from sandbox.ports import free_port

log = logging.getLogger("sandbox.cloud.eas")

STARTS_AT_ONCE = 2
AUTOSCALER_SECONDS = 5.0
_MISSED = timedelta(minutes=1)
"""What a machine that slept makes up for, at the most."""
_SHUTDOWN_GRACE = 2.0


class Runtime:
    """The services of a sandbox cloud.

    Attributes:
        gateway: how they are reached.
        groups: service groups.
        mirrors: copies of requests that are under way.
        logs: one directory per service.
        port: the cloud's own port.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        live_view: LiveView,
        model_server_command: tuple[str, ...] = (),
        timing: Timing | None = None,
    ) -> None:
        """Args:
        directory: where records, logs and pid files lie.
        port: the cloud's own port.
        live_view: OSS prefixes as directories.
        model_server_command: program and first arguments of the model server; empty for ``tensorflow_model_server``
            if that is on PATH, else the project's own.
        timing: how patient to be.
        """
        self.port = port
        self.logs = directory / "logs"
        self.mirrors = Mirrors(self._in)
        self.gateway = Gateway(self._routed, self.mirrors)
        self._directory = directory
        self._deployments: dict[str, Deployment] = {}
        self._store = service_store(directory / "services")
        self.groups = Groups(directory / "groups", lambda: self._deployments.values())
        self._host = Host(
            live_view=live_view,
            scratch=directory / "scratch",
            pids=directory / "run",
            logs=self.logs,
            own_server=model_server_command,
            slots=asyncio.Semaphore(STARTS_AT_ONCE),
            timing=timing or Timing(),
        )
        self._autoscaler: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Ends what an earlier cloud left behind, then starts every stored service."""
        if count := await asyncio.to_thread(reap, self._host.pids):
            log.warning("ended %d model server(s) an earlier sandbox cloud left running", count)
        shutil.rmtree(self._host.scratch, ignore_errors=True)
        await self.gateway.start()
        for record in self._store.load():
            self._deployments[record.key] = self._deployment(record)
        self.groups.load()
        # First all listeners: the ports of instances are chosen among those that are free.
        entries: list[Entry] = [*self._deployments.values(), *self.groups.all()]
        for entry in entries:
            await self.gateway.follow(entry)
        for deployment in list(self._deployments.values()):
            deployment.start()
        self._autoscaler = asyncio.create_task(self._scale())

    async def stop(self) -> None:
        """Ends every process; the records stay."""
        if self._autoscaler is not None:
            self._autoscaler.cancel()
        await asyncio.gather(*(d.shut_down(_SHUTDOWN_GRACE) for d in self._deployments.values()))
        await self.gateway.stop()

    def all(self) -> list[Deployment]:
        """Every service, those that are being deleted included."""
        return list(self._deployments.values())

    def get(self, name: str, region: str = "") -> Deployment:
        """The service of a name in a region, or that of no known region.

        Raises:
            ApiError: 404 ``InvalidService.NotFound``.
        """
        deployment = self._in(region, name)
        if deployment is None:
            raise ApiError(404, "InvalidService.NotFound", f"The specified service [{name}] is not found.")
        return deployment

    def create(self, config: Mapping[str, Any], region: str = "") -> Deployment:
        """Makes a service from a validated service JSON.

        Raises:
            ApiError: 409, the name is in use in that region.
            OSError: the disk is full.
        """
        name = str(service_json.service_name(config))
        if self._in(region, name) is not None or key_of(region, name) in self._deployments:
            message = f"The specified service [{name}] already exists."
            raise ApiError(409, "InvalidService.Conflict", message)
        self._must_not_be_entry(name, service_json.group(config), region)
        now = time.time()
        record = ServiceRecord(
            name=name,
            service_id="eas-m-" + "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(16)),
            config=config,
            token=str(config.get("token") or _new_token()),
            created=now,
            updated=now,
            region=region,
        ).with_version(config)
        record = self._with_port(record).with_event("Normal", "Creating", "Service is creating")
        if group := service_json.group(config):
            self.groups.make(group, region, _new_token(), self._free_port() if service_json.is_root(config) else 0)
        self._store.save(record)
        deployment = self._deployments[record.key] = self._deployment(record)
        deployment.start()
        return deployment

    def update(self, deployment: Deployment, config: Mapping[str, Any]) -> None:
        """Puts another validated service JSON in force.

        Raises:
            ApiError: it names another group.
            OSError: the disk is full.
        """
        old = deployment.record
        if service_json.group(config) != service_json.group(old.config):
            raise service_json.invalid(f"The group of service [{old.name}] cannot be changed: it joins when created.")
        before, after = (service_json.template(c, old.restarts) for c in (old.config, config))
        record = old.with_version(config) if before != after else dataclasses.replace(old, config=config)
        if old.autoscaler is None:
            record = dataclasses.replace(record, scaled_to=None)
        if old.desired == "running":
            if before != after or old.phase in ("Creating", "Updating"):
                phase = "Creating" if old.phase == "Creating" else "Updating"
            elif service_json.replicas(config) != service_json.replicas(old.config) and old.autoscaler is None:
                phase = "Scaling"
            else:
                phase = "HotUpdate"
            record = dataclasses.replace(record, phase=phase)  # type: ignore[arg-type]
        token = str(config.get("token") or old.token)
        record = dataclasses.replace(record, token=token, updated=time.time())
        message = f"Service is updating to version {record.version}"
        deployment.change(self._with_port(record).with_event("Normal", "Updating", message))

    def roll_back(self, deployment: Deployment, number: int) -> None:
        """Puts an earlier version in force.

        Raises:
            ApiError: there is no such version.
            OSError: the disk is full.
        """
        old = deployment.record
        version = next((v for v in old.versions if v.number == number), None)
        if version is None or not 0 < number <= old.versions[-1].number:
            raise service_json.invalid(f"Version {number} of service [{old.name}] does not exist.")
        phase = "Updating" if old.desired == "running" else old.phase
        token = str(version.config.get("token") or old.token)
        record = dataclasses.replace(
            old, config=version.config, version=number, phase=phase, token=token, updated=time.time()
        )
        message = f"Service is rolled back to version {number}"
        deployment.change(self._with_port(record).with_event("Normal", "Updating", message))

    def _with_port(self, record: ServiceRecord) -> ServiceRecord:
        """The record with a port of its own, if it needs one."""
        if record.own_port or not service_json.is_root(record.config):
            return record
        return dataclasses.replace(record, own_port=self._free_port())

    def _free_port(self) -> int:
        entries: list[Entry] = [*self._deployments.values(), *self.groups.all()]
        return free_port({entry.own_port for entry in entries} | {self.port})

    def _must_not_be_entry(self, name: str, group: str, region: str) -> None:
        """Services and groups share the paths under the gateway's prefix."""
        if any(each.route == key_of(region, name) for each in self.groups.all()) or group == name:
            raise ApiError(409, "InvalidService.Conflict", f"A service group is called [{name}].")
        if group and self._in(region, group) is not None:
            raise ApiError(409, "InvalidService.Conflict", f"A service is called as the group [{group}].")

    def _deployment(self, record: ServiceRecord) -> Deployment:
        return Deployment(record, self._store, self._host, self._look, self._gone)

    def _look(self, deployment: Deployment) -> None:
        self.gateway.look(deployment)
        if (group := self.groups.of(deployment)) is not None:
            self.gateway.look(group)

    def _in(self, region: str, name: str) -> Deployment | None:
        found = self._deployments.get(key_of(region, name)) or self._deployments.get(name)
        return found if found is not None and found.record.is_in(region) else None

    def _routed(self, route: str) -> Deployment | Group | None:
        """The service or group of a key; a name alone will do where one region has it."""
        named = [each for each in self._deployments.values() if each.record.name == route]
        found = self._deployments.get(route) or (named[0] if len(named) == 1 else None)
        return found or self.groups.find(route)

    def _gone(self, deployment: Deployment) -> None:
        group = self.groups.of(deployment)
        self._deployments.pop(deployment.record.key, None)
        if group is not None:
            self.groups.forget_if_empty(group)
            self.gateway.look(group)

    async def _scale(self) -> None:
        last, looked = time.monotonic(), datetime.now(UTC)
        while True:
            await asyncio.sleep(AUTOSCALER_SECONDS)
            now, looks = time.monotonic(), datetime.now(UTC)
            for deployment in self.all():
                try:
                    deployment.scale_by_clock(max(looked, looks - _MISSED), looks)
                    deployment.scale_by_load(now - last)
                except OSError as error:
                    log.error("cannot scale service %s: %s", deployment.record.name, error)
            last, looked = now, looks


def _new_token() -> str:
    """A token that looks like those of EAS: base64 of hexadecimal digits."""
    return base64.b64encode(secrets.token_hex(20).encode()).decode().rstrip("=")
