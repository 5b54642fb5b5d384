"""Rules that hold for a TensorFlow Serving service wherever it runs, and how its problems are collected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from tfserving import cloud_names
from tfserving.errors import Problem
from tfserving.property_path import join_path

_MODEL_NAME = re.compile(r"[A-Za-z0-9_.-]+")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

FLAG_KEYS: Mapping[str, str] = {
    "model_name": "modelName",
    "model_base_path": "model and mountPath",
    "model_config_file": "configFile",
    "model_config_file_poll_wait_seconds": "configPollSeconds",
    "allow_version_labels_for_unavailable_models": "allowLabelsForUnavailableVersions",
}
"""Flags that a key of the stack config sets: said twice, the flag on the command line would win unseen."""

_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?")
_MOVING_TAG = re.compile(r"latest.*|nightly.*|.*-latest|stable|master|main")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SHARE = re.compile(r"(100|[1-9]?\d)%")
_SYSTEM_DIRS = (
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "usr",
)
_LABELS_OVER_HTTP = (2, 3, 0)


class CheckedService(Protocol):
    """What the rules look at."""

    @property
    def config_file(self) -> bool: ...
    @property
    def model(self) -> str: ...
    @property
    def model_name(self) -> str: ...
    @property
    def uses_labels(self) -> bool: ...
    @property
    def gpu_memory(self) -> int: ...
    @property
    def gpu_card_memory(self) -> int: ...
    @property
    def gpu_core_percentage(self) -> int: ...
    @property
    def flags(self) -> Mapping[str, object]: ...
    @property
    def env(self) -> Mapping[str, str]: ...


AnyService = TypeVar("AnyService", bound=CheckedService, covariant=True)


class Checks(Generic[AnyService]):
    """Collects the problems of one service.

    Attributes:
        spec: the service.
        path: its place in the stack config; problems are at keys below it.
        problems: what was found so far.
    """

    def __init__(self, spec: AnyService, path: str) -> None:
        self.spec = spec
        self.path = path
        self.problems: list[Problem] = []

    def refuse(self, key: str, message: str, allowed: str = "", fix: str = "") -> None:
        """Adds a problem at a key below the service; at the service itself where the key is empty."""
        self.problems.append(Problem(f"{self.path}.{key}" if key else self.path, message, allowed, fix))

    def within(self, key: str, value: float | None, least: float, most: float | None = None) -> None:
        """Refuses a number outside its bounds. None is no number, and fine."""
        if value is not None and (value < least or (most is not None and value > most)):
            allowed = f"{least} to {most}" if most is not None else f"{least} or more"
            self.refuse(key, f"{key.rpartition('.')[2]} is {value}", allowed)


def is_amount(value: int | str, *, least: int = 0) -> bool:
    """Whether it is a number of replicas, or a share of them from ``0%`` to ``100%``."""
    if isinstance(value, str):
        return bool(_SHARE.fullmatch(value)) and int(value[:-1]) >= least
    return not isinstance(value, bool) and value >= least


def check_bucket(checks: Checks[CheckedService], bucket: str) -> None:
    """A name OSS takes."""
    if not cloud_names.BUCKET.fullmatch(bucket):
        allowed = "3 to 63 lower-case letters, digits and hyphens, no hyphen at the ends"
        checks.refuse("bucket", f"`{bucket}` is not a bucket name", allowed)


def check_models(checks: Checks[CheckedService]) -> None:
    """One model, or those of the config file; and names TensorFlow Serving's URLs can hold."""
    spec = checks.spec
    if spec.config_file and spec.model:
        message = f"both configFile and model `{spec.model}`: a service serves one model, or those of the config file"
        checks.refuse("model", message, "", "remove one of them")
    if spec.config_file and spec.model_name:
        checks.refuse("modelName", "the config file names its models", "", "remove modelName")
    for key, name in (("model", spec.model), ("modelName", spec.model_name)):
        if name and (not _MODEL_NAME.fullmatch(name) or name in (".", "..")):
            checks.refuse(key, f"`{name}` is not a model name", "letters, digits and _ . -")


def check_mount(checks: Checks[CheckedService], key: str, directory: str) -> None:
    """An absolute path that hides nothing the image needs. A colon ends a path in a mount of a container runtime."""
    allowed = "/models, /mnt/models, ..."
    parts = directory.rstrip("/").split("/")
    if not directory.startswith("/") or any(part in ("", ".", "..") for part in parts[1:]):
        checks.refuse(key, f"`{directory}` is not an absolute path", allowed)
    elif CONTROL.search(directory) or ":" in directory:
        checks.refuse(key, f"{directory!r} is not a path a container can mount", allowed)
    elif len(parts) < 2 or parts[1] in _SYSTEM_DIRS:
        where = "/" if len(parts) < 2 else f"/{parts[1]}"
        checks.refuse(key, f"`{directory}` would hide the image's own {where}", allowed)


def is_pinned(checks: Checks[CheckedService], image: str, allowed: str) -> bool:
    """Whether an image has a tag or a digest; one whose tag moves is refused all the same.

    Args:
        checks: where problems go.
        image: ``repository:tag`` or with a digest.
        allowed: what is accepted, in words.
    """
    if not _IMAGE.fullmatch(image):
        checks.refuse("image", f"`{image}` is not an image", allowed)
        return False
    bare, at, _ = image.partition("@")
    _, colon, tag = bare.rpartition(":")
    if not at and (not colon or "/" in tag):
        checks.refuse("image", f"`{image}` has no tag: what runs would change by itself", allowed, "pin a version")
        return False
    if not at and _MOVING_TAG.fullmatch(tag):
        checks.refuse("image", f"`{image}` moves: what runs would change by itself", allowed, "pin a version")
    return True


def check_labels_over_http(checks: Checks[CheckedService], version: tuple[int, ...] | None) -> None:
    """Version labels in REST paths exist since TensorFlow Serving 2.3 (its release notes)."""
    if version and version < _LABELS_OVER_HTTP:
        shown = ".".join(map(str, version))
        message = f"version labels over HTTP exist since TensorFlow Serving 2.3, the image is {shown}"
        checks.refuse("image", message, "2.3.0 or later")


def check_labels_at_start(checks: Checks[CheckedService], command: str = "") -> None:
    """Labels in the config file of a server without the flag that lets it start with them.

    Args:
        checks: takes the problem.
        command: the key with a start command of its own, which options add nothing to; empty without one.
    """
    if checks.spec.uses_labels:
        message = "the config file has version labels, which TensorFlow Serving refuses at start, before a version is"
        flag = "--allow_version_labels_for_unavailable_models=true"
        key = command or "allowLabelsForUnavailableVersions"
        checks.refuse(
            key,
            f"{message} loaded",
            flag if command else "true",
            f"add {flag} to it" if command else f"set {key}: true",
        )


def check_flag_keys(checks: Checks[CheckedService], keys: Mapping[str, str]) -> None:
    """No flag that a key sets already."""
    for name, key in keys.items():
        if name in checks.spec.flags:
            checks.refuse(f"flags.{name}", f"--{name} is set by {key}", "", f"use {key}")


def check_batching(checks: Checks[CheckedService]) -> None:
    """No flag that makes the batching parameters void."""
    if checks.spec.flags.get("enable_batching") is False:
        checks.refuse("flags.enable_batching", "batching is set, and turned off here", "", "remove one of them")


def check_slice_flag(checks: Checks[CheckedService], share: float | None) -> None:
    """A slice of a card, and a flag that lets TensorFlow take more than that."""
    given = checks.spec.flags.get("per_process_gpu_memory_fraction")
    if share is None or isinstance(given, bool) or not isinstance(given, int | float):
        return
    if given > share or given == 0:
        message = f"the slice is {share} of the card, the flag would let TensorFlow take {given or 'all'} of it"
        checks.refuse("flags.per_process_gpu_memory_fraction", message, f"up to {share}", "remove the flag")


def check_slice_keys(checks: Checks[CheckedService]) -> None:
    """What says something about a slice of a card needs the slice."""
    spec = checks.spec
    checks.within("gpuCardMemory", spec.gpu_card_memory, 0)
    if spec.gpu_card_memory and not spec.gpu_memory:
        checks.refuse("gpuCardMemory", "gpuCardMemory is the card gpuMemory is a slice of", "", "set gpuMemory")
    if spec.gpu_core_percentage:
        checks.within("gpuCorePercentage", spec.gpu_core_percentage, 1, 100)
        if not spec.gpu_memory:
            checks.refuse("gpuCorePercentage", "gpuCorePercentage needs gpuMemory", "", "set gpuMemory")


def check_environment(checks: Checks[CheckedService], reserved: Iterable[str] = ()) -> None:
    """Names and values a process can be given.

    Args:
        checks: where problems go.
        reserved: names that belong to the image's entry point.
    """
    for name, value in sorted(checks.spec.env.items()):
        if not _ENV_NAME.fullmatch(name):
            checks.refuse("env", f"`{name}` is not a variable name", "letters, digits and _ . -, the first no digit")
        elif name in reserved:
            checks.refuse(f"env.{name}", f"{name} belongs to the image's entry point", "", "use model and modelName")
        elif "\x00" in value:
            checks.refuse(join_path("env", name), "the value holds a zero byte", "text")
