"""Models of a stack: what a model config file lists, and which versions of it are in the bucket."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tfserving import saved_model, wire
from tfserving.contract.found import FoundDirectory
from tfserving.importing.place import Place, below
from tfserving.model_config import LABEL, MODEL_NAME, PLATFORM, Model, VersionPolicy
from tfserving.wording import some_of

_SHOWN = 5


@dataclass(frozen=True)
class ModelImport:
    """What became of a model.

    Attributes:
        model: the model as the stack is to have it.
        directory: its directory below the root, or an absolute path on another mount; for a model that is left out it
            may be empty.
        versions: versions that are complete in the bucket; ``None`` where that is not known.
        left_out: why the stack cannot have it; empty where it can.
        lost: what of it the stack does not have, one sentence each.
    """

    model: Model
    directory: str
    versions: tuple[int, ...] | None
    left_out: str = ""
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Versions:
    """What is known of the versions in a directory.

    Attributes:
        complete: their numbers, ascending.
        wrong: of the others, what is wrong with each, one sentence.
    """

    complete: tuple[int, ...] = ()
    wrong: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: FoundDirectory) -> Versions:
        """What somebody found who looked into the files."""
        spelt: dict[int, list[str]] = {}
        wrong = []
        for each in found.left_out:
            number = saved_model.parse_number(each.name)
            # A file with the name of a version, ``2`` beside ``2/``, leaves the version as it is.
            if number is not None and number in found.numbers and each.name != str(number):
                spelt.setdefault(number, []).append(each.name)
            else:
                wrong.append(f"{each.name} {each.why}")
        wrong += [_both((*names, str(number)), number) for number, names in sorted(spelt.items())]
        return cls(tuple(number for number in found.numbers if number not in spelt), tuple(wrong))


@dataclass
class Directory:
    """A directory of a bucket with version directories.

    Attributes:
        files: paths of files that matter, by name of version directory.
    """

    files: dict[str, set[str]] = field(default_factory=dict)

    def versions(self, *, tflite: bool = False) -> Versions:
        """The versions, as far as the names of their files tell.

        Args:
            tflite: whatever serves them has ``--prefer_tflite_model``.
        """
        whole: list[int] = []
        wrong: list[str] = []
        spelt: dict[int, list[str]] = {}
        for name in sorted(self.files):
            number = saved_model.parse_number(name)
            if number is not None:
                spelt.setdefault(number, []).append(name)
        for number, names in sorted(spelt.items()):
            name = names[-1]
            if len(names) > 1:
                wrong.append(_both(names, number))
            elif name != str(number) or not wire.is_version(number):
                wrong.append(
                    f"{name} is read as version {number} by TensorFlow Serving, and a stack has plain numbers only"
                )
            elif faults := saved_model.incomplete(self.files[name], tflite=tflite):
                wrong.append(f"{number} {faults[0]}")
            else:
                whole.append(number)
        return Versions(tuple(whole), tuple(wrong))


def _both(names: Iterable[str], number: int) -> str:
    return f"{' and '.join(names)} are both version {number}: keep one of them"


@dataclass
class Listing:
    """What the keys of a bucket say of the models below a key prefix. Fed key by key, it keeps little of each.

    Attributes:
        root: the prefix, empty or ending in a slash.
        directories: by path below the root, the directories that have version directories.
        strays: keys that belong to no version, some of them.
        stray_count: how many there are.
    """

    root: str
    directories: dict[str, Directory] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    stray_count: int = 0

    def add(self, key: str) -> None:
        """Take one key of the listing into account."""
        parts = key.removeprefix(self.root).split("/")
        index = next((i for i, part in enumerate(parts[:-1]) if i and _NUMBER.fullmatch(part)), None)
        if index is None or not key.startswith(self.root) or not all(parts[:index]):
            if not key.endswith("/") and not _OWN.fullmatch(parts[-1]):
                self.stray_count += 1
                self.strays += [key] * (len(self.strays) < _SHOWN)
            return
        path = "/".join(parts[index + 1 :])
        found = self.directories.setdefault("/".join(parts[:index]), Directory()).files.setdefault(parts[index], set())
        if path and _MATTERS.fullmatch(path):
            found.add(path)

    def models(self) -> dict[str, Directory]:
        """The directories of which at least one version has a file of a model, by path."""
        return {path: found for path, found in sorted(self.directories.items()) if any(found.files.values())}


_NUMBER = re.compile(r"-?[0-9]{1,39}")
_MATTERS = re.compile(r"saved_model\.[^/]*|[^/]*\.(tflite|keras|h5)|variables/variables\.[^/]*")
_OWN = re.compile(r"[0-9]+\.manifest\.json|model_config\.pbtxt")


def of_file(
    listed: Iterable[Model],
    place: Place,
    found: Mapping[str, Versions] | None,
    elsewhere: Mapping[str, Versions | None] | None = None,
) -> tuple[ModelImport, ...]:
    """The models of a config file, in its order.

    Args:
        listed: as the file lists them.
        place: where the stack has its models.
        found: what is in directories of the bucket; ``None`` where the bucket could not be listed.
        elsewhere: what is in directories on other mounts that every service has, by absolute path; ``None`` as for
            ``found``.
    """
    others = elsewhere or {}
    imported: list[ModelImport] = []
    for model in listed:
        twice = any(each.model.name == model.name for each in imported)
        path = model.base_path
        directory = below(path, place.mount_path) or (path if path in others else "")
        left_out = _left_out(model, place, directory)
        if twice:
            left_out = "the file lists it twice, which TensorFlow Serving refuses: the first one counts here"
        if left_out:
            imported.append(ModelImport(model, directory, None, left_out))
        else:
            here = None if found is None else found.get(directory, Versions())
            here = others[directory] if directory.startswith("/") else here
            imported.append(_with_versions(model, directory, here))
    return tuple(imported)


def of_listing(found: Mapping[str, Versions]) -> tuple[ModelImport, ...]:
    """The models that only a listing tells of: each serves its highest version, as TensorFlow Serving does untold.

    Args:
        found: directories by path.
    """
    imported: list[ModelImport] = []
    for directory, here in found.items():
        name = posixpath.basename(directory)
        if sum(posixpath.basename(other) == name for other in found) > 1:
            name = directory.replace("/", "_")
        model = Model(name, f"/{directory}")
        if MODEL_NAME.fullmatch(name):
            imported.append(_with_versions(model, directory, here))
        else:
            imported.append(ModelImport(model, directory, None, _NO_NAME))
    return tuple(imported)


_NO_NAME = "its name is no model name of a stack: letters, digits, '_', '.' and '-'"


def _subject(text: str) -> str:
    """A sentence that begins with a name in a model's directory, with what bears the name."""
    name = text.partition(" ")[0]
    return f"{'directory' if saved_model.parse_number(name) is None else 'version'} {text}"


def _left_out(model: Model, place: Place, directory: str) -> str:
    if not MODEL_NAME.fullmatch(model.name):
        return _NO_NAME
    if model.platform != PLATFORM:
        return f"its platform is {model.platform or 'not set'}, and the stock server knows {PLATFORM} only"
    if not directory:
        return (
            f"its base path {model.base_path} is not below {place.mount_path}, where {place.uri} is mounted, nor on "
            "another mount of a bucket that every service has"
        )
    return ""


def _with_versions(model: Model, directory: str, here: Versions | None) -> ModelImport:
    """The model with what of its policy and labels the versions in the bucket allow."""
    if here is None:
        known = model.policy.versions if model.policy.kind == "specific" else None
        served = known
        lost: list[str] = []
        versions = known
    else:
        versions, wrong = here.complete, here.wrong
        lost = [_subject(text) for text in wrong]
        if not versions:
            reason = f"no version of it is complete in the bucket{': ' + '; '.join(wrong) if wrong else ''}"
            return ModelImport(model, directory, versions, reason)
        missing = [number for number in model.policy.versions if number not in versions]
        if missing:
            shown = some_of([*map(str, missing)], _SHOWN)
            lost.append(f"policy: version {shown} is named and not complete in the bucket, so that no server serves it")
            model = replace(model, policy=VersionPolicy.specific(set(model.policy.versions) - set(missing)))
            if not model.policy.versions:
                return ModelImport(
                    model, directory, versions, f"{lost[-1]}, and no other one is named", tuple(lost[:-1])
                )
        served = model.policy.select(versions)
    labels = {}
    for label, number in model.labels.items():
        if not LABEL.fullmatch(label):
            lost.append(f"label {label}: a label of a stack is letters, digits and '_'")
        elif served is not None and number not in served:
            lost.append(
                f"label {label}: version {number} is not served by policy {model.policy}, so that requests by it are "
                "refused now"
            )
        else:
            labels[label] = number
    return ModelImport(replace(model, labels=labels), directory, versions, lost=tuple(lost))
