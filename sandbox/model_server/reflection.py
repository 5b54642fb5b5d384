"""Server reflection, v1 and v1alpha: what grpcurl asks to learn the services and their messages.

Both versions have the same messages under different names, so they are described once, here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_NOT_FOUND = int(grpc.StatusCode.NOT_FOUND.value[0])
_INVALID = int(grpc.StatusCode.INVALID_ARGUMENT.value[0])

_Field = descriptor_pb2.FieldDescriptorProto
_TEXT, _INT, _BYTES = _Field.TYPE_STRING, _Field.TYPE_INT32, _Field.TYPE_BYTES

# Message: its fields as (name, number, type, or the name of a message; repeated; part of the oneof).
_MESSAGES: dict[str, list[tuple[str, int, Any, bool, bool]]] = {
    "ServerReflectionRequest": [
        ("host", 1, _TEXT, False, False),
        ("file_by_filename", 3, _TEXT, False, True),
        ("file_containing_symbol", 4, _TEXT, False, True),
        ("file_containing_extension", 5, "ExtensionRequest", False, True),
        ("all_extension_numbers_of_type", 6, _TEXT, False, True),
        ("list_services", 7, _TEXT, False, True),
    ],
    "ExtensionRequest": [("containing_type", 1, _TEXT, False, False), ("extension_number", 2, _INT, False, False)],
    "ServerReflectionResponse": [
        ("valid_host", 1, _TEXT, False, False),
        ("original_request", 2, "ServerReflectionRequest", False, False),
        ("file_descriptor_response", 4, "FileDescriptorResponse", False, True),
        ("all_extension_numbers_response", 5, "ExtensionNumberResponse", False, True),
        ("list_services_response", 6, "ListServiceResponse", False, True),
        ("error_response", 7, "ErrorResponse", False, True),
    ],
    "FileDescriptorResponse": [("file_descriptor_proto", 1, _BYTES, True, False)],
    "ExtensionNumberResponse": [
        ("base_type_name", 1, _TEXT, False, False),
        ("extension_number", 2, _INT, True, False),
    ],
    "ListServiceResponse": [("service", 1, "ServiceResponse", True, False)],
    "ServiceResponse": [("name", 1, _TEXT, False, False)],
    "ErrorResponse": [("error_code", 1, _INT, False, False), ("error_message", 2, _TEXT, False, False)],
}


def _reflection_file(package: str) -> descriptor_pb2.FileDescriptorProto:
    """The proto file of one version of the reflection service."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}/reflection.proto", package=package, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        choice = {"ServerReflectionRequest": "message_request", "ServerReflectionResponse": "message_response"}.get(
            name
        )
        if choice:
            message.oneof_decl.add(name=choice)
        for field_name, number, kind, repeated, chosen in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = kind
            if chosen:
                field.oneof_index = 0
    method = file.service.add(name="ServerReflection").method.add(name="ServerReflectionInfo")
    method.input_type, method.output_type = (
        f".{package}.ServerReflectionRequest",
        f".{package}.ServerReflectionResponse",
    )
    method.client_streaming = method.server_streaming = True
    return file


def _health_file() -> descriptor_pb2.FileDescriptorProto:
    """The proto file of the standard health service."""
    package = "grpc.health.v1"
    file = descriptor_pb2.FileDescriptorProto(name="grpc/health/v1/health.proto", package=package, syntax="proto3")
    request = file.message_type.add(name="HealthCheckRequest")
    request.field.add(name="service", number=1, type=_TEXT, label=_Field.LABEL_OPTIONAL)
    response = file.message_type.add(name="HealthCheckResponse")
    states = response.enum_type.add(name="ServingStatus")
    for number, state in enumerate(("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")):
        states.value.add(name=state, number=number)
    response.field.add(
        name="status",
        number=1,
        type=_Field.TYPE_ENUM,
        label=_Field.LABEL_OPTIONAL,
        type_name=f".{package}.HealthCheckResponse.ServingStatus",
    )
    service = file.service.add(name="Health")
    for name in ("Check", "Watch"):
        service.method.add(
            name=name,
            input_type=f".{package}.HealthCheckRequest",
            output_type=f".{package}.HealthCheckResponse",
            server_streaming=name == "Watch",
        )
    return file


class Reflection(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers reflection requests.

    Args:
        services: full names of the services that are offered, without reflection itself.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = sorted([*services, *_NAMES])
        own = descriptor_pool.DescriptorPool()
        packages = [name.rpartition(".")[0] for name in _NAMES]
        for file in (_health_file(), *map(_reflection_file, packages)):
            own.Add(file)
        # Protos of the official stubs are in the default pool; both are asked.
        self._pools = (descriptor_pool.Default(), own)
        self._messages = {
            f"/{name}/ServerReflectionInfo": tuple(
                message_factory.GetMessageClass(own.FindMessageTypeByName(f"{package}.ServerReflection{kind}"))
                for kind in ("Request", "Response")
            )
            for name, package in zip(_NAMES, packages, strict=True)
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """The handler of a call, None where it is not for reflection."""
        found = self._messages.get(handler_call_details.method)
        if found is None:
            return None
        request, response = found

        def answer(requests: Iterator[Any], _: grpc.ServicerContext) -> Iterator[Any]:
            for asked in requests:
                yield self._answer(asked, response)

        return grpc.stream_stream_rpc_method_handler(
            answer, request_deserializer=request.FromString, response_serializer=lambda each: each.SerializeToString()
        )

    def _answer(self, request: Any, response: Any) -> Any:
        answer = response(valid_host=request.host, original_request=request)
        kind = request.WhichOneof("message_request")
        try:
            if kind == "list_services":
                for name in self._services:
                    answer.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                self._fill(answer, "FindFileByName", request.file_by_filename)
            elif kind == "file_containing_symbol":
                self._fill(answer, "FindFileContainingSymbol", request.file_containing_symbol)
            elif kind == "file_containing_extension":
                wanted = request.file_containing_extension
                raise KeyError(f"extension {wanted.extension_number} of {wanted.containing_type}")
            elif kind == "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                self._find("FindMessageTypeByName", name)
                answer.all_extension_numbers_response.base_type_name = name
            else:
                _refuse(answer, _INVALID, "no request")
        except KeyError:
            _refuse(answer, _NOT_FOUND, "not found")
        return answer

    def _find(self, method: str, name: str) -> Any:
        for pool in self._pools:
            try:
                return getattr(pool, method)(name)
            except KeyError:
                continue
        raise KeyError(name)

    def _fill(self, answer: Any, method: str, name: str) -> None:
        for file in _with_imports([self._find(method, name)]):
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            answer.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())


def _refuse(answer: Any, code: int, message: str) -> None:
    answer.error_response.error_code = code
    answer.error_response.error_message = message


def _with_imports(files: Sequence[Any]) -> list[Any]:
    """The files with all they import, each once, what was asked for first."""
    found: dict[str, Any] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop(0)
        if file.name not in found:
            found[file.name] = file
            waiting += file.dependencies
    return list(found.values())
