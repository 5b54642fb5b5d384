"""The gRPC API: PredictionService and ModelService on the official stubs.

Source: ``prediction_service_impl.cc``, ``model_service_impl.cc``, ``server.cc``. SessionService is not registered there
either.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from sandbox.model_server import address, inference, metrics
from sandbox.model_server.api import Api
from sandbox.model_server.callers import Callers
from sandbox.model_server.core import ServerCore
from sandbox.model_server.health import Health
from sandbox.model_server.reflection import Reflection
from sandbox.model_server.status import Code, StatusError, invalid_argument

HOST = address.host()
_SPARE_THREADS = 16
_FAR_SECONDS = 7 * 24 * 3600.0
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GrpcOptions:
    """Settings of the gRPC API.

    Attributes:
        port: TCP port on the loopback address; 0 for none.
        socket_path: UNIX socket to listen on too; empty for none.
        threads: calls answered at the same time.
        arguments: channel arguments.
        health: whether the standard health service is offered.
        as_content: outputs as raw content instead of typed values.
        grace_seconds: how long running calls may take when the server stops.
    """

    port: int
    socket_path: str = ""
    threads: int = 8
    arguments: tuple[tuple[str, int | str], ...] = ()
    health: bool = False
    as_content: bool = False
    grace_seconds: float = 0.0


class _Services:
    """The methods of both services. Each takes a request and the call's context and returns the response."""

    def __init__(self, core: ServerCore, api: Api, as_content: bool) -> None:
        self._core = core
        self._api = api
        self._as_content = as_content

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            response = self._api.predict_pb2.PredictResponse()
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            with self._core.use(request.model_spec) as (version, model):
                inference.predict(
                    model,
                    version,
                    request,
                    response,
                    timeout_ms=_timeout_ms(context),
                    check_method=self._api.check_method,
                    as_content=self._as_content,
                )
            return response

        return _counted(context, request.model_spec.name, "Predict", answer)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _counted(
            context,
            request.model_spec.name,
            "Classify",
            lambda: self._examples(request, self._api.classification_pair()[1], inference.classify, context),
        )

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _counted(
            context,
            request.model_spec.name,
            "Regress",
            lambda: self._examples(request, self._api.regression_pair()[1], inference.regress, context),
        )

    def _examples(self, request: Any, response: Any, run: Callable[..., None], context: grpc.ServicerContext) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        with self._core.use(request.model_spec) as (version, model):
            run(
                model,
                version,
                request,
                response,
                timeout_ms=_timeout_ms(context),
                check_method=self._api.check_method,
            )
        return response

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            response = self._api.inference_pb2.MultiInferenceResponse()
            spec = request.tasks[0].model_spec if request.tasks else self._api.model_pb2.ModelSpec()
            with self._core.use(spec) as (version, model):
                inference.multi_inference(
                    model,
                    version,
                    request,
                    response,
                    timeout_ms=_timeout_ms(context),
                    check_method=self._api.check_method,
                )
            return response

        return _answered(context, answer)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answered(context, lambda: self._api.metadata_response(self._core, request))

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            if not request.HasField("model_spec"):
                raise invalid_argument("Missing ModelSpec")
            return self._api.model_status(self._core, request.model_spec)

        return _answered(context, answer)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid_argument(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            before = {name: metrics.counter_value(name) for name in request.metric_names}
            try:
                self._core.reload(request.config)
            except StatusError as error:
                _log.error("ReloadConfig failed: %s", error.message)
                raise
            response = self._api.management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            for name, value in before.items():
                response.metric.add(name=name, int64_value_increase=metrics.counter_value(name) - value)
            return response

        return _answered(context, answer)


def _timeout_ms(context: grpc.ServicerContext) -> int:
    """The call's deadline as a time limit for the run; 0 without one, which gRPC gives as one in the far future."""
    remaining = context.time_remaining()
    return 0 if remaining is None or remaining > _FAR_SECONDS else max(int(remaining * 1000), 1)


def _answered(context: grpc.ServicerContext, answer: Callable[[], Any]) -> Any:
    try:
        return answer()
    except StatusError as error:
        status = error
    except Exception as error:
        _log.exception("unexpected error")
        status = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    context.abort(_GRPC_CODES[int(status.code)], status.grpc_message)
    raise status


def _counted(context: grpc.ServicerContext, name: str, api: str, answer: Callable[[], Any]) -> Any:
    def count() -> Any:
        started = time.monotonic()
        try:
            response = answer()
        except StatusError as error:
            metrics.REQUEST_COUNT.add(name, error.code.name)
            raise
        metrics.REQUEST_LATENCY.add((time.monotonic() - started) * 1e6, name, api, "GRPC")
        metrics.REQUEST_COUNT.add(name, Code.OK.name)
        return response

    return _answered(context, count)


class _Quota(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses what comes while every thread is taken: the real server never queues.

    One of its threads waits for the next call, so that one fewer than ``--grpc_max_threads`` can be answered at once.
    """

    def __init__(self, threads: int) -> None:
        self._free = threading.Semaphore(max(threads - 1, 1))

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        handler = continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler.unary_unary

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            if not self._free.acquire(blocking=False):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
            try:
                return method(request, context)
            finally:
                self._free.release()

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


class GrpcServer:
    """The gRPC port.

    Raises:
        StatusError: on ``start``, where the port cannot be had.
    """

    def __init__(self, core: ServerCore, api: Api, callers: Callers, options: GrpcOptions) -> None:
        self._options = options
        arguments: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", 2**31 - 1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *options.arguments,
        ]
        # The threads beyond the limit refuse calls, and answer reflection.
        pool = ThreadPoolExecutor(options.threads + _SPARE_THREADS, "grpc")
        interceptors = [found for found in (callers.interceptor(), _Quota(options.threads)) if found is not None]
        self._server = grpc.server(pool, options=arguments, interceptors=interceptors)
        services = _Services(core, api, options.as_content)
        api.prediction_grpc.add_PredictionServiceServicer_to_server(services, self._server)
        api.model_grpc.add_ModelServiceServicer_to_server(services, self._server)
        services_offered = [f"tensorflow.serving.{name}" for name in ("ModelService", "PredictionService")]
        self._health = Health() if options.health else None
        if self._health is not None:
            self._server.add_generic_rpc_handlers((self._health,))
            services_offered.append("grpc.health.v1.Health")
        self._server.add_generic_rpc_handlers((Reflection(services_offered),))

    def start(self) -> None:
        """Starts listening.

        Raises:
            StatusError: an address cannot be listened on.
        """
        addresses = [f"{HOST}:{self._options.port}"] if self._options.port else []
        if self._options.socket_path:
            addresses.append(f"unix:{self._options.socket_path}")
        for where in addresses:
            try:
                bound = self._server.add_insecure_port(where)
            except RuntimeError:
                bound = 0
            if not bound:
                raise invalid_argument("Failed to BuildAndStart gRPC server")
        self._server.start()
        for where in addresses:
            shown = "UNIX socket " + where[5:] if where.startswith("unix:") else where
            _log.info("Running gRPC ModelServer at %s ...", shown)

    def stop(self) -> None:
        """Stops listening, lets running calls finish within the grace period, then cancels them."""
        stopped = self._server.stop(self._options.grace_seconds)
        if self._health is not None:
            self._health.stop()
        stopped.wait()
