"""Whether the gateway of a service answers: Running alone is not taken for ready."""

from __future__ import annotations

from collections.abc import Iterator
from urllib import error as urllib_error
from urllib import request as urllib_request

from provider.eas.labels import CONFIG_FILE_FLAG
from provider.eas.spec import Address
from provider.resource import (
    Context,
    OperationTimeoutError,
)
from tfserving import client
from tfserving.contract.serving import EasServiceInputs
from tfserving.errors import (
    ServiceError,
    ServiceNotFoundError,
    ServiceUnreachableError,
    TFServingError,
)
from tfserving.hosts import opener

ANSWER_SECONDS = 180.0
"""How long a Running service may take until its gateway answers; two minutes are seen on EAS."""

_EMPTY_404_SECONDS = 120.0


class ServiceStartError(TFServingError):
    """A service did not become ready. The message holds its newest events and log lines."""


def until_over(ctx: Context, seconds: float) -> Iterator[float]:
    """:meth:`Context.poll` that ends where the operation's time is over, so that the caller says what it waited for."""
    turns = ctx.poll(seconds)
    while True:
        try:
            gone = next(turns)
        except (StopIteration, OperationTimeoutError):
            return
        yield gone


def ask(inputs: EasServiceInputs, address: Address, token: str, gone: float) -> str:
    """Ask a service once whether it is ready: empty where it is, else why not.

    With models in the probe, TensorFlow Serving must answer for each of them with an AVAILABLE version; a service that
    reads a config file need not serve a model yet that the rollout adds later. Without models any server will do.
    """
    if inputs.probe.path:
        return _ask_path(address.url, inputs.probe.path, token)
    models = inputs.probe.models
    if not models:
        return _ask_anything(address, token, gone)
    reads_config = CONFIG_FILE_FLAG in str(inputs.spec.get("containers"))
    try:
        with client.connect(url=address.url or None, target=address.target or None, token=token) as service:
            for model in models:
                try:
                    states = service.status(model)
                except ServiceNotFoundError as error:
                    if reads_config:
                        continue
                    return f"it does not serve {model}: {error}"
                if not any(state.state == "AVAILABLE" for state in states):
                    shown = ", ".join(
                        f"{state.version} {state.state} {state.error_message}".strip() for state in states
                    )
                    return f"no version of {model} is AVAILABLE: {shown or 'none'}"
    except ServiceError as error:
        return str(error)
    return ""


def _ask_anything(address: Address, token: str, gone: float) -> str:
    if address.target:
        try:
            with client.connect(target=address.target, token=token) as service:
                service.status("readiness")
        except ServiceUnreachableError as error:
            return str(error)
        except ServiceError:
            return ""  # any answer of a gRPC server will do
        return ""
    status, body = _get(address.url, "/", token)
    if status in (0, 401, 403, 502, 503, 504):
        return body or f"HTTP {status}"
    if status == 404 and not body and gone < _EMPTY_404_SECONDS:
        return "HTTP 404 without a body, as from a gateway that does not know the service yet"
    return ""


def _ask_path(url: str, path: str, token: str) -> str:
    status, body = _get(url, path, token)
    return "" if 200 <= status < 300 else f"{path}: {f'HTTP {status} ' if status else ''}{body}".rstrip()


def _get(url: str, path: str, token: str) -> tuple[int, str]:
    """Status and the beginning of the body of a GET; status 0 with the reason where there was no answer."""
    request = urllib_request.Request(f"{url}{path}", headers={"Authorization": token} if token else {})  # noqa: S310
    try:
        with opener(url).open(request, timeout=10) as response:
            return response.status, response.read(200).decode(errors="replace")
    except urllib_error.HTTPError as error:
        with error:
            return error.code, error.read(200).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, f"no answer: {getattr(error, 'reason', None) or error}"
