"""The command line, parsed as TensorFlow parses it (``tensorflow/core/util/command_line_flags.cc``).

Only ``--flag=value`` is understood, and ``--flag`` for a bool. What is not understood is collected, not refused: the
server prints the first unknown argument with the usage and starts without it. ``tfserving.flags`` has the flags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tfserving.flags import FLAGS, Flag

_INT = re.compile(r"\s*[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TYPE_NAMES = {"int": "int32", "float": "float", "bool": "bool", "string": "string"}

IGNORED = frozenset(
    {
        "flush_filesystem_caches",
        "per_process_gpu_memory_fraction",
        "remove_unused_fields_from_bundle_metagraph",
        "num_tflite_pools",
        "num_tflite_interpreters_per_pool",
        "xla_cpu_compilation_enabled",
        "xla_gpu_compilation_enabled",
        "enable_profiler",
        "thread_pool_factory_config_file",
        "mixed_precision",
        "skip_initialize_tpu",
    }
)
"""Flags that are accepted and change nothing here. The server logs those that are set."""


class FlagError(Exception):
    """A flag's value cannot be parsed: the server prints the usage and exits with status 255."""


@dataclass(frozen=True)
class ServerFlags:
    """The flags this server acts on, with TensorFlow Serving's names and defaults (``tfserving.flags``).

    Attributes:
        set_but_ignored: flags of ``IGNORED`` given on the command line.
        unknown: arguments that are no flag, in the order given.
    """

    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_num_threads: int = 0
    rest_api_timeout_in_ms: int = 30000
    rest_api_enable_cors_support: bool = False
    grpc_max_threads: int = 0
    grpc_channel_arguments: str = ""
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: int = 1
    allow_version_labels_for_unavailable_models: bool = False
    num_load_threads: int = 0
    num_unload_threads: int = 0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_batching: bool = False
    enable_per_model_batching_parameters: bool = False
    batching_parameters_file: str = ""
    platform_config_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    use_alts_credentials: bool = False
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    tensorflow_session_config_file: str = ""
    saved_model_tags: str = "serve"
    prefer_tflite_model: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    enable_grpc_healthcheck_service: bool = False
    enable_signature_method_name_check: bool = False
    enable_serialization_as_tensor_content: bool = False
    version: bool = False
    set_but_ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = field(default=())

    @property
    def threads(self) -> int:
        """Request threads where a flag leaves it open: four for each processor."""
        return 4 * (os.cpu_count() or 1)


_NAMES = frozenset(item.name for item in fields(ServerFlags)) & FLAGS.keys()


def parse(arguments: Sequence[str]) -> ServerFlags:
    """Reads a command line (without the program's name). The last of a repeated flag wins.

    Raises:
        FlagError: an int, float or bool is malformed, or ``--help`` is the first unknown argument.
    """
    values: dict[str, Any] = {}
    unknown: list[str] = []
    errors: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            unknown += arguments[index:]
            break
        for flag in FLAGS.values():
            text = _value_text(flag, argument)
            if text is None:
                continue
            value = _convert(flag, text)
            if value is None:
                errors.append(f"Couldn't interpret value {text} for flag {flag.name}.")
            else:
                values[flag.name] = value
            break
        else:
            unknown.append(argument)
    if errors or unknown[:1] == ["--help"]:
        raise FlagError("\n".join(errors))
    ignored = tuple(name for name in values if name in IGNORED and values[name] != FLAGS[name].default)
    return ServerFlags(
        **{name: value for name, value in values.items() if name in _NAMES},
        set_but_ignored=ignored,
        unknown=tuple(unknown),
    )


def _value_text(flag: Flag, argument: str) -> str | None:
    """What follows the flag's name, or ``None`` where the argument is another flag's."""
    name = f"--{flag.name}"
    if flag.type == "bool":
        # A bool claims every argument that starts with its name: `--versions` is a malformed `--version`.
        return argument[len(name) :] if argument.startswith(name) else None
    return argument[len(name) + 1 :] if argument.startswith(f"{name}=") else None


def _convert(flag: Flag, text: str) -> str | int | float | bool | None:
    if flag.type == "bool":
        return {"": True, "=true": True, "=false": False}.get(text)
    if flag.type == "int":
        return int(text) if _INT.fullmatch(text) else None
    if flag.type == "float":
        return float(text) if _FLOAT.fullmatch(text) else None
    return text


def usage(program: str) -> str:
    """The text TensorFlow Serving prints beside a mistake: every flag with its default."""
    lines = [f"usage: {program}", "Flags:"]
    for flag in FLAGS.values():
        default = ServerFlags().threads if flag.default is None else flag.default
        if flag.type == "string":
            shown = f'"{default}"'
        elif flag.type == "bool":
            shown = str(default).lower()
        else:
            shown = str(default)
        lines.append(f"\t{f'--{flag.name}={shown}':<33}\t{_TYPE_NAMES[flag.type]}")
    return "\n".join(lines) + "\n"
