"""Counters of model servers: read, added up, compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.model_server import metrics as server
from tfserving import metrics
from tfserving.durations import as_text, seconds_of
from tfserving.metrics import Counts, Page, Window

LIMITS = (10.0, 18.0, 32.4, math.inf)


def page(answers: Sequence[int] = (0, 0, 0, 0), errors: dict[str, int] | None = None, load: int = 1) -> Page:
    """A page of model m with so many answers in each bucket."""
    lines = ["# TYPE :tensorflow:serving:request_latency histogram"]
    total = 0
    for limit, count in zip(("10", "18", "32.4", "+Inf"), answers, strict=True):
        total += count
        lines.append(f'{metrics.LATENCY}_bucket{{model_name="m",API="predict",entrypoint="REST",le="{limit}"}} {total}')
    # Questions about the state of a model, which rollouts ask: none of anybody's requests.
    lines.append(f'{metrics.LATENCY}_bucket{{model_name="m",API="",entrypoint="REST",le="+Inf"}} 1000')
    lines.append(f'{metrics.REQUESTS}{{model_name="m",status="OK"}} {total + 1000}')
    lines += [f'{metrics.REQUESTS}{{model_name="m",status="{s}"}} {n}' for s, n in (errors or {}).items()]
    lines.append(f'{metrics.LOADS}{{model_path="/models/m/1"}} {load}')
    return Page.parse("\n".join(lines) + "\n")


def test_the_page_of_the_sandboxs_model_server_is_read() -> None:
    server.REQUEST_LATENCY.add(20_000.0, 'of "tests"\\', "Predict", "GRPC")
    server.REQUEST_COUNT.add('of "tests"\\', "OK")
    server.REQUEST_COUNT.add('of "tests"\\', "INTERNAL")
    server.LOAD_LATENCY.add("/models/tests/1", amount=4711)
    found = Page.parse(server.page())
    assert 'of "tests"\\' in found.models()
    counts = found.counts('of "tests"\\')
    assert (counts.requests, counts.errors, counts.error_rate) == (2, {"INTERNAL": 1}, 0.5)
    assert counts.quantile(0.99) == pytest.approx(0.02, rel=0.8)
    assert "/models/tests/1=" in found.process


def test_questions_about_states_are_nobodys_requests() -> None:
    counts = page((1, 2, 3, 0), {"INTERNAL": 2, "NOT_FOUND": 1}).counts("m")
    assert (counts.answered, counts.failed, counts.requests) == (6, 3, 9)


def test_what_older_releases_call_success_is_no_error() -> None:
    counts = {"success": 5, "failed": 2}
    text = "\n".join(f'{metrics.REQUESTS}{{model_name="m",status="{s}"}} {n}' for s, n in counts.items())
    assert Page.parse(text).counts("m").errors == {"failed": 2}


answers = st.tuples(*[st.integers(0, 500)] * 4)
counted = st.builds(lambda a, e: page(a, {"INTERNAL": e}).counts("m"), answers, st.integers(0, 50))


@given(counted, counted)
def test_what_came_after_is_the_difference(earlier: Counts, more: Counts) -> None:
    later = metrics.total([earlier, more])
    found = later.since(earlier)
    assert (found.answered, found.failed) == (more.answered, more.failed)
    assert found.quantile(0.99) == more.quantile(0.99)


@given(counted, counted)
def test_a_window_never_counts_below_nothing_whatever_restarts(one: Counts, other: Counts) -> None:
    found = other.since(one)
    assert found.requests >= 0
    assert all(count >= 0 for count in found.buckets.values())


@given(answers.filter(any), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_its_bucket(found: tuple[int, ...], share: float) -> None:
    seconds = page(found).counts("m").quantile(share)
    assert seconds is not None
    below = [limit for limit in LIMITS if sum(found[: LIMITS.index(limit) + 1]) >= share * sum(found) - 1e-9]
    lower = [0.0, *LIMITS][LIMITS.index(below[0])]
    assert lower <= seconds * 1e6 + 1e-6
    assert seconds * 1e6 <= (below[0] if not math.isinf(below[0]) else lower) + 1e-6


def test_nothing_has_no_rate_and_no_latency() -> None:
    assert (Counts().error_rate, Counts().quantile(0.5), Counts().requests) == (0, None, 0)


def test_replicas_are_told_apart_and_added_up() -> None:
    window = Window()
    for load, start in ((7, 100), (9, 50)):
        before = page((start, 0, 0, 0), load=load)
        window.add(before.process, before)
    for load, start in ((9, 51), (7, 110)):
        after = page((start, 2, 0, 0), {"INTERNAL": 1}, load=load)
        window.add(after.process, after)
    late = page((1000, 0, 0, 0), load=11)  # not heard at the beginning: what it did before is of another time
    window.add(late.process, late)
    assert len(window.last) == 3
    assert window.counts("m").answered == 10 + 1 + 4
    assert window.counts("m").errors == {"INTERNAL": 2}
    assert window.before("m").answered == 1150
    assert window.models() == ["m"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("1h30m", 5400), ("90", 90), ("1.5s", 1.5), ("250ms", 0.25)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "10 m", "-5s", "10x", "5s3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds_of(text)


@given(st.integers(0, 10**6))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    assert seconds - seconds_of(as_text(seconds).replace(" ", "")) in range(3600)
