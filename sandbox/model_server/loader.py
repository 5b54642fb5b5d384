"""Loads a SavedModel as TensorFlow Serving's C++ loader does and runs its signatures.

Source: ``tensorflow/cc/saved_model/{reader,loader,loader_util}.cc``. The graph is imported, variables are restored by
the graph's own restore op (a missing ``variables/`` is no error: the model loads and fails at inference), the init op
runs, then warm-up records.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sandbox.confinement import object_path
from sandbox.model_server import graph_files
from sandbox.model_server.batching import PARAMETERS_FILE, Batching
from sandbox.model_server.config import read_text_proto
from sandbox.model_server.metrics import LOAD_ATTEMPTS, LOAD_LATENCY
from sandbox.model_server.mounts import Mounts
from sandbox.model_server.runtime import runtime
from sandbox.model_server.states import ServableId
from sandbox.model_server.status import Code, StatusError, failed_precondition, not_found
from sandbox.model_server.tensors import Array
from tfserving.protos import tf_serving_pb2
from tfserving.saved_model import TFLITE_FILE

OP_LIBRARIES = ("tensorflow_text", "tensorflow_decision_forests")
"""Packages that register operations which TensorFlow Serving is linked with. None of them is required."""

INIT_OP = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoaderOptions:
    """How SavedModels are loaded.

    Attributes:
        tags: the tags of the meta graph to load.
        intra_op_threads: threads within an operation; 0 lets TensorFlow take every processor.
        inter_op_threads: threads across operations; likewise.
        session_config: text of a ``ConfigProto`` to start from.
        batching: ``BatchingParameters`` of every model; None without batching.
        per_model_batching: whether each version brings its own instead, in a file of its own, or goes without.
        tflite: loads ``model.tflite``, which then goes before a graph; ``None``: nothing looks for one.
    """

    tags: frozenset[str] = frozenset({"serve"})
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    session_config: str = ""
    batching: Any = None
    per_model_batching: bool = False
    tflite: Callable[[Path], SavedModel] | None = None


class SavedModel:
    """A loaded version.

    Attributes:
        signatures: ``SignatureDef`` by name.
    """

    def __init__(self, session: Any, signatures: Mapping[str, Any], batching: Batching | None = None) -> None:
        self.signatures = signatures
        self._session = session
        self._batching = batching

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int = 0) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: tensor name (``x:0``) to value.
            fetches: tensor names, repeats allowed.
            timeout_ms: 0 for none.

        Raises:
            StatusError: whatever the runtime says, with its code.
        """
        names = list(dict.fromkeys(fetches))

        def run(given: Mapping[str, Array]) -> list[Array]:
            return _run(self._session, given, names, timeout_ms=timeout_ms)

        with _runtime_errors():
            found = self._batching.run(feeds, run) if self._batching else run(feeds)
            values = dict(zip(names, found, strict=True))
        return [values[name] for name in fetches]

    def close(self) -> None:
        """Frees the session. No request may be running."""
        self._session.close()


def _run(
    session: Any,
    feeds: Mapping[str, Array],
    fetches: Sequence[str] = (),
    targets: Sequence[str] = (),
    timeout_ms: int = 0,
) -> list[Array]:
    """One ``TF_SessionRun``, as TensorFlow Serving makes it.

    ``Session.run`` in front of it insists on the static shapes of placeholders, which TensorFlow Serving does not, and
    adds Python's stack to its errors.
    """
    client = runtime().client
    options = None
    if timeout_ms:
        text = runtime().config_pb2.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
        options = client.TF_NewBufferFromString(text)
    try:
        values = session._call_tf_sessionrun(
            options,
            {_output(session, name): value for name, value in feeds.items()},
            [_output(session, name) for name in fetches],
            [session.graph.get_operation_by_name(name.partition(":")[0])._c_op for name in targets],
            None,
        )
    finally:
        if options is not None:
            client.TF_DeleteBuffer(options)
    # A string of rank 0 arrives as bytes, which NumPy would cut at trailing zeros.
    return [np.array(value, object) if isinstance(value, bytes) else np.asarray(value) for value in values]


def _output(session: Any, name: str) -> Any:
    try:
        return session.graph.get_tensor_by_name(name)._as_tf_output()
    except (KeyError, ValueError):
        message = f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
        raise StatusError(Code.INVALID_ARGUMENT, message) from None


@contextmanager
def _runtime_errors(conceal: Callable[[str], str] = str) -> Any:
    """Turns the runtime's exceptions into statuses."""
    try:
        op_error = runtime().errors.OpError
    except ImportError as error:
        raise StatusError(Code.INTERNAL, str(error)) from None
    try:
        yield
    except StatusError:
        raise
    except op_error as error:
        raise StatusError(Code(error.error_code), conceal(error.message)) from None
    except (ValueError, TypeError) as error:
        raise StatusError(Code.INVALID_ARGUMENT, conceal(str(error))) from None
    except Exception as error:
        _log.exception("unexpected error")
        raise StatusError(Code.INTERNAL, conceal(f"{type(error).__name__}: {error}")) from None


WarmUp = Callable[[SavedModel, Path, str], None]


class SavedModelLoader:
    """Loader of one version, for the manager.

    Args:
        path: the version directory as the container sees it.
        warm_up: called with the model, the local directory and ``path`` before the version becomes available.
    """

    def __init__(
        self, servable: ServableId, path: str, mounts: Mounts, options: LoaderOptions, warm_up: WarmUp | None
    ) -> None:
        self._id = servable
        self._path = path
        self._mounts = mounts
        self._options = options
        self._warm_up = warm_up
        self._model: SavedModel | None = None

    def load(self) -> SavedModel:
        """Loads and warms up.

        Raises:
            StatusError: with TensorFlow Serving's message where the files are at fault.
        """
        local = self._mounts.local(self._path)
        if not local.is_dir():
            why = f"{self._path}; Not a directory" if local.exists() else f"{self._path}; No such file or directory"
            raise failed_precondition(f"Error while attempting to reserve resources to load servable {self._id}: {why}")
        started = time.monotonic()
        try:
            with _runtime_errors(self._mounts.conceal):
                model = load_saved_model(local, self._path, self._options)
                try:
                    if self._warm_up is not None:
                        self._warm_up(model, local, self._path)
                except Exception:
                    model.close()
                    raise
        except StatusError:
            LOAD_ATTEMPTS.add(self._path, "fail")
            raise
        LOAD_ATTEMPTS.add(self._path, "success")
        LOAD_LATENCY.add(self._path, amount=round((time.monotonic() - started) * 1e6))
        self._model = model
        return model

    def unload(self) -> None:
        """Frees the model."""
        if self._model is not None:
            self._model.close()
            self._model = None


def load_saved_model(directory: Path, path: str, options: LoaderOptions) -> SavedModel:
    """Reads and starts a SavedModel.

    Args:
        directory: where it lies.
        path: its name in messages.

    Raises:
        StatusError: missing or unreadable ``saved_model.pb``, no meta graph with these tags.
        Exception: whatever the runtime raises.
    """
    tf = runtime()
    if options.tflite is not None and (lite := directory / TFLITE_FILE).is_file():
        return options.tflite(lite)
    _log.info("Reading SavedModel from: %s", path)
    meta_graph = _find_meta_graph(_read(directory, path), options.tags)
    assets, init = _asset_feeds(meta_graph, directory), _init_op(meta_graph)
    saver = meta_graph.saver_def
    files = [*assets, *filter(None, [saver.filename_tensor_name])]
    graph_files.check(meta_graph, files, saver.restore_op_name, init)
    try:
        graph = _import(meta_graph)
    except tf.errors.NotFoundError as error:
        if "Op type not registered" not in error.message or not _load_op_libraries():
            raise
        graph = _import(meta_graph)
    session = tf.session.Session(graph=graph, config=_session_config(options))
    try:
        session._extend_graph()  # hands the graph, complete by now, to the runtime
        _restore(session, meta_graph, directory, path, assets)
        if init:
            _run_once(session, init, assets)
    except Exception:
        session.close()
        raise
    try:
        batching = _batching(directory, path, options)
    except StatusError:
        session.close()
        raise
    return SavedModel(session, dict(meta_graph.signature_def), batching)


def _batching(directory: Path, path: str, options: LoaderOptions) -> Batching | None:
    if options.batching is None:
        return None
    parameters = options.batching
    if options.per_model_batching:
        if not (directory / PARAMETERS_FILE).is_file():
            return None
        where = f"{path}/{PARAMETERS_FILE}"
        parameters = read_text_proto(where, directory / PARAMETERS_FILE, tf_serving_pb2.BatchingParameters())
    return Batching.of(parameters)


def _import(meta_graph: Any) -> Any:
    tf = runtime()
    graph = tf.ops.Graph()
    with graph.as_default():
        tf.importer.import_graph_def(
            meta_graph.graph_def, name="", producer_op_list=meta_graph.meta_info_def.stripped_op_list
        )
    return graph


def _load_op_libraries() -> list[str]:
    """Registers the operations that the real server has linked in, of those libraries that are installed.

    Only once a model needs one: they import the whole of TensorFlow.

    Returns:
        names of the libraries there are.
    """
    loaded = []
    for name in OP_LIBRARIES:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(name)
        except Exception as error:
            _log.warning("%s cannot be loaded: %s", name, error)
        else:
            loaded.append(name)
    return loaded


def _read(directory: Path, path: str) -> Any:
    saved_model = runtime().saved_model_pb2.SavedModel()
    binary, text = directory / "saved_model.pb", directory / "saved_model.pbtxt"
    if binary.is_file():
        try:
            saved_model.ParseFromString(binary.read_bytes())
        except Exception:
            raise StatusError(Code.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto") from None
    elif text.is_file():
        from google.protobuf import text_format

        try:
            text_format.Parse(text.read_bytes(), saved_model)
        except (text_format.ParseError, ValueError):
            raise StatusError(Code.DATA_LOSS, f"Can't parse {path}/saved_model.pbtxt as text proto") from None
    else:
        raise not_found(
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
            "Check that the directory exists and that you have the right permissions for accessing it."
        )
    return saved_model


def _find_meta_graph(saved_model: Any, tags: frozenset[str]) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if frozenset(meta_graph.meta_info_def.tags) == tags:
            return meta_graph
    raise not_found(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect available "
        "tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _session_config(options: LoaderOptions) -> Any:
    config = runtime().config_pb2.ConfigProto()
    if options.session_config:
        from google.protobuf import text_format

        text_format.Parse(options.session_config, config)
    config.intra_op_parallelism_threads = options.intra_op_threads
    config.inter_op_parallelism_threads = options.inter_op_threads
    return config


def _asset_feeds(meta_graph: Any, directory: Path) -> dict[str, str]:
    assets = list(meta_graph.asset_file_def)
    if not assets and "saved_model_assets" in meta_graph.collection_def:
        for item in meta_graph.collection_def["saved_model_assets"].any_list.value:
            asset = runtime().meta_graph_pb2.AssetFileDef()
            item.Unpack(asset)
            assets.append(asset)
    for asset in assets:
        if object_path(directory, asset.filename) is None:
            raise failed_precondition(f"The asset file name {asset.filename!r} is no path inside the model's assets")
    return {asset.tensor_info.name: str(directory / "assets" / asset.filename) for asset in assets}


def _restore(session: Any, meta_graph: Any, directory: Path, path: str, assets: Mapping[str, str]) -> None:
    if not (directory / "variables" / "variables.index").exists():
        _log.info(
            "The specified SavedModel has no variables; no checkpoints were restored. File does not exist: "
            "%s/variables/variables.index",
            path,
        )
        return
    saver = meta_graph.saver_def
    _log.info("Restoring SavedModel bundle.")
    prefix = str(directory / "variables" / "variables")
    _run_once(session, saver.restore_op_name, {saver.filename_tensor_name: prefix, **assets})


def _run_once(session: Any, operation: str, feeds: Mapping[str, str]) -> None:
    """Runs an operation for its effect."""
    _run(session, {name: np.array(value.encode(), object) for name, value in feeds.items()}, targets=[operation])


def _init_op(meta_graph: Any) -> str:
    if INIT_OP in meta_graph.signature_def:
        return str(meta_graph.signature_def[INIT_OP].outputs[INIT_OP].name)
    for collection in _INIT_COLLECTIONS:
        if collection in meta_graph.collection_def:
            names = meta_graph.collection_def[collection].node_list.value
            if names:
                return str(names[0])
    return ""
