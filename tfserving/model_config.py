"""The model config file of TensorFlow Serving: what it says, rendered, parsed, checked and compared.

The file is a text-format ``tensorflow.serving.ModelServerConfig``. Rules that TensorFlow Serving applies itself come
from its ``server_core.cc`` and ``file_system_storage_path_source.cc``; the stricter ones here (names, paths, labels)
keep a config out of states in which the server loads nothing, hangs or silently does something else.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tfserving import logging_config
from tfserving.errors import ConfigError, ModelConfigError, Problem
from tfserving.paths import clean_path
from tfserving.property_path import join_path
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.shown import shown
from tfserving.text_proto import parse_text, render_template
from tfserving.wire import EXACT, MAX_INTEGER, is_version

PLATFORM = "tensorflow"
"""The one platform the stock TensorFlow Serving build knows."""

PolicyKind = Literal["latest", "all", "specific"]

MODEL_NAME = re.compile(r"[A-Za-z0-9_.-]+")
LABEL = re.compile(r"[a-zA-Z0-9_]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MAX_UINT32 = 2**32 - 1
_MODEL_KEYS = ("basePath", "platform", "policy", "labels", "logging")
_LABELS = "labels: {stable: 1, canary: 2}"
_POLICY_FORMS = "all, {latest: N} or {specific: [N, ...]}"


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions on disk a model serves.

    Attributes:
        kind: ``latest`` (the highest ``num_versions``), ``all`` or ``specific`` (``versions``).
        num_versions: how many; only for ``latest``.
        versions: ascending version numbers; only for ``specific``.
    """

    kind: PolicyKind = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        # Fields of another kind must not make two equal policies differ.
        if self.kind != "latest":
            object.__setattr__(self, "num_versions", 1)
        object.__setattr__(self, "versions", tuple(sorted(self.versions)) if self.kind == "specific" else ())

    @classmethod
    def latest(cls, num_versions: int = 1) -> VersionPolicy:
        """The highest ``num_versions`` versions."""
        return cls("latest", num_versions=num_versions)

    @classmethod
    def all(cls) -> VersionPolicy:
        """Every version."""
        return cls("all")

    @classmethod
    def specific(cls, versions: Iterable[int]) -> VersionPolicy:
        """Exactly these versions."""
        return cls("specific", versions=tuple(versions))

    def select(self, published: Iterable[int]) -> tuple[int, ...]:
        """The ascending version numbers TensorFlow Serving serves when ``published`` are on disk.

        A specific version that is not on disk is left out, as the server does (with a warning in its log only).
        """
        present = sorted(set(published))
        if self.kind == "latest":
            return tuple(present[-max(self.num_versions, 1) :])
        if self.kind == "specific":
            wanted = set(self.versions)
            return tuple(version for version in present if version in wanted)
        return tuple(present)

    def __str__(self) -> str:
        if self.kind == "latest":
            return f"latest {self.num_versions}"
        if self.kind == "specific":
            return f"specific {list(self.versions)}"
        return "all"


@dataclass(frozen=True)
class Model:
    """One model of a config file.

    Attributes:
        name: as in request paths.
        base_path: directory of the version directories, as the server sees it, in its plainest form: without a slash at
            the end, and an absolute path without ``//`` and ``..``.
        platform: always ``tensorflow`` for the stock server.
        policy: which versions are served.
        labels: label to version number, read-only, in the order of the labels' names.
        logging: the lines inside of its ``logging_config``; empty without one.
    """

    name: str
    base_path: str
    platform: str = PLATFORM
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict, hash=False)
    logging: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_path", clean_path(self.base_path))
        object.__setattr__(self, "labels", MappingProxyType(dict(sorted(self.labels.items()))))

    @property
    def base_path_in_file(self) -> str:
        """The base path with the trailing slash the model config file shows."""
        return self.base_path if self.base_path in ("", "/") else f"{self.base_path}/"

    def __str__(self) -> str:
        return f"{self.name} ({self.policy})"


@dataclass(frozen=True)
class ModelServerConfig:
    """The models of a config file, sorted by name: their order means nothing to the server."""

    models: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(sorted(self.models, key=lambda model: model.name)))

    def get(self, name: str) -> Model | None:
        """The model of that name, or None."""
        return next((model for model in self.models if model.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, ascending."""
        return tuple(model.name for model in self.models)


# ---- text format ---------------------------------------------------------------------------------------------------


def render(config: ModelServerConfig) -> str:
    """The model config file for ``config``: the same text for the same config, ending in a newline.

    Raises:
        ModelConfigError: the text does not parse back to ``config``, so it must not be written.
    """
    text = render_template("model_config.pbtxt.j2", models=config.models)
    if parse(text) != config:
        raise ModelConfigError("model config file: the rendered text does not say what was declared")
    return text


def parse(text: str) -> ModelServerConfig:
    """Read a model config file as TensorFlow Serving does.

    No policy, and ``latest`` without a number, mean the latest version; the deprecated ``model_type`` is read where
    ``model_platform`` is missing.

    Raises:
        ModelConfigError: not a ``ModelServerConfig`` in text format, or one without a ``model_config_list``, which a
            running server refuses.
    """
    return ModelServerConfig(models_in_order(text))


def models_in_order(text: str) -> tuple[Model, ...]:
    """The models of :func:`parse` in the order of the file, those that are listed twice included.

    Raises:
        ModelConfigError: as :func:`parse`.
    """
    what = "model config file"
    message = parse_text(text, pb.ModelServerConfig(), what)
    chosen = message.WhichOneof("config")
    if chosen == "custom_model_config":
        raise ModelConfigError(
            f"{what}: custom_model_config is not supported by the stock server; use model_config_list"
        )
    if chosen is None:
        raise ModelConfigError(
            f"{what}: holds no model_config_list; no models at all are written `model_config_list {{}}`"
        )
    return tuple(_model_from_proto(model) for model in message.model_config_list.config)


def _model_from_proto(message: pb.ModelConfig) -> Model:
    platform = message.model_platform
    if not platform and message.model_type:
        platform = PLATFORM if message.model_type == pb.TENSORFLOW else _other_type(message.model_type)
    choice = message.model_version_policy
    match choice.WhichOneof("policy_choice"):
        case "all":
            policy = VersionPolicy.all()
        case "specific":
            policy = VersionPolicy.specific(choice.specific.versions)
        case _:
            policy = VersionPolicy.latest(choice.latest.num_versions or 1)
    logging = logging_config.text_of(message.logging_config)
    return Model(message.name, message.base_path, platform, policy, dict(message.version_labels), logging)


def _other_type(number: int) -> str:
    """What stands in the place of a platform for a ``model_type`` that the server does not load."""
    known = pb.ModelType.DESCRIPTOR.values_by_number.get(number)
    return f"model_type {known.name if known else number}"


# ---- plain data ----------------------------------------------------------------------------------------------------


def to_dict(config: ModelServerConfig) -> dict[str, Any]:
    """``config`` as JSON-compatible data, by model name: ``basePath``, ``platform``, ``policy`` and ``labels``.

    ``policy`` is ``"all"``, ``{"latest": N}`` or ``{"specific": [N, ...]}``. A model with a ``logging_config`` has
    ``logging`` as well.
    """
    return {
        model.name: {
            "basePath": model.base_path,
            "platform": model.platform,
            "policy": policy_to_dict(model.policy),
            "labels": dict(model.labels),
            **({"logging": model.logging} if model.logging else {}),
        }
        for model in config.models
    }


def policy_to_dict(policy: VersionPolicy) -> Any:
    """``policy`` as in :func:`to_dict`."""
    if policy.kind == "latest":
        return {"latest": policy.num_versions}
    if policy.kind == "specific":
        return {"specific": list(policy.versions)}
    return "all"


def from_dict(data: Mapping[str, Any], path: str = "models") -> ModelServerConfig:
    """Read what :func:`to_dict` returns.

    Numbers may be floats with an integer value, as a protobuf ``Struct`` gives them.
    ``platform``, ``policy`` and ``labels`` may be left out: tensorflow, latest 1, none.

    Raises:
        ConfigError: every problem found, each with its path under ``path``.
    """
    problems: list[Problem] = []
    models: list[Model] = []
    for name, value in data.items():
        where = join_path(path, name)
        if not isinstance(value, Mapping):
            problems.append(Problem(where, f"{shown(value)} is not a mapping", ", ".join(_MODEL_KEYS)))
            continue
        problems += unknown_keys(value, _MODEL_KEYS, where)
        texts: dict[str, str] = {"basePath": "", "platform": PLATFORM, "logging": ""}
        for key in texts:
            text = value.get(key, texts[key])
            if isinstance(text, str):
                texts[key] = text
            else:
                problems.append(Problem(join_path(where, key), f"{shown(text)} is not a text", "text"))
        if "basePath" not in value:
            problems.append(
                Problem(where, "basePath is missing", fix="add the model's directory as the server sees it")
            )
        policy, found = read_policy(value.get("policy"), join_path(where, "policy"))
        problems += found
        labels, found = read_labels(value.get("labels"), join_path(where, "labels"))
        problems += found
        models.append(Model(str(name), texts["basePath"], texts["platform"], policy, labels, texts["logging"]))
    if problems:
        raise ConfigError(problems, "models")
    return ModelServerConfig(tuple(models))


def read_policy(value: Any, path: str) -> tuple[VersionPolicy, list[Problem]]:
    """A version policy as stack config writes it: ``all``, ``latest``, ``{latest: N}``, ``{specific: [N, ...]}``.

    None is latest 1, TensorFlow Serving's default. Returns the policy and what is wrong with the value's form; with
    problems, the policy holds what could be read. What the numbers may be is for :func:`validate`.
    """
    default = VersionPolicy()
    if value is None or value == "latest":
        return default, []
    if value == "all":
        return VersionPolicy.all(), []
    if isinstance(value, str):
        fix = did_you_mean(value, ("all", "latest", "specific")) or "write `policy: all`"
        if value == "specific":
            fix = "name the versions: `policy: {specific: [1, 2]}`"
        return default, [Problem(path, f"{shown(value)} is not a version policy", _POLICY_FORMS, fix)]
    if isinstance(value, (int, float, list)):
        numbers = value if isinstance(value, list) else [value]
        are_numbers = all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers)
        fix = f"write {{specific: {numbers}}} to serve exactly that" if numbers and are_numbers else ""
        return default, [Problem(path, f"{shown(value)} is not a version policy", _POLICY_FORMS, fix)]
    if not isinstance(value, Mapping):
        return default, [Problem(path, f"{shown(value)} is not a version policy", _POLICY_FORMS)]
    problems = unknown_keys(value, ("latest", "specific"), path, _POLICY_FORMS)
    if "all" in value:
        problems = [Problem(path, "all takes no settings", _POLICY_FORMS, "write `policy: all`")]
    elif len(value) != 1 and not problems:
        given = " and ".join(map(str, value)) if value else "nothing"
        problems = [Problem(path, f"a policy is exactly one choice, not {given}", _POLICY_FORMS, "keep one")]
    if problems:
        return default, problems
    if "latest" in value:
        number, problem = _integer(value["latest"], join_path(path, "latest"), "a number of versions, 1 or more")
        return VersionPolicy.latest(number), problem
    versions = value["specific"]
    where = join_path(path, "specific")
    if not isinstance(versions, (list, tuple)):
        fix = f"write specific: [{versions}]" if isinstance(versions, (int, float)) else "write a list, e.g. [1, 2]"
        return default, [Problem(where, f"{shown(versions)} is not a list", "a list of version numbers", fix)]
    integers: list[int] = []
    for index, item in enumerate(versions):
        number, problem = _integer(item, f"{where}[{index}]", "a version number")
        problems += problem
        integers += [] if problem else [number]
    return VersionPolicy.specific(integers), problems


def read_labels(value: Any, path: str) -> tuple[dict[str, int], list[Problem]]:
    """Labels as stack config writes them, ``{label: version}``; None is none. Returns as :func:`read_policy` does."""
    if value is None:
        return {}, []
    if not isinstance(value, Mapping):
        message = f"{shown(value)} is not a mapping"
        return {}, [Problem(path, message, "label: version number", f"write {_labels(value)}")]
    labels: dict[str, int] = {}
    problems: list[Problem] = []
    for label, item in value.items():
        number, problem = _integer(item, join_path(path, label), "a version number")
        problems += problem
        labels |= {} if problem else {str(label): number}
    return labels, problems


def _labels(value: Any) -> str:
    """How to write what was written as a list, where its items say which label is which version."""
    items = value if isinstance(value, list | tuple) else ()
    pairs = [pair for item in items if isinstance(item, Mapping) for pair in item.items()]
    matches = [re.fullmatch(r"\s*(\w+)\s*[:=]\s*(\d+)\s*", str(item)) for item in items]
    pairs += [(match[1], match[2]) for match in matches if match]
    if not pairs or len(pairs) != len(items):
        return _LABELS
    return f"labels: {{{', '.join(f'{label}: {version}' for label, version in pairs)}}}"


def _integer(value: Any, path: str, allowed: str) -> tuple[int, list[Problem]]:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, []
    if isinstance(value, float) and value.is_integer():
        if abs(value) <= EXACT:
            return int(value), []
        message = f"{value!r} is a floating-point number, whose last digits are lost above 2^53"
        return 1, [Problem(path, message, allowed, "write all digits, without a point or an exponent")]
    fix = f"write {value.strip()} without quotes" if isinstance(value, str) and value.strip().isdecimal() else ""
    return 1, [Problem(path, f"{shown(value)} is not a whole number", allowed, fix)]


def did_you_mean(value: str, allowed: Iterable[str]) -> str:
    """``did you mean 'x'`` for the allowed word closest to a misspelt one, ignoring case; empty where none is close."""
    words = {word.lower(): word for word in allowed}
    close = difflib.get_close_matches(value.lower(), words, n=1, cutoff=0.6)
    return f"did you mean {words[close[0]]!r}" if close else ""


WORDS: Mapping[str, str] = {
    "model_config_list": "models",
    "version_labels": "labels",
    "version_label": "labels",
    "model_version_policy": "policy",
    "version_policy": "policy",
    "base_path": "source",
    "model_base_path": "source",
    "model_platform": "",
    "platform": "",
    "num_versions": "policy",
    "specific": "policy",
    "latest": "policy",
    "all": "policy",
    "model_name": "modelName",
    "model_config_file": "configFile",
    "model_config_file_poll_wait_seconds": "configPollSeconds",
    "poll_wait_seconds": "configPollSeconds",
    "allow_version_labels_for_unavailable_models": "allowLabelsForUnavailableVersions",
    "rest_api_port": "port",
    "batching_parameters": "batching",
    "batching_parameters_file": "batching",
    "enable_batching": "batching",
    "monitoring_config": "monitoring",
    "monitoring_config_file": "monitoring",
    "prometheus_config": "monitoring",
    "storageUri": "source",
    "storage_uri": "source",
    "model_uri": "source",
    "canary": "labels",
    "config": "",
    "name": "",
}
"""Words of TensorFlow Serving's proto files and flags, and of other tools, with the key that says the same here."""

_HOW: Mapping[str, str] = {
    "num_versions": "write policy: {latest: N}",
    "latest": "write policy: {latest: N}",
    "specific": "write policy: {specific: [N, ...]}",
    "all": "write policy: all",
    "base_path": "models lie at <modelRoot>/<model>/<version>/; source says where versions come from",
    "model_base_path": "models lie at <modelRoot>/<model>/<version>/; source says where versions come from",
    "model_platform": "leave it out: every model is a TensorFlow SavedModel",
    "platform": "leave it out: every model is a TensorFlow SavedModel",
    "name": "leave it out: the key above is the name",
    "config": "leave this level out: models are listed by their names",
    "model_config_list": "leave this level out: models are listed by their names",
    "prometheus_config": "write monitoring: true, or monitoring: {path: ...}",
}


def meant(key: str, known: Iterable[str], path: str = "") -> str:
    """How to write what an unknown key was probably meant to say; empty where nobody knows.

    Args:
        key: as written.
        known: the keys that are allowed there.
        path: where it stands.
    """
    allowed = tuple(known)
    if {".", "["} & set(key) and re.split(r"[.\[]", key)[0] in allowed:
        if re.fullmatch(r"labels\[\d*\]", key):
            return f"write {_LABELS}, or use pulumi config set --path '{path}.labels.LABEL' VERSION"
        sign = "dots" if "." in key else "brackets"
        return f"{key!r} is one key with {sign}; nest it, or use pulumi config set --path '{path}.{key}' VALUE"
    if (word := WORDS.get(key)) is not None and (word in allowed or key in _HOW):
        return _HOW.get(key, f"write {word}")
    return did_you_mean(key, allowed)


def unknown_keys(value: Mapping[Any, Any], known: tuple[str, ...], path: str, allowed: str = "") -> list[Problem]:
    """One problem for each key of ``value`` that is not in ``known``, with the key it was probably meant to be."""
    return [
        Problem(join_path(path, key), f"unknown key {key!r}", allowed or ", ".join(known), meant(str(key), known, path))
        for key in value
        if key not in known
    ]


# ---- comparison ----------------------------------------------------------------------------------------------------


def changes(old: ModelServerConfig, new: ModelServerConfig) -> list[str]:
    """What changes from ``old`` to ``new``, one line each, sorted by model; empty when the two say the same.

    Examples of lines: ``modelB: label stable 1 -> 2``, ``modelB: + label canary 2``, ``modelB: - label canary (was
    2)``, ``modelC: policy latest 2 -> specific [1, 3]``, ``+ modelD (latest 1)``, ``- modelA``.
    """
    lines: list[str] = []
    for name in sorted({*old.names, *new.names}):
        before, after = old.get(name), new.get(name)
        if after is None:
            lines.append(f"- {name}")
            continue
        if before is None:
            lines.append(f"+ {after}")
            before = Model(name, after.base_path, after.platform, after.policy)
        if before.base_path != after.base_path:
            lines.append(f"{name}: base path {before.base_path} -> {after.base_path}")
        if before.platform != after.platform:
            lines.append(f"{name}: platform {before.platform or 'unset'} -> {after.platform or 'unset'}")
        if before.policy != after.policy:
            lines.append(f"{name}: policy {before.policy} -> {after.policy}")
        lines += _label_changes(name, before.labels, after.labels)
        if before.logging != after.logging:
            kind = "changed" if before.logging and after.logging else "added" if after.logging else "removed"
            lines.append(f"{name}: logging_config {kind}")
    return lines


def _label_changes(name: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterable[str]:
    for label in sorted({*before, *after}):
        was, now = before.get(label), after.get(label)
        if was is None:
            yield f"{name}: + label {label} {now}"
        elif now is None:
            yield f"{name}: - label {label} (was {was})"
        elif was != now:
            yield f"{name}: label {label} {was} -> {now}"


# ---- validation ----------------------------------------------------------------------------------------------------


def validate(
    config: ModelServerConfig, published: Mapping[str, Iterable[int]] | None, path: str = "models"
) -> list[Problem]:
    """Everything about ``config`` that would keep TensorFlow Serving from serving it as declared.

    Args:
        config: what is to be served.
        published: the version numbers on disk by model name; None where that is not known, which leaves out the
            checks that need it.
        path: where the models stand in stack config, for the problems' paths.

    Returns:
        Problems in the order of the models; empty when all is well.
    """
    if not config.models:
        return [Problem(path, "no model is declared", "at least one model", "add a model")]
    problems: list[Problem] = []
    for name, count in Counter(config.names).items():
        if count > 1:
            # TensorFlow Serving: "Illegal to list model X multiple times in config list".
            problems.append(Problem(join_path(path, name), f"model {name!r} is declared {count} times", fix="keep one"))
    for model in config.models:
        where = join_path(path, model.name)
        on_disk = None if published is None else sorted(set(published.get(model.name, ())))
        problems += _check_name(model, where)
        problems += _check_platform(model, where)
        problems += _check_base_path(model, config, where)
        problems += _check_policy(model, on_disk, where)
        problems += _check_labels(model, on_disk, where)
    return problems


def out_of_range(config: ModelServerConfig, path: str = "models") -> list[Problem]:
    """Version numbers in ``config`` that TensorFlow Serving, which keeps them as int64, could not read."""
    problems: list[Problem] = []
    for model in config.models:
        where = join_path(path, model.name)
        named = [(version, f"{where}.policy.specific") for version in model.policy.versions]
        named += [(version, join_path(join_path(where, "labels"), label)) for label, version in model.labels.items()]
        problems += [_out_of_range(version, at) for version, at in named if not is_version(version)]
    return problems


def _out_of_range(version: int, where: str) -> Problem:
    fix = "use 0 or a higher number" if version < 0 else f"use a number up to {MAX_INTEGER}"
    return Problem(where, f"version {version} is out of range", "0 to 2^63 - 1", fix)


def _check_name(model: Model, where: str) -> Iterable[Problem]:
    if not MODEL_NAME.fullmatch(model.name):
        yield Problem(
            where,
            f"{model.name!r} is not a model name",
            "letters, digits, '_', '.' and '-'",
            "rename the model: its name is part of the request path",
        )


def _check_platform(model: Model, where: str) -> Iterable[Problem]:
    # A missing or unknown platform is refused only once it is the server's baseline: every later reload fails too.
    if model.platform != PLATFORM:
        fix = did_you_mean(model.platform, (PLATFORM,)) or f"write {PLATFORM}, or leave it out"
        yield Problem(join_path(where, "platform"), f"platform {model.platform!r} is not supported", PLATFORM, fix)


def _check_base_path(model: Model, config: ModelServerConfig, where: str) -> Iterable[Problem]:
    model_path, where = where, join_path(where, "basePath")
    base = model.base_path
    allowed = "an absolute path, or a gs:// URI"
    scheme = _SCHEME.match(base)
    if not base:
        yield Problem(where, "the base path is empty", allowed, "set the model's directory as the server sees it")
        return
    if scheme is None and not base.startswith("/"):
        yield Problem(where, f"base path {base!r} is not absolute", allowed, f"write /{base} or the full path")
    elif scheme is not None and scheme[1] != "gs":
        fix = (
            "mount the bucket and use the mount path"
            if scheme[1] in ("oss", "s3", "hdfs")
            else "use a mounted directory"
        )
        yield Problem(where, f"TensorFlow Serving cannot read {scheme[1]}:// ({base})", allowed, fix)
    last = base.rsplit("/", 1)[-1]
    if last.isdecimal() and last == model.name:
        message = f"model name {last!r} is a number, which its directory {base} cannot be: versions have such names"
        yield Problem(model_path, message, "a name with a letter in it", f"choose another name, such as model{last}")
    elif last.isdecimal():
        parent = base[: -len(last)].rstrip("/") or "/"
        fix = f"use its parent {parent}, or rename the directory"
        yield Problem(where, f"base path {base!r} ends in a version number", "the directory of the versions", fix)
    for other in config.models:
        inside = f"{other.base_path.rstrip('/')}/"
        if other.name != model.name and other.base_path and base != other.base_path and base.startswith(inside):
            message = f"base path {base!r} lies inside the base path of model {other.name} ({other.base_path})"
            yield Problem(where, message, "separate directories", "move one of the two models")


def _check_policy(model: Model, on_disk: list[int] | None, where: str) -> Iterable[Problem]:
    policy = model.policy
    if on_disk is not None and not on_disk:
        # The server waits for ever for the first version of a new model, and reads no config file meanwhile.
        yield Problem(where, f"model {model.name} has no published version", fix="publish a version directory first")
    where = join_path(where, "policy")
    if policy.kind == "latest" and not 1 <= policy.num_versions <= _MAX_UINT32:
        message = f"latest {policy.num_versions} is out of range"
        fix = f"write how many versions to serve, or {{specific: [{policy.num_versions}]}} for that one"
        if policy.num_versions < 1:
            fix = "write how many versions to serve"
        yield Problem(join_path(where, "latest"), message, f"1 or more, at most {_MAX_UINT32}", fix)
    if policy.kind != "specific":
        return
    where = join_path(where, "specific")
    if not policy.versions:
        # An empty list is legal and unloads every version of the model.
        yield Problem(where, "no version is named", "at least one version", "name the versions to serve, or use all")
    for version, count in Counter(policy.versions).items():
        if count > 1:
            yield Problem(where, f"version {version} is named {count} times", fix="keep one")
        if not is_version(version):
            yield _out_of_range(version, where)
        elif on_disk and version not in on_disk:
            yield Problem(
                where,
                f"version {version} of model {model.name} is not published",
                f"published versions: {_listed(on_disk)}",
                f"publish version {version}, or take it out of the list",
            )


def _check_labels(model: Model, on_disk: list[int] | None, where: str) -> Iterable[Problem]:
    policy = model.policy
    where = join_path(where, "labels")
    if on_disk is not None:
        served: tuple[int, ...] | None = policy.select(on_disk)
    else:
        served = policy.versions if policy.kind == "specific" else None
    for label, version in model.labels.items():
        at = join_path(where, label)
        if not LABEL.fullmatch(label):
            yield Problem(at, f"{label!r} is not a label", "letters, digits and '_'", "rename the label")
        if not is_version(version):
            yield _out_of_range(version, at)
        elif on_disk and version not in on_disk:
            yield Problem(
                at,
                f"label {label} names version {version}, which is not published",
                f"published versions: {_listed(on_disk)}",
                f"publish version {version} first, or point the label at a published one",
            )
        elif served and version not in served:
            fix = "point it at a served version"
            if policy.kind == "specific":
                fix += f", or add {version} to specific"
            elif policy.kind == "latest" and on_disk:
                fix += f", or serve latest {len([number for number in on_disk if number >= version])}"
            message = f"label {label} names version {version}, which policy {policy} does not serve"
            yield Problem(at, message, f"served versions: {_listed(served)}", fix)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
