"""What a container of a TensorFlow Serving image would run, read from the service JSON.

Sources: the entry point of TensorFlow Serving's image (``tf_serving_entrypoint.sh``: its fixed flags come first, the
last one of a repeated flag wins) and ``command_line_flags.cc`` (only ``--flag=value`` is understood).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.cloud.eas import service_json

ENTRYPOINT = "tf_serving_entrypoint.sh"
SERVER = "tensorflow_model_server"
ALLOW_LABELS = "--allow_version_labels_for_unavailable_models=true"

PATH_FLAGS = (
    "model_base_path",
    "model_config_file",
    "batching_parameters_file",
    "grpc_socket_path",
    "monitoring_config_file",
    "platform_config_file",
    "ssl_config_file",
    "tensorflow_session_config_file",
    "thread_pool_factory_config_file",
)
"""Flags whose value is a path in the container."""

_IMAGE = re.compile(r"(^|/)(tensorflow-serving|tensorflow/serving|tf-serving|tfserving)[^/]*$")
_OPERATORS = frozenset("();<>|&")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


class NotRunnableError(Exception):
    """The sandbox cannot run this service. The service fails, as one with a broken image does.

    Attributes:
        reason: a word for ``Reason`` of DescribeService.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ServerCommand:
    """One start of the model server, as seen in the container.

    Attributes:
        flags: its arguments.
        env: variables the container sets.
        grpc_port: port it speaks gRPC on, 0 for none.
        rest_port: port it speaks HTTP on, 0 for none.
        port: the port EAS sends requests to.
    """

    flags: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    grpc_port: int
    rest_port: int
    port: int

    @property
    def listens(self) -> str:
        """For a person: what it listens on."""
        ports = [f"{port} ({kind})" for port, kind in ((self.grpc_port, "gRPC"), (self.rest_port, "HTTP")) if port]
        return " and ".join(ports) or "no port"


def resolve(config: Mapping[str, Any]) -> ServerCommand:
    """Reads what the first container of a validated service JSON runs.

    Raises:
        NotRunnableError: it is not TensorFlow Serving, or needs a shell.
    """
    containers = config.get("containers")
    if not containers:
        raise NotRunnableError(
            "ProcessorNotSupported",
            "The sandbox only runs TensorFlow Serving images; this service has a processor and no image.",
        )
    container = containers[0]
    env = {item["name"]: item.get("value", "") for item in container.get("env", [])}
    words, assigned = _words(container, env)
    env = {**env, **assigned}
    program = words[0].rsplit("/", 1)[-1] if words else ENTRYPOINT
    if program == ENTRYPOINT:
        name = env.get("MODEL_NAME", "model")
        base = env.get("MODEL_BASE_PATH", "/models")
        flags = ["--port=8500", "--rest_api_port=8501", f"--model_name={name}", f"--model_base_path={base}/{name}"]
    elif program == SERVER:
        flags = []
    else:
        raise _not_tensorflow_serving(str(container["image"]), program)
    if not words and not _IMAGE.search(str(container["image"]).split("@", 1)[0]):
        raise _not_tensorflow_serving(str(container["image"]), "its own entry point")
    flags += words[1:]
    if service_json.is_scenario(config):
        flags.append(ALLOW_LABELS)
    grpc_port, rest_port = _port(flags, "port", 8500), _port(flags, "rest_api_port", 0)
    if rest_port == grpc_port:
        rest_port = 0  # the server then leaves REST off
    return ServerCommand(tuple(flags), env, grpc_port, rest_port, int(container["port"]))


def flag(flags: Sequence[str], name: str) -> str | None:
    """The value of a flag, the last one where it is repeated; None where it is not given."""
    value = None
    for item in flags:
        if item.startswith(f"--{name}="):
            value = item.partition("=")[2]
    return value


def _words(container: Mapping[str, Any], env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The words of the start command and the variables assigned before it; no words is the image's own entry point."""
    text = str(container.get("command") or container.get("script") or "")
    if not text:
        return [], {}
    is_script = "script" in container
    if is_script:
        lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
        lines = [line for line in lines if line and not line.startswith("#") and not re.match(r"set [-+]\w", line)]
        if len(lines) != 1:
            raise NotRunnableError(
                "ScriptNotSupported",
                f"The sandbox runs no shell: containers[0].script must be one command, it has {len(lines)}.",
            )
        text = lines[0]
    try:
        words = shlex.split(text)
        has_operators = _has_operators(text)
    except ValueError as error:
        raise NotRunnableError("ScriptNotSupported", f"The start command cannot be read: {error}.") from None
    if has_operators:
        raise NotRunnableError(
            "ScriptNotSupported",
            "The sandbox runs no shell: the start command must be one command without shell operators.",
        )
    assigned: dict[str, str] = {}
    if is_script:
        while words and (_ASSIGNMENT.match(words[0]) or words[0] == "exec"):
            word = words.pop(0)
            if word != "exec":
                name, _, value = word.partition("=")
                assigned[name] = value
        known = {"MODEL_NAME": "model", "MODEL_BASE_PATH": "/models", **env}
        words = [_VARIABLE.sub(lambda match: known.get(match[1] or match[2], ""), word) for word in words]
    if not words:
        raise NotRunnableError("ScriptNotSupported", "The start command names no program.")
    return words, assigned


def _has_operators(text: str) -> bool:
    """Whether a command needs a shell: operators that are not quoted, or the output of another command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return "`" in text or "$(" in text or any(token and _OPERATORS.issuperset(token) for token in lexer)


def _port(flags: Sequence[str], name: str, default: int) -> int:
    value = flag(flags, name)
    if value is None:
        return default
    return int(value) if value.isascii() and value.isdigit() else 0  # anything else stops the server at its start


def _not_tensorflow_serving(image: str, program: str) -> NotRunnableError:
    return NotRunnableError(
        "ImageNotSupported",
        f"The sandbox only runs TensorFlow Serving images; it cannot run {program} of image {image}. "
        "Deploy this service to Alibaba Cloud, or leave it out of the local stack.",
    )
