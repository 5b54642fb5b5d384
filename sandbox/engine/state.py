"""A stack's state: resources as the CLI's deployment v3 has them, saved after every step.

In memory a resource is that JSON with secrets in the clear; in the file they are encrypted. ``pulumi stack import``
reads the file, ``pulumi stack export`` writes its like.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.background import InUseError, Lock
from sandbox.engine import secrets
from sandbox.engine.properties import is_secret, rewrite, secret
from tfserving.errors import TFServingError
from tfserving.property_values import SECRET, SIGNATURE

Resource = dict[str, Any]
"""``ResourceV3`` of sdk/go/common/apitype/core.go."""


class StateError(TFServingError):
    """The state cannot be read or written, or another run holds it."""


_VERSION = "sandbox"


def _magic(version: str) -> str:
    """What the CLI asks of a manifest before it imports a state (``NewMagic`` of pkg/resource/deploy/manifest.go)."""
    return hashlib.sha256(version.encode()).hexdigest()


def references(resource: Resource) -> set[str]:
    """URNs of what must exist as long as ``resource`` does."""
    found = {resource.get("parent"), resource.get("deletedWith"), resource.get("provider", "").rpartition("::")[0]}
    found.update(resource.get("dependencies", ()), *resource.get("propertyDependencies", {}).values())
    return {urn for urn in found if urn}


class Snapshot:
    """The resources of a stack in dependency order: those this run has done, then those it has not reached.

    Attributes:
        done: resources as this run left them.
        left: resources as the last run left them, which this run has not dealt with yet.
        interrupted: operations of the last run that never ended, ``{"resource": ..., "type": "creating"}``.
    """

    def __init__(self, path: Path, salt: str = "", read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        self._lock = threading.RLock()
        self._pending: list[dict[str, Any]] = []
        self.done: list[Resource] = []
        deployment: dict[str, Any] = {}
        try:
            deployment = dict(json.loads(path.read_text(encoding="utf-8"))["deployment"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{path} cannot be read ({error}); restore it, or remove it to start from nothing"
            ) from None
        old_salt = str(deployment.get("secrets_providers", {}).get("state", {}).get("salt", ""))
        self._salt, self._old_salt = salt or old_salt, old_salt

        def decrypt(item: Any) -> Any:
            if isinstance(item, dict) and item.get(SIGNATURE) == SECRET:
                return secret(json.loads(secrets.crypter(old_salt).decrypt(item["ciphertext"])))
            return item

        self.left: list[Resource] = rewrite(deployment.get("resources") or [], decrypt)
        self.interrupted: list[dict[str, Any]] = deployment.get("pending_operations") or []

    @property
    def resources(self) -> list[Resource]:
        """Everything there is now, dependencies first."""
        with self._lock:
            return [*self.done, *self.left]

    def find(self, *urns: str) -> Resource | None:
        """The live resource the last run left under the first of ``urns`` that has one."""
        live = {r["urn"]: r for r in self.left if not r.get("delete")}
        return next((live[urn] for urn in urns if urn in live), None)

    def put(self, new: Resource | None, old: Resource | None = None) -> None:
        """``new`` takes the place of ``old`` (by identity); without ``new``, ``old`` is gone."""
        with self._lock:
            for resources in (self.done, self.left):
                resources[:] = [r for r in resources if r is not old]
            if new is not None:
                self.done.append(new)
                if old is not None and old["urn"] != new["urn"]:  # by an alias
                    self._rename(old["urn"], new["urn"])
            if new != old:
                self.save()

    def _rename(self, old: str, new: str) -> None:
        """What refers to a resource that has another URN now refers to it by that one (``NormalizeURNReferences``)."""

        def renamed(urn: str) -> str:
            return new if urn == old else urn

        for resource in self.resources:
            for key in resource.keys() & {"parent", "deletedWith"}:
                resource[key] = renamed(resource[key])
            lists = [resource[key] for key in ("dependencies", "replaceWith") if key in resource]
            for urns in (*lists, *resource.get("propertyDependencies", {}).values()):
                urns[:] = map(renamed, urns)
            provider, _, id = resource.get("provider", "").rpartition("::")
            if provider == old:
                resource["provider"] = f"{new}::{id}"

    def refreshed(self, old: Resource, new: Resource | None) -> None:
        """``old`` is really ``new``, or gone; then nothing depends on it any more."""
        with self._lock:
            if new is not None:
                self.left[:] = [new if r is old else r for r in self.left]
                return self.save()
            self.left[:] = [r for r in self.left if r is not old]
            for resource in self.left:
                for urns in (resource.get("dependencies", []), *resource.get("propertyDependencies", {}).values()):
                    urns[:] = [urn for urn in urns if urn != old["urn"]]
            return self.save()

    @contextlib.contextmanager
    def pending(self, kind: str, resource: Resource) -> Iterator[None]:
        """Records an operation while it runs, so that a killed run leaves a trace of it. Save its result after."""
        entry = {"resource": copy.deepcopy(resource), "type": kind}
        with self._lock:
            self._pending.append(entry)
            self.save()
        try:
            yield
        except BaseException:
            self._pending.remove(entry)
            self.save()
            raise
        self._pending.remove(entry)

    def save(self) -> None:
        """Writes the file so that a reader sees the old one or the new one. A preview's snapshot is never written.

        Raises:
            StateError: the file cannot be written.
        """
        if self._read_only:
            return
        with self._lock:
            content = rewrite({"resources": self.resources, "pending_operations": self._pending}, self._encrypt)
            manifest = {"time": now(), "magic": _magic(_VERSION), "version": _VERSION}
            manager = {"type": "passphrase", "state": {"salt": self._salt}} if self._salt else None
            deployment = {"manifest": manifest} | ({"secrets_providers": manager} if manager else {}) | content
            text = json.dumps({"version": 3, "deployment": deployment}, indent=4)
            partial = self._path.with_suffix(".partial")
            try:
                with open(partial, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._path)
            except OSError as error:
                raise StateError(f"{self._path} cannot be written: {error.strerror}") from None

    def _encrypt(self, item: Any) -> Any:
        if not is_secret(item):
            return item
        crypter = secrets.any_crypter(self._salt, self._old_salt)
        self._salt = crypter.salt
        return {SIGNATURE: SECRET, "ciphertext": crypter.encrypt(json.dumps(item["value"]))}


def now() -> str:
    """The time as the CLI writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@contextlib.contextmanager
def lock(state_file: Path) -> Iterator[None]:
    """Keeps other runs away from a stack. The lock goes with the process, however it ends.

    Raises:
        StateError: another run holds it; the message has its process id.
    """
    state_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Lock(state_file.with_suffix(".lock")).held():
            yield
    except InUseError as error:
        pid = error.pid or "unknown"
        raise StateError(f"another run is at work on this stack (process {pid}); wait for it, or stop it") from None
