"""Pods as processes: volumes laid out, one container started, its probes watched, as the kubelet does it.

A pod gets a loopback address of its own, so that every server listens on the ports its arguments name. The API server
knows the pod by another address (:data:`POD_NETWORK`), since it refuses to speak to loopback; :mod:`sandbox.kube.node`
translates. Only TensorFlow Serving images run, by the sandbox's model server; there are no GPUs, and no isolation.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import posixpath
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import confinement, paths
from sandbox.model_server import address, mounts

log = logging.getLogger("sandbox.kube")

POD_NETWORK = "10.244.0.0/16"

MODEL_SERVER = (sys.executable, "-m", "sandbox.model_server")

_SERVER = "tensorflow_model_server"
_TICK_SECONDS = 0.1
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 60.0


class PodError(Exception):
    """A pod cannot run here.

    Attributes:
        reason: as the kubelet puts it into a container's waiting state.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Volumes:
    """Where a pod's volumes come from.

    Attributes:
        config_map: data of a ConfigMap by name; None where there is none.
        claim: local directory of a PersistentVolumeClaim by name; None while it is not bound.
    """

    config_map: Callable[[str], Mapping[str, str] | None]
    claim: Callable[[str], Path | None]


@dataclass
class Health:
    """One probe over time, as the kubelet counts: results in a row against the thresholds."""

    spec: Mapping[str, Any]
    passed: bool = False
    _next: float = 0.0
    _failures: int = 0
    _successes: int = 0
    _started: float = field(default_factory=time.monotonic)

    def check(self, probe: Callable[[Mapping[str, Any]], bool], now: float | None = None) -> bool | None:
        """Probes if it is time. True or False when a threshold is reached, else None."""
        now = time.monotonic() if now is None else now
        if now < max(self._next, self._started + self.spec.get("initialDelaySeconds", 0)):
            return None
        self._next = now + self.spec.get("periodSeconds", 10)
        if probe(self.spec):
            self._failures, self._successes = 0, self._successes + 1
            return True if self._successes >= self.spec.get("successThreshold", 1) else None
        self._failures, self._successes = self._failures + 1, 0
        return False if self._failures >= self.spec.get("failureThreshold", 3) else None


class ConfigMapVolume:
    """A ConfigMap in the kubelet's layout: files are links through ``..data``, which changes in one step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._data: Mapping[str, str] | None = None
        directory.mkdir(parents=True)

    def update(self, data: Mapping[str, str]) -> None:
        """Shows ``data`` from now on. Readers see the old files or the new ones, never a mix."""
        if data == self._data:
            return
        stamp = self.directory / f"..{time.strftime('%Y_%m_%d_%H_%M_%S')}.{time.monotonic_ns()}"
        stamp.mkdir()
        for name, text in data.items():
            (stamp / name).write_text(text, encoding="utf-8")
        link, old = self.directory / "..data", None
        if link.is_symlink():
            old = self.directory / os.readlink(link)
        staged = self.directory / "..data_tmp"
        staged.symlink_to(stamp.name)
        staged.replace(link)
        for name in data:
            if not (self.directory / name).is_symlink():
                (self.directory / name).symlink_to(f"..data/{name}")
        for path in self.directory.iterdir():
            if not path.name.startswith("..") and path.name not in data:
                path.unlink()
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
        self._data = dict(data)


class RunningPod:
    """One pod on this machine, driven by a thread of its own.

    Args:
        pod: as the API server stored it.
        volumes: where its volumes come from.
        ip: the address the API server knows.
        host: the loopback address it listens on.
        directory: for this pod alone.
        report: takes the pod's status whenever it changes.
        sync_seconds: how often ConfigMap volumes are looked at again.
        hurry: pods end without waiting for their preStop hook and grace period.
        server: program and first arguments of the model server.
    """

    def __init__(
        self,
        pod: Mapping[str, Any],
        volumes: Volumes,
        ip: str,
        host: str,
        directory: Path,
        report: Callable[[Mapping[str, Any]], None],
        sync_seconds: float,
        *,
        hurry: bool = False,
        server: Sequence[str] = MODEL_SERVER,
    ) -> None:
        self.pod, self.ip, self.host = pod, ip, host
        self.name = str(pod["metadata"]["name"])
        self.uid = str(pod["metadata"]["uid"])
        self._volumes, self._directory, self._report = volumes, directory, report
        self._sync_seconds, self._hurry, self._server = sync_seconds, hurry, tuple(server)
        self._container = pod["spec"]["containers"][0]
        self._maps: dict[str, ConfigMapVolume] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0
        self._ending = threading.Event()
        self.finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pod {self.name}", daemon=True)

    def start(self) -> None:
        """Begins to run it."""
        self._thread.start()

    def end(self) -> None:
        """Ends it as the kubelet does; ``finished`` is set when it is gone."""
        self._ending.set()

    @property
    def log(self) -> Path:
        """Output of the container."""
        return self._directory / "container.log"

    # ---- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff = _FIRST_BACKOFF
        try:
            while not self._ending.is_set():
                started = time.monotonic()
                try:
                    table = self._lay_out()
                    why = self._live(table)
                except PodError as error:
                    self._tell(ready=False, waiting=(error.reason, str(error)))
                    self._ending.wait(1)
                    continue
                if self._ending.is_set():
                    break
                self._restarts += 1
                backoff = _FIRST_BACKOFF if time.monotonic() - started > 600 else min(2 * backoff, _LONGEST_BACKOFF)
                self._tell(ready=False, waiting=("CrashLoopBackOff", why))
                self._ending.wait(backoff)
        except Exception:
            log.exception("pod %s failed", self.name)
        finally:
            self._stop()
            self.finished.set()

    def _live(self, table: Mapping[str, str]) -> str:
        """One life of the container; why it ended."""
        self._process = self._start(table)
        probes = {
            name: Health(self._container[name])
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
            if name in self._container
        }
        started, ready, synced = "startupProbe" not in probes, False, time.monotonic()
        self._tell(ready=False, started=started)
        while not self._ending.wait(_TICK_SECONDS):
            if (code := self._process.poll()) is not None:
                return f"the container ended with status {code}{self._last_words()}"
            if time.monotonic() - synced > self._sync_seconds:
                synced = time.monotonic()
                self._sync()
            if not started:
                result = probes["startupProbe"].check(self._probe)
                if result is False:
                    self._stop()
                    return "the startup probe failed"
                started = bool(result)
                if started:
                    self._tell(ready=False, started=True)
                continue
            if "livenessProbe" in probes and probes["livenessProbe"].check(self._probe) is False:
                self._stop()
                return "the liveness probe failed"
            result = probes["readinessProbe"].check(self._probe) if "readinessProbe" in probes else True
            if result is not None and result != ready:
                ready = result
                self._tell(ready=ready, started=True)
        return "ended"

    # ---- volumes ---------------------------------------------------------------------------------------------------

    def _lay_out(self) -> dict[str, str]:
        """Directory on this machine by mount path."""
        found: dict[str, Path] = {}
        for volume in self.pod["spec"].get("volumes") or ():
            name = volume["name"]
            if "configMap" in volume:
                self._map(name, volume["configMap"]["name"])
                found[name] = self._maps[name].directory
            elif "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                directory = self._volumes.claim(claim)
                if directory is None:
                    raise PodError("ContainerCreating", f"claim {claim} is not bound")
                found[name] = directory
            else:
                raise PodError("ContainerCreating", f"volume {name} is of a kind the sandbox does not have")
        table = {}
        for mount in self._container.get("volumeMounts") or ():
            if mount.get("subPath"):
                raise PodError("CreateContainerConfigError", "the sandbox mounts no subPath")
            table[posixpath.normpath(mount["mountPath"])] = str(found[mount["name"]])
        return table

    def _map(self, volume: str, config_map: str) -> None:
        data = self._volumes.config_map(config_map)
        if data is None:
            raise PodError("ContainerCreating", f'configmap "{config_map}" not found')
        if volume not in self._maps:
            self._maps[volume] = ConfigMapVolume(self._directory / "volumes" / volume)
        self._maps[volume].update(data)

    def _sync(self) -> None:
        for volume in self.pod["spec"].get("volumes") or ():
            if "configMap" in volume:
                try:
                    self._map(volume["name"], volume["configMap"]["name"])
                except (PodError, OSError) as error:  # what is mounted stays
                    log.warning("pod %s: volume %s: %s", self.name, volume["name"], error)

    # ---- the container ---------------------------------------------------------------------------------------------

    def _start(self, table: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = self._container.get("command") or []
        if not command or command[0].rpartition("/")[2] != _SERVER or len(command) > 1:
            raise PodError(
                "CreateContainerError", f"the sandbox only runs {_SERVER}, not {command or 'an entry point'}"
            )
        container = {item["name"]: item.get("value", "") for item in self._container.get("env") or ()}
        env = confinement.environment(container) | {
            "PYTHONPATH": paths.PYTHONPATH,
            "PYTHONUNBUFFERED": "1",
            address.VARIABLE: self.host,
            mounts.VARIABLE: json.dumps(table),
        }
        self._directory.mkdir(parents=True, exist_ok=True)
        argv = confinement.guarded(self._server, self._container.get("args", ()), map(Path, table.values()), ())
        with self.log.open("ab") as output:
            # In this thread, which lives as long as the pod: the kernel ends the process with it.
            return subprocess.Popen(
                argv,
                env=env,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _stop(self) -> None:
        """PreStop hook, SIGTERM, grace period, SIGKILL."""
        process, self._process = self._process, None
        if process is None:
            return
        grace = float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        deadline = time.monotonic() + (2.0 if self._hurry else grace)
        hook = ((self._container.get("lifecycle") or {}).get("preStop") or {}).get("exec")
        if hook and self._ending.is_set() and not self._hurry and process.poll() is None:
            self._tell(ready=False, started=True)
            # Any other command would run on this machine, not in a container.
            if (seconds := _sleep_seconds(hook["command"])) is None:
                log.warning("pod %s: preStop: the sandbox only runs sleep, not %s", self.name, hook["command"])
            else:
                time.sleep(min(seconds, grace))
        process.terminate()
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _probe(self, spec: Mapping[str, Any]) -> bool:
        seconds = float(spec.get("timeoutSeconds", 1))
        if "tcpSocket" in spec:
            try:
                socket.create_connection((self.host, self._port(spec["tcpSocket"]["port"])), seconds).close()
            except OSError:
                return False
            return True
        get = spec["httpGet"]
        connection = http.client.HTTPConnection(self.host, self._port(get["port"]), timeout=seconds)
        try:
            connection.request("GET", get.get("path") or "/")
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _port(self, port: int | str) -> int:
        named = {item.get("name"): item["containerPort"] for item in self._container.get("ports") or ()}
        return int(named.get(port, port))

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1]}" if lines else ""

    # ---- status ----------------------------------------------------------------------------------------------------

    def _tell(self, *, ready: bool, started: bool = False, waiting: tuple[str, str] | None = None) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        state: dict[str, Any] = {"running": {"startedAt": now}}
        if waiting:
            state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
        conditions = {
            "PodReadyToStartContainers": True,
            "Initialized": True,
            "ContainersReady": ready,
            "Ready": ready,
        }
        self._report(
            {
                "phase": "Pending" if waiting and not self._restarts else "Running",
                "podIP": self.ip,
                "podIPs": [{"ip": self.ip}],
                "startTime": now,
                "conditions": [
                    {"type": name, "status": str(value), "lastTransitionTime": now}
                    for name, value in conditions.items()
                ],
                "containerStatuses": [
                    {
                        "name": self._container["name"],
                        "image": self._container["image"],
                        "imageID": "",
                        "ready": ready,
                        "started": started,
                        "restartCount": self._restarts,
                        "state": state,
                    }
                ],
            }
        )


def _sleep_seconds(command: Sequence[str]) -> float | None:
    """How long a command sleeps; None where it is another one."""
    if len(command) != 2 or command[0].rpartition("/")[2] != "sleep":
        return None
    return float(command[1]) if command[1].replace(".", "", 1).isdigit() else None
