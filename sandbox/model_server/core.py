"""The server's core: applies model configs, keeps the label map, finds the servable a request means.

Source: ``model_servers/server_core.cc``. A reload is not a transaction: once the first checks pass, the new config is
the stored one even where labels or platforms are then refused; and a reload that adds a model waits for that model
while holding the lock every other reload needs.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from sandbox.model_server import config as model_config
from sandbox.model_server.manager import AspiredVersionsManager, LoaderFactory, ManagerOptions
from sandbox.model_server.mounts import Mounts
from sandbox.model_server.states import EventBus, ManagerState, StateMonitor
from sandbox.model_server.status import Code, StatusError, failed_precondition, invalid_argument, unimplemented
from sandbox.model_server.storage import Servable, StorageSource

_log = logging.getLogger(__name__)

Labels = dict[str, dict[str, int]]


class ServerCore:
    """Everything behind the network.

    Args:
        options: how the manager loads.
        factory: makes loaders.
        file_system_poll_seconds: see ``StorageSource``.
        allow_unavailable_labels: ``--allow_version_labels_for_unavailable_models``.
    """

    def __init__(
        self,
        options: ManagerOptions,
        factory: LoaderFactory,
        *,
        mounts: Mounts,
        file_system_poll_seconds: int = 1,
        allow_unavailable_labels: bool = False,
    ) -> None:
        self._options = options
        self._mounts = mounts
        self._poll_seconds = file_system_poll_seconds
        self._allow_unavailable_labels = allow_unavailable_labels
        self._bus = EventBus()
        self.monitor = StateMonitor(self._bus)
        self.manager = AspiredVersionsManager(options, factory, self._bus)
        self._reload_lock = threading.Lock()
        self._config = config_pb2.ModelServerConfig()
        self._source: StorageSource | None = None
        self._label_lock = threading.Lock()
        self._labels: Labels | None = None
        self._waiting: set[StateMonitor] = set()
        self._stopped = False
        self.manager.start()

    def stop(self) -> None:
        """Stops polling and loading, and releases reloads that wait. Requests are still answered."""
        self._stopped = True
        self.manager.stop()
        self.monitor.close()
        for monitor in list(self._waiting):
            monitor.close()
        if self._source is not None:
            self._source.stop()

    # Config

    def reload(self, new: config_pb2.ModelServerConfig) -> None:
        """Applies a config. Returns when every model that is new in it has a version available.

        It does not wait for new versions of known models, nor for unloads.

        Raises:
            StatusError: refused (``INVALID_ARGUMENT``, ``FAILED_PRECONDITION``), or applied and a new model ended in an
                error (``UNKNOWN``).
        """
        with self._reload_lock:
            if not model_config.check_transition(self._config, new):
                return
            self._config = config_pb2.ModelServerConfig()
            self._config.CopyFrom(new)
            self._update_labels()
            _log.info("Adding/updating models.")
            if new.WhichOneof("config") == "custom_model_config":
                raise unimplemented("ModelServer does not yet support custom model config.")
            self._update_models()
            _log.info("Finished adding/updating models")
            # Only now: the models are served by then, and every later reload is refused in the same way.
            if any(model.HasField("logging_config") for model in new.model_config_list.config):
                raise invalid_argument("No request-logger-creator provided.")

    def _update_labels(self) -> None:
        labels: Labels = {}
        for model in self._config.model_config_list.config:
            available = {s.id.version for s in self.monitor.versions(model.name) if s.state == ManagerState.AVAILABLE}
            for label, version in model.version_labels.items():
                if version not in available and not self._may_be_unavailable(model.name, label, version):
                    raise failed_precondition(
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference"
                    )
                labels.setdefault(model.name, {})[label] = version
        with self._label_lock:
            self._labels = labels

    def _may_be_unavailable(self, name: str, label: str, version: int) -> bool:
        if not self._allow_unavailable_labels:
            return False
        with self._label_lock:
            existing = (self._labels or {}).get(name, {}).get(label)
        return existing is None or existing == version

    def _update_models(self) -> None:
        for model in self._config.model_config_list.config:
            _log.info(" (Re-)adding model: %s", model.name)
        servables = [
            Servable(model.name, model.base_path, model.model_version_policy)
            for model in self._config.model_config_list.config
        ]
        model_config.check_platforms(self._config)
        if self._source is None:
            self._load_first_models(servables)
            return
        # A fresh monitor: an old one may remember these models from a former life.
        monitor = StateMonitor(self._bus)
        self._waiting.add(monitor)
        try:
            new = {servable.name for servable in servables} - self._source.names
            self._source.update(servables)
            if self._stopped:
                raise StatusError(Code.CANCELLED, "The server is shutting down.")
            monitor.wait_until_available(new, "model")
        finally:
            self._waiting.discard(monitor)
            monitor.close()

    def _load_first_models(self, servables: list[Servable]) -> None:
        source = StorageSource(servables, self._poll_seconds, self._mounts)
        self.manager.set_load_threads(4 * (os.cpu_count() or 1))
        source.start(self.manager.set_aspired)
        try:
            self.monitor.wait_until_available({servable.name for servable in servables}, "servable")
        except StatusError:
            source.stop()
            raise
        finally:
            self.manager.set_load_threads(self._options.num_load_threads)
        self._source = source

    # Requests

    def label_version(self, name: str, label: str) -> int:
        """The version a label of a model stands for.

        Raises:
            StatusError: ``UNAVAILABLE`` before the first config, ``INVALID_ARGUMENT`` for an unknown label or model.
        """
        with self._label_lock:
            if self._labels is None:
                raise StatusError(Code.UNAVAILABLE, f"Model labels does not init yet.{label}")
            version = self._labels.get(name, {}).get(label)
        if version is None:
            raise invalid_argument(f"Unrecognized servable version label: {label}")
        return version

    @contextmanager
    def use(self, spec: Any) -> Iterator[tuple[int, Any]]:
        """The servable a ``ModelSpec`` means, held while the block runs.

        Yields:
            Its version number and the servable.

        Raises:
            StatusError: no name, unknown label, or no such servable available.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        version: int | None = None
        if choice == "version":
            version = spec.version.value
        elif choice == "version_label":
            version = self.label_version(spec.name, spec.version_label)
        with self.manager.use(spec.name, version) as found:
            yield found
