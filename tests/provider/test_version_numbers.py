"""Version numbers as the engine has them: text, exact to the last digit; numbers in states of release 0.1.0."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_eas20210701 import models
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.proto import provider_pb2

from plugin.package import Package
from provider import clients, properties
from provider.server import Provider
from tfserving import model_config
from tfserving.contract import integers
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

OWNER = "tf-serving/test"
FIRST, SECOND = 20240115093000123, 20240115093000124
"""They differ in the last digit, and as doubles not at all."""

version_numbers = st.integers(0, 2**63 - 1)


class Log:
    """Keeps what the provider says."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def connect(self, address: str) -> None:
        """Nobody is there."""

    def __call__(self, severity: str, urn: str, message: str, *, ephemeral: bool = False) -> None:
        self.lines.append((severity, message))


class Wire:
    """The provider, driven with JSON as the engine keeps it: its numbers are doubles."""

    def __init__(self) -> None:
        self.log = Log()
        self._provider = Provider(Path("/"), self.log, Package())  # type: ignore[arg-type]
        self._ask("Configure", provider_pb2.ConfigureRequest(args=struct({"region": "cn-hangzhou"})))

    def _ask(self, method: str, request: Any) -> Any:
        return getattr(self._provider, method)(request, None)

    def check(self, kind: str, news: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        answer = self._ask("Check", provider_pb2.CheckRequest(**named(kind), news=struct(news)))
        return plain(answer.inputs), {failure.property: failure.reason for failure in answer.failures}

    def diff(self, kind: str, inputs: dict[str, Any], outputs: dict[str, Any], news: dict[str, Any]) -> set[str]:
        request = provider_pb2.DiffRequest(
            **named(kind), old_inputs=struct(inputs), olds=struct(outputs), news=struct(news)
        )
        return set(self._ask("Diff", request).detailedDiff)

    def read(self, kind: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
        request = provider_pb2.ReadRequest(**named(kind), id="x", inputs=struct(inputs), properties=struct(outputs))
        return plain(self._ask("Read", request).inputs)

    def preview(self, kind: str, inputs: dict[str, Any], outputs: dict[str, Any], news: dict[str, Any]) -> Any:
        request = provider_pb2.UpdateRequest(
            **named(kind), id="x", old_inputs=struct(inputs), olds=struct(outputs), news=struct(news), preview=True
        )
        return plain(self._ask("Update", request).properties)


def named(kind: str) -> dict[str, str]:
    token = f"tfserving:index:{kind}"
    return {"urn": f"urn:pulumi:test::tf-serving::{token}::x", "type": token}


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    found.update(value)
    return found


def plain(found: struct_pb2.Struct) -> dict[str, Any]:
    """As the state file has it."""
    return dict(json_format.MessageToDict(found))


def texts(numbers: Any) -> list[str]:
    return [str(number) for number in numbers]


def served_config(stable: int, canary: int, write: Callable[[int], Any] = str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of a rollout that is done, their version numbers written by ``write``."""
    pair = [write(number) for number in sorted({stable, canary})]
    labels = {"stable": write(stable), "canary": write(canary)}
    model = {
        "basePath": "/models/titles",
        "platform": "tensorflow",
        "policy": {"specific": pair},
        "labels": labels,
    }
    served = {"multi": {"titles": {"versions": pair, "labels": labels}}}
    inputs = {
        "bucket": "b",
        "key": "models/model_config.pbtxt",
        "owner": OWNER,
        "models": {"titles": model},
        "published": {"titles": pair},
        "services": {"multi": {"url": "http://x", "token": "t", "pollSeconds": 1, "reads": True, "reachable": True}},
        "served": served,
        "file": {"titles": model},
    }
    return inputs, {**inputs, "unproven": [], "obsolete": {}}


def declared(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the program says: the provider fills in the rest."""
    return {name: value for name, value in inputs.items() if name not in ("served", "file")}


@pytest.fixture
def wire() -> Wire:
    return Wire()


def test_two_versions_that_differ_in_the_last_digit_stay_two(wire: Wire) -> None:
    inputs, _ = served_config(FIRST, SECOND)
    checked, failures = wire.check("ServedConfig", declared(inputs))
    assert not failures
    assert checked == inputs
    assert checked["file"]["titles"]["policy"]["specific"] == [str(FIRST), str(SECOND)]
    assert checked["served"]["multi"]["titles"]["labels"] == {"stable": str(FIRST), "canary": str(SECOND)}


def test_a_label_that_moves_by_the_last_digit_is_a_change_and_says_so(wire: Wire) -> None:
    inputs, outputs = served_config(FIRST, SECOND)
    moved = declared(inputs) | {"models": {"titles": {**inputs["models"]["titles"]}}}
    moved["models"]["titles"]["labels"] = {"stable": str(SECOND), "canary": str(SECOND)}
    news, failures = wire.check("ServedConfig", moved)
    assert not failures
    assert wire.diff("ServedConfig", inputs, outputs, news) == {"models.titles.labels.stable"}
    after = wire.preview("ServedConfig", inputs, outputs, news)
    assert ("info", f"titles: label stable {FIRST} -> {SECOND}") in wire.log.lines
    assert after["served"]["multi"]["titles"]["labels"]["stable"] == str(SECOND)


@pytest.mark.parametrize("number", [0, 1, 20240115, 1705310000123, 2**53 - 1, 2**53])
def test_a_state_of_the_first_release_previews_unchanged(wire: Wire, number: int) -> None:
    other = number // 2 + 7
    inputs, outputs = served_config(number, other, int)
    new_inputs, _ = served_config(number, other)
    news, failures = wire.check("ServedConfig", declared(new_inputs))
    assert not failures
    assert wire.diff("ServedConfig", inputs, outputs, news) == set()
    assert wire.diff("ServedConfig", news, outputs, inputs) == set(), "nor does a refresh of that state"


@given(version_numbers, version_numbers)
def test_any_two_versions_are_told_apart(first: int, second: int) -> None:
    wire = Wire()
    inputs, outputs = served_config(first, first)
    news, failures = wire.check("ServedConfig", declared(served_config(second, second)[0]))
    assert not failures
    assert bool(wire.diff("ServedConfig", inputs, outputs, news)) is (first != second)


@given(st.lists(version_numbers, min_size=1, max_size=3, unique=True))
def test_the_versions_of_a_single_model_are_exact(numbers: list[int]) -> None:
    wire = Wire()
    inputs = {"service": {"name": "one"}, "model": "titles", "versions": texts(numbers)}
    checked, failures = wire.check("ServedModel", inputs)
    assert not failures
    assert checked["served"]["titles"]["versions"] == texts(numbers)
    assert wire.diff("ServedModel", checked, {**checked, "unproven": False}, checked) == set()


@given(st.lists(version_numbers, min_size=1, max_size=3, unique=True))
def test_the_first_config_file_lists_exactly_what_was_declared(numbers: list[int]) -> None:
    wire = Wire()
    model = Model("titles", "/models/titles", policy=VersionPolicy.specific(numbers), labels={"stable": numbers[0]})
    initial = model_config.to_dict(ModelServerConfig((model,)))["titles"]
    initial |= {"policy": {"specific": texts(model.policy.versions)}, "labels": {"stable": str(numbers[0])}}
    inputs = {"bucket": "b", "key": "k", "owner": OWNER, "initial": {"titles": initial}}
    checked, failures = wire.check("ModelConfigFile", inputs)
    assert not failures
    assert checked == inputs | {"adopt": False}
    outputs = {**checked, "unused": True}
    assert wire.diff("ModelConfigFile", checked, outputs, checked) == set()
    assert model_config.parse(model_config.render(ModelServerConfig((model,)))).models == (model,)


def test_a_single_model_of_the_first_release_previews_unchanged(wire: Wire) -> None:
    old = {"service": {"name": "one"}, "model": "m", "versions": [7], "served": {"m": {"versions": [7], "labels": {}}}}
    news, _ = wire.check("ServedModel", {"service": {"name": "one"}, "model": "m", "versions": ["7"]})
    assert wire.diff("ServedModel", old, {**old, "unproven": False}, news) == set()


STATE = json.loads((Path(__file__).parent / "data" / "state_of_0_1_0.json").read_text(encoding="utf-8"))
"""What release 0.1.0 wrote of its local stack, all but the services."""


@pytest.mark.parametrize("resource", STATE, ids=[f"{each['type']}-{number}" for number, each in enumerate(STATE)])
def test_the_recorded_state_of_the_first_release_previews_unchanged(wire: Wire, resource: dict[str, Any]) -> None:
    kind = resource["type"].rpartition(":")[2]
    program = integers.encode(resource["type"], integers.decode(resource["type"], declared(resource["inputs"])))
    news, failures = wire.check(kind, program)
    assert not failures
    assert wire.diff(kind, resource["inputs"], resource["outputs"], news) == set()
    assert wire.preview(kind, resource["inputs"], resource["outputs"], news)
    assert not [text for severity, text in wire.log.lines if severity == "warning"]


def test_what_the_first_release_rounded_is_a_change_that_says_why(wire: Wire) -> None:
    # It declared ...123 and ...124. Both became ...124, in the file as well, and both labels are answered by it.
    inputs, outputs = served_config(SECOND, SECOND, int)
    news, _ = wire.check("ServedConfig", declared(served_config(FIRST, SECOND)[0]))
    assert "models.titles.labels.stable" in wire.diff("ServedConfig", inputs, outputs, news)
    wire.preview("ServedConfig", inputs, outputs, news)
    (warning,) = [text for severity, text in wire.log.lines if severity == "warning"]
    assert f"the state holds {SECOND}" in warning
    assert "rounded" in warning


def test_a_look_at_what_the_first_release_rounded_says_so_before_the_numbers_become_text(wire: Wire) -> None:
    inputs = {"service": {"name": "one", "reachable": False}, "model": "m", "versions": [SECOND]}
    found = wire.read("ServedModel", inputs, {**inputs, "served": {}, "unproven": True})
    assert found["versions"] == [str(SECOND)]
    (warning,) = [text for severity, text in wire.log.lines if severity == "warning"]
    assert f"the state holds {SECOND}" in warning
    wire.read("ServedModel", found, {**found, "served": {}, "unproven": True})
    assert len([text for severity, text in wire.log.lines if severity == "warning"]) == 1


def test_a_number_that_pulumi_has_rounded_already_is_refused(wire: Wire) -> None:
    inputs, _ = served_config(FIRST, SECOND, int)
    _, failures = wire.check("ServedConfig", declared(inputs))
    assert "write it as text" in failures["models.titles.labels.stable"]
    assert "write it as text" in failures["published.titles[0]"]


@pytest.mark.parametrize("number", ["9223372036854775808", "-1", "99999999999999999999999", "007", "1e3", "", True])
def test_what_is_no_version_is_refused_with_its_path(wire: Wire, number: Any) -> None:
    inputs = declared(served_config(1, 2)[0])
    _, failures = wire.check("ServedConfig", inputs | {"published": {"titles": [number]}})
    assert set(failures) == {"published.titles"}
    assert "0 to 2^63 - 1" in failures["published.titles"]
    model = {**inputs["models"]["titles"], "labels": {"stable": number}}
    _, failures = wire.check("ServedConfig", inputs | {"models": {"titles": model}})
    assert set(failures) == {"models.titles.labels.stable"}
    assert "Allowed: " in failures["models.titles.labels.stable"]
    _, failures = wire.check("ServedModel", {"service": {"name": "one"}, "model": "m", "versions": [number]})
    assert set(failures) == {"versions"}


@pytest.mark.parametrize("number", ["9223372036854775808", "-1", "1" * 5000, "007", "1_0", "٣"])
def test_a_published_version_is_an_int64(wire: Wire, number: str) -> None:
    inputs = {"name": "m", "bucket": "b", "prefix": "m/", "owner": OWNER, "versions": {number: "any"}}
    _, failures = wire.check("PublishedModel", inputs)
    assert set(failures) == {f'versions["{number}"]'}
    assert not wire.check("PublishedModel", inputs | {"versions": {str(2**63 - 1): "any"}})[1]


def test_a_number_of_a_service_that_pulumi_would_round_is_kept_as_text() -> None:
    config = json.dumps({"metadata": {"cpu": 2, "id": SECOND - 1, "at": 2**53}})
    found = clients._service(models.Service(service_config=config), "s")
    assert found.config == {"metadata": {"cpu": 2, "id": str(SECOND - 1), "at": 2**53}}
    assert properties.decode(properties.encode(found.config)) == found.config
