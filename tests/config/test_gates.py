"""Gates in a stack file: what they come to, and everything that could not be tried later is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.stack import Settings, parse
from tfserving.contract.gates import AgreeBy, Agreement, Gate, GateFile, Latency, SignatureRule, Tolerance
from tfserving.errors import ConfigError

Change = Callable[[dict[str, Any]], dict[str, Any]]

GATE = "tf-serving:models.modelB.gate"
IMAGE = [[[0.5]] * 28] * 28
FULL = {
    "golden": "golden/modelB.jsonl",
    "tolerance": {"absolute": "1e-4", "relative": 0},
    "agreement": {"with": "stable", "on": "golden/modelB.inputs.jsonl", "least": "0.9", "by": "allclose"},
    "latency": {"requests": "50", "concurrency": 2, "p99Ms": 50, "p99Ratio": 1.5},
    "signatures": "any",
}


@pytest.fixture
def golden(project: Path) -> Path:
    """The directory with a golden file and one of inputs."""
    return project / "golden"


def gated(changed: Change, gate: Any, **changes: Any) -> dict[str, Any]:
    return changed({GATE: gate} | changes)


def told(config: dict[str, Any], project: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(config, project)
    return [str(problem) for problem in caught.value.problems]


def model(settings: Settings, name: str = "modelB") -> Any:
    return next(each for each in settings.models if each.name == name)


def test_a_gate_is_read_with_digests_of_its_files_and_the_signatures_at_hand(
    changed: Change, project: Path, golden: Path
) -> None:
    found = model(parse(gated(changed, FULL), project)).gate
    assert found.gate == Gate(
        golden="golden/modelB.jsonl",
        tolerance=Tolerance(absolute=1e-4, relative=0),
        agreement=Agreement(with_="stable", on="golden/modelB.inputs.jsonl", least=0.9, by=AgreeBy.ALLCLOSE),
        latency=Latency(requests=50, concurrency=2, p99_ms=50, p99_ratio=1.5),
        signatures=SignatureRule.ANY,
    )
    digest = hashlib.sha256((golden / "modelB.jsonl").read_bytes()).hexdigest()
    assert found.files["golden/modelB.jsonl"] == GateFile(digest=f"sha256:{digest}", records=1)
    assert found.files.keys() == {"golden/modelB.jsonl", "golden/modelB.inputs.jsonl"}
    assert sorted(found.known) == ["1", "2"]
    as_text = gated(changed, json.dumps(FULL))
    assert model(parse(as_text, project)).gate == found
    entry = changed({})["tf-serving:models"]["modelB"]
    assert model(parse(changed({"tf-serving:models.modelB": json.dumps(entry)}), project)).gate == found
    whole = changed({})
    whole["tf-serving:models"] = json.dumps(whole["tf-serving:models"])
    assert model(parse(whole, project)).gate == found


def test_without_a_gate_there_is_none_and_an_empty_one_compares_signatures(changed: Change, project: Path) -> None:
    assert model(parse(changed({}), project)).gate is None
    assert model(parse(gated(changed, None), project)).gate is None
    assert model(parse(gated(changed, {}), project)).gate.gate == Gate()


@pytest.mark.parametrize(
    ("gate", "at", "said"),
    [
        ("golden/modelB.jsonl", "", "gate"),
        ({"gold": "x"}, "", "gold"),
        ({"golden": ["a"]}, ".golden", "text"),
        ({"golden": "none.jsonl"}, ".golden", "there is no file none.jsonl"),
        ({"golden": "golden"}, ".golden", "golden is a directory"),
        ({"golden": "golden/b\x00"}, ".golden", ""),
        ({"golden": "golden/bad.jsonl"}, ".golden", "golden/bad.jsonl:2: predictions: the expected answer is missing"),
        ({"golden": "golden/unfit.jsonl"}, ".golden", "does not fit version 2: golden/unfit.jsonl:1: instances: input"),
        ({"golden": "golden/unfit-answer.jsonl"}, ".golden", "output output_0 has shape [1, 2]"),
        ({"tolerance": {"absolute": -1}}, ".tolerance.absolute", "0 or more"),
        ({"tolerance": {"relative": "much"}}, ".tolerance.relative", "0 or more"),
        ({"tolerance": 1}, ".tolerance", "1"),
        ({"agreement": {}}, ".agreement.on", "on which requests"),
        ({"agreement": {"on": "golden/modelB.inputs.jsonl", "with": "old"}}, ".agreement.with", "no label 'old'"),
        ({"agreement": {"on": "golden/modelB.inputs.jsonl", "least": 99}}, ".agreement.least", "99 is no share"),
        ({"agreement": {"on": "golden/modelB.inputs.jsonl", "by": "eye"}}, ".agreement.by", "'eye'"),
        ({"agreement": {"on": "none.jsonl"}}, ".agreement.on", "there is no file none.jsonl"),
        ({"latency": {"requests": 10}}, ".latency", "it names no limit"),
        ({"latency": {"p99Ms": 0}}, ".latency.p99Ms", "above 0"),
        ({"latency": {"p99Ms": 5, "requests": 0}}, ".latency.requests", "too low"),
        ({"latency": {"p99Ms": 5, "concurrency": 1000}}, ".latency.concurrency", "1000 is out of range"),
        ({"signatures": "same"}, ".signatures", "'same'"),
        ({"signatures": ""}, ".signatures", "''"),
        ({"signatures": None}, ".signatures", "nothing is written here"),
        ({"golden": ""}, ".golden", "the text is empty. Allowed: a file with one request a line"),
        ({"golden": None}, ".golden", "nothing is written here"),
        ({"latency": None}, ".latency", "nothing is written here"),
        ({"latency": {"p99Ms": None, "p99Ratio": 2}}, ".latency.p99Ms", "nothing is written here"),
        ({"agreement": {"on": ""}}, ".agreement.on", "the text is empty"),
        ({"agreement": {"on": "golden/modelB.inputs.jsonl", "with": ""}}, ".agreement.with", "the text is empty"),
        ({"tolerance": {"absolute": ""}}, ".tolerance.absolute", "0 or more"),
    ],
)
def test_what_a_gate_cannot_mean_is_refused_by_its_place(
    changed: Change, project: Path, golden: Path, gate: Any, at: str, said: str
) -> None:
    (golden / "bad.jsonl").write_text('{"comment": "x"}\n{"instances": [1]}\n')
    (golden / "unfit.jsonl").write_text('{"instances": [1], "predictions": [1]}\n')
    (golden / "unfit-answer.jsonl").write_text(json.dumps({"instances": [IMAGE], "predictions": [[0.1, 0.9]]}))
    problems = told(gated(changed, gate), project)
    assert [problem for problem in problems if problem.startswith(f"{GATE}{at}") and said in problem], problems
    assert len(problems) == 1, problems


def test_a_gate_where_a_service_cannot_be_reached_is_refused_and_never_skipped(changed: Change, project: Path) -> None:
    (problem,) = told(gated(changed, {}, **{"tf-serving:services.multi_grpc.reachable": False}), project)
    assert problem.startswith(f"{GATE}: service multi_grpc cannot be reached from this machine (reachable: false)")


def test_a_gate_needs_a_service_that_polls_the_file(changed: Change, project: Path) -> None:
    scene = {"deployment": "scenario", "configFile": True, "mountPath": "/models"}
    config = gated(changed, {})
    config["tf-serving:services"] = {"scene": scene}
    (problem,) = told(config, project)
    assert "scene read the config file only when they start" in problem
    config["tf-serving:services"] = {"scene": scene} | {
        "multi_http": {
            "deployment": "custom",
            "port": 8501,
            "configFile": True,
            "configPollSeconds": 2,
            "allowLabelsForUnavailableVersions": True,
        }
    }
    assert model(parse(config, project)).gate.gate == Gate()


def test_a_gate_of_a_service_of_one_model_has_nothing_to_compare_with(
    changed: Change, project: Path, golden: Path
) -> None:
    gate = {"golden": "golden/modelB.jsonl", "agreement": {}, "latency": {"p99Ratio": 2}}
    config = gated(changed, gate, **{"tf-serving:models.modelB.labels": ...})
    config["tf-serving:services"] = {
        name: {"deployment": "custom", "model": name, "port": 8501} for name in ("modelA", "modelB", "modelC")
    }
    config["tf-serving:services"] = {
        f"{name.lower()}_http": entry for name, entry in config["tf-serving:services"].items()
    }
    problems = told(config, project)
    assert [problem.partition(": ")[0] for problem in problems] == [f"{GATE}.agreement", f"{GATE}.latency.p99Ratio"]
    config["tf-serving:models"]["modelB"]["gate"] = {"golden": "golden/modelB.jsonl", "latency": {"p99Ms": 50}}
    assert model(parse(config, project)).gate.gate.golden == "golden/modelB.jsonl"


def test_a_gate_goes_by_what_each_set_of_services_serves(changed: Change, project: Path) -> None:
    """A label of a set of its own counts, and a set that nobody polls is refused although another one is polled."""
    canary = {"modelB": {"policy": {"specific": [2]}, "labels": {"fresh": 2}}}
    gate = {"golden": "golden/modelB.jsonl", "agreement": {"with": "fresh"}}
    http = "tf-serving:services.multi_http"
    config = gated(changed, gate, **{f"{http}.models": canary})
    assert model(parse(config, project)).gate.gate.agreement == Agreement(with_="fresh")
    config["tf-serving:services"]["scene"] = {"deployment": "scenario", "configFile": True, "models": ["modelB"]}
    problems = told(config, project)
    assert [each for each in problems if "scene read the config file only when they start" in each], problems
    config["tf-serving:services"]["scene"]["models"] = ["modelA"]
    assert model(parse(config, project)).gate is not None


def test_a_gate_of_a_model_without_labels_is_warned_of(changed: Change, project: Path) -> None:
    config = changed({"tf-serving:models.modelC.gate": {}})
    (warning,) = [each for each in parse(config, project).warnings if "gate" in each]
    assert warning.startswith("model modelC: it has a gate and no labels")
    assert not [each for each in parse(gated(changed, {}), project).warnings if "modelB: it has a gate" in each]


def test_the_highest_class_needs_classes(
    changed: Change, project: Path, golden: Path, publish: Callable[..., Path]
) -> None:
    for number in (7, 8):
        publish(project / "models" / "modelB", number, classes=1)
    (golden / "one.jsonl").write_text(json.dumps({"instances": [IMAGE], "predictions": [[0.1]]}))
    config = gated(
        changed,
        {"golden": "golden/one.jsonl", "agreement": {}},
        **{"tf-serving:models.modelB.policy": {"specific": [7, 8]}, "tf-serving:models.modelB.labels": {"stable": 8}},
    )
    (problem,) = told(config, project)
    assert problem.startswith(f"{GATE}.agreement.by: the answers have no highest class: no output has several numbers")


def test_a_file_that_fits_one_of_the_versions_is_taken_since_another_may_be_the_one_before(
    changed: Change, project: Path, golden: Path, publish: Callable[..., Path]
) -> None:
    publish(project / "models" / "modelB", 9, classes=3)
    config = gated(
        changed,
        {"golden": "golden/modelB.jsonl"},
        **{"tf-serving:models.modelB.policy": {"specific": [1, 9]}, "tf-serving:models.modelB.labels": {"stable": 9}},
    )
    (problem,) = told(config, project)
    assert "does not fit version 9" in problem
    config["tf-serving:models"]["modelB"]["labels"] = {"stable": 1, "canary": 9}
    assert model(parse(config, project)).gate is not None
