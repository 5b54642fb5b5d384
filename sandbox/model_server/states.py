"""States of servables and who hears of them: the event bus and its monitor.

A servable is one version of one model. Source: ``core/servable_state.h``, ``core/servable_state_monitor.cc``.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sandbox.model_server.status import Code, StatusError


class ManagerState(enum.IntEnum):
    """Life of a servable; the numbers are those of ``ModelVersionStatus.State``."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, order=True)
class ServableId:
    """One version of one model."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(frozen=True)
class ServableState:
    """What is known of a servable.

    Attributes:
        error: why it ended; ``None`` while healthy and after an ordinary unload.
    """

    id: ServableId
    state: ManagerState
    error: StatusError | None = None


Subscriber = Callable[[ServableState], None]


class EventBus:
    """Delivers every state change to every subscriber, in the publishing thread and in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Adds a subscriber. It must not publish."""
        with self._lock:
            self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Removes a subscriber added before."""
        with self._lock:
            self._subscribers.remove(subscriber)

    def publish(self, state: ServableState) -> None:
        """Tells every subscriber."""
        with self._lock:
            for subscriber in self._subscribers:
                subscriber(state)


class StateMonitor:
    """Remembers the last state of every servable it heard of. Ended ones stay: that is the history a status shows."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._changed = threading.Condition()
        self._states: dict[str, dict[int, ServableState]] = {}
        self._closed = False
        bus.subscribe(self._handle)

    def _handle(self, state: ServableState) -> None:
        with self._changed:
            self._states.setdefault(state.id.name, {})[state.id.version] = state
            self._changed.notify_all()

    def close(self) -> None:
        """Stops listening and releases who waits."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._bus.unsubscribe(self._handle)

    def versions(self, name: str) -> list[ServableState]:
        """All versions of a model this monitor heard of, highest first."""
        with self._changed:
            states = self._states.get(name, {})
            return [states[version] for version in sorted(states, reverse=True)]

    def state(self, servable: ServableId) -> ServableState | None:
        """The last state of one version, or ``None``."""
        with self._changed:
            return self._states.get(servable.name, {}).get(servable.version)

    def wait_until_available(self, names: Collection[str], noun: str) -> None:
        """Waits, without end if need be, until of every model some version is AVAILABLE or END.

        The version that counts is the highest in one of the two states.

        Args:
            names: models to wait for.
            noun: how the error calls them: ``servable`` at start, ``model`` on a reload.

        Raises:
            StatusError: ``UNKNOWN`` naming the versions that ended; ``CANCELLED`` when the monitor was closed.
        """
        with self._changed:
            while True:
                reached = [self._settled(name) for name in sorted(names)]
                if all(reached):
                    break
                if self._closed:
                    raise StatusError(Code.CANCELLED, "The server is shutting down.")
                self._changed.wait()
        ended = [state for state in reached if state and state.state != ManagerState.AVAILABLE]
        if ended:
            items = "".join(
                f"{{{state.id}{f' due to error: {state.error}' if state.error else ''}}}, " for state in ended
            )
            raise StatusError(Code.UNKNOWN, f"{len(ended)} {noun}(s) did not become available: {{{items}}}")

    def _settled(self, name: str) -> ServableState | None:
        states = self._states.get(name, {})
        for version in sorted(states, reverse=True):
            if states[version].state in (ManagerState.AVAILABLE, ManagerState.END):
                return states[version]
        return None
