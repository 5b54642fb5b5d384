"""Online debugging: one request of a person's to a service, through the gateway, with the token added here."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import aiohttp
import yarl
from aiohttp import hdrs

from sandbox.cloud.console.overview import address
from sandbox.cloud.eas.api import EasService
from sandbox.cloud.eas.deployment import Deployment
from sandbox.cloud.errors import ApiError
from tfserving import wire
from tfserving.client import Columns, connect
from tfserving.errors import ServiceError
from tfserving.saved_model import SERVING_SIGNATURE

ANSWER_SECONDS = 60.0
ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are shown."""

_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")  # printable, without blanks and "#"
_PREDICT = re.compile(r"(/v1/models/[^/:]+(?:/(?:versions|labels)/[^/:]+)?):(?:predict|classify|regress)")


@dataclass(frozen=True)
class Request:
    """What a person wants to send.

    Attributes:
        service: name of the service.
        path: HTTP services: what follows the service's URL, query included.
        model: gRPC services: model name.
        version: gRPC services: this version; None is the latest.
        label: gRPC services: the version this label stands for; None asks by ``version``.
        body: JSON text; an HTTP request without a body is a GET.
    """

    service: str
    path: str
    model: str
    version: int | None
    label: str | None
    body: str

    @classmethod
    def parse(cls, data: Any) -> Request:
        """Reads the page's JSON.

        Raises:
            ApiError: 400 ``InvalidParameter``.
        """
        if not isinstance(data, Mapping):
            raise _invalid("the request is not a JSON object")
        texts = {key: data.get(key) or "" for key in ("service", "path", "model", "label", "body")}
        if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
            raise _invalid(f"{wrong[0]} is not text")
        version = wire.decode_integer(data.get("version"))  # text, which JavaScript keeps exact
        if version is not None and not wire.is_version(version):
            raise _invalid(f"version {version!r} is not a version number")
        if version is not None and texts["label"]:
            raise _invalid("a request names a version or a label, not both")
        label = texts["label"] or None
        return cls(texts["service"], texts["path"], texts["model"], version, label, texts["body"])


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status, for gRPC the one the REST API uses for its code; 0 where nothing answered.
        seconds: from sending to having read the answer.
        version: the version that answered a prediction; None where that is not known.
        body: the answer as text.
        truncated: whether there was more of it.
        problem: why nothing answered.
    """

    status: int
    seconds: float
    version: int | None = None
    body: str = ""
    truncated: bool = False
    problem: str = ""


async def send(request: Request, eas: EasService, session: aiohttp.ClientSession, executor: Executor) -> Answer:
    """Sends a request as any client would.

    Raises:
        ApiError: there is no such service, or the request cannot be made.
    """
    deployment = eas.runtime.get(request.service)
    if deployment.grpc:
        call = _grpc_call(request, deployment, address(eas, deployment))
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    if not _PATH.fullmatch(request.path):
        raise _invalid(f"path {request.path!r} does not begin with a slash, or holds characters a path cannot have")
    return await _send_http(request, deployment, eas.url(deployment.record), session)


async def _send_http(request: Request, deployment: Deployment, url: str, session: aiohttp.ClientSession) -> Answer:
    method = "POST" if request.body.strip() else "GET"
    token = deployment.record.token
    started = time.perf_counter()
    try:
        status, raw = await _fetch(session, method, url + request.path, token, request.body.encode())
        seconds = time.perf_counter() - started
        version = None
        if status == 200 and (match := _PREDICT.fullmatch(request.path.partition("?")[0])):
            # A REST answer does not name its version; the metadata of the same path does.
            version = _version(await _fetch(session, "GET", f"{url}{match[1]}/metadata", token))
    except (aiohttp.ClientError, OSError) as error:  # a time limit is an OSError
        problem = "no answer within the time limit" if isinstance(error, TimeoutError) else f"no answer: {error}"
        return Answer(0, time.perf_counter() - started, problem=problem)
    body = raw[:ANSWER_LIMIT].decode(errors="replace")
    return Answer(status, seconds, version, body, truncated=len(raw) > ANSWER_LIMIT)


async def _fetch(
    session: aiohttp.ClientSession, method: str, url: str, token: str, data: bytes = b""
) -> tuple[int, bytes]:
    headers = {hdrs.AUTHORIZATION: token, **({hdrs.CONTENT_TYPE: "application/json"} if data else {})}
    target = yarl.URL(url, encoded=True)
    async with session.request(method, target, headers=headers, data=data or None, allow_redirects=False) as answer:
        raw = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            raw += chunk
            if len(raw) > ANSWER_LIMIT:
                break
        return answer.status, bytes(raw)


def _version(answer: tuple[int, bytes]) -> int | None:
    try:
        return int(json.loads(answer[1])["model_spec"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _grpc_call(request: Request, deployment: Deployment, target: str) -> Any:
    """The call that sends a gRPC request and waits for the answer.

    Raises:
        ApiError: no model is named, or the body is not a predict request in JSON.
    """
    if not request.model:
        raise _invalid("a gRPC request needs a model name")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise _invalid(f"the body is not JSON: {error}") from None
    values = _values(body)
    signature = body.get("signature_name", SERVING_SIGNATURE) if isinstance(body, dict) else None
    if values is None or not isinstance(signature, str):
        raise _invalid(
            'for gRPC the body must be {"signature_name": "...", "instances": [...]}, or have "inputs" in place of '
            '"instances"'
        )
    token = deployment.record.token

    def call() -> Answer:
        started = time.perf_counter()
        try:
            with connect(target=target, token=token, timeout=ANSWER_SECONDS) as client:
                found = client.predict(
                    request.model,
                    values,
                    version=request.version,
                    label=request.label,
                    signature_name=signature,
                )
        except ServiceError as error:
            seconds = time.perf_counter() - started
            return Answer(error.status, seconds, body=json.dumps({"error": str(error)}))
        key = "outputs" if isinstance(values, Columns) else "predictions"
        text = json.dumps({key: found.outputs}, default=_text, ensure_ascii=False)
        return Answer(200, found.seconds, found.version, text[:ANSWER_LIMIT], truncated=len(text) > ANSWER_LIMIT)

    return call


def _values(body: Any) -> list[Any] | Columns | None:
    """The values of a predict request; None where it has none, or both kinds."""
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        return None
    if "inputs" in body:
        return Columns(body["inputs"])
    return body["instances"] if isinstance(body["instances"], list) else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "InvalidParameter", f"{message[0].upper()}{message[1:]}.")
