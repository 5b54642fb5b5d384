"""Rollouts as they happen: each write of a model config file, who wrote it, what it changes, and who answers by it yet.

A rollout is one or more writes (widen, move, narrow). What is known of it lies in the files themselves: the first line
names the stack, comments name gates that began, and what came of them. Earlier writes are read from the versions of
the object; those of a bucket without versions, and of a ConfigMap, are kept from when this process saw them.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.cloud.console.eas_services import object_text
from sandbox.cloud.oss.errors import OssError
from sandbox.cloud.oss.store import ObjectStore, ObjectVersion
from tfserving.config_notes import StoredConfig
from tfserving.errors import ModelConfigError
from tfserving.model_config import Model

_WRITES = 30
"""Newest writes that are shown of a file."""
_LINES = 12
"""Changes of one write that are told one by one."""
_FILE_LIMIT = 1 << 20


@dataclass(frozen=True)
class Write:
    """One write of a model config file.

    Attributes:
        order: grows with every write of the file.
        time: seconds since the epoch.
        text: what was written; empty where the file was removed.
    """

    order: float
    time: float
    text: str


@dataclass
class _Settled:
    """When the newest write of a file was seen to be answered."""

    order: float
    waited: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Change:
    """What one write changes for one model.

    Attributes:
        model: its name.
        lines: for a person.
    """

    model: str
    lines: tuple[str, ...] = field(default=())


class Rollouts:
    """Remembers writes of model config files.

    Args:
        objects: what is watched.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._seen: dict[str, deque[Write]] = {}
        self._earlier: dict[tuple[str, float], Write] = {}
        self._settled: dict[str, _Settled] = {}
        objects.on_change(self._changed)

    def _changed(self, bucket: str, key: str) -> None:
        """Keeps a file as it is written: in a bucket without versions the next write takes it away."""
        if not key.endswith(".pbtxt"):
            return
        version = self._objects.find_any(bucket, key)
        try:
            text = object_text(self._objects, bucket, key) or ""
        except ModelConfigError:
            return
        order = float(version.sequence) if version is not None else time.time()
        self._keep(f"oss://{bucket}/{key}", Write(order, version.modified if version else time.time(), text))

    def saw(self, place: str, text: str, written: float) -> None:
        """Keeps a file that lies elsewhere, if it is another than before.

        Args:
            place: ``configmap://namespace/name/key``.
            text: of it.
            written: when it was last written, seconds since the epoch.
        """
        with self._lock:
            kept = self._kept(place)
            if not kept or kept[-1].text != text:
                # Times of Kubernetes are whole seconds: two writes may have the same.
                order = max(written, kept[-1].order + 1) if kept else written
                kept.append(Write(order, written, text))

    def _keep(self, place: str, write: Write) -> None:
        with self._lock:
            kept = self._kept(place)
            if not kept or kept[-1].order < write.order:
                kept.append(write)

    def _kept(self, place: str) -> deque[Write]:
        return self._seen.setdefault(place, deque(maxlen=_WRITES + 1))

    def writes(self, place: str) -> list[Write]:
        """The writes of a file that are known, oldest first. Blocks."""
        with self._lock:
            found = {each.order: each for each in self._seen.get(place, ())}
        if place.startswith("oss://"):
            bucket, _, key = place.removeprefix("oss://").partition("/")
            for version in self._versions(bucket, key):
                order = float(version.sequence)
                if order not in found:
                    if (place, order) not in self._earlier:
                        self._earlier[place, order] = Write(order, version.modified, self._text(version))
                    found[order] = self._earlier[place, order]
        return [found[order] for order in sorted(found)][-(_WRITES + 1) :]

    def _versions(self, bucket: str, key: str) -> Iterable[ObjectVersion]:
        try:
            listed = self._objects.list_versions(bucket, key, "", "", "", _WRITES + 1)
        except OssError:
            return ()
        return [each for each in listed.items if each.key == key and not each.is_delete_marker]

    def _text(self, version: ObjectVersion) -> str:
        try:
            with self._objects.open_blob(version) as blob:
                return blob.read(_FILE_LIMIT).decode("utf-8", "replace")
        except OssError:
            return ""

    def told(self, place: str, services: Sequence[str]) -> list[dict[str, Any]]:
        """The writes of a file for the page, newest first. Blocks.

        Args:
            place: where it is.
            services: those that read it.
        """
        found = []
        before: Write | None = None
        writes = self.writes(place)
        for write in writes:
            stored = StoredConfig.read(write.text)
            earlier = models_of(before.text) if before is not None else None
            changes = changes_of(earlier, models_of(write.text))
            lines = [line for change in changes for line in change.lines]
            gates = [{"line": line, "passed": gate.passed} for gate in stored.gates for line in gate.lines()]
            tried = [asdict(each) for each in stored.tried]
            if lines or gates or tried or before is None:
                found.append(
                    {
                        "id": f"{place}@{write.order!r}",
                        "file": place,
                        "time": write.time,
                        "by": stored.owner,
                        "services": list(services),
                        "step": "gate" if (gates or tried) and not lines else step_of(earlier, models_of(write.text)),
                        "lines": lines[:_LINES],
                        "more": max(0, len(lines) - _LINES),
                        "gates": gates,
                        "tried": tried,
                        "isNewest": write is writes[-1],
                        "restarts": sorted(stored.restarts),
                        "models": [change.model for change in changes],
                    }
                )
            before = write
        return found[::-1]

    def settle(self, place: str, newest: Mapping[str, Any], waiting: Sequence[str], now: float) -> dict[str, Any]:
        """Whether the newest write of a file is answered.

        Args:
            place: where the file is.
            newest: the write, as :meth:`told` has it.
            waiting: what is not yet as it says, for a person.
            now: seconds since the epoch.

        Returns:
            ``{"waiting": [...], "seconds"}``: how long it took, null where nobody watched it.
        """
        order = float(str(newest["id"]).rpartition("@")[2])
        state = self._settled.get(place)
        if state is None or state.order != order:
            state = self._settled[place] = _Settled(order)
        if waiting:
            state.waited, state.seconds = True, None
        elif state.waited and state.seconds is None:
            state.seconds = max(0.0, now - float(newest["time"]))
        return {"waiting": list(waiting), "seconds": None if state.seconds is None else round(state.seconds, 1)}


@functools.lru_cache(maxsize=64)
def models_of(text: str) -> dict[str, Model]:
    """The models of a file by name; none where it cannot be read."""
    parsed = StoredConfig.read(text).parse() if text else None
    return {model.name: model for model in parsed.models} if parsed is not None else {}


def changes_of(before: Mapping[str, Model] | None, after: Mapping[str, Model]) -> list[Change]:
    """What one write changes, by model; ``before`` None: nothing is known of an earlier one."""
    if before is None:
        return []
    found = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        lines: list[str] = []
        if new is None:
            lines.append(f"{name}: is served no longer")
        else:
            if old is None:
                lines.append(f"{name}: is new, serves {new.policy}")
            elif old.policy != new.policy:
                lines.append(f"{name}: serves {new.policy} instead of {old.policy}")
            labels = old.labels if old is not None else {}
            for label in dict.fromkeys([*labels, *new.labels]):
                was, now = labels.get(label), new.labels.get(label)
                if was != now:
                    lines.append(_label_line(name, label, was, now))
            if old is not None and not lines and old != new:
                lines.append(f"{name}: other settings")
        if lines:
            found.append(Change(name, tuple(lines)))
    return found


def _label_line(model: str, label: str, was: int | None, now: int | None) -> str:
    if was is None:
        return f"{model}: label {label} is new, at version {now}"
    return f"{model}: label {label} is gone" if now is None else f"{model}: label {label} moves {was} to {now}"


def step_of(before: Mapping[str, Model] | None, after: Mapping[str, Model]) -> str:
    """Which step of a rollout a write looks like."""
    if before is None:
        return "first known"
    names = before.keys() & after.keys()
    moved = any(before[name].labels != after[name].labels for name in names)
    if moved:
        return "move"
    gone = before.keys() - after.keys() or any(_fewer(before[name], after[name]) for name in names)
    more = after.keys() - before.keys() or any(_fewer(after[name], before[name]) for name in names)
    return "change" if bool(gone) == bool(more) else "narrow" if gone else "widen"


def _fewer(one: Model, two: Model) -> bool:
    """Whether ``two`` names fewer specific versions than ``one``."""
    kinds = one.policy.kind == two.policy.kind == "specific"
    return kinds and bool(set(one.policy.versions) - set(two.policy.versions))


def waiting_for(service: str, view: Mapping[str, Any]) -> list[str]:
    """What a model of a service is not yet, as its config file has it."""
    found = []
    name = view["name"]
    if view["problem"]:
        found.append(f"{service}: {name}: {view['problem']}")
    for version in view["versions"]:
        states = set(version["states"])
        if states - {"AVAILABLE"}:
            found.append(f"{service}: {name} version {version['version']} is {' and '.join(sorted(states))}")
    found += [f"{service}: {name} version {version} is not served yet" for version in view["missing"]]
    for label in view["labels"]:
        if label["answered"] != [label["wanted"]]:
            said = " and ".join(map(str, label["answered"])) or "no version"
            found.append(f"{service}: label {label['label']} of {name} is answered by {said}, not {label['wanted']}")
    extra = view["extra"]
    found += [f"{service}: {name} version {version} is still served" for version in extra]
    return found
