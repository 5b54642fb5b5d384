"""The models of a stack: which versions of them are served, where the versions come from, and whether they fit."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from config import batching, model_directory
from config.loading import AnyService, may_serve, prefers_tflite, saved_model_tags
from config.model_directory import Wanted
from config.reader import Reader, whole_numbers
from config.stack_config import NAMESPACE, StackConfig
from tfserving import logging_config, manifest, model_config, model_ops, model_sets, saved_model, wire
from tfserving.cloud_names import OSS_URI
from tfserving.contract.gates import Gate, ModelGate
from tfserving.errors import Problem, SavedModelError
from tfserving.manifest import Manifest
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.model_sets import PolicyOptions
from tfserving.options import keys, option
from tfserving.property_path import join_path

DEFAULT_MOUNT_PATH = "/models"


@dataclass(frozen=True, kw_only=True)
class VersionsFrom:
    """Where the numbers of versions come from, instead of a list.

    Attributes:
        source: ``bucket``: the versions that are complete in the model's directory when a preview looks. Others publish
            there; nothing is uploaded, and what appears there is served by the next update.
    """

    source: Literal["bucket"] = option(key="from")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """An entry of ``tf-serving:models``.

    Attributes:
        path: directory of the versions below ``modelRoot``, such as ``team-x/shoes``. Several models may have the same:
            one of them says where its versions come from, and each loads them for itself. Or an absolute path on
            another mount of the services, with ``versions``: nothing is published there.
        policy: which versions are served: ``all``, the highest, or exactly those that are named.
        labels: version by label. A label is ``[a-zA-Z0-9_]+``, its version one that the policy serves.
        source: local directory with the versions; or ``oss://bucket/path/`` in the same region, with ``versions`` or
            manifests.
        versions: without ``source``: versions that are in the bucket already, published by somebody else; nothing is
            uploaded, and it is checked that they are there. With a ``source``: those that are published. Or
            ``{from: bucket}``: those that are complete in the bucket at preview.
        keep: so many of the highest versions stay when higher ones come, those among them that this stack published and
            that are in the source no longer; and every one that a label names, or that a policy other than ``all``
            serves. The others are removed once nothing serves them.
        gate: what a version has to prove before a label moves to it.
        logging: ``logging_config`` by the proto's field names. The stock server refuses every config with it; it is for
            an image with a request logger.
    """

    path: str = option("", otherwise="the model's name")
    policy: PolicyOptions = option(PolicyOptions(), also=("all",), otherwise="`{latest: 1}`")
    labels: Mapping[str, int] = field(default_factory=dict)
    source: str = option("", otherwise="`<modelSource>/<model>`")
    versions: tuple[int, ...] | VersionsFrom = option((), otherwise="those in the source")
    keep: int = option(0, least=1, otherwise="those in the source, or in the list")
    gate: Gate | None = None
    logging: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model of the stack.

    Attributes:
        name: model name.
        source: its local directory, relative to the project where that is possible, or ``oss://bucket/path/`` in the
            same region; empty: nothing is uploaded, because ``versions`` are in the bucket already.
        directory: the same local directory, absolute, where there is one on this machine; else ``None``.
        versions: version numbers that are published, from the manifests, the source or the config; ascending.
        manifests: committed manifests by version; of versions that have none, the source says what they hold.
        manifest_dir: directory of the manifests, relative to the project where that is possible; empty without any.
        tags: of the graph that the services load.
        tag_sets: ``--saved_model_tags`` of every service that may serve it: a version has a graph for each.
        gate: what a version has to prove before requests move to it; ``None``: nothing.
        path: directory below the model root; empty: its name; absolute: on another mount of the services.
        same_as: the model that publishes the same directory; empty: this one does.
        from_bucket: its versions are those that are complete in the bucket.
        keep: so many of the highest versions stay; 0: all that are there.
        tflite: every service that may serve it loads ``model.tflite`` where a version has one.
        bucket: of a model on another mount: the bucket that is mounted there; else empty.
        prefix: its key prefix there.
    """

    name: str
    source: str = ""
    directory: Path | None = None
    versions: tuple[int, ...] = ()
    manifests: Mapping[int, Manifest] = field(default_factory=dict)
    manifest_dir: str = ""
    tags: frozenset[str] = frozenset({saved_model.SERVE_TAG})
    tag_sets: tuple[str, ...] = (saved_model.SERVE_TAG,)
    gate: ModelGate | None = None
    path: str = ""
    same_as: str = ""
    from_bucket: bool = False
    keep: int = 0
    tflite: bool = False
    bucket: str = ""
    prefix: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether it lies on another mount than the stack's own."""
        return self.path.startswith("/")

    @property
    def place(self) -> str:
        """Directory of its versions below the model root."""
        return self.path or self.name


def read_models(stack: StackConfig) -> tuple[ModelServerConfig, tuple[ModelSettings, ...]]:
    """What is to be served, with base paths below the default mount path, and where its versions come from."""
    path = f"{NAMESPACE}:models"
    reader = stack.reader(path)
    sources, manifests = _directory(stack, "modelSource"), _directory(stack, "manifests")
    allowed = "model names with policy, labels and source"
    given = reader.mapping(stack.raw.get(path), path, allowed=allowed)
    reader.same_but_for_case(given, path, "model")
    declared: list[Model] = []
    models: list[ModelSettings] = []
    entries = {name: reader.mapping(value, join_path(path, name), keys(ModelOptions)) for name, value in given.items()}
    paths = {name: _path(reader, name, entry, join_path(path, name)) for name, entry in entries.items()}
    publishers = _publishers(reader, entries, paths, path)
    for name, entry in entries.items():
        where = join_path(path, name)
        policy, found = model_config.read_policy(whole_numbers(entry.get("policy")), join_path(where, "policy"))
        stack.problems += found
        labels, found = model_config.read_labels(whole_numbers(entry.get("labels")), join_path(where, "labels"))
        stack.problems += found
        logging, found = logging_config.read(entry.get("logging"), join_path(where, "logging"))
        stack.problems += found
        base = paths[name] if paths[name].startswith("/") else f"{DEFAULT_MOUNT_PATH}/{paths[name]}"
        declared.append(Model(name, base, policy=policy, labels=labels, logging=logging))
        asked = Wanted(policy=policy, labels=tuple(labels.values()))
        if publishers[name] == name:
            model = _model(stack, reader, name, entry, where, sources, manifests, asked)
            keep = reader.integer(entry.get("keep"), join_path(where, "keep"), least=1)
            model = replace(model, path=paths[name], keep=keep)
            models.append(model)
        else:
            if entry.get("keep") is not None:
                message = f"{paths[name]} is the directory of {publishers[name]} as well, which says what stays in it"
                reader.add(
                    join_path(where, "keep"), message, fix=f"write it there: {publishers[name]} says it for both"
                )
            models.append(ModelSettings(name=name, path=paths[name], same_as=publishers[name]))
            stack.warnings.append(
                f"model {name} and {publishers[name]} are one directory, {paths[name]}: each loads its versions for "
                "itself, and takes their memory"
            )
    by_name = {model.name: model for model in models}
    return ModelServerConfig(tuple(declared)), shared(models, by_name)


def shared(models: Iterable[ModelSettings], by_name: Mapping[str, ModelSettings]) -> tuple[ModelSettings, ...]:
    """The models, those of another one's directory with its versions."""
    found = []
    for each in models:
        if each.same_as:
            publisher = by_name[each.same_as]
            each = replace(
                each,
                versions=publisher.versions,
                from_bucket=publisher.from_bucket,
                bucket=publisher.bucket,
                prefix=publisher.prefix,
            )
        found.append(each)
    return tuple(found)


def _path(reader: Reader, name: str, entry: Mapping[str, Any], where: str) -> str:
    """The directory of a model below the root."""
    at = join_path(where, "path")
    written = reader.text(entry.get("path"), at, allowed=_PATH_FORM)
    text = written.rstrip("/")
    if not text:
        if written:
            fix = "name the directory, or remove path: then it is called like the model"
            reader.add(at, f"{reader.show(written)} names no directory", _PATH_FORM, fix)
        return name
    parts = text.removeprefix("/").split("/")
    if not all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts):
        message = f"{reader.show(text)} is not a directory below modelRoot"
        fix = "name the directory below modelRoot, without oss:// and the bucket" if "://" in text else ""
        if not fix and all(part and part not in (".", "..") for part in parts):
            message = f"{reader.show(text)} has other characters than letters, digits, `_`, `.` and `-`"
            fix = "copy the versions to a directory with such a name"
        reader.add(at, message, _PATH_FORM, fix)
        return name
    if parts[-1].isdecimal():
        message = f"{reader.show(text)} ends in a version number, and is no directory of a model"
        fix = "name the directory that the versions are in, or copy them to one with a letter in its name"
        if len(parts) > 1 and not text.startswith("/") and not parts[-2].isdecimal():
            fix = f"write path: {'/'.join(parts[:-1])}, or copy the version to a directory with a letter in its name"
        reader.add(at, message, _PATH_FORM, fix)
        return name
    if text.startswith("/") and (entry.get("source") is not None or entry.get("versions") is None):
        message = f"{text} is on another mount, where nothing is published: its versions are there already"
        reader.add(at, message, "versions, and no source", "add versions: {from: bucket}, or a list")
    return text


_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")
_PATH_FORM = "a directory such as shoes or team-x/shoes, or an absolute path on another mount"


def _publishers(
    reader: Reader, entries: Mapping[str, Mapping[str, Any]], paths: Mapping[str, str], path: str
) -> dict[str, str]:
    """For each model the one that publishes its directory; and problems where directories of two models mix."""
    found: dict[str, str] = {}
    sharing: dict[str, list[str]] = {}
    for name, directory in paths.items():
        sharing.setdefault(directory, []).append(name)
    for name, directory in paths.items():
        same = sharing[directory]
        says = [other for other in same if {"source", "versions"} & entries[other].keys()]
        found[name] = next(iter([*says, *(other for other in same if other == directory), *same]))
        if name in says[1:]:
            key = "source" if "source" in entries[name] else "versions"
            message = f"{directory} is the directory of {says[0]} as well, which says where its versions come from"
            reader.add(
                join_path(join_path(path, name), key), message, fix=f"remove it here; {says[0]} says it for both"
            )
        parents = ["/".join(directory.split("/")[:depth]) for depth in range(1, directory.count("/") + 1)]
        above = next((sharing[parent][0] for parent in parents if parent in sharing), None)
        if above is not None:
            message = f"{directory} lies inside the directory of model {above}, {paths[above]}"
            reader.add(join_path(path, name), message, "separate directories", "move one of the two models")
    return found


def _directory(stack: StackConfig, key: str) -> str:
    path = f"{NAMESPACE}:{key}"
    return stack.reader(path).text(stack.raw.get(path), path, allowed="a directory, relative to the project")


def _model(
    stack: StackConfig,
    reader: Reader,
    name: str,
    entry: Mapping[str, Any],
    where: str,
    sources: str,
    manifests: str,
    asked: Wanted,
) -> ModelSettings:
    versions_path = join_path(where, "versions")
    source_path = join_path(where, "source")
    allowed = "a directory, relative to the project, or oss://bucket/path/"
    source = reader.text(entry.get("source"), source_path, allowed=allowed)
    in_oss = source.startswith("oss://")
    # A name that leads out of a directory is refused as a name, and nothing is looked at.
    sound = model_config.MODEL_NAME.fullmatch(name) is not None
    manifest_dir = f"{manifests.rstrip('/')}/{name}" if manifests and sound else ""
    committed = _committed(stack, manifest_dir, join_path(f"{NAMESPACE}:manifests", name))
    listed: tuple[int, ...] = ()
    if _from_somewhere(entry.get("versions")):
        given = reader.mapping(entry["versions"], versions_path, keys(VersionsFrom))
        reader.choice(given.get("from"), join_path(versions_path, "from"), ("bucket",))
        if source:
            message = f"the versions of {source} would be published, and nothing of what the bucket holds"
            reader.add(versions_path, message, "a list of numbers, beside a source", "remove source, or versions")
        return ModelSettings(
            name=name,
            from_bucket=True,
            manifests=committed,
            manifest_dir=manifest_dir if committed else "",
        )
    if entry.get("versions") is not None:
        listed = _listed_versions(reader, entry["versions"], versions_path)
    if not source and not listed and sources:
        if not sound:
            return ModelSettings(name=name)
        source, source_path = f"{sources.rstrip('/')}/{name}", where
    if in_oss and not OSS_URI.fullmatch(source):
        reader.add(source_path, f"{reader.show(source)} is not a place in OSS", "oss://bucket/path/")
    if not source or in_oss:
        if not listed and not committed and entry.get("versions") is None:
            _no_versions(reader, where, source)
        return ModelSettings(
            name=name,
            source=source if in_oss else "",
            versions=listed or tuple(committed),
            manifests=committed,
            manifest_dir=manifest_dir if committed else "",
        )
    directory = stack.project_dir / source
    versions = listed or tuple(committed)
    is_there = os.path.isdir(directory)  # unlike Path.is_dir, no error where the name is too long
    if is_there or not committed:
        if versions:
            asked = replace(asked, versions=versions)
        found = model_directory.read(name, directory, source_path, asked, stack.cache)
        stack.problems += found.problems
        stack.warnings += found.warnings
        if found.versions and not found.problems:
            needed = model_ops.warnings(directory, stack.cache, found.versions)
            stack.warnings += [f"model {name}: {warning}" for warning in needed]
        if committed and not listed and found.others:
            stack.warnings.append(
                f"model {name}: version {', '.join(map(str, found.others))} in {source} has no manifest in "
                f"{manifest_dir} and is not published: .venv/bin/python -m ops manifest {source}"
            )
        missing = [number for number in listed if number not in {*found.versions, *committed}]
        if missing and not found.problems:
            there = ", ".join(map(str, sorted({*found.versions, *found.others, *committed}))) or "none"
            message = f"version {', '.join(map(str, missing))} is not in {source}"
            reader.add(versions_path, message, there, "export it, or leave it out")
        versions = versions or found.versions
    return ModelSettings(
        name=name,
        source=source,
        directory=directory if is_there else None,
        versions=versions,
        manifests=committed,
        manifest_dir=manifest_dir if committed else "",
    )


def _from_somewhere(value: Any) -> bool:
    """Whether ``versions`` of a model is no list."""
    return isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] == "{")


def _no_versions(reader: Reader, where: str, source: str) -> None:
    message = "nothing says where the versions come from"
    allowed = "source: a directory or oss://bucket/path/; versions: numbers in the bucket, or {from: bucket}"
    fix = f"set {NAMESPACE}:modelSource, or source or versions of this model"
    if source:
        message = f"nothing says which versions of {source} are to be published"
        allowed = "versions: a list of numbers, or committed manifests"
        fix = f"add versions, or commit manifests and name their directory in {NAMESPACE}:manifests"
    reader.add(where, message, allowed, fix)


def _committed(stack: StackConfig, directory: str, path: str) -> dict[int, Manifest]:
    if not directory:
        return {}
    try:
        found = manifest.load_all(stack.project_dir / directory)
    except SavedModelError as error:
        stack.problems.append(Problem(path, str(error), fix="restore the file from version control, or write it anew"))
        return {}
    for number, committed in found.items():
        for message in saved_model.incomplete((entry.path for entry in committed.files), tflite=True):
            stack.problems.append(Problem(path, f"version {number} {message}", fix="export the model again"))
    return found


def with_tags(
    stack: StackConfig, models: Iterable[ModelSettings], services: Iterable[AnyService]
) -> tuple[ModelSettings, ...]:
    """Each service loads the graph with exactly its ``--saved_model_tags``: every version needs one for each."""
    found = []
    models = tuple(models)
    sharing: dict[str, set[str]] = {}
    for model in models:
        sharing.setdefault(model.place, set()).add(model.name)
    services = tuple(services)
    loading = [(each, tags) for each in services if (tags := saved_model_tags(each)) is not None]
    for model in models:
        users = [each for each in services if any(may_serve(each, name) for name in sharing[model.place])]
        loaded = {",".join(sorted(tags)) for each in users if (tags := saved_model_tags(each))}
        model = replace(
            model,
            tflite=bool(users) and all(map(prefers_tflite, users)),
            tag_sets=tuple(sorted(loaded)) or (saved_model.SERVE_TAG,),
        )
        _check_tflite(stack, model, users)
        if model.directory is None:
            found.append(model)
            continue
        places = {saved_model.parse_number(child.name): child for child in model.directory.iterdir()}
        wanted: dict[frozenset[str], str] = {}
        for each, tags in loading:
            if may_serve(each, model.name):
                wanted.setdefault(frozenset(tags), each.name if tags != {saved_model.SERVE_TAG} else "")
        for needed, name in (wanted or {frozenset({saved_model.SERVE_TAG}): ""}).items():
            for number in model.versions:
                if (place := places.get(number)) is None or saved_model.loads_tflite(place, model.tflite):
                    continue
                try:
                    problem = saved_model.tag_problem(place, stack.cache, needed)
                except SavedModelError:
                    continue  # told already
                if problem:
                    where = join_path(f"{NAMESPACE}:models", model.name)
                    if name:
                        flag = join_path(join_path(f"{NAMESPACE}:services", name), "flags")
                        where = f"{flag}.saved_model_tags"
                    fix = "export the model with these tags, or set flags.saved_model_tags of the service to its tags"
                    stack.problems.append(Problem(where, f"model {model.name}: {problem}", fix=fix))
        found.append(replace(model, tags=next(iter(wanted), model.tags)))
    return tuple(found)


def _check_tflite(stack: StackConfig, model: ModelSettings, readers: Sequence[AnyService]) -> None:
    """Versions that hold ``model.tflite`` alone load with a flag only, on every service that may serve them."""
    without = [each.name for each in readers if not prefers_tflite(each)]
    here = saved_model.versions(model.directory) if model.directory else ()
    alone = {each.number for each in here if saved_model.loads_tflite(each.path)}
    for number, committed in model.manifests.items():
        files = {entry.path for entry in committed.files}
        alone |= {number} if saved_model.TFLITE_FILE in files and not saved_model.graph_of(files) else set()
    alone &= set(model.versions)
    if not alone or (readers and not without):
        return
    listed = ", ".join(map(str, sorted(alone)))
    message = f"version {listed} holds {saved_model.TFLITE_FILE} alone"
    if not readers:
        stack.warnings.append(f"model {model.name}: {message}: services load it with flags.prefer_tflite_model only")
        return
    where = join_path(join_path(join_path(f"{NAMESPACE}:services", without[0]), "flags"), "prefer_tflite_model")
    message = f"{message} of model {model.name}, which a server loads with this flag only"
    stack.problems.append(Problem(where, message, "true", "set it, or export the model that it was made of"))


def check_batching(
    stack: StackConfig, models: Iterable[ModelSettings], services: Iterable[AnyService], serving: ModelServerConfig
) -> None:
    """Services that batch requests against the versions they serve, as far as those are on this machine."""
    versions: dict[str, list[batching.ServedVersion]] = {}
    for model in models:
        if model.directory is None:
            continue
        where = join_path(f"{NAMESPACE}:models", model.name)
        versions[model.name] = [
            batching.ServedVersion(model=model.name, number=each.number, directory=each.path, path=where)
            for each in saved_model.versions(model.directory)
            if each.number in model.versions
        ]
    served: list[tuple[AnyService, list[batching.ServedVersion]]] = []
    for service in services:
        chosen = model_sets.chosen(serving, service.spec.models)
        policies = {model.name: model.policy for model in chosen.models}
        if not service.spec.config_file:
            policies = {service.spec.model: VersionPolicy.latest()}
        published = {model.name: model.versions for model in models}
        served.append(
            (
                service,
                [
                    each
                    for name, policy in policies.items()
                    for each in versions.get(name, ())
                    if each.number in policy.select(published[name])
                ],
            )
        )
    found = batching.check(served, stack.cache)
    stack.problems += found.problems
    stack.warnings += found.warnings


def _listed_versions(reader: Reader, value: Any, path: str) -> tuple[int, ...]:
    """The version numbers of a list; none where one could not be read, which says nothing about the others then."""
    before = len(reader.problems)
    numbers: list[int] = []
    for at, item in reader.items(value, path, "a list of version numbers, or {from: bucket}"):
        known = len(reader.problems)
        number = reader.integer(item, at, least=0, most=wire.MAX_INTEGER)
        if len(reader.problems) == known:
            numbers.append(number)
    is_whole = len(reader.problems) == before
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        reader.add(path, f"version {number} is named twice", fix="keep one")
    if not numbers and is_whole:
        reader.add(path, "no version is named", "at least one version number", "name the versions in the bucket")
    return tuple(sorted(set(numbers))) if is_whole else ()
