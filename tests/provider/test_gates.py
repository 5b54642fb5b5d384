"""Gates against real model servers with two replicas each, under load over both protocols."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from tests.provider.harness import Cloud, Engine, Failed, LocalModels, Plugin, Stack, config
from tests.provider.test_services import KEY, START, World, make_world, model, service
from tests.waiting import until
from tfserving import client
from tfserving.config_notes import StoredConfig
from tfserving.errors import TFServingError
from tfserving.gates import golden
from tfserving.property_values import plain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(clouded: Plugin, cloud: Cloud, model_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    models = LocalModels(model_store, tmp_path_factory.mktemp("project") / "models")
    yield from make_world(clouded, cloud, models, grpc_replicas=2)


@pytest.fixture
def fresh(world: World) -> World:
    """Versions 1 to 3 of m published; 1 and 2 served, 1 as stable."""
    if not (world.models.directory / "m" / "3").exists():
        world.models.add("m", 3)
        world.publish("m")
    world.roll(START)
    return world


def times(factor: float, *values: float) -> str:
    """A golden file: what a version answers that multiplies by ``factor``."""
    return "".join(
        json.dumps({"instances": [value], "predictions": [value * factor]}) + "\n"
        for value in values or (1.0, 2.0, 4.0)
    )


@dataclass
class Golden:
    """A golden file that tests write anew."""

    path: Path

    def gate(self, text: str, **demanded: Any) -> dict[str, Any]:
        """The gate of a model by this file with another content."""
        self.path.write_text(text)
        data = self.path.read_bytes()
        records = len(golden.read(data, "golden", expected=True))
        files = {str(self.path): {"digest": golden.digest(data), "records": records}}
        return {"gate": {"golden": str(self.path), **demanded}, "files": files}


@pytest.fixture
def file(tmp_path: Path) -> Golden:
    return Golden(tmp_path / "golden.jsonl")


def moved(version: int = 3, *others: int) -> dict[str, Any]:
    """Label stable and requests without a label go to a version."""
    return START | {"m": model("m", {"specific": [2, version, *others]}, stable=version, canary=2)}


@dataclass
class Load:
    """Clients that ask by label, by version and without either, over both protocols, from ``with`` to its end."""

    world: World
    versions: Sequence[int] = (2,)
    failures: list[str] = field(default_factory=list)
    answers: dict[str, set[float]] = field(default_factory=dict)
    counted: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        by: list[dict[str, Any]] = [{"label": "stable"}, {"label": "canary"}, {}]
        by += [{"version": version} for version in self.versions]
        for stack in (self.world.http, self.world.grpc):
            for one in by:
                thread = threading.Thread(target=self._ask, args=(stack, one), daemon=True)
                thread.start()
                self._threads.append(thread)
        until(lambda: len(self.answers) == len(self._threads), what="an answer to every client")
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)
        print(f"{self.counted} requests, {len(self.failures)} failed")

    def _ask(self, stack: Stack, by: Mapping[str, Any]) -> None:
        name = f"{stack.id} {by}"
        with self.world.connect(stack) as connection:
            while not self._done.is_set():
                try:
                    found = connection.predict("m", [1.0], **by).outputs
                    with self._lock:
                        self.counted += 1
                        self.answers.setdefault(name, set()).update(found)
                except TFServingError as error:
                    self.failures.append(f"{name}: {error}")
                time.sleep(0.005)


def without_result(text: str) -> str:
    """A model config file without what it says of gates that were not passed."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("# Gate not passed: "))


def refused(fresh: World, wanted: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    """Roll out under load what does not pass: nobody notices, and everything is as it was. The error."""
    before = fresh.cloud.get(KEY)
    with Load(fresh) as load, pytest.raises(Failed) as failed:
        fresh.roll(wanted, gates={"m": gate})
    assert load.failures == []
    assert load.counted > 200
    # No label has moved, not for a moment.
    assert {name: found for name, found in load.answers.items() if "stable" in name} == {
        f"{stack.id} {{'label': 'stable'}}": {1.0} for stack in (fresh.http, fresh.grpc)
    }
    assert (fresh.answer(label="stable"), fresh.answer(label="canary"), fresh.answer()) == ({1.0}, {2.0}, {2.0})
    for stack in (fresh.http, fresh.grpc):
        with fresh.connect(stack) as connection:
            states = {each.version: each.state for each in connection.status("m") if each.state != "END"}
        assert states == {1: "AVAILABLE", 2: "AVAILABLE"}
    noted = fresh.cloud.get(KEY)
    assert without_result(noted) == without_result(before)
    assert "# Gate not passed: " in noted
    assert failed.value.partial is not None
    assert "No label has moved. The model config file says again what it said before this rollout." in str(failed.value)
    return failed.value.message


def reports(fresh: World) -> dict[str, Any]:
    found: dict[str, Any] = plain(fresh.served.outputs)["gateReports"]["m"]
    return found


def test_a_golden_failure_under_load_leaves_everything_as_it_was_and_names_record_values_and_difference(
    fresh: World, file: Golden, log: Engine
) -> None:
    message = refused(fresh, moved(), file.gate(times(1)))
    for name in ("world_grpc", "world_http"):
        assert (
            f"service {name}: 3 of 3 records of {file.path} not answered as expected; {file.path}:1: "
            "predictions[0]: expected 1, found 3: difference 2, allowed 0.0011"
        ) in message
        assert f"service {name}: the largest difference is 8: {file.path}:3: predictions[0]: expected 4" in message
    assert (
        "step 2 of 4, gate: m version 3 for label stable and requests without a label, on world_grpc, world_http: "
        in ("\n".join(log.lines()))
    )
    found = reports(fresh)["3"]
    assert (found["passed"], found["version"], found["old"]) == (False, 3, 1)
    assert found["services"]["world_http"]["largestDifference"] == 8
    # The next update tries again; once the file expects what the version answers, it passes.
    with pytest.raises(Failed, match="m version 3 did not pass its gate"):
        fresh.roll(moved(), gates={"m": file.gate(times(1))})
    assert fresh.roll(moved(), gates={"m": file.gate(times(3))}) == "update"
    assert fresh.answer(label="stable") == {3.0}
    assert reports(fresh)["3"]["passed"] is True
    assert "returnTo" not in fresh.served.outputs


def test_an_agreement_failure_under_load_leaves_everything_as_it_was(fresh: World, file: Golden) -> None:
    gate = file.gate(times(3), agreement={"with": "stable", "by": "allclose", "least": 0.5})
    message = refused(fresh, moved(), gate)
    assert (
        f"service world_http: version 3 agrees with version 1 for 0 of 3 instances of {file.path} by allclose: 0, at "
        f"least 0.5 is needed; {file.path}:1: version 1 answers [1.0], version 3 [3.0]"
    ) in message


def test_a_latency_failure_under_load_leaves_everything_as_it_was(fresh: World, file: Golden) -> None:
    gate = file.gate(times(3), latency={"requests": 40, "concurrency": 2, "p99Ms": 0.001})
    message = refused(fresh, moved(), gate)
    assert "service world_grpc: p99 of 40 requests is " in message
    assert "at most 0.001 ms are allowed" in message
    found = reports(fresh)["3"]["services"]["world_grpc"]
    assert min(found[name] for name in ("p50Ms", "p99Ms", "oldP50Ms", "oldP99Ms")) > 0


def test_what_passes_is_reported_shown_with_the_next_change_and_gone_back_from_without_a_gate(
    fresh: World, file: Golden, log: Engine
) -> None:
    gate = file.gate(
        times(3),
        agreement={"with": "stable", "by": "allclose", "least": 1.0},
        tolerance={"absolute": 100, "relative": 0},
        latency={"requests": 20, "concurrency": 2, "p99Ms": 10_000},
    )
    with Load(fresh) as load:
        assert fresh.roll(moved(), gates={"m": gate}) == "update"
    assert load.failures == []
    assert fresh.answer(label="stable") == {3.0}
    lines = log.lines()
    steps = [line.partition(":")[0] for line in lines if line.startswith("step")]
    assert steps == ["step 1 of 4, widen", "step 2 of 4, gate", "step 3 of 4, move", "step 4 of 4, narrow"]
    passed = [
        line for line in lines if line.startswith("m version 3 passed its gate on world_http: 3 records, largest")
    ]
    assert len(passed) == 1
    assert "agreement 1 of 3 instances; p50 " in passed[0]
    assert "# Gate passed: " in fresh.cloud.get(KEY)
    # A gate that changes moves nothing and is no change; nor is it gone through by a change that moves no request.
    assert fresh.roll(moved(), gates={"m": file.gate(times(17))}) == "same"
    assert fresh.roll(moved(3, 1), gates={"m": file.gate(times(17))}) == "update"
    log.messages.clear()
    back = fresh.wanted(START, gates={"m": file.gate(times(17))})
    preview(fresh, back)
    told = "\n".join(log.lines())
    assert "m version 2: requests without a label" not in told
    assert "m version 1: label stable goes back to it without a gate: it answered before" in told
    assert "last gate, 20" in told
    assert "m version 3 passed its gate on world_grpc: 3 records" in told
    # Requests without a label go to version 2, which never passed: its gate says so.
    with pytest.raises(Failed, match="m version 2 did not pass its gate"):
        fresh.roll(START, gates={"m": file.gate(times(17))})
    assert fresh.answer(label="stable") == {3.0}
    assert fresh.roll(START, gates={"m": file.gate(times(2))}) == "update"
    assert fresh.answer(label="stable") == {1.0}


def preview(fresh: World, wanted: Mapping[str, Any]) -> dict[str, Any]:
    inputs, failures = fresh.plugin.check("ServedConfig", dict(wanted), fresh.served.inputs)
    assert not failures, failures
    fresh.served.refresh()
    stack = fresh.served
    return fresh.plugin.update("ServedConfig", stack.id, stack.inputs, stack.outputs, inputs, preview=True)


def test_a_preview_lists_what_is_tried_and_refuses_what_cannot_pass(fresh: World, file: Golden, log: Engine) -> None:
    gate = file.gate(times(3), latency={"p99Ms": 50})
    preview(fresh, fresh.wanted(moved(), gates={"m": gate}))
    assert (
        "step 2 of 4, gate: m version 3 for label stable and requests without a label, on world_grpc, world_http: 3 "
        f"records of {file.path} within 0.0001 + 0.001 of the number; p99 at most 50 ms (200 requests, 4 at a time); "
        "signatures compatible with the version before; compared with version 1"
    ) in log.lines()
    assert "m: requests without a label: version 2 -> 3 once it is loaded" in log.lines()

    def known(dtype: str) -> dict[str, Any]:
        floats = {"dtype": "float32", "shape": [-1]}
        return {"serving_default": {"inputs": {"x": {"dtype": dtype, "shape": [-1]}}, "outputs": {"y": floats}}}

    apart = {**gate, "known": {"1": known("float32"), "3": known("string")}}
    with pytest.raises(Failed) as failed:
        preview(fresh, fresh.wanted(moved(), gates={"m": apart}))
    assert "m version 3: clients of version 1 cannot go on: serving_default: input x changes its type" in str(
        failed.value
    )
    assert f"m version 3: {file.path}:1: instances: input x: 1.0 is not a text" in str(failed.value)
    file.path.write_text(times(4))
    with pytest.raises(Failed, match="has changed since the run began"):
        preview(fresh, fresh.wanted(moved(), gates={"m": {**gate, "known": {"3": known("float32")}}}))


def test_gates_that_mean_nothing_or_cannot_be_tried_are_refused_before_anything(fresh: World, file: Golden) -> None:
    gate = file.gate(times(3))
    out_of_reach = fresh.wanted(moved(), gates={"m": gate})
    out_of_reach["services"]["world_grpc"]["reachable"] = False
    _, failures = fresh.plugin.check("ServedConfig", out_of_reach)
    assert failures == {
        "gates": "service world_grpc cannot be reached (reachable: false), so nothing can be tried there"
    }
    at_start = fresh.wanted(moved(), gates={"m": gate})
    for each in at_start["services"].values():
        each["pollSeconds"] = 0
    _, failures = fresh.plugin.check("ServedConfig", at_start)
    assert "no service polls the file" in failures["gates"]
    _, failures = fresh.plugin.check("ServedConfig", fresh.wanted(moved(), gates={"m": {"gate": {"latency": {}}}}))
    assert "it names no limit" in failures["gates.m.gate.latency"]


def test_a_run_killed_in_its_gate_is_continued_and_gated_again(
    engine: tuple[Engine, str], fresh: World, file: Golden, log: Engine
) -> None:
    long = file.gate(times(3), latency={"requests": 100_000, "concurrency": 1, "p99Ms": 10_000})
    doomed = Plugin(*engine)
    doomed.configure(**config(fresh.cloud.endpoint))
    killed = Stack(doomed, "ServedConfig", fresh.served.id, fresh.served.inputs, fresh.served.outputs)

    def run() -> None:
        with pytest.raises(Failed):
            killed.up(fresh.wanted(moved(), gates={"m": long}))

    running = threading.Thread(target=run)
    running.start()
    until(lambda: StoredConfig.read(fresh.cloud.get(KEY)).tried, 60, "the gate")
    [tried] = StoredConfig.read(fresh.cloud.get(KEY)).tried
    assert (tried.model, tried.version) == ("m", 3)
    assert "m version 3 for label stable and requests without a label, on " in tried.demands
    assert "p99 at most 10000 ms (100000 requests, 1 at a time)" in tried.demands
    until(lambda: any(", gate: m version 3" in line for line in log.lines()), what="the gate")
    time.sleep(0.5)
    doomed.process.kill()
    running.join()
    doomed.stop()
    assert fresh.answer(label="stable") == {1.0}
    log.messages.clear()
    with pytest.raises(Failed, match="m version 3 did not pass its gate"):
        fresh.roll(moved(), gates={"m": file.gate(times(5))})
    assert StoredConfig.read(fresh.cloud.get(KEY)).tried == ()
    # What it said before is what it said before the run that was killed.
    assert (fresh.answer(label="stable"), fresh.answer()) == ({1.0}, {2.0})
    log.messages.clear()
    assert fresh.roll(moved(), gates={"m": file.gate(times(3))}) == "update"
    assert fresh.answer(label="stable") == {3.0}


def test_a_run_killed_after_its_gate_has_passed_is_not_gated_again_and_its_report_is_kept(
    engine: tuple[Engine, str], fresh: World, file: Golden, log: Engine
) -> None:
    gate = file.gate(times(3))
    doomed = Plugin(*engine)
    doomed.configure(**config(fresh.cloud.endpoint))
    killed = Stack(doomed, "ServedConfig", fresh.served.id, fresh.served.inputs, fresh.served.outputs)

    def run() -> None:
        with pytest.raises(Failed):
            killed.up(fresh.wanted(moved(), gates={"m": gate}))

    running = threading.Thread(target=run)
    running.start()
    until(lambda: "# Gate passed: " in fresh.cloud.get(KEY), what="the write after the gate")
    doomed.process.kill()
    running.join()
    doomed.stop()
    log.messages.clear()
    assert fresh.roll(moved(), gates={"m": gate}) == "update"
    assert fresh.answer(label="stable") == {3.0}
    assert not any(", gate: " in line for line in log.lines())
    assert reports(fresh)["3"]["passed"] is True


def test_a_first_deployment_is_gated_with_nothing_to_compare_with(fresh: World, file: Golden, log: Engine) -> None:
    first = Stack(fresh.plugin, "ServedConfig")
    gate = file.gate(times(1), agreement={"with": "stable", "by": "allclose"})
    with pytest.raises(Failed) as failed:
        first.up(fresh.wanted(START, gates={"m": gate}))
    # Version 2 answers requests without a label, and does not multiply by one.
    assert "m version 2 did not pass its gate" in failed.value.message
    assert "Nothing was served before, so there is nothing to go back to" in failed.value.message
    stored = StoredConfig.read(fresh.cloud.get(KEY))
    assert ([each.version for each in stored.gates], stored.tried) == ([2], ())
    assert any("nothing to compare with: no version before it is served" in line for line in log.lines())
    found = plain(first.outputs)["gateReports"]["m"]
    assert (found["1"]["passed"], found["2"]["passed"]) == (True, False)
    with pytest.raises(Failed, match="m version 2 did not pass its gate"):
        first.up(fresh.wanted(START, gates={"m": gate}))
    assert first.up(fresh.wanted(START)) == "update"
    assert "returnTo" not in first.outputs
    assert first.refresh() == {}


def test_a_model_without_labels_goes_back_where_it_does_not_pass(fresh: World, file: Golden, log: Engine) -> None:
    bare = START | {"m": model("m", {"specific": [2]})}
    fresh.roll(bare)
    before = fresh.cloud.get(KEY)
    wanted = START | {"m": model("m", {"specific": [3]})}
    with pytest.raises(Failed, match="m version 3 did not pass its gate"):
        fresh.roll(wanted, gates={"m": file.gate(times(1))})
    assert (fresh.answer(), without_result(fresh.cloud.get(KEY))) == ({2.0}, without_result(before))
    assert fresh.roll(wanted, gates={"m": file.gate(times(3))}) == "update"
    assert fresh.answer() == {3.0}


def test_without_gates_nothing_is_added_to_the_outputs(fresh: World) -> None:
    plainly = Stack(fresh.plugin, "ServedConfig")
    plainly.up(fresh.wanted(START))
    assert {"gates", "gateReports", "returnTo"}.isdisjoint(plainly.outputs)
    assert "# Gate" not in fresh.cloud.get(KEY)


# ---- services of one model -----------------------------------------------------------------------------------------


def test_a_service_of_one_model_is_gated_once_the_version_answers_and_told_the_way_back(
    clouded: Plugin, cloud: Cloud, models: LocalModels, extra: Callable[[], Stack], log: Engine, file: Golden
) -> None:
    root = "gated/"
    models.add("s", 1)
    published, eas, served = Stack(clouded, "PublishedModel"), extra(), Stack(clouded, "ServedModel")
    published.up(models.inputs("s", cloud.bucket, root) | {"removeDropped": True})
    flags = " --model_name=s --model_base_path=/models/s --max_num_load_retries=3 --load_retry_interval_micros=500000"
    inputs = service(cloud, "gated_one", flags=flags, replicas=2)
    inputs["spec"]["storage"][0]["oss"]["path"] = f"oss://{cloud.bucket}/{root}"
    inputs["probe"]["models"] = ["s"]
    eas.up(inputs)

    def wanted(version: int, gate: Mapping[str, Any]) -> dict[str, Any]:
        address = {name: eas.outputs[name] for name in ("url", "target", "token")}
        place = {"name": eas.id, **address, "reachable": True}
        return {"service": place, "model": "s", "versions": [version], "waitSeconds": 240, "gate": dict(gate)}

    def answer() -> list[Any]:
        address = plain(eas.outputs)
        with client.connect(url=address["url"], token=address["token"]) as connection:
            return list(connection.predict("s", [1.0]).outputs)

    try:
        assert served.up(wanted(1, file.gate(times(1)))) == "create"
        assert plain(served.outputs)["gateReports"]["s"]["1"]["passed"] is True
        models.add("s", 2)
        published.up(models.inputs("s", cloud.bucket, root) | {"removeDropped": True})
        for _ in range(2):  # the next update tries again
            with pytest.raises(Failed) as failed:
                served.up(wanted(2, file.gate(times(1))))
            assert "service gated_one: 3 of 3 records" in failed.value.message
            assert "The way back: take version 2 away" in failed.value.message
            assert "serves version 1 again" in failed.value.message
        assert plain(served.outputs)["returnTo"] == [1]
        assert answer() == [2.0]
        # The way back, as it is named; version 1 is not tried again.
        for path in sorted((models.directory / "s" / "2").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (models.directory / "s" / "2").rmdir()
        published.up(models.inputs("s", cloud.bucket, root) | {"removeDropped": True})
        log.messages.clear()
        assert served.up(wanted(1, file.gate(times(17)))) == "update"
        assert answer() == [1.0]
        assert "returnTo" not in served.outputs
        # The way on.
        models.add("s", 4, 3)
        published.up(models.inputs("s", cloud.bucket, root) | {"removeDropped": True})
        assert served.up(wanted(4, file.gate(times(3)))) == "update"
        assert any(line.startswith("s version 4 passed its gate on gated_one: 3 records") for line in log.lines())
        assert served.up(wanted(4, file.gate(times(9)))) == "same"
    finally:
        published.destroy()


def test_a_service_of_one_model_has_nothing_to_compare_with_and_has_to_be_reachable(
    clouded: Plugin, file: Golden
) -> None:
    gate = file.gate(times(1), agreement={"by": "allclose"}, latency={"p99Ratio": 2})
    inputs = {"service": {"name": "one", "url": "http://h", "reachable": False}, "model": "s", "versions": [1]}
    _, failures = clouded.check("ServedModel", inputs | {"gate": gate})
    assert "there is nothing to compare with" in failures["gate.gate.agreement"]
    assert "there is nothing to compare with" in failures["gate.gate.latency.p99Ratio"]
    assert "cannot be reached" in failures["gate"]
