"""The model config: read from text format, checked in TensorFlow Serving's order with its messages.

Source: ``server_core.cc`` (``ValidateModelConfigList``, ``ValidateNoModelsChangePlatforms``, ``GetPlatform``),
``util/proto_util.h`` (``ParseProtoTextFile``).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from sandbox.model_server.status import Code, StatusError, failed_precondition, invalid_argument, not_found

PLATFORM = "tensorflow"
"""The only platform the stock server is built with."""

_URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")
_log = logging.getLogger(__name__)
_M = TypeVar("_M", bound=Message)


def read_text_proto(path: str, local: Path, message: _M) -> _M:
    """Fills a message from a text-format file.

    Args:
        path: as the flag names it, for messages.
        local: where the file lies.
        message: an empty message.

    Raises:
        StatusError: ``NOT_FOUND`` without the file, ``INVALID_ARGUMENT`` where it is empty (the real server maps the
            file into memory, which fails for no bytes) or does not parse. The parser's own text goes to the log.
    """
    try:
        data = local.read_bytes()
    except FileNotFoundError:
        raise not_found(f"{path}; No such file or directory") from None
    except PermissionError:
        raise StatusError(Code.PERMISSION_DENIED, f"{path}; Permission denied") from None
    except OSError as error:
        raise failed_precondition(f"{path}; {error.strerror}") from None
    if not data:
        raise invalid_argument(f"{path}; Invalid argument")
    try:
        return text_format.Parse(data, message)
    except (text_format.ParseError, UnicodeDecodeError, ValueError) as error:
        _log.error("Error parsing text-format %s: %s", message.DESCRIPTOR.full_name, error)
        raise invalid_argument(f"Invalid protobuf file: '{path}'") from None


def single_model_config(name: str, base_path: str) -> config_pb2.ModelServerConfig:
    """The config ``--model_name`` and ``--model_base_path`` stand for."""
    _log.info(
        "Building single TensorFlow model file config:  model_name: %s model_base_path: %s",
        name,
        base_path,
    )
    config = config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def check_transition(old: config_pb2.ModelServerConfig, new: config_pb2.ModelServerConfig) -> bool:
    """The checks before a config becomes the stored one.

    Returns:
        Whether there is anything to apply: an empty config as the first one is accepted and does nothing.

    Raises:
        StatusError: a change of kind, a repeated name, a relative path, or a changed platform.
    """
    old_kind, new_kind = old.WhichOneof("config"), new.WhichOneof("config")
    both_lists = old_kind == new_kind == "model_config_list"
    if not (old_kind is None or old == new or both_lists):
        message = (
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to another."
        )
        _log.error(message)
        raise failed_precondition(message)
    if new_kind is None:
        _log.info("Taking no action for empty config.")
        return False
    if new_kind == "model_config_list":
        _check_list(new.model_config_list)
    if both_lists:
        _check_platforms_kept(old.model_config_list, new.model_config_list)
    return True


def platform_of(model: config_pb2.ModelConfig) -> str:
    """A model's platform, with the deprecated ``model_type`` understood.

    Raises:
        StatusError: ``INVALID_ARGUMENT`` where none, both, or an unknown type is given.
    """
    if model.model_type != config_pb2.MODEL_TYPE_UNSPECIFIED:
        _log.warning("Deprecated ModelServerConfig::model_type field used. Prefer ModelServerConfig::model_platform.")
        if model.model_platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_type != config_pb2.TENSORFLOW:
            raise invalid_argument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        return PLATFORM
    if not model.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return str(model.model_platform)


def check_platforms(config: config_pb2.ModelServerConfig) -> None:
    """The check that comes after the labels: every model asks for a platform this server has.

    Raises:
        StatusError: ``INVALID_ARGUMENT``.
    """
    for model in config.model_config_list.config:
        platform = platform_of(model)
        if platform != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")


def _check_list(models: config_pb2.ModelConfigList) -> None:
    seen: set[str] = set()
    for model in models.config:
        if model.name in seen:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    for model in models.config:
        if not model.base_path.startswith("/") and not _URI.match(model.base_path):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )


def _check_platforms_kept(old: config_pb2.ModelConfigList, new: config_pb2.ModelConfigList) -> None:
    platforms = {model.name: platform_of(model) for model in old.config}
    for model in new.config:
        if model.name in platforms and platform_of(model) != platforms[model.name]:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {model.name} platform was {platforms[model.name]} "
                f"and new platform requested is {platform_of(model)}"
            )
