"""Warm-up: requests recorded beside a model, replayed before it becomes available.

Source: ``servables/tensorflow/saved_model_warmup.cc``, ``saved_model_warmup_util.cc``.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from sandbox.model_server import inference, metrics
from sandbox.model_server.api import Api
from sandbox.model_server.loader import SavedModel
from sandbox.model_server.runtime import runtime
from sandbox.model_server.status import Code, StatusError, invalid_argument, unimplemented

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
_log = logging.getLogger(__name__)


def replay(model: SavedModel, directory: Path, path: str, iterations: int = 1) -> None:
    """Runs every recorded request, if there are any. An error in any of them fails the load.

    Args:
        directory: the version directory.
        path: its name in messages.
        iterations: times each request is run.

    Raises:
        StatusError: a record that is no ``PredictionLog``, of an unsupported kind, that fails, or one too many.
    """
    shown = f"{path}/{FILE}"
    if not (directory / FILE).is_file():
        _log.info("No warmup data file found at %s", shown)
        return
    _log.info("Starting to read warmup data for model at %s", shown)
    api = Api()
    started = time.monotonic()
    count = 0
    try:
        for record in runtime().tf_record.tf_record_iterator(str(directory / FILE)):
            log = api.prediction_log_pb2.PredictionLog()
            try:
                log.ParseFromString(record)
            except Exception:
                raise invalid_argument(f"Failed to parse warmup record: {record!r} from {shown}") from None
            for _ in range(iterations):
                _run(api, model, log)
            count += 1
            if count > MAX_RECORDS:
                raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {shown}")
    except runtime().errors.DataLossError as error:
        raise StatusError(
            Code.DATA_LOSS, f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from None
    elapsed = (time.monotonic() - started) * 1e6
    metrics.WARMUP_LATENCY.add(elapsed, path, "OK")
    metrics.WARMUP_RECORDS.add(path, "OK", amount=count)
    _log.info(
        "Finished reading warmup data for model at %s. Number of warmup records read: %d. Elapsed time "
        "(microseconds): %d.",
        shown,
        count,
        elapsed,
    )


def _run(api: Api, model: SavedModel, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        inference.predict(model, None, log.predict_log.request, api.predict_pb2.PredictResponse())
    elif kind == "classify_log":
        inference.classify(model, None, log.classify_log.request, api.classification_pair()[1])
    elif kind == "regress_log":
        inference.regress(model, None, log.regress_log.request, api.regression_pair()[1])
    elif kind == "multi_inference_log":
        response = api.inference_pb2.MultiInferenceResponse()
        inference.multi_inference(model, None, log.multi_inference_log.request, response)
    elif kind is not None:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise unimplemented(f"Unsupported log_type for warmup: {number}")
