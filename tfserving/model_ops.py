"""The operations a SavedModel needs, and which of them TensorFlow itself does not have.

A server fails to load a version whose operations are not linked into it (``Op type not registered 'X' in binary running
on ...``). ``stock_ops.txt`` lists the operations of TensorFlow 2.21; each SavedModel lists those it uses, of functions
too, in ``MetaInfoDef.stripped_op_list``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from tfserving import saved_model
from tfserving.errors import SavedModelError
from tfserving.manifest import HashCache
from tfserving.wording import some_of

# By the names of their operations; TensorFlow Serving's own images have both linked in.
_LIBRARIES = {
    "TensorFlow Text": re.compile(
        r"TFText|Sentencepiece|Wordpiece|FastWordpiece|FastBertNormalize|RegexSplit|CaseFoldUTF8|NormalizeUTF8"
        r"|WhitespaceTokenize|UnicodeScriptTokenize|SplitMergeTokenize|ConstrainedSequence|RougeL|NgramsStringJoin"
        r"|SentenceFragments"
    ),
    "TensorFlow Decision Forests": re.compile(r"SimpleML"),
}
_LENGTH_DELIMITED = 2
_SKIPPED = {1: 8, 5: 4}  # wire types of fixed length, with their bytes


def warnings(model_dir: Path, cache: HashCache | None = None, only: Collection[int] | None = None) -> list[str]:
    """Versions that need operations which the server's image may lack.

    Args:
        model_dir: the directory with the version directories.
        cache: spares reading files that were read before and have not changed.
        only: the versions that matter; None: all.
    """
    cache = cache or HashCache()
    try:
        versions = saved_model.versions(model_dir)
    except SavedModelError:
        return []
    found = []
    for version in versions:
        if only is not None and version.number not in only:
            continue
        missing = sorted(operations(version.path, cache) - _stock())
        if not missing:
            continue
        shown = some_of(missing, 5)
        libraries = [
            name for name, pattern in _LIBRARIES.items() if all(pattern.match(operation) for operation in missing)
        ]
        where = (
            f"those of {libraries[0]}, which TensorFlow Serving's own images have and others may lack"
            if libraries
            else "the image must have them linked in, or the version does not load (`Op type not registered`)"
        )
        found.append(f"version {version.number} needs operations that TensorFlow itself lacks ({shown}): {where}")
    return found


def operations(version_dir: Path, cache: HashCache | None = None) -> frozenset[str]:
    """Names of the operations that a version says it uses; empty where it does not say, or cannot be read.

    Args:
        version_dir: the version's directory.
        cache: spares reading a file that was read before and has not changed.
    """
    graph = saved_model.graph_in(version_dir)
    if graph is None or graph.name != saved_model.GRAPH_FILE:
        return frozenset()
    try:
        found, _ = (cache or HashCache()).derive(graph, "operations", _listed)
    except SavedModelError:
        return frozenset()
    return frozenset(found)


def _listed(chunks: Iterator[memoryview]) -> list[str]:
    try:
        return sorted(set(_operations(memoryview(b"".join(chunks)))))
    except ValueError:
        return []


def _operations(content: memoryview) -> list[str]:
    # SavedModel.meta_graphs, MetaGraphDef.meta_info_def, MetaInfoDef.stripped_op_list, OpList.op, OpDef.name
    parts = [content]
    for number in (2, 1, 2, 1, 1):
        parts = [inner for part in parts for inner in _fields(part, number)]
    return [bytes(part).decode("utf-8", "replace") for part in parts]


def _fields(content: memoryview, number: int) -> Iterator[memoryview]:
    """The length-delimited fields of a message with this number.

    Raises:
        ValueError: it is no message.
    """
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        kind = key & 7
        if kind == 0:
            _, position = _varint(content, position)
        elif kind == _LENGTH_DELIMITED:
            length, position = _varint(content, position)
            if position + length > len(content):
                raise ValueError("a field ends beyond its message")
            if key >> 3 == number:
                yield content[position : position + length]
            position += length
        elif kind in _SKIPPED:
            position += _SKIPPED[kind]
        else:
            raise ValueError(f"wire type {kind}")


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(content):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number ends beyond its message")


@cache
def _stock() -> frozenset[str]:
    return frozenset(Path(__file__).with_name("stock_ops.txt").read_text(encoding="utf-8").split())
