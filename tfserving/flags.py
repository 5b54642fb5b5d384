"""The command line of ``tensorflow_model_server``: which flags exist since when, and which combinations do not work.

TensorFlow Serving only understands ``--flag=value`` (a lone ``--flag`` means true). It prints a line about an unknown
argument and starts without it, so a misspelt flag, a flag newer than the image, or ``--flag value`` with a space goes
unnoticed. This module refuses all of them before a service is made.

Sources: ``tensorflow_serving/model_servers/main.cc``, ``server.cc``, ``server.h`` (names, defaults, checks at start),
their release tags (the version a flag appeared in), ``tensorflow/core/util/command_line_flags.cc`` (the syntax),
``session_bundle_config.proto`` (batching parameters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfserving.errors import Problem
from tfserving.model_config import did_you_mean
from tfserving.paths import clean_path
from tfserving.property_path import join_path
from tfserving.shown import shown
from tfserving.wire import whole

FlagValue = str | int | float | bool
FlagType = Literal["bool", "int", "float", "string"]
Version = tuple[int, int, int]

ENTRYPOINT_PORT = 8500
"""``--port`` of the image's entry point, ``/usr/bin/tf_serving_entrypoint.sh``."""

ENTRYPOINT_REST_PORT = 8501
"""``--rest_api_port`` of the image's entry point."""


@dataclass(frozen=True)
class Flag:
    """One command-line flag.

    Attributes:
        name: without the dashes.
        type: how its value is parsed.
        default: the server's default; ``None`` where it depends on the machine.
        since: first version that has it; (1, 15, 0), the oldest image EAS offers, also stands for all before.
    """

    name: str
    type: FlagType
    default: FlagValue | None
    since: Version = (1, 15, 0)


def _table(*flags: Flag) -> dict[str, Flag]:
    return {flag.name: flag for flag in flags}


FLAGS: Mapping[str, Flag] = _table(
    Flag("port", "int", 8500),
    Flag("grpc_socket_path", "string", ""),
    Flag("rest_api_port", "int", 0),
    Flag("rest_api_num_threads", "int", None),
    Flag("rest_api_timeout_in_ms", "int", 30000),
    Flag("rest_api_enable_cors_support", "bool", False, (2, 5, 1)),
    Flag("grpc_max_threads", "int", None, (2, 5, 1)),
    Flag("grpc_channel_arguments", "string", ""),
    Flag("model_name", "string", "default"),
    Flag("model_base_path", "string", ""),
    Flag("model_config_file", "string", ""),
    Flag("model_config_file_poll_wait_seconds", "int", 0),
    Flag("file_system_poll_wait_seconds", "int", 1),
    Flag("allow_version_labels_for_unavailable_models", "bool", False),
    Flag("num_load_threads", "int", 0),
    Flag("num_unload_threads", "int", 0, (2, 5, 1)),
    Flag("max_num_load_retries", "int", 5),
    Flag("load_retry_interval_micros", "int", 60_000_000),
    Flag("flush_filesystem_caches", "bool", True),
    Flag("enable_batching", "bool", False),
    Flag("batching_parameters_file", "string", ""),
    Flag("enable_per_model_batching_parameters", "bool", False, (2, 11, 0)),
    Flag("platform_config_file", "string", ""),
    Flag("monitoring_config_file", "string", ""),
    Flag("ssl_config_file", "string", ""),
    Flag("use_alts_credentials", "bool", False),
    Flag("tensorflow_session_parallelism", "int", 0),
    Flag("tensorflow_intra_op_parallelism", "int", 0),
    Flag("tensorflow_inter_op_parallelism", "int", 0),
    Flag("tensorflow_session_config_file", "string", "", (2, 8, 0)),
    Flag("per_process_gpu_memory_fraction", "float", 0.0),
    Flag("saved_model_tags", "string", "serve"),
    Flag("enable_model_warmup", "bool", True),
    Flag("num_request_iterations_for_warmup", "int", 0, (2, 8, 0)),
    Flag("enable_grpc_healthcheck_service", "bool", False, (2, 15, 1)),
    Flag("enable_signature_method_name_check", "bool", False, (2, 4, 0)),
    Flag("enable_serialization_as_tensor_content", "bool", False, (2, 19, 0)),
    Flag("remove_unused_fields_from_bundle_metagraph", "bool", True),
    Flag("prefer_tflite_model", "bool", False, (2, 3, 0)),
    Flag("num_tflite_pools", "int", None, (2, 3, 0)),
    Flag("num_tflite_interpreters_per_pool", "int", 1, (2, 3, 0)),
    Flag("xla_cpu_compilation_enabled", "bool", False, (2, 5, 1)),
    Flag("xla_gpu_compilation_enabled", "bool", False, (2, 18, 0)),
    Flag("enable_profiler", "bool", True),
    Flag("thread_pool_factory_config_file", "string", "", (2, 6, 0)),
    Flag("mixed_precision", "string", "", (2, 15, 1)),
    Flag("skip_initialize_tpu", "bool", False, (2, 15, 1)),
    Flag("version", "bool", False),
)

_INT64 = frozenset(
    {
        "load_retry_interval_micros",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    }
)
"""Whole numbers the server keeps in 64 bits; the others have 32."""

PLATFORM_CONFIG_REPLACES = frozenset(
    {
        "enable_batching",
        "batching_parameters_file",
        "enable_per_model_batching_parameters",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
        "tensorflow_session_config_file",
        "per_process_gpu_memory_fraction",
        "saved_model_tags",
        "enable_model_warmup",
        "num_request_iterations_for_warmup",
        "remove_unused_fields_from_bundle_metagraph",
        "prefer_tflite_model",
        "num_tflite_pools",
        "num_tflite_interpreters_per_pool",
        "mixed_precision",
    }
)
"""Flags that do nothing once ``platform_config_file`` is set: the server reads its platform config from there alone."""

_AT_LEAST: Mapping[str, tuple[int, str]] = {
    "rest_api_num_threads": (2, "one thread only waits for connections, so a single one never answers a request"),
    "rest_api_timeout_in_ms": (1, "every request would be over its time"),
    "grpc_max_threads": (1, "no request could be answered"),
    "model_config_file_poll_wait_seconds": (0, "0 reads the config file once, at start"),
    "file_system_poll_wait_seconds": (
        1,
        "with 0 or less, new models and versions are not found after the start, and a config change waits for ever",
    ),
    "num_load_threads": (0, "it is a number of threads"),
    "num_unload_threads": (0, "it is a number of threads"),
    "max_num_load_retries": (0, "it is a number of retries"),
    "load_retry_interval_micros": (0, "it is a time"),
    "tensorflow_session_parallelism": (0, "0 lets TensorFlow choose"),
    "tensorflow_intra_op_parallelism": (0, "0 lets TensorFlow choose"),
    "tensorflow_inter_op_parallelism": (0, "0 lets TensorFlow choose"),
    "num_request_iterations_for_warmup": (0, "it is a number of rounds"),
    "num_tflite_pools": (1, "it is a number of pools"),
    "num_tflite_interpreters_per_pool": (1, "it is a number of interpreters"),
}

_VERSION = re.compile(r"^(\d+)\.(\d+)(?:\.(\d+))?(?=$|[-+_])")


def parse_version(text: str) -> Version | None:
    """The TensorFlow Serving version in an image tag (``2.14.1-gpu``), or ``None`` if there is none."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def image_version(image: str) -> Version | None:
    """The TensorFlow Serving version an image's tag names, ``None`` for other images and tags."""
    repository, _, tag = image.partition("@")[0].rpartition(":")
    is_tf_serving = "tensorflow-serving" in repository.rpartition("/")[2] or repository.endswith("tensorflow/serving")
    return parse_version(tag) if is_tf_serving else None


@dataclass(frozen=True)
class Parsed:
    """A parsed command line: what TensorFlow Serving would understand, and what it would drop.

    Attributes:
        values: flags by name; of a repeated flag, the last value.
        problems: one for each argument that is no ``--flag=value`` of a known flag.
    """

    values: dict[str, FlagValue]
    problems: tuple[Problem, ...]


def parse(argv: Sequence[str], path: str = "flags") -> Parsed:
    """Reads a command line (without the program's name) as TensorFlow Serving does.

    Args:
        argv: the arguments.
        path: where they come from, for the problems.
    """
    values: dict[str, FlagValue] = {}
    problems: list[Problem] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            problems.append(_not_a_flag(argument, path))
            continue
        name, equals, text = argument[2:].partition("=")
        flag = FLAGS.get(name)
        if flag is None:
            problems.append(_unknown(name, path))
        elif not equals and rest and not rest[0].startswith("-"):
            value_text = rest.pop(0)
            message = f"`--{name} {value_text}` is not understood: TensorFlow Serving only reads --flag=value"
            problems.append(Problem(path, message, f"--{name}=VALUE", f"write --{name}={value_text}"))
        elif not equals and flag.type != "bool":
            message = f"`--{name}` has no value: TensorFlow Serving would ignore it"
            problems.append(Problem(path, message, f"--{name}=VALUE"))
        else:
            value = _from_text(flag, text) if equals else True
            if value is None:
                problems.append(_wrong_type(flag, text, path))
            else:
                values[name] = value
    return Parsed(values, tuple(problems))


def _not_a_flag(argument: str, path: str) -> Problem:
    if argument[1:].partition("=")[0] in FLAGS and argument.startswith("-"):
        message = f"`{argument}` has one dash only: TensorFlow Serving would ignore it"
        return Problem(path, message, "--flag=value", f"write -{argument}")
    return Problem(path, f"`{argument}` is not a flag: TensorFlow Serving would ignore it", "--flag=value")


def _from_text(flag: Flag, text: str) -> FlagValue | None:
    if flag.type == "bool":
        return {"true": True, "false": False}.get(text)
    if flag.type == "int":
        return int(text) if re.fullmatch(r"-?\d{1,39}", text, re.ASCII) else None
    if flag.type == "float":
        return float(text) if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)([eE]-?\d+)?", text) else None
    return text


def _unknown(name: str, path: str) -> Problem:
    message = f"`--{name}` is not a flag of TensorFlow Serving, which would start without it"
    return Problem(path, message, "", did_you_mean(name.replace("-", "_"), FLAGS) or "remove it")


def _wrong_type(flag: Flag, value: object, path: str) -> Problem:
    allowed = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "string": "text",
    }[flag.type]
    return Problem(path, f"`{_plain(value)}` is not a value for --{flag.name}", allowed)


def _has_type(flag: Flag, value: object) -> bool:
    if flag.type == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if flag.type == "int":
        return isinstance(value, int)
    if flag.type == "float":
        return isinstance(value, int | float)
    return isinstance(value, str)


def prefers_tflite(flags: Mapping[str, Any] | None) -> bool:
    """Whether a server with these flags loads ``model.tflite`` where a version has one.

    Args:
        flags: by name, as :func:`parse` gives them or as a stack file has them; ``None``: another server.
    """
    return flags is not None and str(flags.get("prefer_tflite_model")).lower() == "true"


def render(flags: Mapping[str, FlagValue]) -> list[str]:
    """The flags as arguments, in the mapping's order: ``["--enable_batching=true", ...]``."""
    return [f"--{name}={_to_text(value)}" for name, value in flags.items()]


def _to_text(value: FlagValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(whole(value))
    return str(value)


def validate(
    flags: Mapping[str, FlagValue], port: int, grpc: bool, version: Version | None, path: str = "flags"
) -> list[Problem]:
    """Everything that keeps TensorFlow Serving from starting, or from doing what the flags ask for.

    Args:
        flags: all flags the server gets beyond those of the image's entry point, by name.
        port: the one port the service is reached by.
        grpc: whether requests come as gRPC.
        version: the version of the image, ``None`` if unknown (then no flag counts as too new).
        path: where the flags come from; a flag's problem is reported at ``<path>.<flag>``.
    """
    problems: list[Problem] = []
    good: dict[str, FlagValue] = {}
    for name, value in flags.items():
        here = join_path(path, name)
        flag = FLAGS.get(name)
        if flag is None:
            problems.append(_unknown(name, here))
        elif name == "version":
            problems.append(Problem(here, "--version prints the version and ends the server", "", "remove it"))
        elif not _has_type(flag, value):
            problems.append(_wrong_type(flag, value, here))
        elif isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
            problems.append(Problem(here, f"the value of --{name} holds a control character", "one line of text"))
        else:
            good[name] = value
            if version is not None and flag.since > version:
                problems.append(
                    Problem(
                        here,
                        f"--{name} exists since TensorFlow Serving {_dotted(flag.since)}, the image is "
                        f"{_dotted(version)} and would start without it",
                        "",
                        f"use an image of {_dotted(flag.since)} or later, or remove the flag",
                    )
                )
    problems += _ranges(good, path)
    problems += _ports(good, port, grpc, path)
    problems += _combinations(good, path)
    return problems


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _ranges(flags: Mapping[str, FlagValue], path: str) -> list[Problem]:
    problems = []
    for name, (least, why) in _AT_LEAST.items():
        value = flags.get(name)
        if isinstance(value, int) and value < least:
            problems.append(Problem(f"{path}.{name}", f"--{name}={value} is too low: {why}", f"{least} or more"))
    for name, value in flags.items():
        if FLAGS[name].type == "int" and isinstance(value, int):
            most = 2**63 - 1 if name in _INT64 else 2**31 - 1
            if not -most - 1 <= value <= most:
                message = f"--{name}={value} is out of range, so the server would not start"
                problems.append(Problem(join_path(path, name), message, f"up to {most}", "write a smaller number"))
    fraction = flags.get("per_process_gpu_memory_fraction", 0)
    if isinstance(fraction, int | float) and not 0 <= fraction <= 1:
        here = f"{path}.per_process_gpu_memory_fraction"
        problems.append(Problem(here, f"`{fraction}` is not a share of the GPU's memory", "0 (all of it) to 1"))
    arguments = str(flags.get("grpc_channel_arguments", ""))
    bad = [item for item in arguments.split(",") if not re.fullmatch(r"[^=]+=.+", item)] if arguments else []
    if bad:
        here = f"{path}.grpc_channel_arguments"
        problems.append(
            Problem(here, f"`{bad[0]}` is not a name and a value: the server crashes on it", "name=value,...")
        )
    return problems


def _ports(flags: Mapping[str, FlagValue], port: int, grpc: bool, path: str) -> list[Problem]:
    problems = []
    grpc_port = flags.get("port", ENTRYPOINT_PORT)
    rest_port = flags.get("rest_api_port", ENTRYPOINT_REST_PORT)
    if grpc_port == rest_port:
        message = f"--port and --rest_api_port are both {rest_port}: TensorFlow Serving then leaves REST off"
        problems.append(Problem(f"{path}.rest_api_port", message, "two different ports"))
    if grpc_port == 0 and not flags.get("grpc_socket_path"):
        message = "--port=0 without --grpc_socket_path: the server does not start"
        problems.append(Problem(f"{path}.port", message, "", "remove --port=0"))
    name, wanted, kind = ("port", grpc_port, "gRPC") if grpc else ("rest_api_port", rest_port, "HTTP")
    if wanted != port:
        problems.append(
            Problem(
                f"{path}.{name}",
                f"--{name}={wanted} does not match port {port} of the service: {kind} requests would find nothing",
                str(port),
                f"remove --{name}, or make it {port}",
            )
        )
    if rest_port == 0 and flags.get("monitoring_config_file"):
        message = "the monitoring file is only read with REST on: metrics are served on the REST port"
        problems.append(Problem(f"{path}.monitoring_config_file", message, "", "remove --rest_api_port=0"))
    return problems


def _combinations(flags: Mapping[str, FlagValue], path: str) -> list[Problem]:
    problems = []

    def refuse(name: str, message: str, fix: str = "") -> None:
        problems.append(Problem(f"{path}.{name}", message, "", fix))

    if flags.get("batching_parameters_file") and not flags.get("enable_batching"):
        refuse(
            "batching_parameters_file",
            "a batching file without --enable_batching=true: the server does not start",
            "set enable_batching to true",
        )
    if flags.get("enable_per_model_batching_parameters") and not flags.get("enable_batching"):
        refuse(
            "enable_per_model_batching_parameters",
            "batching parameters per model do nothing without --enable_batching=true",
            "set enable_batching to true",
        )
    if flags.get("platform_config_file") and (dead := sorted(PLATFORM_CONFIG_REPLACES & flags.keys())):
        refuse(
            "platform_config_file",
            f"with a platform config file TensorFlow Serving ignores {', '.join(f'--{name}' for name in dead)}",
            "say it in the platform config file, or leave that file out",
        )
    parallelism = [f"tensorflow_{kind}_parallelism" for kind in ("session", "intra_op", "inter_op")]
    if all(flags.get(name) for name in parallelism):
        refuse(
            parallelism[0],
            "all three parallelism flags are set: the server does not start",
            f"keep --{parallelism[0]}, or the other two",
        )
    if flags.get("ssl_config_file") and flags.get("use_alts_credentials"):
        refuse("ssl_config_file", "TLS and ALTS together: the server does not start", "keep one of them")
    if flags.get("model_config_file"):
        for name in ("model_name", "model_base_path"):
            if name in flags:
                refuse(name, f"--{name} is ignored with --model_config_file", "remove it")
    elif flags.get("model_config_file_poll_wait_seconds"):
        refuse(
            "model_config_file_poll_wait_seconds",
            "there is no config file to re-read",
            "set model_config_file, or remove it",
        )
    elif flags.get("allow_version_labels_for_unavailable_models"):
        refuse(
            "allow_version_labels_for_unavailable_models",
            "version labels come from a config file, and there is none",
            "set model_config_file, or remove it",
        )
    base_path = str(flags.get("model_base_path", ""))
    if re.search(r"/\d+$", clean_path(base_path)):
        refuse(
            "model_base_path",
            f"`{base_path}` ends in a version number: TensorFlow Serving looks for version directories below it",
            "name the directory above",
        )
    return problems


def warnings(flags: Mapping[str, FlagValue], *, remote_mount: bool = True) -> list[str]:
    """What works but is worth saying.

    Args:
        flags: all flags by name.
        remote_mount: models are on a network mount such as OSS.
    """
    found = []
    loads = flags.get("num_load_threads", 0)
    if flags.get("model_config_file") and isinstance(loads, int) and loads < 2:
        found.append(
            "num_load_threads is below 2: while a version that cannot load is retried (up to about 5 minutes), "
            "no other version of any model is loaded or unloaded"
        )
    polls = flags.get("file_system_poll_wait_seconds", 1)
    if remote_mount and isinstance(polls, int) and 1 <= polls < 30:
        found.append(
            f"file_system_poll_wait_seconds is {polls}: every model directory is listed that often; "
            "30 or more is usual on a network mount"
        )
    return found


@dataclass(frozen=True)
class _BatchingField:
    type: type
    sentence: str
    least: int = 0


BATCHING_FIELDS: Mapping[str, _BatchingField] = {
    "max_batch_size": _BatchingField(int, "rows of a batch at most", 1),
    "batch_timeout_micros": _BatchingField(int, "microseconds to wait for a batch to fill"),
    "max_enqueued_batches": _BatchingField(int, "batches that may wait; further requests are refused", 1),
    "num_batch_threads": _BatchingField(int, "batches that run at a time", 1),
    "thread_pool_name": _BatchingField(str, "name of the thread pool that batches share"),
    "allowed_batch_sizes": _BatchingField(list, "ascending sizes, one of which a batch is padded to", 1),
    "pad_variable_length_inputs": _BatchingField(bool, "rows of different sizes are padded to the largest"),
    "enable_large_batch_splitting": _BatchingField(bool, "a request may be split over several batches"),
    "max_execution_batch_size": _BatchingField(int, "rows of one run at most, where requests are split", 1),
}
"""Fields of ``BatchingParameters`` (session_bundle_config.proto)."""

DEFAULT_MAX_BATCH_SIZE = 1000


def validate_batching(parameters: Mapping[str, Any], path: str = "batching") -> list[Problem]:
    """Problems of batching parameters, keyed by the proto's field names.

    The last of ``allowed_batch_sizes`` must be ``max_batch_size``, whether large batches are split or not
    (``WrapSessionForBatching``), and ``max_execution_batch_size`` no more than that
    (``SharedBatchScheduler::AddQueue``); else no model loads.
    """
    problems: list[Problem] = []
    for name, value in parameters.items():
        here = join_path(path, name)
        known = BATCHING_FIELDS.get(name)
        if known is None:
            fix = did_you_mean(name, BATCHING_FIELDS) or "remove it"
            problems.append(Problem(here, f"`{name}` is not a batching parameter", ", ".join(BATCHING_FIELDS), fix))
        elif known.type is bool or known.type is str:
            if not isinstance(value, known.type):
                allowed = "true or false" if known.type is bool else "text"
                problems.append(Problem(here, f"`{_plain(value)}` is not a value for {name}", allowed))
        else:
            items = value if known.type is list and isinstance(value, list | tuple) else [value]
            if not items or not all(_is_int(item) and item >= known.least for item in items):
                allowed = f"whole numbers, {known.least} or more" if known.type is list else f"{known.least} or more"
                problems.append(Problem(here, f"`{_plain(value)}` is not a value for {name}", allowed))
    if problems:
        return problems
    limit = parameters.get("max_batch_size", DEFAULT_MAX_BATCH_SIZE)
    if parameters.get("enable_large_batch_splitting"):
        here = f"{path}.max_execution_batch_size"
        execution = parameters.get("max_execution_batch_size")
        if execution is None and "max_batch_size" not in parameters:
            message = (
                "batches are to be split, and neither max_execution_batch_size nor max_batch_size says at what size"
            )
            problems.append(Problem(here, message, "1 or more", "set it"))
        elif execution is not None and execution > limit:
            message = f"max_execution_batch_size is {execution}, max_batch_size is {limit}: no model would load"
            problems.append(Problem(here, message, f"up to {limit}"))
    sizes = list(parameters.get("allowed_batch_sizes", ()))
    if not sizes:
        return problems
    here = f"{path}.allowed_batch_sizes"
    if sizes != sorted(set(sizes)):
        problems.append(Problem(here, f"{sizes} is not in ascending order without repeats", "", "sort it"))
    if sizes[-1] != limit:
        message = f"the last allowed batch size is {sizes[-1]}, max_batch_size is {limit}: no model would load"
        problems.append(Problem(here, message, str(limit)))
    return problems


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else shown(value)
