"""What the sandbox remembers of each EAS service: one JSON file per service, replaced atomically, private to its owner.

The files hold access tokens, so they are made with mode 0600 in a directory of mode 0700, and records never show them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

log = logging.getLogger("sandbox.cloud.eas")

EVENTS_KEPT = 200
VERSIONS_KEPT = 50

Desired = Literal["running", "stopped", "deleted"]
Phase = Literal["", "Creating", "Starting", "Updating", "Scaling", "HotUpdate", "Waiting"]


@dataclass(frozen=True)
class Event:
    """One line of a service's history.

    Attributes:
        time: seconds since the epoch.
        type: ``Normal`` or ``Warning``.
        reason: a word for machines.
        message: a sentence for a person; JSON for the progress of an update.
        instance: name of the instance it is about, empty for the service.
    """

    time: float
    type: str
    reason: str
    message: str
    instance: str = ""


@dataclass(frozen=True)
class ServiceVersion:
    """A numbered state of the service JSON. A new one is made by every change that replaces instances.

    Attributes:
        number: from 1.
        config: the service JSON as stored then.
        created: seconds since the epoch.
    """

    number: int
    config: Mapping[str, Any] = field(repr=False)
    created: float


DEFAULT_REGION = "cn-hangzhou"


def key_of(region: str, name: str) -> str:
    """The :attr:`ServiceRecord.key` of the service of a name in a region. A name has neither dots nor dashes."""
    return name if region in ("", DEFAULT_REGION) else f"{region}.{name}"


@dataclass(frozen=True)
class ServiceRecord:
    """Everything durable about one service. Change it with :func:`dataclasses.replace`.

    Attributes:
        name: service name.
        service_id: ``eas-m-...``.
        config: the service JSON as sent, without anything the server adds.
        token: what the ``Authorization`` header of a request must carry.
        created: seconds since the epoch.
        updated: likewise.
        desired: what the service is to be.
        phase: the passing state that the last call began, empty once it is over.
        restarts: number of RestartService calls.
        own_port: loopback port of its own, for services at the root path; 0 if it never had one.
        version: number of the version in force.
        versions: ascending.
        autoscaler: body of the autoscaler, None without one.
        scaled_to: replica count set by the autoscaler, None while ``metadata.instance`` rules.
        cronscaler: body of the cron scaler, None without one.
        lock: ``none``, ``dangerous`` or ``all``.
        weight: traffic weight in its group.
        traffic_state: ``standalone`` or ``grouping``.
        mirror: body of the mirror, None without one.
        events: oldest first, bounded.
        region: where it is, and names are unique in a region; empty where its maker did not say, which is every region.
    """

    name: str
    service_id: str
    config: Mapping[str, Any] = field(repr=False)
    token: str = field(repr=False)
    created: float
    updated: float
    desired: Desired = "running"
    phase: Phase = "Creating"
    restarts: int = 0
    own_port: int = 0
    version: int = 1
    versions: tuple[ServiceVersion, ...] = ()
    autoscaler: Mapping[str, Any] | None = None
    scaled_to: int | None = None
    cronscaler: Mapping[str, Any] | None = None
    lock: str = "none"
    weight: int = 0
    traffic_state: str = "standalone"
    mirror: Mapping[str, Any] | None = None
    events: tuple[Event, ...] = ()
    region: str = ""

    @property
    def key(self) -> str:
        """What no other service has, of any region: in URLs, for files and directories."""
        return key_of(self.region, self.name)

    def is_in(self, region: str) -> bool:
        """Whether the service is in a region; that of no region, or asked without one, is."""
        return not region or not self.region or self.region == region

    def with_event(self, type: str, reason: str, message: str, instance: str = "") -> ServiceRecord:
        """The record with one more event, the oldest dropped where there are too many."""
        events = (*self.events, Event(time.time(), type, reason, message, instance))
        return dataclasses.replace(self, events=events[-EVENTS_KEPT:])

    def with_version(self, config: Mapping[str, Any]) -> ServiceRecord:
        """The record with ``config`` as its newest version, in force."""
        number = self.versions[-1].number + 1 if self.versions else 1
        versions = (*self.versions, ServiceVersion(number, config, time.time()))
        return dataclasses.replace(self, config=config, version=number, versions=versions[-VERSIONS_KEPT:])


def write_private(path: Path, document: Any) -> None:
    """Writes a JSON file that only its owner can read: after a crash either the old file or the new one is there.

    Raises:
        OSError: the disk is full.
    """
    descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Keyed(Protocol):
    """A record with a key, which is a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def key(self) -> str:
        """What no other record of the store has."""


_Record = TypeVar("_Record", bound=Keyed)


class RecordStore(Generic[_Record]):
    """The files of all records of one kind of one sandbox cloud. They hold access tokens."""

    def __init__(self, directory: Path, read: Callable[[Any], _Record], kind: str) -> None:
        """Args:
        directory: made if missing, private to its owner.
        read: makes a record of its JSON; raises ValueError, TypeError or KeyError where it is none.
        kind: what the records are of, for the log.
        """
        self._directory, self._read, self._kind = directory, read, kind
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)

    def load(self) -> list[_Record]:
        """Every stored record, by name. A file that cannot be read is put aside and named in the log."""
        for leftover in self._directory.glob("*.tmp"):
            leftover.unlink()
        records = []
        for file in sorted(self._directory.glob("*.json")):
            try:
                records.append(self._read(json.loads(file.read_text(encoding="utf-8"))))
            except (ValueError, TypeError, KeyError) as error:
                broken = file.with_suffix(".broken")
                file.replace(broken)
                log.error("the record of %s %s cannot be read (%s); it is now %s", self._kind, file.stem, error, broken)
        return records

    def save(self, record: _Record) -> None:
        """Writes a record: after a crash either the old file or the new one is there.

        Raises:
            OSError: the disk is full.
        """
        write_private(self._directory / f"{record.key}.json", dataclasses.asdict(record))

    def delete(self, record: _Record) -> None:
        """Forgets a record."""
        (self._directory / f"{record.key}.json").unlink(missing_ok=True)


def service_store(directory: Path) -> RecordStore[ServiceRecord]:
    """The files of the services of one sandbox cloud."""
    return RecordStore(directory, _from_json, "service")


def _from_json(document: Any) -> ServiceRecord:
    events = tuple(Event(**event) for event in document.pop("events"))
    versions = tuple(ServiceVersion(**version) for version in document.pop("versions"))
    return ServiceRecord(**document, events=events, versions=versions)
