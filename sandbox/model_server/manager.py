"""The servable manager: turns aspired versions into loads and unloads that never leave a model without a version.

Every 100 ms it takes at most one action over all models. Source: ``core/aspired_versions_manager.cc``,
``core/availability_preserving_policy.cc``, ``core/basic_manager.cc``, ``core/loader_harness.cc``, ``util/retrier.cc``.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.model_server.states import EventBus, ManagerState, ServableId, ServableState
from sandbox.model_server.status import Code, StatusError, not_found
from sandbox.model_server.storage import AspiredVersion

TICK_SECONDS = 0.1
_log = logging.getLogger(__name__)


class Loader(Protocol):
    """Brings one version into memory and out of it again. An attempt to load may be repeated."""

    def load(self) -> Any:
        """Returns the servable. Raises StatusError where that fails."""

    def unload(self) -> None:
        """Releases what ``load`` returned."""


LoaderFactory = Callable[[ServableId, str], Loader]


class HarnessState(enum.Enum):
    """Life of one managed version."""

    NEW = "new"
    LOAD_REQUESTED = "load-requested"
    LOADING = "loading"
    READY = "ready"
    UNLOAD_REQUESTED = "unload-requested"
    UNLOADING = "unloading"
    DISABLED = "disabled"
    ERROR = "error"


class Action(enum.Enum):
    """What the policy may ask for."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass
class Harness:
    """One managed version. Guarded by the manager's lock."""

    id: ServableId
    loader: Loader
    state: HarnessState = HarnessState.NEW
    aspired: bool = True
    retry: bool = True
    servable: Any = None
    users: int = 0


@dataclass(frozen=True)
class ManagerOptions:
    """Settings of the manager, named as the server's flags.

    Attributes:
        num_load_threads: 0 loads inside the manager's own thread, where a failing load holds up everything else.
        num_unload_threads: likewise for unloads.
        max_num_load_retries: attempts after the first failure.
        load_retry_interval_seconds: pause before a retry; negative is none.
    """

    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0


def next_action(versions: Sequence[Harness]) -> tuple[Action, Harness] | None:
    """The availability-preserving policy for one model: new versions come up before old ones go down."""
    ready = [harness for harness in versions if harness.state is HarnessState.READY]
    unwanted = [harness for harness in ready if not harness.aspired]
    any_aspired = any(harness.aspired for harness in versions)
    aspired_ready = any(harness.aspired for harness in ready)
    if unwanted and (not any_aspired or aspired_ready or len(unwanted) > 1):
        return Action.UNLOAD, min(unwanted, key=lambda harness: harness.id.version)
    new = [harness for harness in versions if harness.aspired and harness.state is HarnessState.NEW]
    if new:
        return Action.LOAD, max(new, key=lambda harness: harness.id.version)
    return None


class _Executor:
    """Runs work in threads, or at once in the caller's where the number of threads is 0."""

    def __init__(self, threads: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, name) if threads > 0 else None

    def submit(self, work: Callable[[Harness], None], harness: Harness) -> None:
        if self._pool is None:
            work(harness)
        else:
            self._pool.submit(work, harness)

    def close(self) -> None:
        """Returns when everything submitted has run."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)


class AspiredVersionsManager:
    """Owns every loaded version.

    Args:
        factory: makes the loader of a version from its id and path.
        bus: hears of every change of state.
    """

    def __init__(self, options: ManagerOptions, factory: LoaderFactory, bus: EventBus) -> None:
        self._options = options
        self._factory = factory
        self._bus = bus
        self._managed: dict[str, list[Harness]] = {}
        self._pending: dict[str, list[AspiredVersion]] = {}
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)
        self._executor_lock = threading.Lock()
        self._load_executor = _Executor(options.num_load_threads, "load")
        self._unload_executor = _Executor(options.num_unload_threads, "unload")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # Aspired versions

    def set_aspired(self, name: str, versions: Sequence[AspiredVersion]) -> None:
        """Replaces the wanted versions of a model. Taken up at the next tick."""
        with self._lock:
            self._pending[name] = list(versions)

    def start(self) -> None:
        """Starts the manager's thread."""
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops taking actions, interrupts the pause between retries. Loaded versions keep answering."""
        self._stop.set()

    def set_load_threads(self, threads: int) -> None:
        """Changes the number of load threads, waiting for every load under way."""
        with self._executor_lock:
            self._load_executor.close()
            self._load_executor = _Executor(threads, "load")

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Forgets what ended and is not wanted, takes up pending requests, takes one action."""
        with self._lock:
            self._flush()
            self._take_pending()
            actions = [found for versions in self._managed.values() if (found := next_action(versions))]
            # Unloads first: they free memory.
            actions.sort(key=lambda item: item[0] is not Action.UNLOAD)
            if not actions:
                return
            action, harness = actions[0]
            harness.state = HarnessState.LOAD_REQUESTED if action is Action.LOAD else HarnessState.UNLOAD_REQUESTED
        if action is Action.LOAD:
            with self._executor_lock:
                executor = self._load_executor
                # Submitting under the lock keeps set_load_threads from closing the executor first.
                executor.submit(self._load, harness)
        else:
            self._unload_executor.submit(self._unload, harness)

    def _flush(self) -> None:
        ended = (HarnessState.NEW, HarnessState.DISABLED, HarnessState.ERROR)
        for name in list(self._managed):
            kept = [h for h in self._managed[name] if h.aspired or h.state not in ended]
            if kept:
                self._managed[name] = kept
            else:
                del self._managed[name]

    def _take_pending(self) -> None:
        for name, versions in list(self._pending.items()):
            numbers = {aspired.version for aspired in versions}
            managed = self._managed.get(name, [])
            if any(not harness.aspired and harness.id.version in numbers for harness in managed):
                continue  # wanted again while still going down: wait until it is gone
            del self._pending[name]
            for harness in managed:
                if harness.id.version not in numbers:
                    harness.aspired = False
                    harness.retry = False
            for aspired in versions:
                self._manage(ServableId(name, aspired.version), aspired.path, known=managed)

    def _manage(self, servable: ServableId, path: str, known: Sequence[Harness]) -> None:
        if any(harness.id == servable for harness in known):
            return
        managed = self._managed.setdefault(servable.name, [])
        if any(harness.id == servable for harness in managed):
            _log.error("Internal error: Unable to transfer servable %s: already being managed", servable)
            return
        managed.append(Harness(servable, self._factory(servable, path)))
        self._publish(servable, ManagerState.START)

    def _publish(self, servable: ServableId, state: ManagerState, error: StatusError | None = None) -> None:
        self._bus.publish(ServableState(servable, state, error))

    # Loading and unloading

    def _load(self, harness: Harness) -> None:
        self._publish(harness.id, ManagerState.LOADING)
        with self._lock:
            harness.state = HarnessState.LOADING
        _log.info("Loading servable version %s", harness.id)
        try:
            servable = self._load_with_retries(harness)
        except StatusError as error:
            with self._lock:
                harness.state = HarnessState.ERROR
            _log.error("Servable %s cannot be loaded: %s", harness.id, error)
            self._publish(harness.id, ManagerState.END, error)
            return
        with self._lock:
            harness.servable = servable
            harness.state = HarnessState.READY
        _log.info("Successfully loaded servable version %s", harness.id)
        self._publish(harness.id, ManagerState.AVAILABLE)

    def _load_with_retries(self, harness: Harness) -> Any:
        attempt = 0
        while True:
            try:
                servable = harness.loader.load()
            except StatusError as error:
                _log.error("Loading servable: %s failed: %s", harness.id, error)
                attempt += 1
                if attempt > self._options.max_num_load_retries:
                    _log.info(
                        "Retrying of Loading servable: %s exhausted max_num_load_retries: %d",
                        harness.id,
                        self._options.max_num_load_retries,
                    )
                    raise
                if not harness.retry:
                    _log.info("Retrying of Loading servable: %s was cancelled.", harness.id)
                    raise
                if self._stop.wait(max(self._options.load_retry_interval_seconds, 0)):
                    raise
                _log.info("Retrying of Loading servable: %s retry: %d", harness.id, attempt)
                continue
            if not harness.retry:  # dropped from the aspired versions while it loaded
                harness.loader.unload()
                raise StatusError(Code.CANCELLED, "Loading of servable cancelled")
            return servable

    def _unload(self, harness: Harness) -> None:
        _log.info("Quiescing servable version %s", harness.id)
        with self._lock:
            harness.state = HarnessState.UNLOADING
        self._publish(harness.id, ManagerState.UNLOADING)
        with self._released:
            self._released.wait_for(lambda: harness.users == 0)
            harness.servable = None
        harness.loader.unload()
        with self._lock:
            harness.state = HarnessState.DISABLED
        _log.info("Done unloading servable version %s", harness.id)
        self._publish(harness.id, ManagerState.END)

    # Serving

    @contextmanager
    def use(self, name: str, version: int | None) -> Iterator[tuple[int, Any]]:
        """A loaded version, held in memory while the block runs.

        Args:
            version: ``None`` for the highest one available, whether or not a higher one is aspired.

        Yields:
            The version's number and its servable.

        Raises:
            StatusError: ``NOT_FOUND``.
        """
        with self._lock:
            ready = [h for h in self._managed.get(name, ()) if h.state is HarnessState.READY]
            if version is not None:
                ready = [harness for harness in ready if harness.id.version == version]
            if not ready:
                wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise not_found(f"Servable not found for request: {wanted}")
            harness = max(ready, key=lambda item: item.id.version)
            harness.users += 1
        try:
            yield harness.id.version, harness.servable
        finally:
            with self._released:
                harness.users -= 1
                self._released.notify_all()
