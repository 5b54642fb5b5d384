"""Version numbers named by time, from the stack config to the wire and the stack outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components import resources
from config.reader import Reader
from tests.components.mock_engine import Run, run_program
from tfserving import wire
from tfserving.contract import EAS_SERVICE, SERVED_MODEL
from tfserving.contract.serving import EasServiceInputs, NamedService, ServedModelInputs

Change = Callable[[dict[str, Any]], dict[str, Any]]
Deploy = Callable[..., Run]

FIRST, SECOND = 20240115093000123, 20240115093000124
NANOSECONDS = 1705310000123456789
MODELS = "tf-serving:models"
HTTP = "tf-serving:services.multi_http"


@pytest.fixture
def deploy(changed: Change, project: Path) -> Deploy:
    """Runs the program with a changed config."""

    def run(changes: dict[str, Any]) -> Run:
        config = changed(changes)
        config["tf-serving:modelSource"] = str(project / config["tf-serving:modelSource"])
        return run_program(config)

    return run


def by_time(first: Any = FIRST, second: Any = SECOND) -> dict[str, Any]:
    return {
        "versions": [first, second],
        "policy": {"specific": [first, second]},
        "labels": {"stable": first, "canary": second},
    }


@pytest.mark.parametrize("write", [int, str], ids=["numbers", "texts"])
@pytest.mark.parametrize(("first", "second"), [(FIRST, SECOND), (NANOSECONDS, NANOSECONDS + 1), (2**63 - 2, 2**63 - 1)])
def test_versions_named_by_time_reach_the_engine_exactly(
    deploy: Deploy, write: Callable[[int], Any], first: int, second: int
) -> None:
    run = deploy({f"{MODELS}.modelB": by_time(write(first), write(second))})
    assert run.error == ""
    pair = [str(first), str(second)]
    told = {"policy": {"specific": pair}, "labels": {"stable": str(first), "canary": str(second)}}
    served, file = run.resources["served"].sent, run.resources["models-config"].sent
    assert served["published"]["modelB"] == pair
    assert served["models"]["modelB"].items() >= told.items()
    assert file["initial"]["modelB"].items() >= told.items()
    assert set(run.resources["models-modelB"].sent["versions"]) == set(pair)


def test_stack_outputs_have_small_versions_as_numbers_and_large_ones_as_text(deploy: Deploy) -> None:
    run = deploy({f"{MODELS}.modelB": by_time(), f"{MODELS}.modelC": {"versions": [2**53, 2**53 + 1], "policy": "all"}})
    assert run.error == ""
    model = run.outputs["models"]["modelB"]
    assert model["versions"] == [str(FIRST), str(SECOND)]
    assert model["labels"] == {"stable": str(FIRST), "canary": str(SECOND)}
    assert model["policy"] == {"specific": [str(FIRST), str(SECOND)]}
    assert run.outputs["models"]["modelA"]["versions"] == [1]
    assert run.outputs["models"]["modelC"]["versions"] == [2**53, str(2**53 + 1)]


def test_a_service_of_one_model_is_proven_by_the_exact_version(deploy: Deploy) -> None:
    single = {"deployment": "custom", "image": "tensorflow-serving:2.14.1", "model": "modelC"}
    run = deploy({f"{MODELS}.modelC": {"versions": [5, NANOSECONDS]}, "tf-serving:services.one": single})
    assert run.error == ""
    assert run.resources["one-served"].sent["versions"] == [str(NANOSECONDS)]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (2**63, "9223372036854775808"),
        ("9223372036854775808", "9223372036854775808"),
        (10**30, "1" + "0" * 30),
        (-1, "-1"),
        (2.0240115093000123e16, "write all digits"),
        (1e300, "write all digits"),
        (True, "true"),
    ],
)
@pytest.mark.parametrize("place", ["versions", "labels.stable", "policy"])
def test_what_is_no_version_is_refused_by_path_and_value(
    deploy: Deploy, place: str, version: Any, expected: str
) -> None:
    value = {"versions": [1, 2, version], "policy": {"specific": [1, 2, version]}}.get(place, version)
    run = deploy({f"{MODELS}.modelB.{place}": value})
    assert f"{MODELS}.modelB.{place}" in run.error
    assert expected in run.error
    assert "Allowed: " in run.error
    assert not run.resources


@settings(deadline=None)
@given(st.integers(-(2**70), 2**70), st.booleans())
def test_the_reader_takes_any_int64_and_no_other_integer(number: int, as_text: bool) -> None:
    reader = Reader()
    found = reader.integer(str(number) if as_text else number, "here", most=wire.MAX_INTEGER)
    if -(2**63) <= number < 2**63:
        assert (found, reader.problems) == (number, [])
    else:
        (problem,) = reader.problems
        assert str(number) in problem.message
        assert problem.allowed
        assert problem.fix


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (f"{HTTP}.replicas", 2**31, "2147483648"),
        (f"{HTTP}.memory", 2**53 + 1, "9007199254740993"),
        (f"{HTTP}.configPollSeconds", str(2**40), "1099511627776"),
        ("tf-serving:rolloutSeconds", FIRST, f"{FIRST}"),
        (f"{HTTP}.flags.num_load_threads", 2**31, "--num_load_threads=2147483648 is out of range"),
        (f"{HTTP}.flags.load_retry_interval_micros", 2**63, "is out of range"),
        (f"{HTTP}.env.SEED", 10**20, "write it in quotes"),
        (f"{HTTP}.env.SEED", 1e20, "write it in quotes"),
        (f"{HTTP}.extraConfig", {"metadata": {"nested": [{"id": FIRST}]}}, f"{FIRST} is a number that Pulumi would"),
        (f"{HTTP}.workspaceId", 10**25, "write it in quotes"),
        (f"{MODELS}.modelC.policy", {"latest": 2**32}, "4294967296"),
    ],
)
def test_other_numbers_that_would_not_arrive_are_refused(deploy: Deploy, path: str, value: Any, expected: str) -> None:
    run = deploy({path: value})
    assert path.rpartition(".")[0] in run.error
    assert expected in run.error
    assert not run.resources


def test_large_numbers_in_texts_and_flags_arrive_as_written(deploy: Deploy) -> None:
    run = deploy(
        {
            f"{HTTP}.env": {"SEED": FIRST, "UNSIGNED": 2**64 - 1, "TEXT": str(10**30)},
            f"{HTTP}.flags.load_retry_interval_micros": "9223372036854775807",
            f"{HTTP}.extraConfig": {"metadata": {"nested": {"id": str(FIRST), "size": 2**53}}},
        }
    )
    assert run.error == ""
    spec = run.resources["multi_http-service"].inputs["spec"]
    assert {each["name"]: each["value"] for each in spec["containers"][0]["env"]} == {
        "SEED": str(FIRST),
        "UNSIGNED": "18446744073709551615",
        "TEXT": str(10**30),
    }
    assert "--load_retry_interval_micros=9223372036854775807" in str(spec["containers"][0])
    assert spec["metadata"]["nested"] == {"id": str(FIRST), "size": 2**53}


@pytest.mark.parametrize("wrapped", ["the list", "an item"])
def test_outputs_of_other_resources_become_text_once_they_are_known(wrapped: str) -> None:
    async def sent() -> Any:
        output: Any = pulumi.Output.from_input
        versions = output([NANOSECONDS]) if wrapped == "the list" else [output(NANOSECONDS)]
        inputs = ServedModelInputs(service=NamedService(name="one"), model="m", versions=versions)
        return await output(resources.props(SERVED_MODEL.token, inputs)["versions"]).future()

    assert asyncio.run(sent()) == [str(NANOSECONDS)]


def test_an_undeclared_number_that_a_double_would_change_is_sent_as_text() -> None:
    inputs = EasServiceInputs(name="s", spec={"metadata": {"id": FIRST, "cpu": 2}}, owner="p/s")
    assert resources.props(EAS_SERVICE.token, inputs)["spec"] == {"metadata": {"id": str(FIRST), "cpu": 2}}
