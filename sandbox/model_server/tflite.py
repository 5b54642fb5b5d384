"""Runs ``model.tflite`` in place of a graph, as the server does with ``--prefer_tflite_model``.

Source: ``tflite_session.cc`` and ``saved_model_bundle_factory.cc`` of TensorFlow Serving. Where the file is there,
nothing else of the version is read. There is one signature, ``serving_default``, whose inputs and outputs have the
names and the sizes of the model's tensors. A request of another size resizes the inputs. Builtin operations alone are
linked in. What differs: a SignatureDef in the file's metadata, which renames inputs and outputs and which today's
converter does not write, is not read; there is one interpreter, so requests of a version go one by one; and they are
not batched.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sandbox.model_server.loader import SavedModel
from sandbox.model_server.runtime import runtime
from sandbox.model_server.status import Code, StatusError
from sandbox.model_server.tensors import Array
from tfserving.saved_model import SERVING_SIGNATURE

_PREDICT = "tensorflow/serving/predict"


class TfLiteModel(SavedModel):
    """A loaded version.

    Attributes:
        signatures: ``SignatureDef`` by name.
    """

    def __init__(self, file: Path) -> None:
        """Loads it.

        Raises:
            StatusError: it is no such model, or needs operations that are not linked in.
        """
        runtime()
        module: Any = importlib.import_module("tensorflow.lite.python.interpreter")
        content = file.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its module moves to another package
                self._interpreter = module.Interpreter(
                    model_content=content,
                    experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                )
        except ValueError as error:
            if "Flatbuffer" in str(error) or not content:
                raise StatusError(Code.INVALID_ARGUMENT, "Cannot build FlatBufferModel from buffer.") from None
            raise StatusError(Code.INTERNAL, "Cannot build Interpreter from buffer.") from None
        self._allocate("Cannot allocator tensors in Interpreter.")  # as the server writes it
        self._lock = threading.Lock()
        self._inputs = {each["name"]: each for each in self._interpreter.get_input_details()}
        self._outputs = {each["name"]: each for each in self._interpreter.get_output_details()}
        signature = runtime().meta_graph_pb2.SignatureDef(method_name=_PREDICT)
        for tensors, details in ((signature.inputs, self._inputs), (signature.outputs, self._outputs)):
            for name, each in details.items():
                tensors[name].CopyFrom(_tensor_info(name, each))
        super().__init__(self._interpreter, {SERVING_SIGNATURE: signature})

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int = 0) -> list[Array]:
        """Runs the model; it has no time limit.

        Raises:
            StatusError: with the server's words.
        """
        with self._lock:
            resized = False
            values = []
            for name, value in feeds.items():
                each = self._detail(self._inputs, name, "Missing input TFLite tensor: ")
                values.append((each["index"], np.asarray(value)))
                now = self._interpreter.get_tensor(each["index"]).shape
                if np.shape(value) != now:
                    self._interpreter.resize_tensor_input(each["index"], np.shape(value))
                    resized = True
            if resized:
                self._allocate("Failed to AllocateTensors() due to change in input tensor sizes")
            try:
                for index, value in values:
                    self._interpreter.set_tensor(index, value)
                self._interpreter.invoke()
            except (ValueError, RuntimeError):
                raise StatusError(Code.INTERNAL, "Failed to run interpreter.") from None
            found = (self._detail(self._outputs, name, "Missing output TFLite tensor: ") for name in fetches)
            return [np.array(self._interpreter.get_tensor(each["index"])) for each in found]

    def close(self) -> None:
        """Nothing: the model goes with its last reference."""

    def _allocate(self, message: str) -> None:
        try:
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            raise StatusError(Code.INTERNAL, message) from None

    @staticmethod
    def _detail(details: Mapping[str, Any], name: str, message: str) -> Any:
        # Early converters left ":0" out.
        found = details.get(name) or details.get(name.partition(":")[0])
        if found is None:
            raise StatusError(Code.INVALID_ARGUMENT, f"{message}{name}")
        return found


def _tensor_info(name: str, detail: Mapping[str, Any]) -> Any:
    dtypes: Any = importlib.import_module("tensorflow.python.framework.dtypes")
    info = runtime().meta_graph_pb2.TensorInfo(name=name)
    info.dtype = dtypes.as_dtype(detail["dtype"]).as_datatype_enum
    for size in detail["shape"]:
        info.tensor_shape.dim.add(size=int(size))
    return info
