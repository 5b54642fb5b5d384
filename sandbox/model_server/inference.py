"""Predict, Classify, Regress and MultiInference on a loaded model, for REST, gRPC and warm-up alike.

Source: ``servables/tensorflow/{predict_util,classifier,regressor,multi_inference,util}.cc``,
``tensorflow/cc/saved_model/util.cc`` (``GetInputValues``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from sandbox.model_server.loader import SavedModel
from sandbox.model_server.metrics import EXAMPLE_COUNT_TOTAL, EXAMPLE_COUNTS, RUNTIME_LATENCY
from sandbox.model_server.status import Code, StatusError, failed_precondition, invalid_argument, unimplemented
from sandbox.model_server.tensors import Array, TensorError, from_proto, to_proto
from tfserving.saved_model import SERVING_SIGNATURE

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PREDICT_METHOD = "tensorflow/serving/predict"


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def set_model_spec(spec: Any, name: str, signature: str, version: int | None) -> None:
    """Fills the ``ModelSpec`` of a response: the version that answered, never the label asked for."""
    spec.name = name
    spec.signature_name = signature or SERVING_SIGNATURE
    if version is not None:
        spec.version.value = version


def predict(
    model: SavedModel,
    version: int | None,
    request: Any,
    response: Any,
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
    as_content: bool = False,
) -> None:
    """Answers a ``PredictRequest`` into a ``PredictResponse``.

    Raises:
        StatusError: unknown signature, wrong inputs or filter, or an error of the runtime.
    """
    name = request.model_spec.signature_name or SERVING_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    set_model_spec(response.model_spec, request.model_spec.name, name, version)
    outputs = run_predict(
        model,
        signature,
        request.inputs,
        request.output_filter,
        model_name=request.model_spec.name,
        timeout_ms=timeout_ms,
        check_method=check_method,
    )
    try:
        for alias, value in outputs.items():
            to_proto(value, response.outputs[alias], as_content)
    except TensorError as error:
        raise unimplemented(str(error)) from None


def run_predict(
    model: SavedModel,
    signature: Any,
    inputs: Mapping[str, Any],
    output_filter: Iterable[str] = (),
    *,
    model_name: str,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> dict[str, Array]:
    """Runs a signature.

    Args:
        inputs: alias to ``TensorProto``, or to an array that is used as it is.

    Returns:
        Output alias to value.

    Raises:
        StatusError: as ``predict``.
    """
    if check_method and signature.method_name not in (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD):
        raise StatusError(
            Code.INTERNAL,
            "Expected prediction signature method_name to be one of {"
            f"{PREDICT_METHOD}, {CLASSIFY_METHOD}, {REGRESS_METHOD}}}. Was: {signature.method_name}",
        )
    feeds = _input_values(signature, inputs)
    fetches: dict[str, str] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}."
            )
        if alias in fetches:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        fetches[alias] = signature.outputs[alias].name
    if not fetches:
        fetches = {alias: signature.outputs[alias].name for alias in sorted(signature.outputs)}
    values = _timed_run(model, feeds, list(fetches.values()), timeout_ms, model_name, "Predict")
    return dict(zip(fetches, values, strict=True))


def _timed_run(
    model: SavedModel, feeds: Mapping[str, Array], fetches: list[str], timeout_ms: int, model_name: str, api: str
) -> list[Array]:
    started = time.monotonic()
    values = model.run(feeds, fetches, timeout_ms)
    RUNTIME_LATENCY.add((time.monotonic() - started) * 1e6, model_name, api, "TF1")
    return values


def _input_values(signature: Any, inputs: Mapping[str, Any]) -> dict[str, Array]:
    expected, sent = set(signature.inputs), set(inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{_joined(sent)}}}) != "
            f"len({{{_joined(expected)}}}). Sent extra: {{{_joined(sent - expected)}}}. Missing but required: "
            f"{{{_joined(expected - sent)}}}."
        )
    feeds: dict[str, Array] = {}
    for alias, info in signature.inputs.items():
        if alias in inputs:
            value = inputs[alias]
        elif alias in signature.defaults:
            value = signature.defaults[alias]
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_joined(sent)}}}, or default input alias set: "
                f"{_joined(signature.defaults)}"
            )
        if not isinstance(value, np.ndarray):
            try:
                value = from_proto(value)
            except TensorError:
                raise invalid_argument(f"tensor parsing error: {alias}") from None
        feeds[info.name] = value
    if sent - expected:
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {_joined(sent & expected)}, request input: "
            f"{_joined(sent)}"
        )
    return feeds


# Classify and Regress


def classify(
    model: SavedModel,
    version: int | None,
    request: Any,
    response: Any,
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> None:
    """Answers a ``ClassificationRequest``.

    Raises:
        StatusError: the signature is no classifier, the input is empty, or an error of the runtime.
    """
    signature = _named(model, request.model_spec.signature_name)
    feed, fetches = _classify_tensors(signature, check_method)
    set_model_spec(response.model_spec, request.model_spec.name, request.model_spec.signature_name, version)
    examples = _examples(request.input)
    values = _timed_run(model, {feed: examples}, fetches, timeout_ms, request.model_spec.name, "Classify")
    _classifications(signature, len(examples), dict(zip(fetches, values, strict=True)), response.result)


def regress(
    model: SavedModel,
    version: int | None,
    request: Any,
    response: Any,
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> None:
    """Answers a ``RegressionRequest``.

    Raises:
        StatusError: the signature is no regressor, the input is empty, or an error of the runtime.
    """
    signature = _named(model, request.model_spec.signature_name)
    feed, fetches = _regress_tensors(signature, check_method)
    set_model_spec(response.model_spec, request.model_spec.name, request.model_spec.signature_name, version)
    examples = _examples(request.input)
    values = _timed_run(model, {feed: examples}, fetches, timeout_ms, request.model_spec.name, "Regress")
    _regressions(len(examples), values[0], response.result)


def multi_inference(
    model: SavedModel,
    version: int | None,
    request: Any,
    response: Any,
    *,
    timeout_ms: int = 0,
    check_method: bool = False,
) -> None:
    """Answers a ``MultiInferenceRequest``: several signatures on one input in one run.

    Raises:
        StatusError: as ``classify``; ``UNIMPLEMENTED`` for another method.
    """
    feeds: set[str] = set()
    fetches: set[str] = set()
    seen: set[str] = set()
    tasks: list[tuple[Any, Any]] = []
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or SERVING_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = model.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        tensors = _method_tensors(task.method_name)
        feed, names = tensors(signature, check_method)
        feeds.add(feed)
        fetches.update(names)
        tasks.append((task, signature))
    examples = _examples(request.input)
    ordered = sorted(fetches)
    values = dict(zip(ordered, model.run(dict.fromkeys(feeds, examples), ordered, timeout_ms), strict=True))
    count = len(examples)
    EXAMPLE_COUNTS.add(count, request.tasks[0].model_spec.name)
    EXAMPLE_COUNT_TOTAL.add(request.tasks[0].model_spec.name, amount=count)
    for task, signature in tasks:
        result = response.results.add()
        if task.method_name == CLASSIFY_METHOD:
            _classifications(signature, count, values, result.classification_result)
        else:
            _regressions(count, values[signature.outputs["outputs"].name], result.regression_result)
        set_model_spec(result.model_spec, task.model_spec.name, task.model_spec.signature_name, version)


def _method_tensors(method: str) -> Callable[[Any, bool], tuple[str, list[str]]]:
    if method == CLASSIFY_METHOD:
        return _classify_tensors
    if method == REGRESS_METHOD:
        return _regress_tensors
    raise unimplemented(f"Unsupported signature method_name: {method}")


def _named(model: SavedModel, name: str) -> Any:
    name = name or SERVING_SIGNATURE
    if name not in model.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return model.signatures[name]


def _classify_tensors(signature: Any, check_method: bool) -> tuple[str, list[str]]:
    if check_method and signature.method_name != CLASSIFY_METHOD:
        raise invalid_argument(
            f"Expected classification signature method_name to be {CLASSIFY_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
    fetches = [signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs]
    if not fetches:
        raise invalid_argument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature '
            f"was: {signature}"
        )
    return signature.inputs["inputs"].name, fetches


def _regress_tensors(signature: Any, check_method: bool) -> tuple[str, list[str]]:
    if check_method and signature.method_name != REGRESS_METHOD:
        raise invalid_argument(
            f"Expected regression signature method_name to be {REGRESS_METHOD}. Was: {signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    return signature.inputs["inputs"].name, [signature.outputs["outputs"].name]


def _examples(source: Any) -> Array:
    """Serialized examples, the context's bytes before each: two concatenated messages parse as one merged message."""
    kind = source.WhichOneof("kind")
    context = b""
    items: Any = ()
    if kind == "example_list":
        items = source.example_list.examples
    elif kind == "example_list_with_context":
        items = source.example_list_with_context.examples
        context = source.example_list_with_context.context.SerializeToString()
    if not items:
        raise invalid_argument("Input is empty.")
    result = np.empty(len(items), object)
    result[:] = [context + item.SerializeToString() for item in items]
    return result


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _classifications(signature: Any, count: int, values: Mapping[str, Array], result: Any) -> None:
    found = {
        alias: np.asarray(values[signature.outputs[alias].name])
        for alias in ("classes", "scores")
        if alias in signature.outputs
    }
    for alias, array in found.items():
        if array.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        wanted, name = (np.dtype(object), "DT_STRING") if alias == "classes" else (np.dtype(np.float32), "DT_FLOAT")
        if array.dtype != wanted:
            raise invalid_argument(f"Expected {alias} Tensor of {name}. Got: {array.dtype}")
        if len(array) != count:
            raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {len(array)}")
    if len({array.shape[1] for array in found.values()}) > 1:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {found['classes'].shape[1]} vs. "
            f"{found['scores'].shape[1]}"
        )
    for row in range(count):
        item = result.classifications.add()
        for column in range(next(iter(found.values())).shape[1]):
            one = item.classes.add()
            if "classes" in found:
                one.label = found["classes"][row, column]
            if "scores" in found:
                one.score = float(found["scores"][row, column])


def _regressions(count: int, values: Array, result: Any) -> None:
    values = np.asarray(values)
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if len(values) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(values)}")
    if values.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {values.dtype}")
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
