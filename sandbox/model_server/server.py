"""Starts the server in TensorFlow Serving's order and stops it gently.

Source: ``model_servers/server.cc`` (``BuildAndStart``, ``PollFilesystemAndReloadConfig``). Ports open only after every
configured model has a version available, so that may take for ever.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from sandbox.model_server.api import Api
from sandbox.model_server.callers import Callers
from sandbox.model_server.config import read_text_proto, single_model_config
from sandbox.model_server.core import ServerCore
from sandbox.model_server.flags import ServerFlags
from sandbox.model_server.grpc_service import GrpcOptions, GrpcServer
from sandbox.model_server.http_server import HOST, HttpServer
from sandbox.model_server.loader import LoaderOptions, SavedModel, SavedModelLoader
from sandbox.model_server.manager import Loader, ManagerOptions
from sandbox.model_server.metrics import DEFAULT_PATH
from sandbox.model_server.mounts import Mounts
from sandbox.model_server.rest import RestHandler, RestOptions
from sandbox.model_server.states import ServableId
from sandbox.model_server.status import StatusError, invalid_argument, unimplemented
from sandbox.model_server.tflite import TfLiteModel
from sandbox.model_server.warmup import replay
from tfserving.protos import tf_serving_pb2

GRACE_SECONDS = 20.0
"""How long running requests may take after a signal to stop."""

_log = logging.getLogger(__name__)


class Server:
    """A model server: built from flags, started once, stopped once."""

    def __init__(self, flags: ServerFlags, mounts: Mounts) -> None:
        self._flags = flags
        self._mounts = mounts
        self._callers = Callers.from_environment(cors=flags.rest_api_enable_cors_support)
        self._stopping = threading.Event()
        self._stop_lock = threading.Lock()
        self._core: ServerCore | None = None
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None

    def start(self) -> None:
        """Loads the models, then opens the ports.

        Raises:
            StatusError: why the server cannot start.
        """
        flags = self._flags
        _check(flags)
        config = self._initial_config()
        warm_up = self._warm_up if flags.enable_model_warmup else None
        loader_options = self._loader_options()

        def factory(servable: ServableId, path: str) -> Loader:
            return SavedModelLoader(servable, path, self._mounts, loader_options, warm_up)

        core = ServerCore(
            ManagerOptions(
                flags.num_load_threads,
                flags.num_unload_threads,
                flags.max_num_load_retries,
                flags.load_retry_interval_micros / 1e6,
            ),
            factory,
            mounts=self._mounts,
            file_system_poll_seconds=flags.file_system_poll_wait_seconds,
            allow_unavailable_labels=flags.allow_version_labels_for_unavailable_models,
        )
        with self._stop_lock:
            self._core = core
            if self._stopping.is_set():
                core.stop()
        core.reload(config)
        if flags.model_config_file_poll_wait_seconds > 0 and flags.model_config_file:
            threading.Thread(target=self._poll_config, args=(core,), name="config-poll", daemon=True).start()
        self._listen(core)

    def _initial_config(self) -> config_pb2.ModelServerConfig:
        if not self._flags.model_config_file:
            return single_model_config(self._flags.model_name, self._flags.model_base_path)
        return self._read_config()

    def _read_config(self) -> config_pb2.ModelServerConfig:
        path = self._flags.model_config_file
        return read_text_proto(path, self._mounts.local(path), config_pb2.ModelServerConfig())

    def _loader_options(self) -> LoaderOptions:
        flags = self._flags
        intra, inter = flags.tensorflow_intra_op_parallelism, flags.tensorflow_inter_op_parallelism
        if intra <= 0 and inter <= 0:
            intra = inter = flags.tensorflow_session_parallelism
        # The real default is every processor, for each server. Several share this machine, and models here are small.
        default = min(os.cpu_count() or 1, 2)
        session_config = ""
        if flags.tensorflow_session_config_file:
            path = flags.tensorflow_session_config_file
            session_config = _read_session_config(path, self._mounts.local(path))
        batching = None
        if flags.enable_batching:
            batching = tf_serving_pb2.BatchingParameters()
            if flags.batching_parameters_file:
                path = flags.batching_parameters_file
                read_text_proto(path, self._mounts.local(path), batching)
        return LoaderOptions(
            tags=frozenset(flags.saved_model_tags.split(",")),
            intra_op_threads=intra if intra > 0 else default,
            inter_op_threads=inter if inter > 0 else default,
            session_config=session_config,
            batching=batching,
            per_model_batching=flags.enable_per_model_batching_parameters,
            tflite=TfLiteModel if flags.prefer_tflite_model else None,
        )

    def _warm_up(self, model: SavedModel, directory: Path, path: str) -> None:
        replay(model, directory, path, max(self._flags.num_request_iterations_for_warmup, 1))

    def _poll_config(self, core: ServerCore) -> None:
        while True:
            try:
                config = self._read_config()
            except StatusError as error:
                _log.error("Failed to read ModelServerConfig file: %s", error.message)
            else:
                try:
                    core.reload(config)
                except StatusError as error:
                    _log.error("PollFilesystemAndReloadConfig failed to ReloadConfig: %s", error.message)
            if self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
                return

    def _listen(self, core: ServerCore) -> None:
        flags = self._flags
        socket_path = str(self._mounts.local(flags.grpc_socket_path)) if flags.grpc_socket_path else ""
        if socket_path and not self._mounts.holds(flags.grpc_socket_path):
            _log.warning("--grpc_socket_path has no effect here: %s is not mounted", flags.grpc_socket_path)
            socket_path = ""
        api = Api(flags.enable_signature_method_name_check)
        grpc_server = GrpcServer(
            core,
            api,
            self._callers,
            GrpcOptions(
                port=flags.port,
                socket_path=socket_path,
                threads=flags.grpc_max_threads if flags.grpc_max_threads > 0 else flags.threads,
                arguments=_channel_arguments(flags.grpc_channel_arguments),
                health=flags.enable_grpc_healthcheck_service,
                as_content=flags.enable_serialization_as_tensor_content,
                grace_seconds=GRACE_SECONDS,
            ),
        )
        with self._stop_lock:
            if self._stopping.is_set():
                return
            grpc_server.start()
            self._grpc = grpc_server
            self._listen_http(core, api)

    def _listen_http(self, core: ServerCore, api: Api) -> None:
        flags = self._flags
        if flags.rest_api_port == 0:
            return
        if flags.rest_api_port == flags.port:
            _log.error(
                "server_options.http_port cannot be same as grpc_port. Please use a different port for HTTP/REST API. "
                "Skipped exporting HTTP/REST API."
            )
            return
        options = RestOptions(
            timeout_ms=max(flags.rest_api_timeout_in_ms, 0),
            cors=flags.rest_api_enable_cors_support,
            metrics_path=self._metrics_path(),
        )
        threads = flags.rest_api_num_threads if flags.rest_api_num_threads > 0 else flags.threads
        server = HttpServer(RestHandler(core, api, options), self._callers, flags.rest_api_port, threads, GRACE_SECONDS)
        where = f"{HOST}:{flags.rest_api_port}"
        if server.start():
            self._http = server
            _log.info("Exporting HTTP/REST API at:%s ...", where)
        else:
            _log.error("Failed to start HTTP Server at %s", where)

    def _metrics_path(self) -> str:
        path = self._flags.monitoring_config_file
        if not path:
            return ""
        config = read_text_proto(path, self._mounts.local(path), tf_serving_pb2.MonitoringConfig()).prometheus_config
        if not config.enable:
            return ""
        return config.path or DEFAULT_PATH

    def stop(self) -> None:
        """Closes the ports, lets running requests finish, stops everything else. Safe to call more than once."""
        self._stopping.set()
        with self._stop_lock:
            servers = [server.stop for server in (self._http, self._grpc) if server is not None]
            self._http = self._grpc = None
            threads = [threading.Thread(target=stop) for stop in servers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if self._core is not None:
                self._core.stop()


def _check(flags: ServerFlags) -> None:
    """The combinations the real server refuses, and what this one does not have.

    Raises:
        StatusError: ``INVALID_ARGUMENT``, or ``UNIMPLEMENTED`` for the latter.
    """
    if flags.port == 0 and not flags.grpc_socket_path:
        raise invalid_argument(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set."
        )
    if flags.use_alts_credentials and flags.ssl_config_file:
        raise invalid_argument("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if not flags.model_base_path and not flags.model_config_file:
        raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise invalid_argument(
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."
        )
    parallelism = (
        flags.tensorflow_intra_op_parallelism,
        flags.tensorflow_inter_op_parallelism,
        flags.tensorflow_session_parallelism,
    )
    if all(value > 0 for value in parallelism):
        raise invalid_argument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) "
            "separately. You cannot configure all."
        )
    for name in ("ssl_config_file", "use_alts_credentials", "platform_config_file"):
        if getattr(flags, name):
            raise unimplemented(f"--{name} is not offered by the sandbox's model server.")


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """``k=v,k=v``; an int is passed as one. Items without ``=`` are left out (the real server crashes)."""
    pairs: list[tuple[str, int | str]] = []
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not equals:
            continue
        try:
            pairs.append((name, int(value)))
        except ValueError:
            pairs.append((name, value))
    return tuple(pairs)


def _read_session_config(path: str, local: Path) -> str:
    from sandbox.model_server.runtime import runtime

    return str(read_text_proto(path, local, runtime().config_pb2.ConfigProto()))
