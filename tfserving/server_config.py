"""The other files TensorFlow Serving reads at start: batching parameters and monitoring.

Text format of ``BatchingParameters`` (``session_bundle_config.proto``, flag ``--batching_parameters_file``) and of
``MonitoringConfig`` (``monitoring_config.proto``, flag ``--monitoring_config_file``). Both are read once, at start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from tfserving import flags
from tfserving.errors import ConfigError, Problem
from tfserving.model_config import unknown_keys
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.shown import shown
from tfserving.text_proto import parse_text, quote, render_template
from tfserving.wire import whole

METRICS_PATH = "/monitoring/prometheus/metrics"
"""Where TensorFlow Serving offers Prometheus metrics when its config names no path."""

# Printable and without what would end the path: the server compares the whole request line with it.
_PATH = re.compile(r"/[!-~]*")
_NOT_IN_PATH = re.compile(r"[?#]")
_UNWRAPPED = ("allowed_batch_sizes", "pad_variable_length_inputs")


def render_batching(params: Mapping[str, Any], path: str = "batching") -> str:
    """The batching parameters file.

    Args:
        params: by the names of ``BatchingParameters``; what is left out keeps the server's default. Whole numbers may
            be floats, as a protobuf ``Struct`` gives them.
        path: where the parameters stand in stack config, for the problems' paths.

    Returns:
        The text; with no parameters, one that leaves every default.

    Raises:
        ConfigError: parameters with which the server would not start or no model would load.
        ModelConfigError: a number is larger than the file can hold.
    """
    given = {name: _whole(value) for name, value in params.items()}
    problems = flags.validate_batching(given, path)
    if problems:
        raise ConfigError(problems, "batching parameters")
    text = render_template(
        "batching.pbtxt.j2",
        wrapped={name: _literal(value) for name, value in given.items() if name not in _UNWRAPPED},
        allowed_batch_sizes=given.get("allowed_batch_sizes", ()),
        pad_variable_length_inputs=given.get("pad_variable_length_inputs", False),
    )
    parse_text(text, pb.BatchingParameters(), "batching parameters file")
    return text


def render_monitoring(params: Mapping[str, Any] | None = None, path: str = "monitoring") -> str:
    """The monitoring config file.

    Args:
        params: ``path``, where metrics are served over HTTP (default ``/monitoring/prometheus/metrics``), and
            ``enable`` (default true).
        path: where the parameters stand in stack config, for the problems' paths.

    Raises:
        ConfigError: an unknown key, or a path no request can name.
    """
    given = dict(params or {})
    problems = unknown_keys(given, ("enable", "path"), path)
    enable, metrics = given.get("enable", True), given.get("path", METRICS_PATH)
    if not isinstance(enable, bool):
        problems.append(Problem(f"{path}.enable", f"{shown(enable)} is not true or false", "true or false"))
    # The server answers a request with a query string by 400, and keeps /v1/ for models.
    if not isinstance(metrics, str) or not _PATH.fullmatch(metrics) or _NOT_IN_PATH.search(metrics):
        message = f"{shown(metrics)} is not a path for metrics"
        problems.append(Problem(f"{path}.path", message, f"such as {METRICS_PATH}"))
    elif metrics.lower().startswith("/v1/"):
        fix = f"use {METRICS_PATH}"
        problems.append(Problem(f"{path}.path", f"{metrics!r} is where models answer", "a path outside /v1/", fix))
    if problems:
        raise ConfigError(problems, "monitoring")
    text = render_template("monitoring.pbtxt.j2", enable=_literal(enable), path=metrics)
    parse_text(text, pb.MonitoringConfig(), "monitoring config file")
    return text


def metrics_path(text: str) -> str:
    """Where a server with this monitoring config file serves its metrics; empty where they are switched off."""
    config = pb.MonitoringConfig()
    parse_text(text, config, "monitoring config file")
    prometheus = config.prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else ""


def start_file_name(service: str, kind: str, text: str) -> str:
    """Name of such a file beside the models: it holds a digest of the text, so that a change is another file.

    Args:
        service: name of the service that reads it.
        kind: ``batching`` or ``monitoring``.
        text: what is in it.
    """
    return f"{service}.{kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.pbtxt"


def batching_of(text: str) -> dict[str, Any]:
    """What :func:`render_batching` made a text of.

    Raises:
        ModelConfigError: it is no batching parameters file.
    """
    message = parse_text(text, pb.BatchingParameters(), "batching parameters file")
    # 64-bit integers are text in JSON.
    numbers = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return {name: _from_json(value) for name, value in numbers.items()}


def monitoring_of(text: str) -> Any:
    """What :func:`render_monitoring` made a text of: ``true``, or a mapping of what is not at its default.

    Raises:
        ModelConfigError: it is no monitoring config file.
    """
    found = parse_text(text, pb.MonitoringConfig(), "monitoring config file").prometheus_config
    given = {"enable": found.enable, "path": found.path or METRICS_PATH}
    rest = {key: value for key, value in given.items() if value not in (True, METRICS_PATH)}
    return rest or True


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) else value


def _whole(value: Any) -> Any:
    return [_whole(item) for item in value] if isinstance(value, list | tuple) else whole(value)


def _literal(value: Any) -> str:
    """A scalar in text format."""
    if isinstance(value, bool):
        return str(value).lower()
    return quote(value) if isinstance(value, str) else str(value)
