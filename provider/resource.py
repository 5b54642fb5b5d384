"""What every resource of the provider is built on: its declared properties, its five operations, and their context."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from provider.clients import Clients
from provider.properties import Change, differences
from tfserving.contract.kinds import unknown_name
from tfserving.contract.records import Contract, Property, Record
from tfserving.errors import ConfigError, TFServingError
from tfserving.property_path import covers, format_path, parse_path
from tfserving.property_values import UNKNOWN, Properties, plain, secret

Severity = Literal["debug", "info", "warning", "error"]
PathParts = tuple[str | int, ...]


class OperationCancelledError(TFServingError):
    """The engine asked every running operation to stop."""


class OperationTimeoutError(TFServingError):
    """The time given to an operation is over (the ``customTimeouts`` of the resource, or the default)."""


class Log(Protocol):
    """Where an operation's messages go: the engine, which shows them beside the resource."""

    def __call__(self, severity: Severity, urn: str, message: str, *, ephemeral: bool = False) -> None:
        """Send one message. An ephemeral one is a status: it is replaced by the next."""


@dataclass(frozen=True)
class Recorded:
    """What exists after the steps an operation has done so far.

    Attributes:
        id: the resource's id.
        outputs: its outputs as they are now.
        inputs: for a read only: the inputs that correspond to what is there.
    """

    id: str
    outputs: Properties
    inputs: Properties | None = None


@dataclass
class Context:
    """One operation on one resource, as the engine asked for it.

    Attributes:
        urn: the resource's URN.
        root: the project directory; relative paths in properties start there.
        clients: the cloud's APIs.
        log: where messages go.
        cancelled: set when the engine cancels.
        stamp: id of the create that the resource's state comes from, which things that it holds say; empty for a state
            of release 0.1.0.
        seconds: time for the whole operation; None is unlimited.
        memory: what operations on the resource have kept for the next one in this process.
        recorded: what exists so far; an error after that keeps it in Pulumi's state.
    """

    urn: str
    root: Path
    clients: Clients
    log: Log
    cancelled: threading.Event
    stamp: str = ""
    seconds: float | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    recorded: Recorded | None = None
    _started: float = field(default_factory=time.monotonic)

    def debug(self, message: str) -> None:
        """Shown only with ``--debug``."""
        self.log("debug", self.urn, message)

    def info(self, message: str) -> None:
        """Kept in the output of the run."""
        self.log("info", self.urn, message)

    def warning(self, message: str) -> None:
        """Kept in the output of the run, marked as a warning."""
        self.log("warning", self.urn, message)

    def status(self, message: str) -> None:
        """What is going on right now; replaced by the next status."""
        self.log("info", self.urn, message, ephemeral=True)

    def record(self, id_: str, outputs: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> None:
        """Remember what exists from now on, so that an error from here on loses nothing."""
        self.recorded = Recorded(id_, dict(outputs), None if inputs is None else dict(inputs))

    def check(self) -> None:
        """Stop here if the engine has cancelled or the time is over.

        Raises:
            OperationCancelledError: cancelled.
            OperationTimeoutError: the time is over.
        """
        if self.cancelled.is_set():
            raise OperationCancelledError("cancelled")
        if self.seconds is not None and time.monotonic() - self._started > self.seconds:
            raise OperationTimeoutError(f"not done after {self.seconds:g} s, the time allowed for this operation")

    def sleep(self, seconds: float) -> None:
        """Wait, unless cancelled or out of time first; raises as :meth:`check` does."""
        if self.seconds is not None:
            seconds = min(seconds, max(self._started + self.seconds - time.monotonic(), 0) + 0.01)
        self.cancelled.wait(min(max(seconds, 0), threading.TIMEOUT_MAX))
        self.check()

    def poll(self, seconds: float, *, longest: float = 5.0) -> Iterator[float]:
        """Yield the seconds gone by, at growing intervals, until ``seconds`` are over: ``for ... else: too late``.

        The first turn is at once; the last one is when the time is over, so that the newest state is always seen.
        """
        started = time.monotonic()
        pause = 0.2
        while True:
            self.check()
            gone = time.monotonic() - started
            yield gone
            left = seconds - gone
            if left <= 0:
                return
            self.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)


@dataclass(frozen=True)
class Failure:
    """One thing wrong with an input.

    Attributes:
        path: property path.
        reason: a sentence for the person who wrote the input.
    """

    path: str
    reason: str


@dataclass
class Diff:
    """What an update would change.

    Attributes:
        changes: by path: the kind of change, and whether it is one of inputs (False: of the state found).
        replaces: top-level properties that make it a replacement.
        delete_before_replace: whether the old one must go first.
    """

    changes: dict[PathParts, tuple[Change, bool]] = field(default_factory=dict)
    replaces: set[str] = field(default_factory=set)
    delete_before_replace: bool = False


@dataclass(frozen=True)
class Found:
    """What a read found.

    Attributes:
        inputs: the inputs that describe what is there.
        outputs: the outputs as they are.
    """

    inputs: Properties
    outputs: Properties


class Resource(ABC):
    """One kind of resource. Stateless: everything about an operation comes with its context and properties."""

    contract: ClassVar[Contract]
    refresh_before_update: ClassVar[bool] = False
    default_seconds: ClassVar[float | None] = None

    @property
    def token(self) -> str:
        """Its type."""
        return self.contract.token

    @property
    def inputs(self) -> Mapping[str, Property]:
        """Its inputs by name."""
        return self.contract.inputs.properties()

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        """The inputs with defaults filled in, and everything wrong with them."""
        return check_properties(self.inputs, news, self.validate)

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        """What the declared types cannot say about the inputs. Values may be unknown."""
        return ()

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        """What bringing the state that was found to the new inputs changes. No I/O.

        Raises:
            TFServingError: the change cannot be made at all.
        """
        return diff_properties(self.inputs, old_inputs, news)

    @abstractmethod
    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        """The outputs as far as they are known before anything is done; olds are None for a create. Writes nothing."""

    def replaced(self, ctx: Context, old_inputs: Properties, old_outputs: Properties) -> None:  # noqa: B027
        """Tells what a person should know before the old one is replaced. Only reads.

        Raises:
            TFServingError: the old one could not be deleted afterwards.
        """

    @abstractmethod
    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        """Make it; id and outputs. Safe to repeat after a failure."""

    @abstractmethod
    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        """What is there, or None where it is gone. ``inputs`` is None for an import."""

    @abstractmethod
    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        """Bring it to the new inputs; the outputs."""

    @abstractmethod
    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Remove it; nothing is wrong if it is gone already."""


def check_properties(
    declared: Mapping[str, Property], news: Properties, validate: Callable[[Properties], Iterable[Failure]]
) -> tuple[Properties, list[Failure]]:
    """Inputs with defaults, and what is wrong: unknown names, missing ones, values of other types, and ``validate``."""
    failures = [Failure(format_path([name]), unknown_name(name, declared)) for name in news if name not in declared]
    inputs = {
        name: news[name] if news.get(name) is not None else declaration.default
        for name, declaration in declared.items()
        if news.get(name) is not None or declaration.default is not None
    }
    within: list[Failure] = []
    for name, declaration in declared.items():
        if plain(inputs.get(name)) is None and declaration.required:
            failures.append(Failure(name, f"{name} is required: {declaration.description}"))
        for path, reason in declaration.kind.faults(inputs.get(name), (name,)):
            (within if len(path) > 1 else failures).append(Failure(format_path(path), reason))
    if not failures:
        failures = list(validate({name: _readable(declared[name], value) for name, value in inputs.items()}))
    # What a resource says itself about a value is closer to what was meant.
    said = [each.path for each in failures]
    failures += [each for each in within if not any(covers(path, parse_path(each.path)) for path in said)]
    return inputs, failures


def _readable(declared: Property, value: Any) -> Any:
    """A value that a resource can read to say what else is wrong; one that it cannot is as good as unknown."""
    try:
        declared.kind.read(value)
    except ConfigError:
        return UNKNOWN
    return value


def diff_properties(declared: Mapping[str, Property], old_inputs: Properties, news: Properties) -> Diff:
    """The differing inputs, with replacement where a declaration says so."""
    diff = Diff()
    for name, declaration in declared.items():
        if not declaration.compared:
            continue
        found = differences(old_inputs.get(name), news.get(name), (name,))
        diff.changes |= {path: (change, True) for path, change in found.items()}
        if found and declaration.replaces:
            diff.replaces.add(name)
    return diff


def written(outputs: Record) -> Properties:
    """Typed outputs as properties, those that are always secret marked so."""
    declared = outputs.properties()
    return {name: secret(value) if declared[name].secret else value for name, value in outputs.write().items()}
