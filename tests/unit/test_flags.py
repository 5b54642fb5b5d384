from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving import flags
from tfserving.flags import FLAGS, FlagValue

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
_VALUES = {
    "bool": st.booleans(),
    "int": st.integers(-(10**17), 10**17),
    "float": st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9),
    "string": _TEXT,
}
_COMMAND_LINES = st.fixed_dictionaries({}, optional={name: _VALUES[flag.type] for name, flag in FLAGS.items()})


def problems(given: dict[str, FlagValue], *, port: int = 8501, grpc: bool = False, version: str = "2.14.1") -> str:
    found = flags.validate(given, port, grpc, flags.parse_version(version), "flags")
    return "\n".join(map(str, found))


@given(_COMMAND_LINES)
def test_what_is_rendered_is_parsed_back(given: dict[str, FlagValue]) -> None:
    parsed = flags.parse(flags.render(given))
    assert parsed.problems == ()
    assert parsed.values == given
    assert list(parsed.values) == list(given)


@given(st.lists(st.one_of(_TEXT, st.sampled_from(sorted(FLAGS)).map("--{}".format)), max_size=6))
def test_no_command_line_breaks_the_parser_and_a_stray_word_is_reported(argv: list[str]) -> None:
    parsed = flags.parse(argv)
    assert set(parsed.values) <= set(FLAGS)
    if any(not argument.startswith("--") for argument in argv):
        assert parsed.problems


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        (["--enable_batching"], {"enable_batching": True}),
        (["--enable_batching=false"], {"enable_batching": False}),
        (["--port=1", "--port=2"], {"port": 2}),
        (["--per_process_gpu_memory_fraction=.5"], {"per_process_gpu_memory_fraction": 0.5}),
        (["--model_name="], {"model_name": ""}),
        (["--model_base_path=/models/a=b"], {"model_base_path": "/models/a=b"}),
    ],
)
def test_a_command_line_is_read_as_tensorflow_serving_reads_it(argv: list[str], values: dict[str, Any]) -> None:
    assert flags.parse(argv) == flags.Parsed(values, ())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rest_api_port", "8501"], "`--rest_api_port 8501` is not understood"),
        (["--rest_api_port", "8501"], "Fix: write --rest_api_port=8501"),
        (["--enable_batching", "true"], "Fix: write --enable_batching=true"),
        (["--rest_api_port"], "`--rest_api_port` has no value"),
        (["--model_name", "--port=1"], "`--model_name` has no value"),
        (["-port=8500"], "Fix: write --port=8500"),
        (["serve"], "`serve` is not a flag"),
        (["--rest_api_prot=8501"], "did you mean 'rest_api_port'"),
        (["--rest-api-port=8501"], "did you mean 'rest_api_port'"),
        (["--enable_batching=True"], "`True` is not a value for --enable_batching. Allowed: true or false"),
        (["--enable_batching=1"], "Allowed: true or false"),
        (["--port=8500.0"], "Allowed: a whole number"),
        (["--port="], "Allowed: a whole number"),
        (["--per_process_gpu_memory_fraction=half"], "Allowed: a number"),
    ],
)
def test_an_argument_tensorflow_serving_would_drop_is_a_problem(argv: list[str], message: str) -> None:
    parsed = flags.parse(argv, "here")
    assert len(parsed.problems) == 1
    assert message in str(parsed.problems[0])
    assert str(parsed.problems[0]).startswith("here: ")


def test_values_are_rendered_the_one_way_tensorflow_serving_reads() -> None:
    given: dict[str, FlagValue] = {"enable_batching": True, "enable_profiler": False, "port": 8500}
    given |= {"per_process_gpu_memory_fraction": 0.25, "model_name": "a b"}
    assert flags.render(given) == [
        "--enable_batching=true",
        "--enable_profiler=false",
        "--port=8500",
        "--per_process_gpu_memory_fraction=0.25",
        "--model_name=a b",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model_config_file": "/models/model_config.pbtxt", "model_config_file_poll_wait_seconds": 30},
        {"model_config_file": "/m", "allow_version_labels_for_unavailable_models": True},
        {"enable_batching": True, "batching_parameters_file": "/models/b.pbtxt"},
        {"tensorflow_intra_op_parallelism": 4, "tensorflow_inter_op_parallelism": 2},
        {"platform_config_file": "/models/p.pbtxt"},
        {"per_process_gpu_memory_fraction": 1},
        {"grpc_channel_arguments": "grpc.max_connection_age_ms=5000,grpc.x=y"},
        {"port": 0, "grpc_socket_path": "/run/tfs.sock"},
        {"model_base_path": "/models/model1"},
        {"rest_api_num_threads": 2, "file_system_poll_wait_seconds": 1, "num_load_threads": 4},
    ],
)
def test_flags_that_work_together_have_no_problem(given: dict[str, FlagValue]) -> None:
    assert problems(given) == ""


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"modle_name": "a"}, "flags.modle_name", "did you mean 'model_name'"),
        ({"x.y": "a"}, 'flags["x.y"]', "Fix: remove it"),
        ({"version": True}, "flags.version", "ends the server"),
        ({"enable_batching": "true"}, "flags.enable_batching", "Allowed: true or false"),
        ({"port": "8500"}, "flags.port", "Allowed: a whole number"),
        ({"port": True}, "flags.port", "Allowed: a whole number"),
        ({"port": 8500.5}, "flags.port", "Allowed: a whole number"),
        ({"per_process_gpu_memory_fraction": True}, "flags.per_process_gpu_memory_fraction", "Allowed: a number"),
        ({"saved_model_tags": 1}, "flags.saved_model_tags", "Allowed: text"),
        ({"saved_model_tags": "a\nb"}, "flags.saved_model_tags", "control character"),
        (
            {"enable_grpc_healthcheck_service": True},
            "flags.enable_grpc_healthcheck_service",
            "exists since TensorFlow Serving 2.15.1, the image is 2.14.1",
        ),
        ({"rest_api_num_threads": 1}, "flags.rest_api_num_threads", "never answers a request. Allowed: 2 or more"),
        ({"rest_api_timeout_in_ms": 0}, "flags.rest_api_timeout_in_ms", "1 or more"),
        ({"grpc_max_threads": 0}, "flags.grpc_max_threads", "1 or more"),
        (
            {"model_config_file": "/m", "model_config_file_poll_wait_seconds": -1},
            "flags.model_config_file_poll_wait_seconds",
            "0 or more",
        ),
        ({"file_system_poll_wait_seconds": 0}, "flags.file_system_poll_wait_seconds", "1 or more"),
        ({"file_system_poll_wait_seconds": -1}, "flags.file_system_poll_wait_seconds", "1 or more"),
        ({"num_load_threads": -1}, "flags.num_load_threads", "0 or more"),
        ({"num_unload_threads": -1}, "flags.num_unload_threads", "0 or more"),
        ({"max_num_load_retries": -1}, "flags.max_num_load_retries", "0 or more"),
        ({"load_retry_interval_micros": -1}, "flags.load_retry_interval_micros", "0 or more"),
        ({"tensorflow_session_parallelism": -1}, "flags.tensorflow_session_parallelism", "0 or more"),
        ({"tensorflow_intra_op_parallelism": -1}, "flags.tensorflow_intra_op_parallelism", "0 or more"),
        ({"tensorflow_inter_op_parallelism": -1}, "flags.tensorflow_inter_op_parallelism", "0 or more"),
        ({"num_request_iterations_for_warmup": -1}, "flags.num_request_iterations_for_warmup", "0 or more"),
        ({"num_tflite_pools": 0}, "flags.num_tflite_pools", "1 or more"),
        ({"num_tflite_interpreters_per_pool": 0}, "flags.num_tflite_interpreters_per_pool", "1 or more"),
        ({"per_process_gpu_memory_fraction": 1.5}, "flags.per_process_gpu_memory_fraction", "0 (all of it) to 1"),
        ({"grpc_channel_arguments": "a=1,b"}, "flags.grpc_channel_arguments", "`b` is not a name and a value"),
        ({"port": 8501}, "flags.rest_api_port", "--port and --rest_api_port are both 8501"),
        ({"rest_api_port": 8502}, "flags.rest_api_port", "does not match port 8501 of the service"),
        ({"rest_api_port": 0}, "flags.rest_api_port", "HTTP requests would find nothing"),
        ({"port": 0}, "flags.port", "the server does not start"),
        ({"batching_parameters_file": "/b"}, "flags.batching_parameters_file", "set enable_batching to true"),
        (
            {"enable_per_model_batching_parameters": True},
            "flags.enable_per_model_batching_parameters",
            "set enable_batching to true",
        ),
        (
            {"platform_config_file": "/p", "enable_batching": True, "saved_model_tags": "serve"},
            "flags.platform_config_file",
            "ignores --enable_batching, --saved_model_tags",
        ),
        (
            {
                "tensorflow_session_parallelism": 1,
                "tensorflow_intra_op_parallelism": 1,
                "tensorflow_inter_op_parallelism": 1,
            },
            "flags.tensorflow_session_parallelism",
            "all three parallelism flags are set",
        ),
        ({"ssl_config_file": "/s", "use_alts_credentials": True}, "flags.ssl_config_file", "TLS and ALTS together"),
        ({"model_config_file": "/m", "model_name": "a"}, "flags.model_name", "ignored with --model_config_file"),
        ({"model_config_file": "/m", "model_base_path": "/a"}, "flags.model_base_path", "ignored with"),
        ({"model_config_file_poll_wait_seconds": 30}, "flags.model_config_file_poll_wait_seconds", "no config file"),
        (
            {"allow_version_labels_for_unavailable_models": True},
            "flags.allow_version_labels_for_unavailable_models",
            "version labels come from a config file",
        ),
        ({"model_base_path": "/models/a/1/"}, "flags.model_base_path", "ends in a version number"),
        ({"model_base_path": "/models/a/1/."}, "flags.model_base_path", "ends in a version number"),
    ],
)
def test_flags_that_cannot_work_are_refused_by_name(given: dict[str, FlagValue], path: str, message: str) -> None:
    found = flags.validate(given, 8501, False, (2, 14, 1), "flags")
    assert [problem.path for problem in found] == [path]
    assert message in str(found[0])


def test_the_port_of_a_grpc_service_is_the_grpc_port() -> None:
    assert problems({}, port=8500, grpc=True) == ""
    assert "flags.port: --port=8600 does not match port 8500" in problems({"port": 8600}, port=8500, grpc=True)


def test_metrics_need_rest_even_where_requests_come_as_grpc() -> None:
    given: dict[str, FlagValue] = {"monitoring_config_file": "/m", "rest_api_port": 0}
    assert "flags.monitoring_config_file: the monitoring file is only read with REST on" in problems(
        given, port=8500, grpc=True
    )


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.since > (1, 15, 0)])
def test_a_flag_newer_than_the_image_is_refused_and_one_as_old_is_not(name: str) -> None:
    flag = FLAGS[name]
    value: FlagValue = {"bool": False, "int": 1, "string": "x", "float": 0.5}[flag.type]
    major, minor, patch = flag.since
    older = (major, minor - 1, 9) if patch == 0 else (major, minor, patch - 1)
    assert "would start without it" in "".join(map(str, flags.validate({name: value}, 8501, False, older)))
    assert flags.validate({name: value}, 8501, False, flag.since) == []
    assert flags.validate({name: value}, 8501, False, None) == []


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_the_default_of_each_flag_has_its_type(name: str) -> None:
    default = FLAGS[name].default
    if default is not None and name != "version":
        assert not [
            problem
            for problem in flags.validate({name: default}, 8500 if name == "port" else 8501, name == "port", None)
            if "is not a value" in problem.message
        ]


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("2.14.1", (2, 14, 1)),
        ("2.14.1-gpu", (2, 14, 1)),
        ("2.8", (2, 8, 0)),
        ("latest", None),
        ("v2.1.0", None),
        ("2.14.1x", None),
        ("", None),
    ],
)
def test_the_version_is_read_from_an_image_tag(tag: str, version: flags.Version | None) -> None:
    assert flags.parse_version(tag) == version


def test_few_load_threads_and_frequent_listing_of_a_remote_mount_are_worth_a_warning() -> None:
    found = flags.warnings({"model_config_file": "/m"})
    assert len(found) == 2
    assert "num_load_threads" in found[0]
    assert "file_system_poll_wait_seconds is 1" in found[1]
    assert flags.warnings({"model_config_file": "/m", "num_load_threads": 2}, remote_mount=False) == []
    assert flags.warnings({"num_load_threads": 2, "file_system_poll_wait_seconds": 30}) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"max_batch_size": 32, "allowed_batch_sizes": [8, 16, 32]},
        {"allowed_batch_sizes": [10, 1000]},
        {
            "max_batch_size": 64,
            "max_execution_batch_size": 32,
            "enable_large_batch_splitting": True,
            "allowed_batch_sizes": [32, 64],
        },
        {"max_batch_size": 64, "enable_large_batch_splitting": True},
        {"max_execution_batch_size": 2000},  # means nothing where nothing is split
        {"batch_timeout_micros": 0, "thread_pool_name": "pool", "pad_variable_length_inputs": True},
    ],
)
def test_batching_parameters_a_model_loads_with_have_no_problem(parameters: dict[str, Any]) -> None:
    assert flags.validate_batching(parameters) == []


@pytest.mark.parametrize(
    ("parameters", "path", "message"),
    [
        ({"max_batchsize": 1}, "batching.max_batchsize", "did you mean 'max_batch_size'"),
        ({"max_batch_size": 0}, "batching.max_batch_size", "1 or more"),
        ({"max_batch_size": True}, "batching.max_batch_size", "1 or more"),
        ({"max_batch_size": "32"}, "batching.max_batch_size", "1 or more"),
        ({"max_batch_size": [32]}, "batching.max_batch_size", "1 or more"),
        ({"batch_timeout_micros": -1}, "batching.batch_timeout_micros", "0 or more"),
        ({"thread_pool_name": 1}, "batching.thread_pool_name", "Allowed: text"),
        ({"pad_variable_length_inputs": "yes"}, "batching.pad_variable_length_inputs", "true or false"),
        ({"allowed_batch_sizes": []}, "batching.allowed_batch_sizes", "whole numbers, 1 or more"),
        ({"allowed_batch_sizes": [0, 1000]}, "batching.allowed_batch_sizes", "whole numbers, 1 or more"),
        ({"allowed_batch_sizes": [1000, 10, 1000]}, "batching.allowed_batch_sizes", "not in ascending order"),
        (
            {"max_batch_size": 32, "allowed_batch_sizes": [8, 16]},
            "batching.allowed_batch_sizes",
            "the last allowed batch size is 16, max_batch_size is 32: no model would load",
        ),
        (
            {
                "max_batch_size": 64,
                "max_execution_batch_size": 32,
                "enable_large_batch_splitting": True,
                "allowed_batch_sizes": [16, 32],
            },
            "batching.allowed_batch_sizes",
            "the last allowed batch size is 32, max_batch_size is 64: no model would load",
        ),
        (
            {"max_execution_batch_size": 2000, "enable_large_batch_splitting": True},
            "batching.max_execution_batch_size",
            "max_execution_batch_size is 2000, max_batch_size is 1000: no model would load",
        ),
        (
            {"enable_large_batch_splitting": True},
            "batching.max_execution_batch_size",
            "neither max_execution_batch_size nor max_batch_size says at what size",
        ),
    ],
)
def test_batching_parameters_that_cannot_work_are_refused(parameters: dict[str, Any], path: str, message: str) -> None:
    found = flags.validate_batching(parameters)
    assert [problem.path for problem in found] == [path]
    assert message in str(found[0])
