"""The log says when a version will never load, before the server has given up."""

from __future__ import annotations

import pytest

from tfserving.server_log import lasting_failure

BEFORE = "2026-11-29 05:00:00.1: E tensorflow_serving/util/retrier.cc:37] Loading servable: "


@pytest.mark.parametrize(
    "reason",
    [
        "DATA_LOSS: Checksum does not match: stored 1 vs. calculated on the restored bytes 2",
        "Data loss: file is too short to be an sstable",
        "INVALID_ARGUMENT: Cannot parse",
        "NOT_FOUND: Op type not registered 'RaggedTensorToTensorX' in binary running on eas",
    ],
)
def test_a_reason_in_the_files_lasts(reason: str) -> None:
    line = f"{BEFORE}{{name: modelB version: 3}} failed: {reason}"
    assert lasting_failure([line], "modelB", 3) == reason
    assert lasting_failure([line], "modelB", 4) == ""
    assert lasting_failure([line], "modelA", 3) == ""


@pytest.mark.parametrize("reason", ["NOT_FOUND: Could not find SavedModel .pb", "UNAVAILABLE: x", "ABORTED: y"])
def test_a_reason_that_may_pass_does_not(reason: str) -> None:
    assert lasting_failure([f"{BEFORE}{{name: modelB version: 3}} failed: {reason}"], "modelB", 3) == ""


def test_the_newest_reason_counts() -> None:
    first = f"{BEFORE}{{name: modelB version: 3}} failed: DATA_LOSS: a"
    second = f"{BEFORE}{{name: modelB version: 3}} failed: NOT_FOUND: b"
    assert lasting_failure([first, second], "modelB", 3) == ""
    assert lasting_failure(["Loading servable: {name: modelB version: 3}", "noise"], "modelB", 3) == ""
