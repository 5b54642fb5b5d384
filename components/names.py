"""What the components of one run hold, so that no two of them hold the same thing.

Two components that name one service, one group or one model directory would change it back and forth with every ``up``,
and removing one would take away what the other needs. Pulumi does not see it: to it they are two resources. A name is
compared within one run and one provider; what is known only during the update is compared as soon as it is known.

A run is a program in this process, told by its connection to the engine. Where the engine has each component made by a
call of its own (:mod:`plugin.construct`), the calls of one run share what they hold.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.resource import DependencyProviderResource
from pulumi.runtime import settings

from components.arguments import is_output, refusal
from components.component import Component
from tfserving.contract import PACKAGE
from tfserving.errors import Problem

_RUNS_KEPT = 8
"""More than an engine has at once with one plugin."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that one component of a run may hold.

    Attributes:
        kind: what it is: things of different kinds do not meet.
        name: as a sentence names it; with :attr:`place` it tells one from the others.
        place: where it is, besides the providers. A part that is an output is compared once it is known.
        path: the argument that names it.
        fix: what to do where another component holds it.
        packages: whose providers say in which cloud or cluster it is.
    """

    kind: str
    name: pulumi.Input[str]
    path: str
    fix: str
    place: tuple[Any, ...] = ()
    packages: tuple[str, ...] = (PACKAGE,)


@dataclass(frozen=True)
class _Holder:
    """A component, as the next run has it, too."""

    type: str
    name: str
    parent: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


class _Held:
    """What is held in one run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[Hashable, _Holder] = {}

    def take(self, key: Hashable, holder: _Holder) -> _Holder | None:
        """Another component that holds it; else ``None``, and the holder has it."""
        with self._lock:
            before = self._holders.get(key)
            if before == holder:
                self._holders.clear()  # no run makes a component twice: this is the next one at the same place
            elif before is not None:
                return before
            self._holders[key] = holder
            return None


@dataclass(frozen=True)
class _Scope:
    """Whose call this is.

    Attributes:
        held: of the run.
        monitor: the run's connection; ``None`` where the run is told otherwise.
        providers: references of the providers that a call came with, by package.
        parent: URN of the parent that a call came with.
    """

    held: _Held = field(default_factory=_Held)
    monitor: Any = None
    providers: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""

    def provider(self, component: Component, package: str) -> Any:
        """What tells the provider of a package from another one; ``None`` for the default one."""
        found = component.get_provider(f"{package}:index:Provider")
        # By reference it is another object in each call.
        return self.providers.get(package) if isinstance(found, DependencyProviderResource) else found


_scope: ContextVar[_Scope | None] = ContextVar("names_scope", default=None)
_runs: OrderedDict[Hashable, _Held] = OrderedDict()
_runs_lock = threading.Lock()


@contextlib.contextmanager
def call_of(run: Hashable, providers: Mapping[str, str], parent: str) -> Iterator[None]:
    """Within: a component is made for that run, by a call with these providers and this parent."""
    with _runs_lock:
        held = _runs.setdefault(run, _Held())
        _runs.move_to_end(run)
        while len(_runs) > _RUNS_KEPT:
            _runs.popitem(last=False)
    token = _scope.set(_Scope(held, None, dict(providers), parent))
    try:
        yield
    finally:
        _scope.reset(token)


def hold(component: Component, thing: Thing, opts: pulumi.ResourceOptions | None) -> pulumi.Input[str]:
    """Have a component hold a thing, once all of its place is known; the thing's name, which comes after that.

    Args:
        component: the component, registered.
        thing: what it names.
        opts: the component's options.

    Raises:
        ArgumentError: another component of the run holds it; of a place that is an output, the output raises it.
    """
    scope = _current()
    providers = tuple(scope.provider(component, package) for package in thing.packages)
    parent = opts.parent if opts is not None else None
    above = scope.parent or (parent.pulumi_resource_type if parent is not None else "")
    holder = _Holder(type(component).__name__, component.pulumi_resource_name, above)

    def take(known: list[Any]) -> str:
        name, *place = known
        other = scope.held.take((thing.kind, providers, name, *place), holder)
        if other is not None:
            message = (
                f"{thing.kind} {name} is already that of {other}, and each `up` would change it from what one of them "
                "says to what the other says"
            )
            problem = Problem(thing.path, message, f"one component for each {thing.kind}", thing.fix)
            raise refusal(component, [problem])
        return str(name)

    parts = [thing.name, *thing.place]
    if any(map(is_output, parts)):
        return pulumi.Output.all(*parts).apply(take)
    return take(parts)


def _current() -> _Scope:
    """The run's own scope; a new connection is a new run."""
    found, monitor = _scope.get(), settings.get_monitor()
    if found is None or (found.monitor is not None and found.monitor is not monitor):
        found = _Scope(monitor=monitor)
        _scope.set(found)
    return found
