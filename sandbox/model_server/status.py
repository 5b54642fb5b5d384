"""Status codes and the one exception requests end in, as ``absl::Status`` has them."""

from __future__ import annotations

import enum

MAX_GRPC_MESSAGE = 1024
"""gRPC carries the message in a header; TensorFlow Serving cuts longer ones (``grpc_status_util.cc``)."""


class Code(enum.IntEnum):
    """Canonical codes; the numbers are the same in gRPC and ``tensorflow.error.Code``."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_HTTP = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


def http_status(code: Code) -> int:
    """HTTP status for a code (``http_server.cc``, ``ToHTTPStatusCode``); 500 for every code not listed there."""
    return _HTTP.get(code, 500)


class StatusError(Exception):
    """An operation ended with a status other than OK.

    Attributes:
        code: never ``Code.OK``.
        message: what a client sees.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """As ``absl::Status::ToString``: ``NOT_FOUND: no such thing``."""
        return f"{self.code.name}: {self.message}"

    @property
    def grpc_message(self) -> str:
        """The message as it fits in a gRPC trailer."""
        if len(self.message) <= MAX_GRPC_MESSAGE:
            return self.message
        return self.message[:MAX_GRPC_MESSAGE] + "...TRUNCATED"


def invalid_argument(message: str) -> StatusError:
    """``INVALID_ARGUMENT``: HTTP 400."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> StatusError:
    """``FAILED_PRECONDITION``: HTTP 400."""
    return StatusError(Code.FAILED_PRECONDITION, message)


def not_found(message: str) -> StatusError:
    """``NOT_FOUND``: HTTP 404."""
    return StatusError(Code.NOT_FOUND, message)


def unimplemented(message: str) -> StatusError:
    """``UNIMPLEMENTED``: HTTP 501."""
    return StatusError(Code.UNIMPLEMENTED, message)
