"""What the comments of a model config file say: whose it is, what is still to be done, which gates passed before it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tfserving import model_config
from tfserving.contract.gates import GateReport
from tfserving.errors import ModelConfigError
from tfserving.model_config import ModelServerConfig

_OWNER_LINE = re.compile(r"# Managed by Pulumi project (?P<project>\S+), stack (?P<stack>\S+): ")
_CREATED_LINE = "# Created as "
_RESTART_LINE = "# Read only at start, and still to be restarted: "
_GATE_LINE = "# Gate passed: "
_FAILED_LINE = "# Gate not passed: "
_TRIED_LINE = "# Gate under way: "


@dataclass(frozen=True)
class Tried:
    """A version that is being tried by its gate.

    Attributes:
        model: model name.
        version: its number.
        since: when the gate began, ISO 8601 in UTC.
        demands: where it is tried, and what it has to reach, for a person.
    """

    model: str
    version: int
    since: str
    demands: str


@dataclass(frozen=True)
class StoredConfig:
    """A model config file as it is stored.

    Attributes:
        owner: ``<project>/<stack>``; empty where no stack manages the file.
        text: all of it.
    """

    owner: str
    text: str

    @classmethod
    def read(cls, text: str) -> StoredConfig:
        """The file with this text."""
        return cls(owner_of(text), text)

    @property
    def held_by(self) -> str:
        """The create that holds the file; empty where the file does not say."""
        lines = (line for line in self.text.splitlines() if line.startswith(_CREATED_LINE))
        return next(lines, "").removeprefix(_CREATED_LINE)

    @property
    def restarts(self) -> frozenset[str]:
        """Services that read the file only when they start, and that a run ended before it restarted."""
        lines = (line for line in self.text.splitlines() if line.startswith(_RESTART_LINE))
        return frozenset(name for line in lines for name in line.removeprefix(_RESTART_LINE).split(", "))

    @property
    def gates(self) -> tuple[GateReport, ...]:
        """What came of gates before the file was written, in a run that may have ended before it could say so."""
        return tuple(GateReport.read(each) for each in self._objects(_GATE_LINE, _FAILED_LINE))

    @property
    def tried(self) -> tuple[Tried, ...]:
        """Gates that began with this write of the file. A run that was ended leaves them there until the next one."""
        found = []
        for each in self._objects(_TRIED_LINE):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                found.append(Tried(str(each["model"]), int(each["version"]), str(each["since"]), str(each["demands"])))
        return tuple(found)

    def _objects(self, *beginnings: str) -> Iterator[dict[str, Any]]:
        """The objects of lines that begin so; what is none, somebody else wrote."""
        for line in self.text.splitlines():
            for beginning in beginnings:
                if line.startswith(beginning):
                    with contextlib.suppress(ValueError):
                        if isinstance(found := json.loads(line.removeprefix(beginning)), dict):
                            yield found

    def parse(self) -> ModelServerConfig | None:
        """What it says, or None where TensorFlow Serving could not read it either."""
        try:
            return model_config.parse(self.text)
        except ModelConfigError:
            return None


def owner_of(text: str) -> str:
    """``<project>/<stack>`` that manages the file of this text; empty where none does."""
    match = _OWNER_LINE.match(text)
    return f"{match['project']}/{match['stack']}" if match else ""


def head(owner: str, held_by: str) -> str:
    """The comments that make a file a stack's.

    Args:
        owner: ``<project>/<stack>``.
        held_by: the create that holds it; empty for none.
    """
    project, _, stack = owner.partition("/")
    return (
        f"# Managed by Pulumi project {project}, stack {stack}: "
        f"change stacks/Pulumi.{stack}.yaml, an edit here is overwritten.\n"
    ) + (f"{_CREATED_LINE}{held_by}\n" if held_by else "")


def notes(restarts: Collection[str], gates: Iterable[GateReport], tried: Iterable[Tried] = ()) -> str:
    """The comments about a run that may end before it is done.

    Args:
        restarts: services that are still to be restarted.
        gates: what came of gates.
        tried: gates that begin.
    """
    lines = [f"{_RESTART_LINE}{', '.join(sorted(restarts))}"] if restarts else []
    lines += [f"{_GATE_LINE if each.passed else _FAILED_LINE}{json.dumps(each.write())}" for each in gates]
    lines += [f"{_TRIED_LINE}{json.dumps(asdict(each))}" for each in tried]
    return "".join(f"{line}\n" for line in lines)


def without_head(text: str) -> str:
    """A file's text without the comments of :func:`head`."""
    body = text.split("\n", 1)[1] if _OWNER_LINE.match(text) and "\n" in text else text
    return "".join(line for line in body.splitlines(keepends=True) if not line.startswith(_CREATED_LINE))
