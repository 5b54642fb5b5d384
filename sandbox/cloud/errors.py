"""Errors of the sandbox cloud in the shapes of the real APIs: JSON for OpenAPI products, XML for OSS.

Sources: Alibaba Cloud OpenAPI error format ``{Code, Message, RequestId, HostId}``; OSS "Error responses" (``<Error>``).
Clients retry every 5xx for minutes, so what the sandbox does not offer is a 4xx.
"""

from __future__ import annotations

import errno
import sqlite3
import uuid

from aiohttp import web


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        code: the API's error code, never empty (an empty one matches every code in the Go provider).
        message: one sentence for a person.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error means that nothing more can be written: disk full, quota, or a file size limit."""
    if isinstance(error, sqlite3.OperationalError):
        # SQLite reports a failed write as FULL or as an extended IOERR code (low byte 10).
        return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    return isinstance(error, OSError) and error.errno in _OUT_OF_SPACE


def request_id() -> str:
    """A fresh request id in the form of the real APIs: an upper-case UUID."""
    return str(uuid.uuid4()).upper()


def json_error(error: ApiError, host: str = "") -> web.Response:
    """An OpenAPI (RPC and ROA) error answer."""
    identifier = request_id()
    body = {"Code": error.code, "Message": error.message, "RequestId": identifier, "HostId": host}
    return web.json_response(body, status=error.status, headers={"x-acs-request-id": identifier})
