"""``logging_config`` of a model: as lines of a model config file, and as plain data in a stack file.

The message is TensorFlow Serving's ``LoggingConfig`` (``logging_config.proto``). It asks for a log of requests, which
needs a request logger that is compiled into the server. The stock server has none: ``server_request_logger.cc`` refuses
every config with it (``No request-logger-creator provided.``), at start and at each reload.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, text_format

from tfserving.errors import Problem
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.shown import shown
from tfserving.text_proto import parse_text

_CUSTOM = "custom_logging_config"
_ANY_KEYS = ("type_url", "value")


def text_of(message: pb.LoggingConfig) -> str:
    """A message as lines of text format, without braces around them: the same lines for the same message."""
    return text_format.MessageToString(message)


def read(value: Any, path: str) -> tuple[str, list[Problem]]:
    """What stack config says of it, as lines of text format, and what is wrong with it.

    Args:
        value: a mapping by the names of the proto's fields; None is none.
        path: where it stands.
    """
    if value is None:
        return "", []
    allowed = "log_collector_config, sampling_config, custom_logging_config, as in TensorFlow Serving's logging_config"
    if not isinstance(value, Mapping):
        return "", [Problem(path, f"{shown(value)} is not a mapping", allowed)]
    try:
        return text_of(_message(value)), []
    except (json_format.ParseError, binascii.Error, TypeError, ValueError) as error:
        reason = str(error).replace("tf_serving_stacks.", "tensorflow.serving.")
        return "", [Problem(path, f"this is not a logging_config: {reason}", allowed)]


def to_data(text: str) -> dict[str, Any]:
    """Lines of text format as stack config has them: by the names of fields; ``value`` of an ``Any`` is base64.

    Raises:
        ModelConfigError: they are no ``LoggingConfig``.
    """
    message = parse_text(text, pb.LoggingConfig(), "logging_config")
    custom = pb.LoggingConfig()
    custom.CopyFrom(message)
    message.ClearField(_CUSTOM)
    data: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if custom.HasField(_CUSTOM):
        held = custom.custom_logging_config
        data[_CUSTOM] = {"type_url": held.type_url, "value": base64.b64encode(held.value).decode()}
    return data


def _message(data: Mapping[str, Any]) -> pb.LoggingConfig:
    rest = {key: value for key, value in data.items() if key != _CUSTOM}
    message = json_format.ParseDict(rest, pb.LoggingConfig())
    custom = data.get(_CUSTOM)
    if custom is not None:
        if not isinstance(custom, Mapping) or set(custom) - set(_ANY_KEYS):
            raise ValueError(f"{_CUSTOM} has type_url and value, which is base64")
        value = base64.b64decode(str(custom.get("value", "")), validate=True)
        message.custom_logging_config.type_url = str(custom.get("type_url", ""))
        message.custom_logging_config.value = value
    return message
