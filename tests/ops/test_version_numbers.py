"""What the commands say of versions that differ in the last digit, and of states that hold numbers."""

from __future__ import annotations

import argparse
import copy
from typing import Any

import pytest

from ops import options
from ops.changes import meaning
from ops.drift import compare
from tests.ops.previews import parsed, promotion, served_inputs, state, step
from tfserving.contract import integers

SERVED_CONFIG = "tfserving:index:ServedConfig"
SERVED_MODEL = "tfserving:index:ServedModel"
FIRST, SECOND = 20240115093000123, 20240115093000124


def inputs(stable: int, canary: int, *, as_text: bool = True) -> dict[str, Any]:
    model = {
        "basePath": "/models/m",
        "platform": "tensorflow",
        "policy": {"specific": sorted({stable, canary})},
        "labels": {"stable": stable, "canary": canary},
    }
    served = {"http": {"m": {"versions": sorted({stable, canary}), "labels": model["labels"]}}}
    found = served_inputs({"m": model}, served) | {"published": {"m": sorted({stable, canary})}}
    return integers.encode(SERVED_CONFIG, found) if as_text else found


def outputs(given: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy({"served": given["served"], "file": given["file"], "obsolete": {}})


def test_a_label_that_moves_by_the_last_digit_is_told_to_the_last_digit() -> None:
    old, new = inputs(FIRST, SECOND), inputs(SECOND, SECOND)
    update = step(
        "update",
        SERVED_CONFIG,
        "served",
        state(old, outputs(old)),
        state(new),
        {"models.m.labels.stable": "update"},
    )
    assert f"m: label stable {FIRST} -> {SECOND}" in [line.text for line in meaning(parsed(update))]


@pytest.mark.parametrize("recorded_as_text", [True, False])
@pytest.mark.parametrize("found_as_text", [True, False])
def test_numbers_and_texts_of_one_version_are_no_drift(recorded_as_text: bool, found_as_text: bool) -> None:
    old, new = (inputs(1, 20240115, as_text=as_text) for as_text in (recorded_as_text, found_as_text))
    refresh = step("refresh", SERVED_CONFIG, "served", state(old, outputs(old)), state(new, outputs(new)))
    preview = step("same", SERVED_CONFIG, "served", state(new, outputs(new)), state(new, outputs(new)))
    assert compare("dev", parsed(refresh), parsed(preview)).findings == ()


def test_a_label_answered_by_the_version_beside_it_is_drift() -> None:
    old, found = inputs(FIRST, SECOND), inputs(SECOND, SECOND)
    refresh = step(
        "update",
        SERVED_CONFIG,
        "served",
        state(old, outputs(old)),
        state(old, outputs(found)),
        {"served.http.m.labels.stable": "update"},
        of_outputs=("served.http.m.labels.stable",),
    )
    texts = [str(each) for each in compare("dev", parsed(refresh), parsed()).findings]
    assert f"http: m label stable is answered by version {SECOND}, not {FIRST}" in texts


def test_a_service_of_one_model_names_its_versions_exactly() -> None:
    old, new = ({"service": {"name": "one"}, "model": "m", "versions": [each]} for each in (str(FIRST), str(SECOND)))
    update = step("update", SERVED_MODEL, "one-served", state(old), state(new), {"versions[0]": "update"})
    assert [line.text for line in meaning(parsed(update))] == [
        f"one: m serves version {FIRST} -> {SECOND}",
        f"one: m: requests without a label: version {FIRST} -> {SECOND} once it is loaded",
    ]


def test_a_label_whose_name_looks_like_a_secret_hides_no_version() -> None:
    labelled = integers.encode(SERVED_CONFIG, promotion()["newState"]["inputs"])
    labelled["models"]["modelB"]["labels"]["token"] = str(FIRST)
    create = step("create", SERVED_CONFIG, "served", None, state(labelled))
    told = [line.text for line in meaning(parsed(create))]
    assert f"modelB: + label token {FIRST}" in told


@pytest.mark.parametrize("text", ["0", "1", "9223372036854775807"])
def test_a_version_on_the_command_line_is_an_int64(text: str) -> None:
    assert options.version_number(text) == int(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-1", "1_000", "007", "0x1", "latest", "", "1.0"])
def test_what_is_no_version_is_refused_on_the_command_line(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a version number, 0 to 9223372036854775807"):
        options.version_number(text)
