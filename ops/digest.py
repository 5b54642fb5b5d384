"""What ``pulumi preview --json`` says, read into types (``PreviewDigest`` of Pulumi's ``pkg/display/json.go``).

The sandbox engine prints the same. What is read here has passed :mod:`ops.redact`: nothing behind it can show a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ops.redact import Redactor, uncoloured
from tfserving.contract import integers
from tfserving.errors import TFServingError
from tfserving.property_path import Path, parse_path
from tfserving.property_values import UNKNOWNS

UNKNOWN = "(known after the update)"
"""Stands for a value that is not known at preview."""

STACK_TYPE = "pulumi:pulumi:Stack"

_REPLACING = frozenset({"replace", "create-replacement", "delete-replaced", "discard-replaced", "import-replacement"})
_UNHANDLED = re.compile(r"an unhandled error occurred: [Pp]rogram exited with non-zero exit code: \d+")
_QUIET = frozenset({"same", "read", "refresh", "remove-pending-replace", "read-discard", "discard"})


class DigestError(TFServingError):
    """What the engine printed is not a preview."""


@dataclass(frozen=True)
class Step:
    """What happens to one resource.

    Attributes:
        op: ``create``, ``update``, ``replace``, ``delete``, or one that changes nothing (``same``, ``refresh`` ...).
        urn: the resource.
        old: inputs, outputs and the like before; empty for a new resource.
        new: the same afterwards; empty for one that goes.
        diff: property path to kind of change: ``add``, ``update`` or ``delete``, with ``-replace`` where it forces one.
        of_outputs: paths that differ between outputs, which are what was found, and not between inputs.
        diff_keys: top-level properties that differ, where no paths are known.
        replace_keys: properties that force a replacement.
    """

    op: str
    urn: str
    old: Mapping[str, Any] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)
    diff: Mapping[str, str] = field(default_factory=dict)
    of_outputs: frozenset[str] = frozenset()
    diff_keys: tuple[str, ...] = ()
    replace_keys: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The resource's type, ``tfserving:index:EasService``."""
        return self.urn.split("::", 3)[2].rpartition("$")[2] if self.urn.count("::") >= 3 else ""

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.split("::", 3)[-1]

    @property
    def changes(self) -> bool:
        """Whether anything is created, changed or deleted."""
        return self.op not in _QUIET

    @property
    def custom(self) -> bool:
        """Whether a provider manages it; components and the stack itself only group others."""
        return bool((self.new or self.old).get("custom", True)) and not self.type.startswith("pulumi:pulumi:")

    @property
    def is_provider(self) -> bool:
        """Whether it is the configuration of a provider."""
        return self.type.startswith("pulumi:providers:")

    def before(self, path: str) -> Any:
        """The value at a property path before; None where there is none."""
        return self._at(self.old, path)

    def after(self, path: str) -> Any:
        """The value at a property path afterwards; None where there is none."""
        return self._at(self.new, path)

    def _at(self, state: Mapping[str, Any], path: str) -> Any:
        parts = ("outputs", "inputs") if path in self.of_outputs else ("inputs", "outputs")
        place = parse_path(path)
        found = (lookup(state.get(part), place) for part in parts)
        return next((value for value in found if value is not None), None)

    def old_inputs(self) -> Mapping[str, Any]:
        """Inputs before."""
        return _table(self.old, "inputs")

    def new_inputs(self) -> Mapping[str, Any]:
        """Inputs afterwards."""
        return _table(self.new, "inputs")

    def old_outputs(self) -> Mapping[str, Any]:
        """Outputs before."""
        return _table(self.old, "outputs")

    def new_outputs(self) -> Mapping[str, Any]:
        """Outputs afterwards."""
        return _table(self.new, "outputs")


@dataclass(frozen=True)
class Diagnostic:
    """A message of the program, a provider or the engine.

    Attributes:
        severity: ``info``, ``warning`` or ``error``.
        text: the message, without its severity in front.
        urn: the resource it is about; empty for the stack.
    """

    severity: str
    text: str
    urn: str = ""


@dataclass(frozen=True)
class Digest:
    """A preview.

    Attributes:
        steps: one per resource, in the order of the engine.
        diagnostics: messages.
        counts: resources by operation.
    """

    steps: tuple[Step, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[Step, ...]:
        """Steps that change something."""
        return tuple(step for step in self.steps if step.changes)

    @property
    def has_changes(self) -> bool:
        """Whether anything changes, by the steps or by the engine's own count of them."""
        return bool(self.changed) or any(count for op, count in self.counts.items() if op not in _QUIET)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Messages that say why the preview failed."""
        found = [each for each in self.diagnostics if each.severity == "error"]
        # That the program has failed is what the CLI adds to its own words.
        return tuple(each for each in found if not _UNHANDLED.fullmatch(each.text)) or tuple(found)


def parse(text: str, redactor: Redactor) -> Digest:
    """Reads what the engine printed.

    Args:
        text: the JSON document.
        redactor: learns the secrets of the document, then masks them.

    Raises:
        DigestError: it is none. The message does not repeat what was printed.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise DigestError(
            "this is not the output of `pulumi preview --json`: it is not JSON"
            if text.strip()
            else "nothing was printed"
        ) from None
    if not isinstance(raw, dict) or not {"steps", "diagnostics", "changeSummary", "config", "duration"} & raw.keys():
        raise DigestError("this is not the output of `pulumi preview --json`: it has no steps and no changeSummary")
    steps, notes = raw.get("steps") or [], raw.get("diagnostics") or []
    counts = raw.get("changeSummary") or {}
    if not (isinstance(steps, list) and isinstance(notes, list) and isinstance(counts, dict)):
        raise DigestError("this is not the output of `pulumi preview --json`: steps or diagnostics are no lists")
    steps = [_decoded(step) for step in steps if isinstance(step, dict)]
    redactor.learn([_config(raw.get("config")), *(_states(step) for step in steps)])
    return Digest(
        _one_per_resource(_step(step, redactor) for step in steps),
        tuple(_diagnostic(note, redactor) for note in notes if isinstance(note, dict) and note.get("message")),
        {str(op): count for op, count in counts.items() if isinstance(count, int)},
    )


def lookup(value: Any, path: Path) -> Any:
    """What lies at a path; None where nothing does."""
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, dict) and str(step) in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def has_unknown(value: Any) -> bool:
    """Whether anything in a value is not known yet."""
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    if isinstance(value, list):
        return any(map(has_unknown, value))
    return bool(value == UNKNOWN)


def _config(raw: Any) -> Any:
    """The stack config, its keys without namespace, its objects read: Pulumi writes them as strings of JSON."""
    if not isinstance(raw, dict):
        return raw
    found = {}
    for key, value in raw.items():
        try:
            found[str(key).rpartition(":")[2]] = json.loads(value)
        except (TypeError, ValueError, RecursionError):
            found[str(key).rpartition(":")[2]] = value
    return found


def _decoded(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step whose states have version numbers as integers, whichever release wrote them."""
    kind = Step("", str(step.get("urn", ""))).type

    def decoded(state: Any) -> Any:
        if not isinstance(state, dict):
            return state
        parts = {part: state[part] for part in ("inputs", "outputs") if isinstance(state.get(part), dict)}
        return state | {part: integers.decode(kind, value) for part, value in parts.items()}

    return {**step, "oldState": decoded(step.get("oldState")), "newState": decoded(step.get("newState"))}


def _states(step: Mapping[str, Any]) -> list[Any]:
    states = [step.get("oldState"), step.get("newState")]
    return [state.get(part) for state in states if isinstance(state, dict) for part in ("inputs", "outputs")]


def _step(raw: Mapping[str, Any], redactor: Redactor) -> Step:
    detailed = {
        redactor.text(str(path)): change
        for path, change in (raw.get("detailedDiff") or {}).items()
        if isinstance(change, dict)
    }
    return Step(
        op=str(raw.get("op", "")),
        urn=redactor.text(str(raw.get("urn", ""))),
        old=_state(raw.get("oldState"), redactor),
        new=_state(raw.get("newState"), redactor),
        diff={path: str(change.get("kind", "update")) for path, change in detailed.items()},
        of_outputs=frozenset(path for path, change in detailed.items() if change.get("inputDiff") is False),
        diff_keys=tuple(redactor.text(str(key)) for key in raw.get("diffReasons") or ()),
        replace_keys=tuple(redactor.text(str(key)) for key in raw.get("replaceReasons") or ()),
    )


def _state(raw: Any, redactor: Redactor) -> dict[str, Any]:
    if not isinstance(raw, dict):
        return {}
    kept = {key: raw[key] for key in ("custom", "id", "inputs", "outputs", "initErrors") if key in raw}
    for key in raw.get("additionalSecretOutputs") or ():
        if isinstance(kept.get("outputs"), dict) and key in kept["outputs"]:
            redactor.learn({"secret": kept["outputs"][key]})
            kept["outputs"] = {**kept["outputs"], key: "[secret]"}
    state: dict[str, Any] = _readable(redactor.value(kept))
    return state


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return UNKNOWN if isinstance(value, str) and value in UNKNOWNS else value


def _diagnostic(raw: Mapping[str, Any], redactor: Redactor) -> Diagnostic:
    severity = str(raw.get("severity") or "info").removesuffix("#err")
    text = uncoloured(str(raw["message"])).strip()
    for prefix in (f"{severity}: ", f"{severity}:"):
        text = text.removeprefix(prefix)
    return Diagnostic(severity, redactor.text(text.strip()), redactor.text(str(raw.get("urn") or "")))


def _one_per_resource(steps: Any) -> tuple[Step, ...]:
    """A replacement is several steps for the engine and one change for a person."""
    found: dict[str, Step] = {}
    for step in steps:
        if step.op in _REPLACING:
            known = found.get(step.urn)
            if known is None or known.op == "refresh" or (known.op == "replace" and not known.new):
                found[step.urn] = _as_replace(step, known)
        elif step.urn not in found or found[step.urn].op == "refresh":  # a look at it, before what is done with it
            found[step.urn] = step
    return tuple(found.values())


def _as_replace(step: Step, known: Step | None) -> Step:
    old = step.old or (known.old if known and known.op == "replace" else {})
    return replace(step, op="replace", old=old)


def _table(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = state.get(key)
    return value if isinstance(value, dict) else {}
