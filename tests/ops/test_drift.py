"""Each difference is told once, by what moved: the cloud, what is served, or the code."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import drift, drift_command, engine
from ops.drift import Finding, Report, compare
from ops.redact import Redactor
from tests.ops.previews import MODELS, SERVED, document, parsed, promotion, served_inputs, service_inputs, state, step
from tests.ops.test_changes import served_model

SERVICE = "tfserving:index:EasService"
SERVED_CONFIG = "tfserving:index:ServedConfig"
PUBLISHED = "tfserving:index:PublishedModel"
CONFIG_FILE = "tfserving:index:ModelConfigFile"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def texts(report: Report) -> list[tuple[str, str]]:
    return [(each.kind, str(each)) for each in report.findings]


def service(replicas: int, image: str) -> dict[str, Any]:
    inputs = service_inputs(image=f"r/tensorflow-serving:{image}")
    inputs["spec"]["metadata"]["instance"] = replicas
    return state(inputs, {"status": "Running"})


def paths(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    found = {}
    if old["inputs"]["spec"]["metadata"] != new["inputs"]["spec"]["metadata"]:
        found["spec.metadata.instance"] = "update"
    if old["inputs"]["spec"]["containers"] != new["inputs"]["spec"]["containers"]:
        found["spec.containers[0].image"] = "update"
    return found


versions = st.tuples(st.integers(1, 3), st.sampled_from(("1", "2", "3")))


@settings(deadline=None)
@given(recorded=versions, found=versions, wanted=versions)
def test_what_moved_is_told_for_every_way_three_things_can_differ(
    recorded: tuple[int, str], found: tuple[int, str], wanted: tuple[int, str]
) -> None:
    old, there, code = service(*recorded), service(*found), service(*wanted)
    refresh, preview = paths(old, there), paths(there, code)
    one = step("update" if refresh else "refresh", SERVICE, "s", old, there, refresh)
    two = step("update" if preview else "same", SERVICE, "s", there, code, preview)
    report = compare("dev", parsed(one), parsed(two))
    kinds = {each.kind for each in report.findings}
    cloud = recorded != found
    # Code that was changed to what is there already has nothing left to do.
    ahead = any(r != w and f != w for r, f, w in zip(recorded, found, wanted, strict=True))
    assert ("cloud" in kinds, "code" in kinds, "served" in kinds) == (cloud, ahead, False)
    assert report.exit_status == (7 if cloud or ahead else 0)
    assert not report.unchecked
    if cloud and recorded[0] != found[0]:
        assert ("cloud", f"multi_grpc: replicas {recorded[0]} -> {found[0]}") in texts(report)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(("create", "update", "replace", "delete", "same", "refresh")), st.integers(0, 3))
)
def test_changes_that_are_only_counted_are_never_no_drift(counts: dict[str, int]) -> None:
    changed = any(counts.get(op) for op in ("create", "update", "replace", "delete"))
    nothing = parsed(changeSummary={"same": 3})
    assert (compare("dev", parsed(changeSummary=counts), nothing).exit_status != 0) == changed
    assert (compare("dev", nothing, parsed(changeSummary=counts)).exit_status != 0) == changed


def served_step(op: str, found: dict[str, Any], file: dict[str, Any] = MODELS, **more: Any) -> dict[str, Any]:
    """ServedConfig as a refresh finds it."""
    old = state(served_inputs(), {"served": SERVED, "file": MODELS})
    new = state(served_inputs(), {"served": found, "file": file}, **more)
    return step(op, SERVED_CONFIG, "served", old, new, {"served": "update"} if op == "update" else None, ("served",))


def putting_right(found: dict[str, Any]) -> dict[str, Any]:
    """ServedConfig as the preview after that wants it."""
    old, new = state(served_inputs(), {"served": found, "file": MODELS}), state(served_inputs())
    return step("update", SERVED_CONFIG, "served", old, new, {"served": "update"}, ("served",))


def moved(label: str, version: int) -> dict[str, Any]:
    found = copy.deepcopy(SERVED)
    found["multi_http"]["modelB"]["labels"][label] = version
    return found


def test_what_services_serve_is_told_apart_from_what_the_cloud_stores() -> None:
    found = moved("stable", 2)
    report = compare("dev", parsed(served_step("update", found)), parsed(putting_right(found)))
    assert texts(report) == [("served", "multi_http: modelB label stable is answered by version 2, not 1")]


def of_bucket(versions: tuple[str, ...], *, from_bucket: bool = True) -> dict[str, Any]:
    inputs = {"name": "modelB", "source": "", "versions": dict.fromkeys(versions, "any")}
    return state({**inputs, "fromBucket": True} if from_bucket else inputs, {"versions": inputs["versions"]})


@pytest.mark.parametrize(("from_bucket", "kind"), [(True, "bucket"), (False, "code")])
def test_a_version_that_came_into_the_bucket_is_nobodys_change_of_the_code(from_bucket: bool, kind: str) -> None:
    old, new = of_bucket(("1", "2"), from_bucket=from_bucket), of_bucket(("1", "2", "3"), from_bucket=from_bucket)
    published = step("update", PUBLISHED, "models-modelB", old, new, {'versions["3"]': "add"}, ("versions",))
    wider = copy.deepcopy(MODELS)
    beside = state(served_inputs(), {"served": SERVED, "file": MODELS})
    wider["modelB"]["policy"] = {"specific": [1, 2, 3]}
    wider["modelB"]["labels"] = {**wider["modelB"]["labels"], "blue": 2}
    rolled = step(
        "update", SERVED_CONFIG, "served", beside, state(served_inputs(wider)), {"models": "update"}, ("models",)
    )  # fmt: skip
    report = compare("dev", parsed(), parsed(published, rolled))
    found = texts(report)
    assert (kind, "modelB: + version 3") in found
    assert any(each[0] == kind and each[1].startswith("modelB: policy ") for each in found), found
    # A label is written by a person.
    assert any(each[0] == "code" and "label blue" in each[1] for each in found), found
    assert report.exit_status == 7
    assert ("The bucket has other versions" in drift.as_text(report)) == from_bucket


def test_a_service_of_one_model_that_serves_something_else_or_does_not_answer() -> None:
    kind = "tfserving:index:ServedModel"
    other = step(
        "update", kind, "m", served_model([1, 2], [1, 2]), served_model([1, 2], [1]), {"served.model": "update"}
    )
    again = step(
        "update", kind, "m", served_model([1, 2], [1]), served_model([1, 2], [1, 2]), {"served.model": "update"}
    )
    assert texts(compare("dev", parsed(other), parsed(again))) == [
        ("served", "modela_scene: model serves version 1, not 1, 2")
    ]
    error = "service modela_scene is Running but cannot be asked what it serves: no answer"
    hangs = step(
        "update", kind, "m", served_model([1], [1]), served_model([1], [], initErrors=[error]), {"served": "update"}
    )
    report = compare("dev", parsed(hangs), parsed())
    assert (report.findings, report.unchecked) == ((), ("what modela_scene serves: no answer",))


def test_drift_and_code_that_is_ahead_are_both_told() -> None:
    report = compare("dev", parsed(served_step("update", moved("canary", 1))), parsed(promotion()))
    assert texts(report) == [
        ("served", "multi_http: modelB label canary is answered by version 1, not 2"),
        ("code", "modelB: label stable 1 -> 2"),
    ]


def test_a_service_that_does_not_answer_is_neither_drift_nor_none() -> None:
    error = "service multi_http is Running but cannot be asked what it serves: http://x: no answer: timed out"
    report = compare(
        "dev", parsed(served_step("update", {"multi_http": {}}, initErrors=[error])), parsed(putting_right({}))
    )
    assert report.findings == ()
    assert report.unchecked == ("what multi_http serves: http://x: no answer: timed out",)
    assert report.exit_status == 1
    assert drift.as_json(report)["drift"] is None
    assert "does not mean that there is no drift" in drift.as_text(report)


def test_a_resource_that_cannot_be_read_is_neither_drift_nor_none() -> None:
    there = state(service_inputs(), initErrors=["the log cannot be read"])
    one = step("same", SERVICE, "s-service", state(service_inputs()), there)
    report = compare("dev", parsed(one), parsed())
    assert (report.findings, report.unchecked) == ((), ("s-service: the log cannot be read",))


def test_what_is_gone_is_told_once() -> None:
    gone = [
        step("delete", SERVICE, "s", state(service_inputs())),
        step("delete", CONFIG_FILE, "f", state({"key": "models/model_config.pbtxt"})),
        step("delete", PUBLISHED, "m", state({"name": "modelA", "versions": {"1": "sha256:a"}})),
        step("delete", "alicloud:oss/bucket:Bucket", "b", state({"bucket": "x"})),
        served_step("update", SERVED, {}),
    ]
    again = [
        step("create", SERVICE, "s", None, state(service_inputs())),
        step("create", CONFIG_FILE, "f", None, state({"key": "models/model_config.pbtxt"})),
        step("create", PUBLISHED, "m", None, state({"name": "modelA", "versions": {"1": "sha256:a"}})),
        step("create", "alicloud:oss/bucket:Bucket", "b", None, state({"bucket": "x"})),
    ]
    services = served_inputs() | {"services": {"multi_http": {"token": "[secret]", "url": UNKNOWN}}}
    again.append(
        step("update", SERVED_CONFIG, "served", state(served_inputs()), state(services),
             {"services.multi_http.url": "update", "services.multi_http.token": "update"})
    )  # fmt: skip
    assert texts(compare("dev", parsed(*gone), parsed(*again))) == [
        ("cloud", "multi_grpc: the service is gone"),
        ("cloud", "modelA: version 1 is no longer complete in the bucket"),
        ("cloud", "alicloud:oss/bucket:Bucket b: is gone"),
        ("served", "models/model_config.pbtxt: the model config file is gone"),
    ]


SERVED_MODEL = "tfserving:index:ServedModel"


@pytest.mark.parametrize("read_as", ["delete", "update"])
@pytest.mark.parametrize("made_as", ["create", "update"])
def test_one_service_of_one_model_that_is_gone_is_one_difference(read_as: str, made_as: str) -> None:
    name = {"name": "modela_scene"}
    old = state(service_inputs() | name)
    served, nothing = served_model([1], [1]), served_model([1], [])
    gone = [
        step("delete", SERVICE, "s", old),
        step(read_as, SERVED_MODEL, "m", served, None if read_as == "delete" else nothing, {"served.model": "delete"}),
    ]
    again = [
        step(made_as, SERVICE, "s", old if made_as == "update" else None, old, {"status": "update"}),
        step(made_as, SERVED_MODEL, "m", nothing if made_as == "update" else None, served, {"served.model": "add"}),
    ]
    report = compare("dev", parsed(*gone), parsed(*again))
    assert texts(report) == [("cloud", "modela_scene: the service is gone")]
    more = step(made_as, SERVED_MODEL, "m", nothing if made_as == "update" else None, served_model([1, 2], [1, 2]))
    if read_as == "update" and made_as == "update":
        more["detailedDiff"] = {"versions[1]": {"kind": "add", "inputDiff": True}}
        assert ("code", "modela_scene: model serves version 1 -> 1, 2") in texts(
            compare("dev", parsed(*gone), parsed(again[0], more))
        )


def test_one_rule_in_a_list_is_one_difference() -> None:
    rule = {"id": "r", "enabled": True, "prefix": "p/", "expirations": [{"days": 7}]}
    old, new = state({"bucket": "x"}), state({"bucket": "x", "lifecycleRules": [rule, rule]})
    parts = ("id", "enabled", "prefix", "expirations[0].days")
    diff = {f"lifecycleRules[{n}].{part}": "add" for n in (0, 1) for part in parts} | {"acl": "update"}
    report = compare("dev", parsed(step("update", "alicloud:oss/bucket:Bucket", "b", old, new, diff)), parsed())
    assert len(report.findings) == 3
    assert sum("lifecycleRules[0]" in each.text and "days" in each.text for each in report.findings) == 1


def test_a_published_version_that_somebody_changed_is_told_with_its_file() -> None:
    before = {"name": "m", "versions": {"1": "sha256:a", "2": "sha256:b"}}
    after = before | {"versions": {"1": "changed: saved_model.pb"}}
    one = step(
        "update", PUBLISHED, "m", state(before), state(after), {'versions["1"]': "update", 'versions["2"]': "delete"}
    )
    assert texts(compare("dev", parsed(one), parsed())) == [
        ("cloud", "m: version 1 is not as published: saved_model.pb"),
        ("cloud", "m: version 2 is no longer complete in the bucket"),
    ]


def test_a_secret_that_the_code_changes_is_told_without_it() -> None:
    old, new = service_inputs() | {"token": "[secret]"}, service_inputs() | {"token": "[secret]"}
    one = step("update", SERVICE, "s", state(old), state(new), {"token": "update"})
    [(kind, text)] = texts(compare("dev", parsed(step("same", SERVICE, "s", state(old), state(old))), parsed(one)))
    assert kind == "code"
    assert "token [secret] -> [secret]" in text


def test_settings_of_a_provider_are_the_codes() -> None:
    kind = "pulumi:providers:alicloud"
    one = step("update", kind, "alicloud", state({"region": "a", "secretKey": "[secret]"}), state({"region": "b"}))
    assert texts(compare("dev", parsed(), parsed(one))) == [
        ("code", "settings of provider alicloud: region, secretKey")
    ]


def test_a_token_that_was_made_anew_is_the_clouds_doing() -> None:
    one = step(
        "update", SERVED_CONFIG, "served", state(served_inputs()), state(served_inputs()),
        {"services.multi_http.token": "update"},
    )  # fmt: skip
    assert texts(compare("dev", parsed(), parsed(one))) == [("cloud", "multi_http: its token is another one")]


def test_an_update_that_did_not_end_well_is_the_codes_to_finish() -> None:
    published = {"name": "m", "versions": {"1": "sha256:a"}}
    old = state(published, {"versions": {}}, initErrors=["upload broke off"])
    one = step("update", PUBLISHED, "m", old, state(published), {'versions["1"]': "add"})
    [(kind, text)] = texts(compare("dev", parsed(step("same", PUBLISHED, "m", old, state(published))), parsed(one)))
    assert kind == "code"
    assert "the last update did not end well" in text


@pytest.mark.parametrize("name", ["@team", "a|b", "``` x", "<img src=x>", "x\ny", "[l](http://e)"])
def test_hostile_names_stay_code_in_the_issue_and_on_one_line_in_the_terminal(name: str) -> None:
    report = Report("dev", (Finding("cloud", name, f"label {name} is gone"),), (f"{name}: no answer",))
    shown = [line for line in drift.as_markdown(report).splitlines() if line.startswith("- ")]
    assert len(shown) == 2
    assert all(line.startswith("- `") and line.endswith("`") for line in shown)
    assert len(drift.as_text(report).splitlines()) == 8 + name.count("\n")


# ---- asking the engine ---------------------------------------------------------------------------------------------


def answers(monkeypatch: pytest.MonkeyPatch, **by_command: engine.Done | Exception) -> None:
    """A mock of the engine's command line, for what it says on bad days; the real one is in tests/e2e."""

    def run(stack: str, arguments: tuple[str, ...], *_: Any, **__: Any) -> engine.Done:
        answer = by_command[arguments[0]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(engine, "run", run)


def check() -> Report:
    return drift.check("dev", "pulumi", Redactor(["secret-of-the-account"]))


SAME = engine.Done(0, document(step("same", SERVICE, "s", service(1, "1"), service(1, "1"))), "")


@pytest.mark.parametrize(
    "answer",
    [
        engine.Done(255, "", "error: no credentials: secret-of-the-account"),
        engine.Done(
            1, document(diagnostics=({"message": "error: no credentials", "severity": "error"},)), "error: failed"
        ),
        engine.Done(0, document(diagnostics=({"message": "no credentials", "severity": "error"},)), ""),
        engine.Done(0, "warning: A new version of Pulumi is available", ""),
        engine.Done(0, "", "no credentials"),
        engine.Done(7, document(), "error: no changes were expected but changes were proposed"),
        engine.Done(-9, '{"steps": [', ""),
        engine.EngineError("`refresh` of stack 'dev' did not end within 5 s: no credentials"),
    ],
)
def test_what_cannot_be_checked_is_never_no_drift(
    monkeypatch: pytest.MonkeyPatch, answer: engine.Done | Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    for broken in ("refresh", "preview"):
        answers(monkeypatch, **{"refresh": SAME, "preview": SAME, broken: answer})
        if broken == "preview" and isinstance(answer, engine.Done) and answer.code == 7:
            continue
        report = check()
        assert report.exit_status not in (0, 7)
        assert report.findings == ()
        assert report.unchecked
        assert "secret-of-the-account" not in drift.as_text(report) + drift.as_markdown(report)


def test_an_untouched_stack_has_no_drift(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers(monkeypatch, refresh=SAME, preview=SAME, outputs=engine.Done(1, "", ""), stack=engine.Done(1, "", ""))
    assert drift_command.main(["--stack", "dev", "--engine", "pulumi", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "stack": "dev", "drift": False, "findings": [], "unchecked": [], "notes": [],
    }  # fmt: skip


def test_drift_that_was_found_is_told_although_the_code_cannot_be_previewed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = engine.Done(7, document(served_step("update", moved("stable", 2))), "")
    answers(monkeypatch, refresh=found, preview=engine.Done(255, "", "error: config is wrong"))
    report = check()
    assert report.exit_status == 7
    assert report.unchecked == ("what the code says: config is wrong",)


def test_without_a_cli_the_check_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = drift.check("dev", "pulumi", Redactor(), tmp_path)
    assert report.exit_status == 1
    assert "the Pulumi CLI is not on PATH" in report.unchecked[0]
