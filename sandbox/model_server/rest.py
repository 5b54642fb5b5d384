"""The REST API: routes, status codes and headers of TensorFlow Serving.

Source: ``http_rest_api_handler.cc``, ``http_rest_api_util.cc``, ``http_server.cc``, ``util/net_http``. The whole path
is matched, query string included, so any ``?query`` becomes part of a name or breaks the match.
"""

from __future__ import annotations

import logging
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from sandbox.model_server import inference, json_examples, json_request, json_writer, metrics
from sandbox.model_server.api import Api
from sandbox.model_server.core import ServerCore
from sandbox.model_server.status import Code, StatusError, http_status, invalid_argument
from tfserving.saved_model import SERVING_SIGNATURE

_log = logging.getLogger(__name__)

MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""Limit of a gzip request body, inflated."""

_PREDICTION = re.compile(
    r"(?i:/v1/models/([^/:]+)(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?:(classify|regress|predict))", re.DOTALL
)
_STATUS = re.compile(
    r"(?i:/v1/models(?:/([^/:]+))?(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?(?:/(metadata))?)", re.DOTALL
)
_API = re.compile(r"(?i:/v1/.*)", re.DOTALL)
_NOT_FOUND = b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@dataclass(frozen=True)
class HttpAnswer:
    """What goes back to the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class RestOptions:
    """Settings of the REST API.

    Attributes:
        timeout_ms: limit of one run of a model; 0 is none.
        cors: whether every answer carries the CORS headers.
        metrics_path: where the Prometheus page is; empty for nowhere.
    """

    timeout_ms: int = 30000
    cors: bool = False
    metrics_path: str = ""


@dataclass(frozen=True)
class _Target:
    """What a path names."""

    name: str = ""
    version: int | None = None
    label: str | None = None
    action: str = ""

    def fill(self, spec: Any) -> None:
        spec.name = self.name
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label


class _EmptyBody(Exception):
    """A request refused before there is anything to say: 400 without a body."""


class RestHandler:
    """Answers HTTP requests, one call for each; may be called from many threads."""

    def __init__(self, core: ServerCore, api: Api, options: RestOptions) -> None:
        self._core = core
        self._api = api
        self._options = options

    def handle(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        """One request.

        Args:
            path: as on the request line, undecoded, with the query string.
            headers: by name, in any case.
            body: as received.
        """
        if self._options.metrics_path and path.partition("?")[0] == self._options.metrics_path:
            return self._metrics(path)
        if not _API.fullmatch(path):
            return HttpAnswer(404, {"Content-Type": "text/html"}, _NOT_FOUND)
        started = time.monotonic()
        extra = _CORS if self._options.cors else {}
        if method == "OPTIONS":
            allowed = re.search("https?://", headers.get("Origin", "")) is not None
            return HttpAnswer(200 if allowed else 400, extra, b"")
        target = _Target()
        code = Code.OK
        try:
            target = _parse_target(method, path)
            text = self._dispatch(method, path, target, _inflate(headers, body))
        except _EmptyBody:
            code, text = Code.INVALID_ARGUMENT, ""
        except StatusError as error:
            code, text = error.code, json_writer.error(error.message)
        except Exception as error:
            _log.exception("unexpected error")
            code, text = Code.INTERNAL, json_writer.error(f"{type(error).__name__}: {error}")
        if code is Code.OK:
            api = target.action if method == "POST" else ""  # a GET names no method there
            metrics.REQUEST_LATENCY.add((time.monotonic() - started) * 1e6, target.name, api, "REST")
        metrics.REQUEST_COUNT.add(target.name, code.name)
        answer = text.encode("utf-8", "surrogateescape")
        return HttpAnswer(http_status(code), {"Content-Type": "application/json", **extra}, answer)

    def _metrics(self, path: str) -> HttpAnswer:
        headers = {"Content-Type": "text/plain"}
        if path != self._options.metrics_path:
            text = f"Unexpected path: {path}. Should be {self._options.metrics_path}"
            return HttpAnswer(400, headers, text.encode("utf-8", "surrogateescape"))
        return HttpAnswer(200, headers, metrics.page().encode())

    def _dispatch(self, method: str, path: str, target: _Target, body: bytes) -> str:
        if method == "POST" and target.action == "predict":
            return self._predict(target, body)
        if method == "POST" and target.action == "classify":
            return self._classify(target, body)
        if method == "POST" and target.action == "regress":
            return self._regress(target, body)
        if method == "GET" and target.action in ("status", "metadata"):
            if not target.name:
                raise invalid_argument("Missing model name in request.")
            return self._status(target) if target.action == "status" else self._metadata(target)
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, target: _Target, body: bytes) -> str:
        spec = self._api.model_pb2.ModelSpec()
        target.fill(spec)
        document = json_request.parse_object(body)
        name = json_request.signature_name(document)
        with self._core.use(spec) as (_, model):
            signature = model.signatures.get(name or SERVING_SIGNATURE)
            if signature is None:
                wanted = name or SERVING_SIGNATURE
                raise invalid_argument(f'Serving signature name: "{wanted}" not found in signature def')
            layout, inputs = json_request.tensors(document, signature.inputs, name)
            outputs = inference.run_predict(
                model,
                signature,
                inputs,
                model_name=target.name,
                timeout_ms=self._options.timeout_ms,
                check_method=self._api.check_method,
            )
        if not outputs:
            raise invalid_argument("Cannot convert empty tensor map to JSON")
        return json_writer.predictions(outputs) if layout == "row" else json_writer.outputs(outputs)

    def _classify(self, target: _Target, body: bytes) -> str:
        request, response = self._api.classification_pair()
        self._fill_examples(target, body, request)
        with self._core.use(request.model_spec) as (version, model):
            inference.classify(
                model,
                version,
                request,
                response,
                timeout_ms=self._options.timeout_ms,
                check_method=self._api.check_method,
            )
        return json_writer.classifications(response.result)

    def _regress(self, target: _Target, body: bytes) -> str:
        request, response = self._api.regression_pair()
        self._fill_examples(target, body, request)
        with self._core.use(request.model_spec) as (version, model):
            inference.regress(
                model,
                version,
                request,
                response,
                timeout_ms=self._options.timeout_ms,
                check_method=self._api.check_method,
            )
        return json_writer.regressions(response.result)

    def _fill_examples(self, target: _Target, body: bytes, request: Any) -> None:
        target.fill(request.model_spec)
        document = json_request.parse_object(body)
        request.model_spec.signature_name = json_request.signature_name(document)
        json_examples.examples(document, request.input)

    def _status(self, target: _Target) -> str:
        spec = self._api.model_pb2.ModelSpec()
        target.fill(spec)
        return json_writer.message(self._api.model_status(self._core, spec))

    def _metadata(self, target: _Target) -> str:
        spec = self._api.model_pb2.ModelSpec()
        target.fill(spec)
        resolved, signatures = self._api.model_metadata(self._core, spec)
        return (
            f'{{\n"model_spec":{json_writer.message(resolved)},\n'
            f'"metadata": {{"signature_def": {json_writer.message(signatures)}}}\n}}\n'
        )


def _parse_target(method: str, path: str) -> _Target:
    """The model, version, label and action a path names.

    Raises:
        _EmptyBody: a version beyond int64.
    """
    match = None
    if method == "POST":
        match = _PREDICTION.fullmatch(path)
    elif method == "GET":
        match = _STATUS.fullmatch(path)
    if match is None:
        return _Target()
    name, version, label, action = match.groups()
    digits = (version or "").lstrip("0")
    if len(digits) > 19 or int(digits or 0) >= 2**63:
        raise _EmptyBody
    number = int(digits or 0) if version else None
    if method == "GET":
        # Matched in any case, compared in lower case: `/METADATA` asks for the status.
        action = "metadata" if action == "metadata" else "status"
    return _Target(_decode(name or ""), number, _decode(label) if label else None, action)


def _decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _inflate(headers: Mapping[str, str], body: bytes) -> bytes:
    """The body with a gzip encoding undone.

    Raises:
        StatusError: it is not gzip, or larger than 100 MB inflated.
    """
    if "gzip" not in headers.get("Content-Encoding", ""):
        return body
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error:
        inflated = b""
    # What cannot be inflated, or is too large, reaches the handler as no body at all.
    return inflated if inflater.eof else b""
