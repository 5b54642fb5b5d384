"""Parts of the console without servers: what is sent, masked, read from logs, and counted."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.cloud.console import debugging, story
from sandbox.cloud.console.eas_services import tail_of
from sandbox.cloud.console.overview import needs_a_look
from sandbox.cloud.console.places import Declared, Shown, Target, page_of
from sandbox.cloud.errors import ApiError

# ---- what is sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "other", "found"),
    [
        ("/v1/models/m:predict", {}, "/v1/models/m:predict"),
        ("/v1/models/m:predict", {"version": "20240115093000123"}, "/v1/models/m/versions/20240115093000123:predict"),
        ("/v1/models/m/labels/stable:predict", {"label": "canary"}, "/v1/models/m/labels/canary:predict"),
        ("/v1/models/m/versions/1:classify", {"label": "a b"}, "/v1/models/m/labels/a%20b:classify"),
        ("/v1/models/m/versions/1:predict", {"version": None, "label": None}, "/v1/models/m:predict"),
    ],
)
def test_the_other_request_differs_in_version_or_label_alone(path: str, other: dict[str, Any], found: str) -> None:
    request = debugging.Request.parse({"service": "s", "path": path, "body": "{}", "other": other})
    assert request.path == path
    assert request.other is not None
    assert (request.other.path, request.other.body, request.other.other) == (found, "{}", None)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"path": "/v1/models/m/metadata", "other": {}}, "ends in :predict"),
        ({"path": "/v1/models/m:predict", "other": "stable"}, "not a JSON object"),
        ({"path": "/v1/models/m:predict", "other": {"version": "x"}}, "not a version number"),
        ({"path": "/v1/models/m:predict", "other": {"version": "1", "label": "a"}}, "a version or a label"),
        ({"path": "/v1/models/m:predict", "other": {"label": 1}}, "Label is not text"),
    ],
)
def test_what_cannot_be_compared_is_refused(sent: dict[str, Any], reason: str) -> None:
    with pytest.raises(ApiError, match=reason):
        debugging.Request.parse({"service": "s", **sent})


@pytest.mark.parametrize(
    "path", ["/..", "/a/../b", "/%2e%2E/b", "/a/.%2e", "/%252e%252e/a", "/a%2f..%2fb", "/a\\b", "/."]
)
def test_a_path_that_may_mean_something_above_it_is_known(path: str) -> None:
    assert debugging.leads_out(path)


@pytest.mark.parametrize("path", ["/v1/models/a..b:predict", "/v1/models/m?x=../..", "/v1/models/model.v1/metadata"])
def test_dots_in_names_and_queries_are_fine(path: str) -> None:
    assert not debugging.leads_out(path)


def metadata(**signatures: Any) -> dict[str, Any]:
    return {"name": "m", "version": 3, "signatures": signatures}


def signature(dtype: str = "int64", *shape: int | None) -> dict[str, Any]:
    return {"inputs": {"x": {"dtype": dtype, "shape": list(shape)}}, "outputs": {}, "method_name": ""}


def test_a_body_is_made_for_the_usual_signature_or_the_one_that_is_wanted() -> None:
    found = metadata(other=signature("string", None), serving_default=signature("int64", None, 2), __saved=signature())
    made = debugging.body_for(found, "")
    assert json.loads(made["body"]) == {"signature_name": "serving_default", "instances": [[1, 1]]}
    assert (made["signatures"], made["inputs"]) == (["other", "serving_default"], "x int64 [?, 2]")
    assert json.loads(debugging.body_for(found, "other")["body"])["instances"] == ["text"]
    assert debugging.body_for(found, "gone")["signature"] == "serving_default"


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (metadata(), "the model has no signature"),
        (metadata(a=signature("complex64", None)), "values of type complex64 cannot be written"),
        (metadata(a=signature("float32", None, 1024, 1024, 3)), "3,145,728 values: too many"),
    ],
)
def test_why_no_body_can_be_made_is_said(found: dict[str, Any], problem: str) -> None:
    made = debugging.body_for(found, "")
    assert made["body"] == ""
    assert problem in made["problem"]


# ---- what is shown -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "wanted", "found"), [(0, 1, (1, 1)), (20, 2, (1, 1)), (21, 2, (2, 2)), (100, 9, (5, 5))]
)
def test_a_page_beyond_the_last_is_the_last(count: int, wanted: int, found: tuple[int, int]) -> None:
    page, pages, items = page_of(range(count), wanted, 20)
    assert (page, pages) == found
    assert list(items) == list(range(count))[(page - 1) * 20 : page * 20]


GOOD = {
    "problem": "",
    "missing": [],
    "extra": [],
    "versions": [{"version": 2, "states": {"AVAILABLE": 2}}, {"version": 1, "states": {"AVAILABLE": 2}}],
    "labels": [{"label": "stable", "wanted": 1, "answered": [1]}],
}


def test_a_model_as_it_is_to_be_needs_no_look() -> None:
    assert not needs_a_look(GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"problem": "no answer"},
        {"missing": [3]},
        {"extra": [1]},
        {"versions": []},
        {"versions": [{"version": 2, "states": {}}]},
        {"versions": [{"version": 2, "states": {"AVAILABLE": 1, "LOADING": 1}}]},
        {"versions": [{"version": 2, "states": {"AVAILABLE": 2}}, {"version": 1, "states": {"AVAILABLE": 1}}]},
        {"labels": [{"label": "stable", "wanted": 1, "answered": []}]},
        {"labels": [{"label": "stable", "wanted": 1, "answered": [1, 2]}]},
    ],
)
def test_a_model_that_is_not_needs_one(change: dict[str, Any]) -> None:
    assert needs_a_look({**GOOD, **change})


def test_secrets_are_masked_and_short_ones_do_not_spoil_words() -> None:
    assert story.masked("Authorization: abcdef123 of a", ["abcdef123", "a", ""]) == "Authorization: [secret] of a"


def test_the_end_of_a_log_has_whole_lines_only(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff\n")
    assert tail_of(file, 1 << 20)[0] == "line 0"
    assert tail_of(file, 15) == ["line 99", "\ufffd"]
    assert tail_of(tmp_path / "none.log", 20) == []


# ---- counters ------------------------------------------------------------------------------------------------------


def counters(requests: int) -> str:
    return (
        f'# TYPE a counter\n:tensorflow:serving:request_count{{model_name="m",status="INTERNAL"}} {requests}\n'
        f':tensorflow:serving:request_latency_bucket{{model_name="m",API="predict",le="+Inf"}} {requests}\n'
    )


def shown(path: str, *pages: Any) -> Shown:
    def no_client(_: float) -> Any:
        raise AssertionError("nobody asks for models")

    targets = [Target(f"replica-{index}", no_client, page) for index, page in enumerate(pages)]
    return Shown("s", {}, Declared, targets, None, "", lambda: path, lambda *_: [], list)


def test_counters_are_told_since_the_start_and_lately() -> None:
    count, now = [10, 5], [0.0]
    service = shown("/metrics", lambda _: counters(count[0]), lambda _: counters(count[1]))
    with ThreadPoolExecutor(2) as executor:
        meters = story.Meters(executor, lambda: now[0])

        def look() -> tuple[int, int, int]:
            found = asyncio.run(meters.look(service))
            (model,) = found["models"]
            return found["seconds"], model["start"]["requests"], model["lately"]["requests"]

        assert look() == (0, 30, 0)
        count[:], now[0] = [12, 6], 30.0
        assert look() == (30, 36, 6)
        count[0], now[0] = 1, 40.0  # a replica that began anew
        assert look() == (40, 14, 4)
        now[0] = 1000.0  # what was long ago is not lately
        assert look() == (0, 14, 0)


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        (shown(""), "switched off. Fix: set monitoring: true"),
        (shown("/metrics"), "no replica is ready"),
        (shown("/metrics", None), "speak no HTTP"),
    ],
)
def test_why_there_are_no_counters_is_said(service: Shown, problem: str) -> None:
    with ThreadPoolExecutor(1) as executor:
        assert problem in asyncio.run(story.Meters(executor).look(service))["problem"]
