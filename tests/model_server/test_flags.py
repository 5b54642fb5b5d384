"""The command line, as TensorFlow parses it."""

from __future__ import annotations

import dataclasses

import pytest

from sandbox.model_server.flags import IGNORED, FlagError, ServerFlags, parse, usage
from tfserving.flags import FLAGS


def test_without_arguments_every_flag_has_the_servers_default() -> None:
    flags = parse([])
    assert flags == ServerFlags()
    for field in dataclasses.fields(ServerFlags):
        if field.name in FLAGS and FLAGS[field.name].default is not None:
            assert getattr(flags, field.name) == FLAGS[field.name].default, field.name


def test_every_known_flag_is_acted_on_or_declared_ignored() -> None:
    fields = {field.name for field in dataclasses.fields(ServerFlags)}
    assert FLAGS.keys() == (fields & FLAGS.keys()) | IGNORED


def test_flags_take_their_value_after_an_equals_sign() -> None:
    flags = parse(["--port=1", "--model_name=a=b", "--model_base_path=", "--rest_api_port= +7"])
    assert (flags.port, flags.model_name, flags.model_base_path, flags.rest_api_port) == (1, "a=b", "", 7)
    assert not flags.unknown


@pytest.mark.parametrize(("argument", "value"), [("", True), ("=true", True), ("=false", False)])
def test_bools_are_true_false_or_bare(argument: str, value: bool) -> None:
    assert parse([f"--rest_api_enable_cors_support{argument}"]).rest_api_enable_cors_support is value


def test_the_last_of_a_repeated_flag_wins() -> None:
    assert parse(["--port=1", "--port=2"]).port == 2


def test_a_space_instead_of_the_equals_sign_is_two_unknown_arguments() -> None:
    flags = parse(["--rest_api_port", "8501"])
    assert flags.unknown == ("--rest_api_port", "8501")
    assert flags.rest_api_port == 0


def test_unknown_flags_are_collected_and_known_ones_still_read() -> None:
    flags = parse(["--nope=1", "--port=3", "-port=4", "word"])
    assert flags.unknown == ("--nope=1", "-port=4", "word")
    assert flags.port == 3


def test_everything_after_two_dashes_is_unknown() -> None:
    flags = parse(["--port=3", "--", "--port=4"])
    assert flags.unknown == ("--", "--port=4")
    assert flags.port == 3


@pytest.mark.parametrize(
    "argument",
    [
        "--port=1x",
        "--port=",
        "--port=1.5",
        "--enable_model_warmup=True",
        "--enable_model_warmup=1",
        "--enable_model_warmups",
        "--versions",
        "--per_process_gpu_memory_fraction=half",
        "--help",
    ],
)
def test_malformed_values_and_help_end_in_the_usage(argument: str) -> None:
    with pytest.raises(FlagError):
        parse([argument])


def test_help_is_only_understood_as_the_first_unknown_argument() -> None:
    assert parse(["--nope", "--help"]).unknown == ("--nope", "--help")


def test_a_malformed_value_is_named() -> None:
    with pytest.raises(FlagError, match="Couldn't interpret value 1x for flag port\\."):
        parse(["--port=1x"])


def test_flags_without_effect_here_are_reported_when_they_are_set() -> None:
    flags = parse(["--enable_batching", "--per_process_gpu_memory_fraction=0.5", "--enable_profiler=false"])
    assert flags.set_but_ignored == ("per_process_gpu_memory_fraction", "enable_profiler")
    assert flags.enable_batching


def test_the_usage_lists_every_flag_with_its_default() -> None:
    text = usage("server")
    assert text.startswith("usage: server\nFlags:\n")
    for line in ("--port=8500", '--model_name="default"', "--enable_model_warmup=true"):
        assert f"\t{line}" in text
    assert text.count("\n") == len(FLAGS) + 2
