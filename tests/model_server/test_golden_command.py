"""``ops golden record`` against a real model server, over both protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops import outputs
from ops.__main__ import main
from tfserving.client import connect
from tfserving.contract.gates import AgreeBy, Agreement, Gate, Latency, Tolerance
from tfserving.gates.compare import compare
from tfserving.gates.golden import read
from tfserving.gates.trial import Trial
from tfserving.gates.which import Candidate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(start_server: Any, tiny_models: Path) -> Any:
    return start_server("--model_name=modelA", "--model_base_path=/models/half_plus", mounts={"/models": tiny_models})


@pytest.fixture
def services(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, outputs.ExportedService]:
    url = f"http://127.0.0.1:{server.rest_port}"
    found = {
        "http": outputs.ExportedService("http", "http", url, "", "", {"modelA": {"labels": {}}}),
        "grpc": outputs.ExportedService("grpc", "grpc", "", server.target, "", {"modelA": {"labels": {}}}),
    }
    monkeypatch.setattr(outputs, "services", lambda *_: found)
    monkeypatch.chdir(tmp_path)
    return found


def version(services: dict[str, outputs.ExportedService]) -> str:
    with connect(url=services["http"].url) as client:
        return str(client.status("modelA")[0].version)


def test_generated_requests_are_recorded_alike_over_both_protocols_and_said_to_be_generated(
    services: dict[str, outputs.ExportedService], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = version(services)
    found = {}
    for name in services:
        assert main(["golden", "record", name, "modelA", "--version", number, "--output", f"{name}.jsonl"]) == 0
        said = capsys.readouterr()
        assert said.out.startswith(f"{name}.jsonl: 10 records of modelA version {number}; requests generated from its")
        assert "replace the generated requests by real ones" in said.err
        data = (tmp_path / f"{name}.jsonl").read_bytes()
        comment = json.loads(data.split(b"\n")[0])["comment"]
        assert comment.startswith(f"recorded from {name}, modelA version {number}, ")
        assert comment.endswith("requests generated from its signature, not real ones")
        found[name] = read(data, name, expected=True)
    assert len({json.dumps(each.request) for each in found["http"] if isinstance(each.request, list)}) == 10
    for one, other in zip(found["http"], found["grpc"], strict=True):
        assert one.request == other.request
        assert compare(one.expected, other.expected, Tolerance(absolute=0, relative=1e-6)).equal


@pytest.mark.parametrize("name", ["http", "grpc"])
def test_what_was_recorded_passes_a_gate_over_either_protocol(
    services: dict[str, outputs.ExportedService], tmp_path: Path, name: str
) -> None:
    number = version(services)
    lines = ['{"instances": [1.0, 3.0], "predictions": ["passed over"]}', '{"inputs": [2.0]}', '{"inputs": 1}']
    (tmp_path / "inputs.jsonl").write_text("\n".join(lines))
    assert main(["golden", "record", "http", "modelA", "--version", number, "--inputs", "inputs.jsonl"]) == 0
    data = (tmp_path / "golden" / "modelA.jsonl").read_bytes()
    records = read(data, "g", expected=True)
    assert [each.expected for each in records] == [[3.5, 4.5], [4.0], 3.5]
    assert b"requests of inputs.jsonl" in data.split(b"\n")[0]
    service = services[name]

    def asked() -> Any:
        return connect(url=service.url or None, target=service.target or None)

    gate = Gate(golden="g", agreement=Agreement(by=AgreeBy.ALLCLOSE), latency=Latency(requests=20, p99_ms=10_000))
    trial = Trial(gate, {"g": records}, [asked], "modelA", lambda: None, lambda _: None)
    # Against itself: what is measured of both is measured side by side.
    report = trial.run(Candidate("modelA", int(number), int(number)))
    assert report.problems == ()
    assert (report.records, report.agreement, report.instances) == (3, 1.0, 4)
    assert report.p50_ms is not None
    assert report.old_p99_ms is not None


def test_what_cannot_be_recorded_is_said_and_nothing_is_written(
    services: dict[str, outputs.ExportedService], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = version(services)
    (tmp_path / "bad.jsonl").write_text('{"instances": [1.0]}\n{"instances": ["text"]}\n')
    (tmp_path / "broken.jsonl").write_text("{\n")
    for arguments, said in (
        (["--inputs", "bad.jsonl"], f"bad.jsonl:2: version {number} of modelA refuses it: "),
        (["--inputs", "broken.jsonl"], "broken.jsonl:1: is not JSON"),
        (["--inputs", "none.jsonl"], "--inputs none.jsonl: cannot be read"),
        (["--signature", "other"], "has no signature 'other'; it has "),
        (["--version", "99"], "99"),
    ):
        assert main(["golden", "record", "http", "modelA", "--version", number, *arguments]) == 1
        assert said in capsys.readouterr().err
        assert not (tmp_path / "golden").exists()
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "modelA.jsonl").write_text("mine")
    assert main(["golden", "record", "http", "modelA", "--version", number]) == 1
    assert "golden/modelA.jsonl is there already; --force replaces it" in capsys.readouterr().err
    assert (tmp_path / "golden" / "modelA.jsonl").read_text() == "mine"
    capsys.readouterr()
    arguments = ["--force", "--count", "2", "--format", "json"]
    assert main(["golden", "record", "http", "modelA", "--version", number, *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], told["records"], told["generated"]) == ("golden/modelA.jsonl", 2, True)
    assert len(read((tmp_path / "golden" / "modelA.jsonl").read_bytes(), "g", expected=True)) == 2
    assert list((tmp_path / "golden").iterdir()) == [tmp_path / "golden" / "modelA.jsonl"]
