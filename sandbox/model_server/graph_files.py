"""Operations of a graph that would reach out of the container, which here is this machine.

TensorFlow Serving runs them, and a container keeps what they do inside. A model is a program of whoever exported it,
and here it runs as the person who tries it, so a model is refused that would

- write files, or connect to other machines, in anything that serving runs: its signatures, its initializer and its
  restore operation. The saver's ``SaveV2``, which most models hold and nothing that is served calls, is no reason;
- read files of other names than those the loader hands it: its assets and its variables.

Where the kernel confines the server (:mod:`sandbox.confinement`), this is the message in place of ``Permission denied``
in the middle of a request; elsewhere it is what keeps a model in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sandbox.model_server.status import unimplemented

_WRITE = frozenset(
    {
        "CalibrationStatisticsSaver",
        "CreateSummaryDbWriter",
        "CreateSummaryFileWriter",
        "DTensorSaveV2",
        "DatasetToTFRecord",
        "DistributedSave",
        "DumpTensor",
        "ExperimentalDatasetToTFRecord",
        "MergeV2Checkpoints",
        "Save",
        "SaveDataset",
        "SaveDatasetV2",
        "SaveSlices",
        "SaveV2",
        "SnapshotDataset",
        "SnapshotDatasetV2",
        "WriteFile",
    }
)
_CONNECT = frozenset(
    {
        "DataServiceDataset",
        "DataServiceDatasetV2",
        "DataServiceDatasetV3",
        "DataServiceDatasetV4",
        "FileSystemSetConfiguration",
        "RegisterDataset",
        "RegisterDatasetV2",
        "RpcClient",
        "RpcServer",
    }
)
_READ = {
    "CSVDataset": (0,),
    "CSVDatasetV2": (0,),
    "DTensorRestoreV2": (0,),
    "ExperimentalCSVDataset": (0,),
    "ExperimentalLMDBDataset": (0,),
    "ExperimentalMatchingFilesDataset": (0,),
    "ExperimentalSqlDataset": (1,),
    "FixedLengthRecordDataset": (0,),
    "FixedLengthRecordDatasetV2": (0,),
    "GenerateVocabRemapping": (0, 1),
    "InitializeTableFromTextFile": (1,),
    "InitializeTableFromTextFileV2": (1,),
    "LMDBDataset": (0,),
    "ListSnapshotChunksDataset": (0,),
    "LoadAndRemapMatrix": (0,),
    "LoadDataset": (0,),
    "MatchingFiles": (0,),
    "MatchingFilesDataset": (0,),
    "ReadFile": (0,),
    "Restore": (0,),
    "RestoreSlice": (0,),
    "RestoreV2": (0,),
    "SnapshotChunkDataset": (0,),
    "SnapshotDatasetReader": (0,),
    "SqlDataset": (1,),
    "TFRecordDataset": (0,),
    "TFRecordDatasetV2": (0,),
    "TextLineDataset": (0,),
}
"""Which inputs name files."""
_READ_FROM_QUEUE = frozenset(
    {
        "FixedLengthRecordReader",
        "FixedLengthRecordReaderV2",
        "LMDBReader",
        "TFRecordReader",
        "TFRecordReaderV2",
        "TextLineReader",
        "TextLineReaderV2",
        "WholeFileReader",
        "WholeFileReaderV2",
    }
)
_READ_BY_ATTRIBUTE = {
    "FixedUnigramCandidateSampler": "vocab_file",
    "ImmutableConst": "memory_region_name",
    "RecordInput": "file_pattern",
    "Skipgram": "filename",
}
_WRITE_UNLESS_EMPTY = {"CacheDataset": 1, "CacheDatasetV2": 1}
"""Datasets that are kept in memory where the name of a file is empty."""
KNOWN = _WRITE | _CONNECT | _READ_FROM_QUEUE | {*_READ, *_READ_BY_ATTRIBUTE, *_WRITE_UNLESS_EMPTY}

_HANDED_ON = frozenset(
    {
        "ConcatV2",
        "ExpandDims",
        "Identity",
        "IdentityN",
        "Pack",
        "ReadVariableOp",
        "Reshape",
        "Squeeze",
        "TensorSliceDataset",
    }
)
"""Operations whose strings are those of their inputs, whole."""
_ARGUMENTS_AFTER = {"PartitionedCall": 0, "StatefulPartitionedCall": 0, "If": 1, "StatelessIf": 1, "Case": 1}
_ARGUMENTS_AFTER |= {"StatelessCase": 1, "While": 0, "StatelessWhile": 0}
"""Operations that call functions, by how many inputs come before the arguments."""

_OF_ELEMENTS = frozenset({"FlatMapDataset", "InterleaveDataset", "ParallelInterleaveDatasetV4"})
"""Operations that call a function for each element of a data set."""

_LOADER, _OTHER = "loader", "other"


@dataclass(frozen=True)
class _Place:
    """A node: its own name, and that of the function it is in; empty for the graph itself."""

    function: str
    node: str


def check(meta_graph: Any, fed: Iterable[str], restore: str, init: str) -> None:
    """Refuses a model that would reach out of the container.

    Args:
        meta_graph: a ``MetaGraphDef``.
        fed: tensors the loader feeds while it restores and initializes: names of files of the model.
        restore: name of the operation that restores variables; empty for none.
        init: name of the initializer's tensor or operation; empty for none.

    Raises:
        StatusError: ``UNIMPLEMENTED``, naming an operation.
    """
    graph = _Graph(meta_graph, frozenset(map(_tensor, fed)))
    signatures = meta_graph.signature_def.values()
    served = graph.reached(tensor.name for signature in signatures for tensor in signature.outputs.values())
    started = graph.reached(name for name in (restore, init) if name)
    given = {_tensor(tensor.name) for signature in signatures for tensor in signature.inputs.values()}
    for place in sorted(served | started, key=lambda place: (place.function, place.node)):
        node = graph.nodes[place]
        why = _why(node, partial(graph.origins, place, served, given))
        if why:
            where = f"{{{{node {place.node}}}}}" + (f" of function {place.function}" if place.function else "")
            raise unimplemented(
                f"The sandbox's model server does not run operations that {why}: {node.op}, {where}. "
                "It runs models on this machine, not in a container."
            )


def _why(node: Any, origins: Callable[[int], set[str]]) -> str:
    """What an operation does that is refused; empty for nothing."""
    op = node.op
    if op in _WRITE or (op in _WRITE_UNLESS_EMPTY and origins(_WRITE_UNLESS_EMPTY[op]) - {"const:"}):
        return "write files"
    if op == "PrintV2" and any(text.startswith(b"file:") for text in _texts(node, "output_stream")):
        return "write files"
    if op.startswith("Debug") and any(_texts(node, "debug_urls")):
        return "write files"
    if op in _CONNECT:
        return "connect to other machines"
    named = op in _READ_BY_ATTRIBUTE and any(_texts(node, _READ_BY_ATTRIBUTE[op]))
    if named or op in _READ_FROM_QUEUE or any(origins(index) != {_LOADER} for index in _READ.get(op, ())):
        return "read files other than the model's assets"
    return ""


class _Graph:
    """The nodes of a graph and its functions, and how they hang together."""

    def __init__(self, meta_graph: Any, fed: frozenset[str]) -> None:
        definition = meta_graph.graph_def
        self.nodes: dict[_Place, Any] = {_Place("", node.name): node for node in definition.node}
        self._fed = fed
        self._functions: Mapping[str, Any] = {item.signature.name: item for item in definition.library.function}
        gradients = {item.function_name: item.gradient_func for item in definition.library.gradient}
        self._calls: dict[_Place, set[str]] = {}
        self._callers: dict[str, set[_Place]] = defaultdict(set)
        self._assignments: set[_Place] = set()
        for name, function in self._functions.items():
            self.nodes |= {_Place(name, node.name): node for node in function.node_def}
        for place, node in self.nodes.items():
            called = {name for name in _functions(node) if name in self._functions}
            called |= {gradients[name] for name in called if gradients.get(name) in self._functions}
            self._calls[place] = called
            for name in called:
                self._callers[name].add(place)
            if node.op in ("AssignVariableOp", "Assign"):
                self._assignments.add(place)

    def reached(self, names: Iterable[str]) -> set[_Place]:
        """Every node that may run for these tensors or operations. Of a function that is called, every node may."""
        found: set[_Place] = set()
        waiting = [_Place("", _node(name)) for name in names]
        while waiting:
            place = waiting.pop()
            if place in found or place not in self.nodes:
                continue
            found.add(place)
            waiting += [_Place(place.function, _node(name)) for name in self.nodes[place].input]
            for name in self._calls[place]:
                waiting += [_Place(name, node.name) for node in self._functions[name].node_def]
        return found

    def origins(self, place: _Place, served: set[_Place], given: set[str], index: int) -> set[str]:
        """Where an input of a node comes from: the loader, a constant, anything else.

        Args:
            served: nodes that run for requests, when the loader no longer feeds anything.
            given: tensors that requests feed.
        """
        return set(self._follow(place, index, place in served, served, given, set()))

    def _follow(
        self, place: _Place, index: int, late: bool, served: set[_Place], given: set[str], seen: set[tuple[_Place, int]]
    ) -> Iterator[str]:
        inputs = [name for name in self.nodes[place].input if not name.startswith("^")]
        if index >= len(inputs):
            yield _OTHER
            return
        if (place, index) in seen:
            return
        seen.add((place, index))

        def again(place: _Place, index: int) -> Iterator[str]:
            return self._follow(place, index, late, served, given, seen)

        name = inputs[index]
        source = _Place(place.function, _node(name))
        if place.function and (argument := self._argument(place.function, name)) is not None:
            yield from self._arguments(place.function, argument, again)
            return
        node = self.nodes.get(source)
        tensor = "" if place.function else _tensor(name)
        if node is None or tensor in given:
            yield _OTHER
        elif tensor in self._fed:
            # A placeholder has no value but what is fed; a constant has one of its own once the model is started.
            yield _OTHER if late and node.op != "Placeholder" else _LOADER
        elif node.op == "Const":
            # Numbers, such as a shape or an axis, name no file.
            yield from {f"const:{value.decode(errors='replace')}" for value in node.attr["value"].tensor.string_val}
        elif node.op in ("VarHandleOp", "VariableV2"):
            yield from self._assigned(source, served, given, seen)
        elif node.op in _HANDED_ON:
            for number, given_on in enumerate(node.input):
                if not given_on.startswith("^"):
                    yield from again(source, number)
        else:
            yield _OTHER

    def _argument(self, function: str, name: str) -> int | None:
        """Which argument of a function an input names."""
        arguments = [item.name for item in self._functions[function].signature.input_arg]
        return arguments.index(_node(name)) if _node(name) in arguments else None

    def _arguments(self, function: str, argument: int, again: Callable[[_Place, int], Iterator[str]]) -> Iterator[str]:
        for caller in self._callers[function]:
            op = self.nodes[caller].op
            if op == function:
                yield from again(caller, argument)
            elif op in _ARGUMENTS_AFTER:
                yield from again(caller, argument + _ARGUMENTS_AFTER[op])
            elif op in _OF_ELEMENTS:
                for index, name in enumerate(self.nodes[caller].input):
                    if not name.startswith("^"):
                        yield from again(caller, index)
            else:
                yield _OTHER

    def _assigned(
        self, variable: _Place, served: set[_Place], given: set[str], seen: set[tuple[_Place, int]]
    ) -> Iterator[str]:
        """What a variable may hold."""
        found = False
        for place in self._assignments:
            if self._variable(place, 0, set()) in (None, variable):
                found = True
                yield from self._follow(place, 1, place in served, served, given, seen)
        if not found:
            yield _OTHER

    def _variable(self, place: _Place, index: int, seen: set[_Place]) -> _Place | None:
        """The variable that an input is the handle of; None where it may be any."""
        inputs = self.nodes[place].input
        if place in seen or index >= len(inputs):
            return None
        seen.add(place)
        name = inputs[index]
        if place.function and (argument := self._argument(place.function, name)) is not None:
            callers = self._callers[place.function]
            if len(callers) != 1:
                return None
            (caller,) = callers
            op = self.nodes[caller].op
            offset = 0 if op == place.function else _ARGUMENTS_AFTER.get(op)
            return None if offset is None else self._variable(caller, argument + offset, seen)
        source = _Place(place.function, _node(name))
        node = self.nodes.get(source)
        if node is None:
            return None
        if node.op in ("VarHandleOp", "VariableV2"):
            return source
        return self._variable(source, 0, seen) if node.op == "Identity" else None


def _functions(node: Any) -> Iterator[str]:
    """Functions a node may call."""
    yield node.op
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for item in attribute.list.func:
            yield item.name


def _texts(node: Any, name: str) -> list[bytes]:
    """The strings of an attribute. Looking at one that is not there would make it."""
    if name not in node.attr:
        return []
    value = node.attr[name]
    return [value.s] if value.HasField("s") else list(value.list.s)


def _node(name: str) -> str:
    return name.lstrip("^").partition(":")[0]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
