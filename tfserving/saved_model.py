"""A model directory with its version directories: which versions it holds, whether each is a complete SavedModel, and
what the model takes and gives. Reads ``saved_model.pb`` without TensorFlow, and no byte of a variable.

TensorFlow Serving (``file_system_storage_path_source.cc``) takes every child of a model directory whose whole name is
an integer for a version and tries to load it, whatever it is; all other names it skips without a word. A version whose
``variables/`` is missing loads all the same (``tensorflow/cc/saved_model/loader.cc``: a SavedModel may have none) and
then fails every request. So a graph with variables must come with ``variables/variables.index`` and all its shards.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from tfserving import tflite
from tfserving.errors import Problem, SavedModelError
from tfserving.manifest import JUNK_DIRS, JUNK_FILES, HashCache, list_files
from tfserving.protos import tf_serving_pb2 as pb

SERVING_SIGNATURE = "serving_default"
"""The signature that a request without one means."""

PREDICT_METHOD = "tensorflow/serving/predict"
"""The method of a signature that any request may use."""

SERVE_TAG = "serve"
"""The tag set TensorFlow Serving loads unless told otherwise (``--saved_model_tags``)."""

GRAPH_FILE = "saved_model.pb"
"""The graph in binary form."""

GRAPH_TEXT = "saved_model.pbtxt"
"""The same in text form, read where there is no binary one (``tensorflow/cc/saved_model/reader.cc``)."""

GRAPHS = (GRAPH_FILE, GRAPH_TEXT)
"""Files that a graph is read from, in the order in which they are looked for."""

TFLITE_FILE = "model.tflite"
"""With ``--prefer_tflite_model``, this is loaded where it is there, and no graph is looked for."""

MODEL_FILES = (*GRAPHS, TFLITE_FILE)
"""Files that make a directory a version that loads: they have to appear after all others."""

INIT_SIGNATURE = "__saved_model_init_op"
"""A signature TensorFlow adds for itself; no request can use it."""

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000

_MAX_VERSION = 2**63 - 1
_NUMBER = re.compile(r"[ \t\n\v\f\r]*(-?[0-9]+)[ \t\n\v\f\r]*")
_UNFINISHED = re.compile(r"temp-[0-9]+")  # what an Estimator writes to, and renames when it is done
_MISNAMED = re.compile(r"[vV](?:ersion)?[-_]?([0-9]{1,18})")
_SHARD = re.compile(r"variables/variables\.data-([0-9]{5})-of-([0-9]{5})")
_POINTER = re.compile(r"[0-9]+\.dvc")
_OWN_FILE = re.compile(r"[0-9]+\.manifest\.json")
_VARIABLE_OPS = frozenset({"VarHandleOp", "_VarHandlesOp", "VariableV2", "Variable", "AutoReloadVariable"})
_OTHER_MODELS = {
    "keras": "model.export(...) writes a SavedModel of it",
    "h5": "load it in Keras, and model.export(...) writes a SavedModel of it",
    "hdf5": "load it in Keras, and model.export(...) writes a SavedModel of it",
    "tflite": "export the model it was made of",
    "onnx": "export the model it was made of",
    "pt": "it is of PyTorch",
    "pth": "it is of PyTorch",
    "safetensors": "it holds weights only",
    "zip": "unpack it",
    "gz": "unpack it",
    "tar": "unpack it",
    "tgz": "unpack it",
}
"""By suffix: files of a model that are no SavedModel, and what to do."""
_DTYPE_NAMES = {"DT_FLOAT": "float32", "DT_DOUBLE": "float64", "DT_HALF": "float16"}
_REFERENCE = 100  # DT_FLOAT_REF = DT_FLOAT + 100, and so on


@dataclass(frozen=True)
class VersionDir:
    """A version directory.

    Attributes:
        number: the version; ``1`` for a directory ``001`` too.
        path: the directory.
    """

    number: int
    path: Path


@dataclass(frozen=True)
class TensorInfo:
    """Type and shape of an input or output.

    Attributes:
        dtype: TensorFlow's name: ``float32``, ``int64``, ``string``, ...
        shape: sizes by dimension, ``None`` for one of any size; ``None`` where even the rank is open.
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """``{"dtype": "float32", "shape": [None, 28, 28, 1]}``."""
        return {"dtype": self.dtype, "shape": None if self.shape is None else list(self.shape)}

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """What one signature of a model takes and gives, by name of input and output."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form, names in order."""
        return {
            "inputs": {name: self.inputs[name].to_dict() for name in sorted(self.inputs)},
            "outputs": {name: self.outputs[name].to_dict() for name in sorted(self.outputs)},
            "methodName": self.method_name,
        }


def versions(model_dir: Path) -> tuple[VersionDir, ...]:
    """The version directories of a model, ascending; of two with one number, the one TensorFlow Serving would load.

    Raises:
        SavedModelError: the directory is missing or cannot be read.
    """
    found: dict[int, VersionDir] = {}
    for name in _children(model_dir):
        # Of equal numbers TensorFlow Serving takes the last in the order of the names.
        number = parse_number(name)
        if number is not None and number >= 0 and os.path.isdir(os.path.join(model_dir, name)):
            found[number] = VersionDir(number, model_dir / name)
    return tuple(found[number] for number in sorted(found))


def parse_number(name: str) -> int | None:
    """The version that TensorFlow Serving takes a directory entry for, None for an entry that it passes over.

    As its ``safe_strto64``: decimal digits with a sign and white space around them, within 64 bits.
    """
    match = _NUMBER.fullmatch(name)
    number = int(match[1]) if match else None
    return number if number is not None and -_MAX_VERSION - 1 <= number <= _MAX_VERSION else None


def misnamed(name: str) -> int | None:
    """The version that only people read in a directory's name, such as ``v3``; None where they read none."""
    match = _MISNAMED.fullmatch(name)
    return int(match[1]) if match else None


def why_no_version(name: str) -> str:
    """Why a directory of a model is no version that a stack can have: the rest of a sentence that begins with its name.

    Empty where nobody would take it for one, and for a version.
    """
    number = parse_number(name)
    if number is not None and name != str(number):
        return (
            f"is read as version {number} by TensorFlow Serving, and a stack has plain numbers only: name it {number}"
        )
    if number is not None and number < 0:
        return "is a negative version: give it a higher number than the others"
    if number is None and _NUMBER.fullmatch(name):
        return "is too large for a version number"
    if _UNFINISHED.fullmatch(name):
        return "is an export that has not ended"
    if (meant := misnamed(name)) is not None:
        return f"is no number, and TensorFlow Serving passes over it: name it {meant}"
    return ""


def graph_of(paths: Collection[str]) -> str:
    """The file that the graph of a version is read from; empty without one."""
    return next((name for name in GRAPHS if name in paths), "")


def graph_in(version_dir: Path) -> Path | None:
    """:func:`graph_of` a directory."""
    name = graph_of([name for name in GRAPHS if os.path.isfile(os.path.join(version_dir, name))])
    return version_dir / name if name else None


def loads_tflite(version_dir: Path, preferred: bool = False) -> bool:
    """Whether a server loads ``model.tflite`` of a version, or there is nothing else that it could load.

    Args:
        version_dir: the version's directory.
        preferred: the server has ``--prefer_tflite_model``.
    """
    return (version_dir / TFLITE_FILE).is_file() and (preferred or graph_in(version_dir) is None)


def examine(
    model_dir: Path, path: str, cache: HashCache, tags: Collection[str] | None = None
) -> list[tuple[int | None, Problem]]:
    """What would keep TensorFlow Serving from serving versions, as far as names of files and graphs tell.

    Each problem comes with the version it is one of, or None where no version can be had at all.

    Args:
        model_dir: the directory with the version directories.
        path: where the model is named in the stack config.
        cache: spares reading files that were read before and have not changed.
        tags: a graph with exactly these is needed; None leaves tags to :func:`tag_problem`.
    """
    shown = model_dir.name or str(model_dir)
    problems: list[tuple[int | None, Problem]] = []

    def refuse(number: int | None, message: str, allowed: str = "", fix: str = "") -> None:
        problems.append((number, Problem(path, message, allowed, fix)))

    try:
        names = _children(model_dir)
    except SavedModelError as error:
        return [(None, Problem(path, str(error), "a directory with one directory per version"))]
    by_number: dict[int, list[str]] = {}
    for name in names:
        number = parse_number(name)
        if number is None:
            continue
        if number < 0:
            refuse(
                number,
                f"{shown}/{name} is a negative version",
                "0, 1, 2, ...",
                "give it a higher number than the others",
            )
            continue
        by_number.setdefault(number, []).append(name)
        if not (model_dir / name).is_dir():
            kind = "is a file" if (model_dir / name).exists() else "is a link to nothing"
            message = f"{shown}/{name} {kind}, and TensorFlow Serving would try to load it as version {number}"
            refuse(number, message, "a directory", "move it elsewhere")
    for number, same in sorted(by_number.items()):
        if len(same) > 1:
            both = " and ".join(f"{shown}/{name}" for name in same)
            refuse(number, f"{both} are both version {number}", "", "keep one of them")
    if not by_number:
        refuse(None, *_no_version(model_dir, shown, names))
    for version in versions(model_dir):
        try:
            for message in _incomplete(version.path, cache, tags):
                refuse(version.number, f"{shown}/{version.path.name} {message}", "", "export the model again")
        except SavedModelError as error:
            refuse(version.number, str(error))
    return problems


def _no_version(model_dir: Path, shown: str, names: Iterable[str]) -> tuple[str, str, str]:
    """What to say of a model directory without any version: what is wrong, what is allowed, how to put it right."""
    fix = "put the model's files into a directory called 1"
    if graph_in(model_dir) is not None:
        return f"{shown} is a SavedModel itself, where version directories are expected", f"{shown}/1, ...", fix
    others = [name for name in names if (model_dir / name).is_dir() and name not in JUNK_DIRS]
    if others and all(_UNFINISHED.fullmatch(name) for name in others):
        fix = f"wait until the export that writes {others[0]} has ended"
    pointers = [name for name in names if _POINTER.fullmatch(name)]
    if pointers and not others:
        return (
            f"{shown} has no version directory, only {pointers[0]} of DVC",
            "directories named by a number",
            "dvc pull",
        )
    there = f", only {', '.join(others[:3])}" if others else ""
    return f"{shown} has no version directory{there}", "directories named by a number: 1, 2, ...", fix


def warnings(model_dir: Path, cache: HashCache | None = None, only: Collection[int] | None = None) -> list[str]:
    """What is probably not meant, but does not keep the model from being served. What does is left to :func:`examine`.

    Args:
        model_dir: the directory with the version directories.
        cache: spares reading files that were read before and have not changed.
        only: the versions that matter; None: all.
    """
    cache = cache or HashCache()
    found = []
    try:
        names = _children(model_dir)
    except SavedModelError:
        return []
    for name in names:
        if name in JUNK_FILES | JUNK_DIRS or name.startswith(".") or _OWN_FILE.fullmatch(name):
            continue
        if parse_number(name) is not None:
            continue
        if _NUMBER.fullmatch(name):
            found.append(f"{name} is too large for a version number and is ignored")
        elif _UNFINISHED.fullmatch(name):
            found.append(f"directory {name} is an export that has not ended, and is ignored")
        else:
            kind = "directory" if (model_dir / name).is_dir() else "file"
            kind = "link" if (model_dir / name).is_symlink() else kind
            found.append(f"{kind} {name} is no version (not a number) and is ignored")
    for version in versions(model_dir):
        if only is not None and version.number not in only:
            continue
        if version.path.name != str(version.number):
            found.append(f"directory {version.path.name} is published as version {version.number}")
        try:
            known = loaded_signatures(version.path, cache)
        except SavedModelError:
            continue
        if SERVING_SIGNATURE not in known:
            names_known = ", ".join(sorted(known)) or "none"
            found.append(
                f"version {version.number} has no signature {SERVING_SIGNATURE} ({names_known}): "
                "each request must name its signature"
            )
    return found


def signatures(
    version_dir: Path, cache: HashCache | None = None, tags: Collection[str] = frozenset({SERVE_TAG})
) -> dict[str, Signature]:
    """The signatures of a version by name, those that requests can use.

    Args:
        version_dir: the directory with ``saved_model.pb``.
        cache: spares reading a file that was read before and has not changed.
        tags: of the graph that is loaded.

    Raises:
        SavedModelError: there is no readable ``saved_model.pb``, or no graph in it has exactly these tags.
    """
    graph = _serving_graph(_read(version_dir, cache or HashCache()), version_dir, tags)
    return {
        name: Signature(_tensors(found["inputs"]), _tensors(found["outputs"]), found["method_name"])
        for name, found in graph["signatures"].items()
    }


def loaded_signatures(
    version_dir: Path,
    cache: HashCache | None = None,
    tags: Collection[str] = frozenset({SERVE_TAG}),
    *,
    prefer_tflite: bool = False,
) -> dict[str, Signature]:
    """:func:`signatures` of what a server loads of a version: of ``model.tflite``, or of the graph.

    The former has one signature. It holds for sizes that a request may choose what the file says; the server itself
    tells 1 for each of them. None where only the server knows what inputs are called.

    Args:
        version_dir: the version's directory.
        cache: spares reading a file that was read before and has not changed.
        tags: of the graph that is loaded.
        prefer_tflite: the server has ``--prefer_tflite_model``.

    Raises:
        SavedModelError: what is loaded cannot be read, or no graph in it has exactly these tags.
    """
    if not loads_tflite(version_dir, prefer_tflite):
        return signatures(version_dir, cache, tags)
    found = _read_tflite(version_dir, cache or HashCache())
    if isinstance(found, str):
        raise SavedModelError(f"{version_dir / TFLITE_FILE} {found}")
    if found is None:
        return {}
    inputs, outputs = map(_tensors, found)
    return {SERVING_SIGNATURE: Signature(inputs, outputs, PREDICT_METHOD)}


def tag_problem(version_dir: Path, cache: HashCache, tags: Collection[str]) -> str:
    """Why TensorFlow Serving with ``--saved_model_tags`` of ``tags`` cannot load a version; empty where it can.

    Raises:
        SavedModelError: there is no readable ``saved_model.pb``.
    """
    graphs = _read(version_dir, cache)
    try:
        _serving_graph(graphs, version_dir, tags)
    except SavedModelError as error:
        return str(error)
    return ""


def differences(old: Mapping[str, Signature], new: Mapping[str, Signature]) -> list[str]:
    """What a client of ``old`` would notice about ``new``, one line each.

    ``serving_default: input keras_tensor float32[?, 28, 28, 1] -> float32[?, 32, 32, 3]``.
    """
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            lines.append(f"- {name}")
        elif name not in old:
            lines.append(f"+ {name}")
        else:
            for kind, before, after in (
                ("input", old[name].inputs, new[name].inputs),
                ("output", old[name].outputs, new[name].outputs),
            ):
                lines += [
                    f"{name}: {kind} {tensor} {_change(before.get(tensor), after.get(tensor))}"
                    for tensor in sorted(before.keys() | after.keys())
                    if before.get(tensor) != after.get(tensor)
                ]
    return lines


def _change(before: TensorInfo | None, after: TensorInfo | None) -> str:
    if before is None:
        return f"added ({after})"
    return f"removed (was {before})" if after is None else f"{before} -> {after}"


def _children(model_dir: Path) -> list[str]:
    try:
        return sorted(os.listdir(model_dir))
    except FileNotFoundError:
        pointer = model_dir.with_name(f"{model_dir.name}.dvc")
        fetch = f", only {pointer.name}: dvc pull fetches it" if pointer.is_file() else ""
        raise SavedModelError(f"there is no directory {model_dir}{fetch}") from None
    except NotADirectoryError:
        raise SavedModelError(f"{model_dir} is not a directory") from None
    except OSError as error:
        raise SavedModelError(f"{model_dir} cannot be read: {error.strerror}") from None


# ---- one version


def _incomplete(version_dir: Path, cache: HashCache, tags: Collection[str] | None) -> Iterator[str]:
    """What a version lacks, as the rest of a sentence that begins with its name."""
    files = frozenset(list_files(version_dir))
    if not graph_of(files):
        if TFLITE_FILE not in files:
            yield _no_graph(files)
        elif isinstance(found := _read_tflite(version_dir, cache), str):
            yield f"has a {TFLITE_FILE} that {found}"
        return
    graphs = _read(version_dir, cache)
    # Without tags, what any graph needs: one of them is loaded.
    loaded = graphs if tags is None and graphs else [_serving_graph(graphs, version_dir, tags or {SERVE_TAG})]
    yield from _incomplete_files(files, loaded)
    if WARMUP_FILE in files:
        records, _ = cache.derive(version_dir / WARMUP_FILE, "records", _count_records)
        if records is None:
            yield f"has a damaged warm-up file {WARMUP_FILE}, and would not load"
        elif records > MAX_WARMUP_RECORDS:
            yield f"has {records} warm-up records, and TensorFlow Serving loads no more than {MAX_WARMUP_RECORDS}"


def incomplete(
    paths: Iterable[str],
    graph: bytes | None = None,
    *,
    tflite: bool = False,
    tags: Iterable[str] = (SERVE_TAG,),
) -> list[str]:
    """What a version lacks as far as the names of its files tell, as the rest of a sentence that begins with its name.

    For versions whose files are somewhere else.

    Args:
        paths: the files, relative, with forward slashes.
        graph: content of the graph file; None: what the graph needs beside it is not known.
        tflite: whatever serves it has ``--prefer_tflite_model``.
        tags: ``--saved_model_tags`` of whatever serves it, each of which a graph has to have.
    """
    files = frozenset(paths)
    name = graph_of(files)
    if not name and tflite and TFLITE_FILE in files:
        return []
    if not name:
        return [_no_graph(files)]
    if graph is None:
        return list(_incomplete_variables(files, expected=False))
    graphs = _parser(name)(iter([memoryview(graph)]))
    if graphs is None:
        return [f"has a {name} that cannot be parsed"]
    needed = () if tflite and TFLITE_FILE in files else tags
    lacking = [found for each in needed if (found := _lacks_graph(graphs, tag_set(each)))]
    return [*lacking, *_incomplete_files(files, graphs)]


def tag_set(flag: str) -> set[str]:
    """The tags that a value of ``--saved_model_tags`` names."""
    return {tag.strip() for tag in flag.split(",") if tag.strip()}


def tflite_fault(content: bytes) -> str:
    """Why a file is no model of TensorFlow Lite that a server loads; the rest of a sentence. Empty where it is one."""
    try:
        tflite.read(io.BytesIO(content))
    except SavedModelError as error:
        return str(error)
    return ""


def _read_tflite(version_dir: Path, cache: HashCache) -> Sequence[Mapping[str, Any]] | str | None:
    """Inputs and outputs as JSON values; what is wrong with the file, in words; ``None`` where the file does not say.

    Of the file, some bytes are read, however large it is.
    """
    path = version_dir / TFLITE_FILE

    def read(_: Iterator[memoryview]) -> Any:
        try:
            with path.open("rb") as file:
                found = tflite.read(file)
        except SavedModelError as error:
            return str(error)
        return None if found is None else [{name: list(each) for name, each in some.items()} for some in found]

    found: Sequence[Mapping[str, Any]] | str | None = cache.derive(path, "tflite signature", read)[0]
    return found


def _no_graph(files: Collection[str]) -> str:
    """That a version lacks its graph, and what may be there instead of it."""
    for path in sorted(files):
        suffix = path.rpartition(".")[2].lower()
        if path == TFLITE_FILE:
            return (
                f"has no {GRAPH_FILE}; TensorFlow Serving loads {path} with --prefer_tflite_model only: set "
                "flags.prefer_tflite_model of every service that serves it, or export the model it was made of"
            )
        if path.startswith((f"{GRAPH_FILE}.", f".{GRAPH_FILE}", f"{GRAPH_TEXT}.", f".{GRAPH_TEXT}")):
            return f"has no {GRAPH_FILE}, only {path}: unpack it, or let its transfer end"
        if how := _OTHER_MODELS.get(suffix):
            return f"has no {GRAPH_FILE}; {path} is not read by TensorFlow Serving: {how}"
    return f"has no {GRAPH_FILE}"


def _incomplete_files(files: frozenset[str], graphs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What of the files that graphs read is not there."""
    loaded = list(graphs)
    yield from _incomplete_variables(files, any(graph["variables"] for graph in loaded))
    missing = [name for graph in loaded for name in graph["assets"] if f"assets/{name}" not in files]
    if missing:
        yield f"has no assets/{missing[0]}, which its graph reads"


def _incomplete_variables(files: frozenset[str], expected: bool) -> Iterator[str]:
    shards: dict[int, set[int]] = {}
    for name in files:
        if match := _SHARD.fullmatch(name):
            shards.setdefault(int(match[2]), set()).add(int(match[1]))
    if "variables/variables.index" not in files:
        if expected or shards:
            yield "has variables, but no variables/variables.index: it would load and then fail every request"
        return
    if not shards:
        yield "has no variables/variables.data-* file"
        return
    if len(shards) > 1:
        counts = " and ".join(str(count) for count in sorted(shards))
        yield f"has variables of two exports: shards of {counts}"
        return
    ((count, present),) = shards.items()
    missing = [number for number in range(count) if number not in present]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"has no variables/variables.data-{missing[0]:05d}-of-{count:05d}{more}"


def _count_records(chunks: Iterator[memoryview]) -> int | None:
    """Records of a TFRecord file (length, CRC, data, CRC), ``None`` if it ends within one."""
    data = b"".join(map(bytes, chunks))
    count = position = 0
    while position < len(data):
        if len(data) - position < 12:
            return None
        (length,) = struct.unpack_from("<Q", data, position)
        position += 12 + length + 4
        count += 1
    return count if position == len(data) else None


# ---- saved_model.pb


def _read(version_dir: Path, cache: HashCache) -> list[dict[str, Any]]:
    """What is needed of each graph, as JSON values, so that it can be cached."""
    file = graph_in(version_dir)
    if file is None:
        raise SavedModelError(f"{version_dir} has no {GRAPH_FILE}")
    graphs, _ = cache.derive(file, "graphs", _parser(file.name))
    if graphs is None:
        raise SavedModelError(f"{file} is not a SavedModel (it cannot be parsed)")
    found: list[dict[str, Any]] = graphs
    return found


def _parser(name: str) -> Callable[[Iterator[memoryview]], list[dict[str, Any]] | None]:
    """What reads a graph from a file of this name."""
    return _parse_text if name == GRAPH_TEXT else _parse


def _parse(chunks: Iterator[memoryview]) -> list[dict[str, Any]] | None:
    model = pb.SavedModel()
    try:
        model.ParseFromString(b"".join(map(bytes, chunks)))
    except DecodeError:
        return None
    return _graphs(model)


def _parse_text(chunks: Iterator[memoryview]) -> list[dict[str, Any]] | None:
    try:
        text = b"".join(map(bytes, chunks)).decode()
        return _graphs(text_format.Parse(text, pb.SavedModel(), allow_unknown_field=True))
    except (UnicodeDecodeError, text_format.ParseError, RecursionError):
        return None


def _graphs(model: pb.SavedModel) -> list[dict[str, Any]]:
    return [
        {
            "tags": sorted(graph.meta_info_def.tags),
            "signatures": {
                name: {
                    "inputs": _tensors_to_json(signature.inputs),
                    "outputs": _tensors_to_json(signature.outputs),
                    "method_name": signature.method_name,
                }
                for name, signature in sorted(graph.signature_def.items())
                if name != INIT_SIGNATURE
            },
            "variables": any(node.op in _VARIABLE_OPS for node in graph.graph_def.node),
            "assets": sorted({asset.filename for asset in graph.asset_file_def}),
        }
        for graph in model.meta_graphs
    ]


def _serving_graph(graphs: Sequence[dict[str, Any]], version_dir: Path, tags: Collection[str]) -> dict[str, Any]:
    """The graph that has these tags and no others: TensorFlow takes no nearer one."""
    if lacking := _lacks_graph(graphs, tags):
        raise SavedModelError(f"{graph_in(version_dir) or version_dir} {lacking}")
    return next(graph for graph in graphs if graph["tags"] == sorted(set(tags)))


def _lacks_graph(graphs: Sequence[dict[str, Any]], tags: Collection[str]) -> str:
    """That no graph has exactly these tags, as the rest of a sentence; empty where one has."""
    wanted = sorted(set(tags))
    if any(graph["tags"] == wanted for graph in graphs):
        return ""
    there = "; ".join(", ".join(graph["tags"]) or "no tag" for graph in graphs) or "no graph at all"
    return f"has no graph with the tag{'s' * (len(wanted) > 1)} `{','.join(wanted)}` ({there})"


def _tensors_to_json(tensors: Mapping[str, pb.TensorInfo]) -> dict[str, Any]:
    return {name: [_dtype(info.dtype), _shape(info)] for name, info in sorted(tensors.items())}


def _tensors(found: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(dtype, None if shape is None else tuple(shape)) for name, (dtype, shape) in found.items()}


def _dtype(number: int) -> str:
    number = number - _REFERENCE if number > _REFERENCE else number
    if number not in pb.DataType.values():
        return f"type {number}"
    name = pb.DataType.Name(pb.DataType.ValueType(number))
    return _DTYPE_NAMES.get(name, name.removeprefix("DT_").lower())


def _shape(info: pb.TensorInfo) -> list[int | None] | None:
    if not info.HasField("tensor_shape") or info.tensor_shape.unknown_rank:
        return None
    return [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
