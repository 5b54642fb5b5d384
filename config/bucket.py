"""The bucket with the models, and where in it they lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from config.reader import Reader
from config.stack_config import NAMESPACE, StackConfig
from tfserving.cloud_names import BUCKET
from tfserving.model_sets import DEFAULT_FILE
from tfserving.options import keys, option
from tfserving.property_path import join_path

DEFAULT_MODEL_ROOT = "models/tf_serving/"

_ROOT_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")
_STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_READABLE_CLASSES = ("Standard", "IA")
_REDUNDANCY_TYPES = ("LRS", "ZRS")


@dataclass(frozen=True, kw_only=True)
class BucketSettings:
    """The bucket with the models.

    Attributes:
        name: 3 to 63 lower-case letters, digits and ``-``.
        existing: use a bucket that exists, which is neither made nor configured nor destroyed here; goes with none of
            the keys below.
        force_destroy: ``pulumi destroy`` and another ``name`` delete what others put into it, too. It counts as it was
            at the last ``up``.
        protect: Pulumi refuses to delete it, what is in it, and what says which of it is served: ``destroy`` ends
            before anything is gone.
        storage_class: set when the bucket is made; a change needs a new ``name`` in the same edit.
        redundancy_type: one zone, or three; as ``storage_class``.
        abort_uploads_after_days: what interrupted uploads left is removed after so long.
        expire_old_versions_after_days: so long the content of a deleted or overwritten object can be restored, and is
            paid for.
        tags: tags of the bucket.
    """

    name: str = option(late="{}")
    existing: bool = False
    force_destroy: bool = False
    protect: bool = False
    storage_class: str = option("Standard", written=Literal["Standard", "IA"])
    redundancy_type: str = option("LRS", written=Literal["LRS", "ZRS"])
    abort_uploads_after_days: int = option(7, least=1)
    expire_old_versions_after_days: int = option(30, least=1)
    tags: Mapping[str, str] = option(factory=dict, late="{}*")


def read_bucket(stack: StackConfig) -> BucketSettings:
    path = f"{NAMESPACE}:bucket"
    reader = stack.reader(path)
    value = stack.raw.get(path)
    is_name = isinstance(value, str) and value.lstrip()[:1] != "{"
    before = len(reader.problems)
    given = (
        {"name": value} if is_name else reader.mapping(value, path, keys(BucketSettings), "a name, or name and options")
    )
    where = path if is_name else join_path(path, "name")
    told = len(reader.problems) > before and not given
    before = len(reader.problems)
    name = reader.text(given.get("name"), where)
    if not name:
        if not told and len(reader.problems) == before:
            reader.add(where, "no bucket is named", "the name of an OSS bucket", "name one; the stack makes it")
    elif not BUCKET.fullmatch(name):
        allowed = "3 to 63 lower-case letters, digits and '-', letter or digit first and last"
        fix = f"write {name[6:].split('/')[0]}; the path is {NAMESPACE}:modelRoot" if name.startswith("oss://") else ""
        reader.add(where, f"{reader.show(name)} is not a bucket name", allowed, fix)
    existing = reader.boolean(given.get("existing"), join_path(path, "existing"))
    if existing:
        for key in keys(BucketSettings):
            if key in given and key not in ("name", "existing"):
                message = f"{key} configures a bucket this stack makes, and this one exists"
                reader.add(join_path(path, key), message, fix=f"remove {key}, or existing")
    storage = _optional_choice(reader, given, path, "storageClass", _STORAGE_CLASSES)
    if storage not in _READABLE_CLASSES:
        message = f"objects of class {storage} cannot be read before they are restored, so no service could start"
        reader.add(join_path(path, "storageClass"), message, " or ".join(_READABLE_CLASSES))
    tags = reader.values(given.get("tags"), join_path(path, "tags"))
    return BucketSettings(
        name=name,
        existing=existing,
        force_destroy=reader.boolean(given.get("forceDestroy"), join_path(path, "forceDestroy")),
        protect=reader.boolean(given.get("protect"), join_path(path, "protect")),
        storage_class=storage,
        redundancy_type=_optional_choice(reader, given, path, "redundancyType", _REDUNDANCY_TYPES),
        abort_uploads_after_days=reader.integer(
            given.get("abortUploadsAfterDays"), join_path(path, "abortUploadsAfterDays"), 7, least=1, unit="days"
        ),
        expire_old_versions_after_days=reader.integer(
            given.get("expireOldVersionsAfterDays"),
            join_path(path, "expireOldVersionsAfterDays"),
            30,
            least=1,
            unit="days",
        ),
        tags={key: reader.text(tag, at) for key, at, tag in tags},
    )


def _optional_choice(reader: Reader, given: Mapping[str, Any], path: str, key: str, choices: tuple[str, ...]) -> str:
    value = given.get(key)
    return choices[0] if value is None else reader.choice(value, join_path(path, key), choices)


def read_config_file_name(stack: StackConfig, bucket: BucketSettings) -> str:
    """The name of the model config file below the model root."""
    path = f"{NAMESPACE}:configFileName"
    reader = stack.reader(path)
    text = reader.text(stack.raw.get(path), path, DEFAULT_FILE, allowed=f"a file name such as {DEFAULT_FILE}")
    if not _ROOT_SEGMENT.fullmatch(text) or text in (".", ".."):
        reader.add(path, f"{reader.show(text)} is not a file name", f"such as {DEFAULT_FILE}", "name it without a path")
        return DEFAULT_FILE
    if text != DEFAULT_FILE and not bucket.existing:
        message = f"in a bucket that this stack makes, the file is called {DEFAULT_FILE}"
        reader.add(path, message, DEFAULT_FILE, "remove it, or set existing: true for a bucket that exists")
    return text


def read_model_root(stack: StackConfig) -> str:
    path = f"{NAMESPACE}:modelRoot"
    reader = stack.reader(path)
    allowed = "a key prefix such as models/tf_serving/"
    text = reader.text(stack.raw.get(path), path, DEFAULT_MODEL_ROOT, allowed=allowed)
    fix = ""
    if "://" in text:
        fix = f"name the bucket in {NAMESPACE}:bucket and only the path here"
    elif text.startswith("/"):
        fix = "remove the leading slash"
    segments = text.strip("/").split("/") if text.strip("/") else []
    wrong = [part for part in segments if not _ROOT_SEGMENT.fullmatch(part) or part in (".", "..")]
    if fix or wrong:
        reader.add(path, f"{reader.show(text)} is not a key prefix", allowed, fix)
        return DEFAULT_MODEL_ROOT
    return f"{'/'.join(segments)}/" if segments else ""
