"""What the resource types of the stand-in share: calls of the OSS SDK, and a check of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from alibabacloud_oss_v2 import exceptions

from sandbox.engine.properties import has_unknown
from tfserving.errors import CloudError


def oss_call(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer of one call of the OSS SDK.

    Args:
        what: what it does, for the message: ``create bucket models``.
        call: the SDK's method.
        arguments: its arguments.

    Raises:
        CloudError: OSS refuses, with its code, or does not answer.
    """
    try:
        return call(*arguments)
    except (exceptions.BaseError, OSError) as error:
        cause = error.unwrap() if isinstance(error, exceptions.OperationError) else error
        if isinstance(cause, exceptions.ServiceError):
            raise CloudError(f"cannot {what}: {cause.message}", str(cause.code)) from None
        raise CloudError(f"cannot {what}: {' '.join(str(cause).split())}") from None


def misfits(value: Any, shape: Any, path: str) -> Iterator[tuple[str, str]]:
    """(property, reason) of everything that is not of the known shape. Unknown values of a preview fit anywhere."""
    if value is None or (isinstance(value, str) and has_unknown(value)):
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield path, "must be an object"
            return
        for key, item in value.items():
            if key.startswith("__"):
                continue
            inner = f"{path}.{key}" if path else key
            if key not in shape:
                yield inner, "is not supported by the sandbox's stand-in for alicloud"
            else:
                yield from misfits(item, shape[key], inner)
    elif isinstance(shape, list):
        for i, item in enumerate(value if isinstance(value, list) else [value]):
            yield from misfits(item, shape[0], f"{path}[{i}]")
    elif not isinstance(value, shape):
        yield path, f"must be of type {shape.__name__}"


def sdk_call(what: str, call: Callable[..., Any], *arguments: Any, missing_is_fine: bool = False) -> Any:
    """One call of an OpenAPI SDK.

    Args:
        what: for the message, after "cannot".
        missing_is_fine: what is to be removed may be gone already.

    Raises:
        CloudError: the API refused, or did not answer.
    """
    try:
        return call(*arguments)
    except Exception as error:  # the SDKs raise their own exceptions and those of the libraries below them
        code = str(getattr(error, "code", "") or "")
        if missing_is_fine and ("NotFound" in code or getattr(error, "status_code", None) == 404):
            return None
        message = " ".join(str(getattr(error, "message", "") or error).split())
        raise CloudError(f"cannot {what}: {message}", code) from None
