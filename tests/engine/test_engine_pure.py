"""Parts of the engine that need no run: values, order, the state file."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.engine import properties as props
from sandbox.engine.deployment import run_in_order, seconds
from sandbox.engine.display import Display
from sandbox.engine.state import Snapshot, StateError, lock, references
from tfserving.contract import integers
from tfserving.property_path import parse_path
from tfserving.property_values import UNKNOWNS

if TYPE_CHECKING:
    from pathlib import Path

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[int, set[int]]:
    """Nodes to what must come before them; no cycles."""
    count = draw(st.integers(0, 9))
    order = draw(st.permutations(range(count)))
    return {node: draw(st.sets(st.sampled_from(order[:i]), max_size=4)) if i else set() for i, node in enumerate(order)}


@settings(deadline=None)
@given(graphs(), st.integers(1, 5))
def test_everything_runs_once_and_after_what_it_needs(after: dict[int, set[int]], parallel: int) -> None:
    done: list[int] = []
    running, most, guard = 0, 0, threading.Lock()

    def work(node: int) -> bool:
        nonlocal running, most
        with guard:
            assert after[node] <= set(done)
            running += 1
            most = max(most, running)
        with guard:
            running -= 1
            done.append(node)
        return True

    assert run_in_order(after, after, work, parallel) == set()
    assert sorted(done) == sorted(after)
    assert most <= parallel


@settings(deadline=None)
@given(graphs(), st.data())
def test_what_needs_a_failed_one_is_not_run(after: dict[int, set[int]], data: st.DataObject) -> None:
    broken = data.draw(st.sets(st.sampled_from(sorted(after)))) if after else set()
    ran: set[int] = set()

    def work(node: int) -> bool:
        ran.add(node)
        return node not in broken

    failed = run_in_order(after, after, work, 3)
    expected = set(broken)
    for _ in after:
        expected |= {node for node, needs in after.items() if needs & expected}
    assert failed == expected
    assert ran == {node for node, needs in after.items() if not needs & expected}


def test_a_cycle_is_a_failure_and_no_hang() -> None:
    assert run_in_order([1, 2, 3], {1: {2}, 2: {1}}, lambda _: True, 2) == {1, 2}


@settings(deadline=None)
@given(JSON, JSON)
def test_two_values_differ_exactly_where_the_difference_says(old: Any, new: Any) -> None:
    found = props.difference({"x": old}, {"x": new})
    assert (not found) == (json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True))
    for path, kind in found.items():
        steps = parse_path(path)
        before, after = props.lookup({"x": old}, steps), props.lookup({"x": new}, steps)
        assert {"add": before is None, "delete": after is None, "update": repr(before) != repr(after)}[kind]


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_values_survive_the_wire(value: dict[str, Any]) -> None:
    assert props.from_struct(props.to_struct(value)) == value


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ["a"]),
        ("a.b[0].c", ["a", "b", 0, "c"]),
        ('a["b.c"].d', ["a", "b.c", "d"]),
        ('["x\\"y"]', ['x"y']),
        ("a[*].b", ["a", "*", "b"]),
        ("a.*.b", ["a", "*", "b"]),
    ],
)
def test_property_paths(text: str, path: list[str | int]) -> None:
    assert list(parse_path(text)) == path


@pytest.mark.parametrize(
    ("new", "old", "path", "kept"),
    [
        ({"a": 2}, {"a": 1}, "a", {"a": 1}),
        ({"a": 2}, {}, "a", {}),
        ({}, {"a": 1}, "a", {"a": 1}),
        ({"a": {"b": 2, "c": 2}}, {"a": {"b": 1, "c": 1}}, "a.b", {"a": {"b": 1, "c": 2}}),
        ({"a": [{"b": 2}, {"b": 2}]}, {"a": [{"b": 1}]}, "a[*].b", {"a": [{"b": 1}, {"b": 2}]}),
        ({"a": [2, 2]}, {"a": [1, 1]}, "a[1]", {"a": [2, 1]}),
        ({"a": 2, "b": 2}, {"a": 1, "b": 1}, "*", {"a": 1, "b": 1}),
        ({"a": 2}, {"b": {"c": 1}}, "b.c", {"a": 2}),
    ],
)
def test_ignored_paths_keep_what_was(new: Any, old: Any, path: str, kept: Any) -> None:
    assert props.keep(new, old, parse_path(path)) == kept


def test_secrets_are_masked_at_any_depth_and_on_any_path() -> None:
    value = {"a": [props.secret({"b": "hush"})], "c": "open"}
    assert props.masked(value) == {"a": ["[secret]"], "c": "open"}
    assert props.plain(value) == {"a": [{"b": "hush"}], "c": "open"}
    assert props.masked(props.lookup(value, ["a", 0, "b"])) == "[secret]"


def test_outputs_are_as_secret_as_the_inputs_of_that_name() -> None:
    outputs: dict[str, Any] = {"a": "x", "b": {"c": "y", "d": "z"}, "e": [1], "f": "open"}
    marked = props.marked(
        outputs, {"a": props.secret("1"), "b": {"c": props.secret("2")}, "e": [props.secret(3)], "g": "x"}
    )
    assert props.masked(marked) == {"a": "[secret]", "b": {"c": "[secret]", "d": "z"}, "e": "[secret]", "f": "open"}


@pytest.mark.parametrize(("text", "expected"), [("5m", 300), ("1h2m3s", 3723), ("1.5s", 1.5), ("250ms", 0.25), ("", 0)])
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


def resource(name: str, **more: Any) -> dict[str, Any]:
    return {
        "urn": f"urn:pulumi:dev::shop::world:index:Thing::{name}",
        "custom": True,
        "type": "world:index:Thing",
        **more,
    }


def test_the_state_survives_a_round_trip_with_its_secrets_encrypted(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    snapshot = Snapshot(file)
    snapshot.put(resource("a", outputs={"token": props.secret({"deep": "hush"})}))
    text = file.read_text()
    assert "hush" not in text
    assert json.loads(text)["deployment"]["secrets_providers"]["type"] == "passphrase"
    manifest = json.loads(text)["deployment"]["manifest"]
    assert manifest["magic"] == hashlib.sha256(manifest["version"].encode()).hexdigest()  # else the CLI refuses it
    assert os.stat(file).st_mode & 0o077 == 0
    again = Snapshot(file)
    assert again.resources == snapshot.resources
    again.save()
    assert json.loads(file.read_text())["deployment"]["resources"] == json.loads(text)["deployment"]["resources"]


def test_a_pending_operation_is_in_the_file_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    snapshot = Snapshot(file)
    with snapshot.pending("creating", resource("a")):
        assert Snapshot(file).interrupted == [{"resource": resource("a"), "type": "creating"}]
    with pytest.raises(ZeroDivisionError), snapshot.pending("creating", resource("b")):
        raise ZeroDivisionError
    assert Snapshot(file).interrupted == []


def test_a_previews_state_is_never_written(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "dev.json", read_only=True)
    snapshot.put(resource("a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"deployment": 1}'])
def test_a_damaged_state_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dev.json"
    file.write_text(text)
    with pytest.raises(StateError, match=r"dev\.json cannot be read"):
        Snapshot(file)


def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    snapshot = Snapshot(file)
    snapshot.put(resource("a"))
    (tmp_path / "dev.partial").mkdir()
    with pytest.raises(StateError, match="cannot be written"):
        snapshot.put(resource("b"))
    assert len(Snapshot(file).resources) == 1


def test_one_run_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "state" / "dev.json"
    with lock(file), pytest.raises(StateError, match=f"process {os.getpid()}"), lock(file):
        pass
    with lock(file):
        pass


def test_a_resource_needs_its_parent_provider_and_dependencies() -> None:
    found = references(
        resource(
            "a", parent="p", provider="v::id", dependencies=["d"], propertyDependencies={"x": ["e"]}, deletedWith="w"
        )
    )
    assert found == {"p", "v", "d", "e", "w"}


SERVED = "tfserving:index:ServedConfig"
numbers = st.integers(0, 2**63 - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(numbers, min_size=1, max_size=4, unique=True))
def test_version_numbers_go_through_wire_and_state_to_the_last_digit(tmp_path: Path, versions: list[int]) -> None:
    inputs = {"published": {"m": versions}, "models": {"m": {"labels": {"stable": versions[0]}}}}
    received = props.from_struct(props.to_struct(integers.encode(SERVED, inputs)))
    assert received == integers.encode(SERVED, inputs)
    path = tmp_path / "state.json"
    path.unlink(missing_ok=True)
    snapshot = Snapshot(path)
    snapshot.put({"urn": "urn:pulumi:s::p::a:b:C::x", "type": "a:b:C", "custom": True, "inputs": received})
    (kept,) = Snapshot(path).resources
    assert integers.decode(SERVED, kept["inputs"]) == inputs
    moved = integers.encode(SERVED, {**inputs, "models": {"m": {"labels": {"stable": (versions[0] + 1) % 2**63}}}})
    assert props.difference(received, moved) == {"models.m.labels.stable": "update"}


@pytest.mark.parametrize("number", [0, 2**53 - 1, 2**53, -(2**53), 2**60])
def test_a_whole_number_is_written_by_its_digits(number: int) -> None:
    found = props.from_struct(props.to_struct({"n": number}))
    assert json.dumps(found) == f'{{"n": {number}}}'


def test_a_run_goes_on_where_nobody_reads_what_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        display = Display(quiet=False)
        for _ in range(3):
            display.print("x" * 10_000)
        display.closed.set()


@pytest.mark.parametrize("unknown", sorted(UNKNOWNS))
def test_an_unknown_value_of_any_kind_is_seen(unknown: str) -> None:
    assert props.has_unknown({"ports": [{"open": unknown}]})
    assert not props.has_unknown({"ports": [{"open": f"{unknown}0"}]})
    assert len(UNKNOWNS) == 7
