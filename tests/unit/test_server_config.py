"""Batching and monitoring files, read back as the server reads them."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st

from tfserving.errors import ConfigError, ModelConfigError
from tfserving.protos import tf_serving_pb2 as pb
from tfserving.server_config import METRICS_PATH, render_batching, render_monitoring


def batching(params: dict[str, Any]) -> pb.BatchingParameters:
    return text_format.Parse(render_batching(params), pb.BatchingParameters())


def monitoring(params: dict[str, Any] | None = None) -> pb.PrometheusConfig:
    return text_format.Parse(render_monitoring(params), pb.MonitoringConfig()).prometheus_config


def test_every_batching_parameter_reaches_the_server() -> None:
    read = batching(
        {
            "max_batch_size": 128,
            "batch_timeout_micros": 0,
            "max_enqueued_batches": 1000000,
            "num_batch_threads": 8,
            "thread_pool_name": "it's 'ours'",
            "allowed_batch_sizes": [1, 64, 128],
            "pad_variable_length_inputs": True,
            "enable_large_batch_splitting": True,
            "max_execution_batch_size": 64,
        }
    )
    assert read.max_batch_size.value == 128
    assert read.HasField("batch_timeout_micros")
    assert read.batch_timeout_micros.value == 0
    assert read.max_enqueued_batches.value == 1000000
    assert read.num_batch_threads.value == 8
    assert read.thread_pool_name.value == "it's 'ours'"
    assert list(read.allowed_batch_sizes) == [1, 64, 128]
    assert read.pad_variable_length_inputs is True
    assert read.enable_large_batch_splitting.value is True
    assert read.max_execution_batch_size.value == 64


def test_what_is_not_given_keeps_the_servers_default() -> None:
    assert batching({}) == pb.BatchingParameters()
    read = batching({"max_batch_size": 8, "enable_large_batch_splitting": False})
    assert {field.name for field, _ in read.ListFields()} == {"max_batch_size", "enable_large_batch_splitting"}


@given(st.sets(st.integers(1, 2**40), min_size=1, max_size=5).map(sorted))
def test_numbers_of_a_struct_are_written_as_integers(sizes: list[int]) -> None:
    text = render_batching({"max_batch_size": float(sizes[-1]), "allowed_batch_sizes": [float(size) for size in sizes]})
    read = text_format.Parse(text, pb.BatchingParameters())
    assert (read.max_batch_size.value, list(read.allowed_batch_sizes)) == (sizes[-1], sizes)


@pytest.mark.parametrize(
    ("params", "path", "said"),
    [
        ({"max_batchsize": 8}, "batching.max_batchsize", "max_batch_size"),
        ({"max_batch_size": 0}, "batching.max_batch_size", "1 or more"),
        ({"max_batch_size": 8.5}, "batching.max_batch_size", "1 or more"),
        ({"max_batch_size": True}, "batching.max_batch_size", "1 or more"),
        ({"pad_variable_length_inputs": 1}, "batching.pad_variable_length_inputs", "true or false"),
        ({"thread_pool_name": 3}, "batching.thread_pool_name", "text"),
        ({"allowed_batch_sizes": []}, "batching.allowed_batch_sizes", "whole numbers"),
        (
            {"max_batch_size": 64, "allowed_batch_sizes": [8, 32]},
            "batching.allowed_batch_sizes",
            "the last allowed batch size is 32, max_batch_size is 64: no model would load",
        ),
        ({"max_batch_size": 8, "allowed_batch_sizes": [4, 2, 8]}, "batching.allowed_batch_sizes", "ascending order"),
        ({"allowed_batch_sizes": [8]}, "batching.allowed_batch_sizes", "max_batch_size is 1000"),
    ],
)
def test_batching_parameters_with_which_no_model_would_load_are_refused(
    params: dict[str, Any], path: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        render_batching(params)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert said in str(problem)


def test_a_number_the_file_cannot_hold_is_refused() -> None:
    with pytest.raises(ModelConfigError, match="batching parameters file: line 1"):
        render_batching({"max_batch_size": 2**63})


def test_monitoring_is_on_at_the_servers_own_path() -> None:
    assert monitoring() == pb.PrometheusConfig(enable=True, path=METRICS_PATH)
    assert monitoring({"path": "/it's/here"}) == pb.PrometheusConfig(enable=True, path="/it's/here")
    assert monitoring({"enable": False}).enable is False


@pytest.mark.parametrize(
    ("params", "path", "said"),
    [
        ({"pth": "/m"}, "monitoring.pth", "did you mean 'path'"),
        ({"enable": "yes"}, "monitoring.enable", "true or false"),
        ({"path": "metrics"}, "monitoring.path", "is not a path"),
        ({"path": "/a b"}, "monitoring.path", "is not a path"),
        ({"path": "/m?x=1"}, "monitoring.path", "is not a path"),
        ({"path": "/m\n"}, "monitoring.path", "is not a path"),
        ({"path": 3}, "monitoring.path", "is not a path"),
        ({"path": "/v1/models"}, "monitoring.path", "where models answer"),
    ],
)
def test_a_metrics_path_no_request_can_name_is_refused(params: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render_monitoring(params)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert said in str(problem)
