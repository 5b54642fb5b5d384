"""Online debugging: one request of a person's to a service, with the token added here; or the same to two versions.

It goes through the gateway as any client's, or for a pod through the API server.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote

import aiohttp
import yarl
from aiohttp import hdrs

from sandbox.cloud.console import answers
from sandbox.cloud.console.places import GrpcAddress, HttpAddress
from sandbox.cloud.errors import ApiError
from tfserving import sample_request, wire
from tfserving.client import MEMBER_HEADER, Columns, connect, request_values
from tfserving.errors import ServiceError
from tfserving.saved_model import SERVING_SIGNATURE

ANSWER_SECONDS = 60.0
ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are shown."""
_SAMPLE_VALUES = 500_000
"""Values of a body made from a signature: more would make a page slow."""

_PATH = re.compile(r"/[\x21-\x22\x24-\x7e]*")  # printable, without blanks and "#"
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
_PREDICT = re.compile(
    r"(?P<asked>(?P<model>/v1/models/[^/:]+)(?:/(?:versions|labels)/[^/:]+)?):(?P<verb>predict|classify|regress)"
)


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
        other: the same request for another version or label, to compare the answers; None for a single one.
        classes: how many classes have names where the answer is shown; 0 for none.
    """

    service: str
    path: str
    model: str
    version: int | None
    label: str | None
    body: str
    other: Request | None = None
    classes: int = 0

    @classmethod
    def parse(cls, data: Any) -> Request:
        """Reads the page's JSON; ``other`` in it holds ``{"version"}``, ``{"label"}`` or nothing for the latest.

        Raises:
            ApiError: 400 ``InvalidParameter``.
        """
        if not isinstance(data, Mapping):
            raise _invalid("the request is not a JSON object")
        texts = {key: data.get(key) or "" for key in ("service", "path", "model", "label", "body")}
        if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
            raise _invalid(f"{wrong[0]} is not text")
        version, label = which(data)
        classes = data.get("classes") or 0
        if not isinstance(classes, int):
            raise _invalid("classes is not a number")
        found = cls(texts["service"], texts["path"], texts["model"], version, label, texts["body"], classes=classes)
        return replace(found, other=found._to(data["other"])) if data.get("other") is not None else found

    def _to(self, data: Any) -> Request:
        """The same request for another version or label."""
        if not isinstance(data, Mapping):
            raise _invalid("what to compare with is not a JSON object")
        version, label = which(data)
        path = self.path
        if path:
            match = _PREDICT.fullmatch(path)
            if match is None:
                raise _invalid("two versions are compared by a path that ends in :predict, :classify or :regress")
            by = f"/versions/{version}" if version is not None else f"/labels/{quote(label, safe='')}" if label else ""
            path = f"{match['model']}{by}:{match['verb']}"
        return replace(self, path=path, version=version, label=label)


def which(data: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The version or label that is asked for; neither is the latest version.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    version = wire.decode_integer(data.get("version") or None)  # text, which JavaScript keeps exact
    label = data.get("label") or None
    if label is not None and not isinstance(label, str):
        raise _invalid("label is not text")
    if version is not None and not wire.is_version(version):
        raise _invalid(f"version {version!r} is not a version number")
    if version is not None and label:
        raise _invalid("a request names a version or a label, not both")
    return version, label


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status, for gRPC the one the REST API uses for its code; 0 where nothing answered.
        seconds: from sending to having read the answer.
        version: the version that answered a prediction; None where that is not known.
        member: the service of a group that answered, as the gateway names it; empty for a single service.
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
    member: str = ""


Address = HttpAddress | GrpcAddress | None


@dataclass(frozen=True)
class Sender:
    """Sends requests to one address.

    Attributes:
        address: where they go; None while nothing takes any.
        session: for HTTP.
        executor: for gRPC.
        members: addresses of the services of a group, by the name that its gateway tells; none of a single service.
    """

    address: Address
    session: aiohttp.ClientSession
    executor: Executor
    members: Mapping[str, Address] = field(default_factory=dict)

    async def send(self, request: Request) -> list[tuple[Request, Answer]]:
        """Sends a request as any client would, and its other one after it: at the same time they would slow each other.

        Raises:
            ApiError: a request cannot be made.
        """
        wanted = [each for each in (request, request.other) if each is not None]
        return [(each, await _send_one(each, self)) for each in wanted]


async def _send_one(request: Request, sender: Sender) -> Answer:
    match sender.address:
        case GrpcAddress() as address:
            call = _grpc_call(request, address)
            return await asyncio.get_running_loop().run_in_executor(sender.executor, call)
        case HttpAddress() as address:
            if not _PATH.fullmatch(request.path):
                raise _invalid(
                    f"path {request.path!r} does not begin with a slash, or holds characters a path cannot have"
                )
            if address.is_shared and leads_out(request.path):
                raise _invalid(f"path {request.path!r} leads out of the service")
            return await _send_http(request, address, sender)
        case _:
            return Answer(0, 0.0, problem="no replica is ready")


def leads_out(path: str) -> bool:
    """Whether a path may mean something above it: dots or backslashes, also encoded, once or twice."""
    text = path.partition("?")[0]
    for _ in range(3):
        if "\\" in text or _DOTS.search(text):
            return True
        text = unquote(text)
    return False


async def _send_http(request: Request, address: HttpAddress, sender: Sender) -> Answer:
    method = "POST" if request.body.strip() else "GET"
    started = time.perf_counter()
    try:
        status, raw, member = await _fetch(sender.session, method, address, request.path, request.body.encode())
        seconds = time.perf_counter() - started
        version = None
        # The next request to a group goes to another of its services: who answered is asked by itself.
        asked = sender.members.get(member) if member else address
        is_prediction = _PREDICT.fullmatch(request.path.partition("?")[0])
        if status == 200 and is_prediction and isinstance(asked, HttpAddress):
            # A REST answer does not name its version; the metadata of the same path does.
            version = _version(await _fetch(sender.session, "GET", asked, f"{is_prediction['asked']}/metadata"))
    except (aiohttp.ClientError, OSError) as error:  # a time limit is an OSError
        problem = "no answer within the time limit" if isinstance(error, TimeoutError) else f"no answer: {error}"
        return Answer(0, time.perf_counter() - started, problem=problem)
    body = raw[:ANSWER_LIMIT].decode(errors="replace")
    return Answer(status, seconds, version, body, truncated=len(raw) > ANSWER_LIMIT, member=member)


async def _fetch(
    session: aiohttp.ClientSession, method: str, address: HttpAddress, path: str, data: bytes = b""
) -> tuple[int, bytes, str]:
    """Status, body, and the service of a group that answered."""
    headers = {hdrs.CONTENT_TYPE: "application/json"} if data else {}
    if address.token:
        headers[hdrs.AUTHORIZATION] = address.token
    asked = session.request(
        method,
        yarl.URL(address.url + path, encoded=True),
        headers=headers,
        data=data or None,
        allow_redirects=False,
        ssl=address.context or True,
    )
    async with asked as answer:
        raw = bytearray()
        async for chunk in answer.content.iter_chunked(1 << 16):
            raw += chunk
            if len(raw) > ANSWER_LIMIT:
                break
        return answer.status, bytes(raw), answer.headers.get(MEMBER_HEADER, "")


def _version(answer: tuple[int, bytes, str]) -> int | None:
    try:
        return int(json.loads(answer[1])["model_spec"]["version"])
    except (ValueError, KeyError, TypeError):
        return None


def _grpc_call(request: Request, address: GrpcAddress) -> Callable[[], Answer]:
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

    def call() -> Answer:
        started = time.perf_counter()
        try:
            with connect(target=address.target, token=address.token, timeout=ANSWER_SECONDS) as client:
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
        shown, is_cut = text[:ANSWER_LIMIT], len(text) > ANSWER_LIMIT
        return Answer(200, found.seconds, found.version, shown, truncated=is_cut, member=found.member)

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


def for_page(sent: Sequence[tuple[Request, Answer]]) -> dict[str, Any]:
    """The answers for the page: the first with the other in it, and how they differ."""
    named = sent[0][0].classes
    views = [
        {**asdict(answer), "bars": answers.bars(answer.body, named) if answer.status == 200 else []}
        for _, answer in sent
    ]
    if len(views) == 1:
        return views[0]
    (_, first), (_, second) = sent
    if first.truncated or second.truncated:
        compared: dict[str, Any] = {"problem": "the answers are too large to be compared", "outputs": []}
    else:
        compared = answers.difference(first.body, second.body, named)
    return {**views[0], "other": views[1], "difference": compared}


# ---- a body from the signature -------------------------------------------------------------------------------------


def body_for(metadata: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """A request body that a version takes, made from its signature.

    Args:
        metadata: of the version, as a client has it.
        wanted: name of the signature; empty for the usual one.

    Returns:
        ``{"version", "signatures": [...], "signature", "inputs", "body", "problem"}``; the body is empty where none can
        be made, and the problem says why.
    """
    signatures = {name: each for name, each in metadata["signatures"].items() if not name.startswith("__")}
    usual = SERVING_SIGNATURE if SERVING_SIGNATURE in signatures else next(iter(signatures), "")
    name = wanted if wanted in signatures else usual
    found = {"version": metadata["version"], "signatures": list(signatures), "signature": name, "body": ""}
    if not name:
        return {**found, "inputs": "", "problem": "the model has no signature"}
    inputs, outputs = signatures[name]["inputs"], signatures[name]["outputs"]
    shown = sample_request.shown(inputs) or "no input"
    size = math.prod(each or 1 for info in inputs.values() for each in info["shape"] or ())
    if size > _SAMPLE_VALUES:
        return {**found, "inputs": shown, "problem": f"a body would hold {size:,} values: too many to show"}
    try:
        values = sample_request.from_signature(inputs, outputs)
    except sample_request.SampleError as error:
        return {**found, "inputs": shown, "problem": str(error)}
    body = json.dumps({"signature_name": name, **request_values(values)})
    return {**found, "inputs": shown, "body": body, "problem": ""}


def _invalid(message: str) -> ApiError:
    return ApiError(400, "InvalidParameter", f"{message[0].upper()}{message[1:]}.")
