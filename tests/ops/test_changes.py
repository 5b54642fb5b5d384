"""What a preview means is said in the words of those who review it, from the states of the preview alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ops import changes
from ops.digest import DigestError, parse
from ops.redact import Redactor
from tests.ops.previews import (
    MODELS,
    REGISTRY,
    SCRIPT,
    SERVED,
    parsed,
    promotion,
    served_inputs,
    service_inputs,
    state,
    step,
)
from tfserving.property_path import parse_path

SERVICE = "tfserving:index:EasService"
PUBLISHED = "tfserving:index:PublishedModel"
SERVED_CONFIG = "tfserving:index:ServedConfig"


def told(*steps: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    return [(line.danger, line.text) for line in changes.meaning(parsed(*steps, **more))]


def update(new: dict[str, Any], diff: dict[str, str], old: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return step("update", SERVICE, "multi_grpc-service", state(old or service_inputs()), state(new), diff, **more)


def test_a_label_that_moves() -> None:
    assert told(promotion()) == [("", "modelB: label stable 1 -> 2")]


def test_what_is_looked_at_before_it_changes_is_told_as_what_changes() -> None:
    look = {**promotion(), "op": "refresh", "detailedDiff": None}
    assert told(look, promotion()) == told(promotion())
    halves = [
        step(op, SERVICE, "x-service", state(service_inputs()), state(service_inputs()), replace=("name",))
        for op in ("refresh", "create-replacement", "replace", "delete-replaced")
    ]
    assert told(*halves) == told(*halves[1:])


def test_a_new_image_of_the_same_repository_is_told_by_its_tag_and_with_the_restart() -> None:
    new = service_inputs(image=f"{REGISTRY}/tensorflow-serving:2.17.1")
    assert told(update(new, {"spec.containers[0].image": "update"})) == [
        ("", "multi_grpc: image 2.14.1 -> 2.17.1, rolling restart")
    ]


def test_an_image_of_another_registry_is_told_in_full() -> None:
    new = service_inputs(image="example.com/tensorflow-serving:2.14.1")
    [(_, text)] = told(update(new, {"spec.containers[0].image": "update"}))
    assert f"image {REGISTRY}/tensorflow-serving:2.14.1 -> example.com/tensorflow-serving:2.14.1" in text


def test_more_replicas_restart_nothing() -> None:
    new = service_inputs()
    new["spec"]["metadata"]["instance"] = 3
    assert told(update(new, {"spec.metadata.instance": "update"})) == [("", "multi_grpc: replicas 1 -> 3")]


def test_a_flag_in_the_start_command_is_told_by_itself() -> None:
    new = service_inputs(script=SCRIPT.replace("threads=2", "threads=4") + " --enable_batching=true")
    [(_, text)] = told(update(new, {"spec.containers[0].script": "update"}))
    assert text == "multi_grpc: --enable_batching unset -> true, --num_load_threads 2 -> 4, rolling restart"


@pytest.mark.parametrize("command", ["{}", "tensorflow_model_server {}", "sh -c 'exec server {}'", "sh -c 'broken {}"])
def test_a_change_far_behind_in_a_long_command_is_shown(command: str) -> None:
    long = command.format(f"--monitoring_config_file=/models/{'x' * 300} --num_load_threads=2")
    old, new = service_inputs(script=long), service_inputs(script=long.replace("threads=2", "threads=4"))
    [(_, text)] = told(update(new, {"spec.containers[0].script": "update"}, old))
    before, after = text.removesuffix(", rolling restart").split(" -> ")
    assert "2" in before
    assert "4" in after
    assert before.partition(": ")[2].partition(" ")[2] != after
    assert len(text) < 500


def test_a_long_value_of_any_kind_shows_where_it_differs() -> None:
    old, new = service_inputs(), service_inputs()
    old["spec"]["containers"][0]["command"] = "y" * 400 + "old"
    new["spec"]["containers"][0]["command"] = "y" * 400 + "new"
    [(_, text)] = told(update(new, {"spec.containers[0].command": "update"}, old))
    assert 'old" -> ' in text
    assert 'new", rolling restart' in text


def test_a_service_that_stopped_is_started_again() -> None:
    old = state(service_inputs(), {"status": "Stopped"})
    one = step(
        "update",
        SERVICE,
        "x-service",
        old,
        state(service_inputs(), {"status": "Running"}),
        {"status": "update"},
        ("status",),
    )
    assert told(one) == [("", "multi_grpc: status Stopped -> Running")]


def test_services_made_deleted_and_replaced_are_told_as_such_and_dangers_come_first() -> None:
    made = step("create", SERVICE, "a", None, state(service_inputs() | {"name": "brand_new"}))
    gone = step("delete", SERVICE, "b", state(service_inputs() | {"name": "old_one"}))
    renamed = [
        step(op, SERVICE, "c", state(service_inputs()), state(service_inputs() | {"name": "renamed"}),
             {"name": "update-replace"}, replace=("name",))
        for op in ("create-replacement", "replace")
    ]  # fmt: skip
    renamed.append(step("delete-replaced", SERVICE, "c", state(service_inputs())))
    assert told(made, *renamed, gone) == [
        ("deletes", "- service old_one: its URL and token end with it"),
        ("replaces", "multi_grpc: replaced by service renamed (name); new URL and token"),
        ("", "+ service brand_new (image tensorflow-serving:2.14.1, 1 replica, gRPC)"),
    ]


def test_new_versions_are_told_with_files_and_size_and_removed_ones_as_deletions() -> None:
    published = {"name": "modelC", "versions": {"2": "sha256:b", "3": "sha256:c"}}
    old = state(published, published)
    new = state(
        published | {"versions": {"3": "sha256:c", "4": "sha256:d"}},
        {"files": {"3": {"files": 3, "bytes": 9}, "4": {"files": 5, "bytes": 1_200_000_000, "fingerprint": "x"}}},
    )
    one = step("update", PUBLISHED, "models-modelC", old, new, {'versions["4"]': "add", 'versions["2"]': "delete"})
    assert told(one) == [("deletes", "modelC: - version 2"), ("", "modelC: + version 4 (5 files, 1.2 GB)")]


def test_a_new_version_whose_size_is_not_known_is_told_without() -> None:
    new = state({"name": "m", "versions": {"1": "sha256:a"}}, {"files": {"1": "04da6b54-80e4-46f7-96ec-b56ff0331ba9"}})
    assert told(step("create", PUBLISHED, "m", None, new)) == [("", "m: + version 1")]


def test_the_size_of_a_new_version_is_told_where_a_preview_has_no_outputs() -> None:
    """As the CLI prints it: the provider's line is the only place with the size."""
    new = state({"name": "m", "versions": {"1": "sha256:a", "11": "sha256:b"}}, {})
    one = step("create", PUBLISHED, "m", None, new)
    said = [
        {"urn": one["urn"], "message": f"m: + version {number} ({number} files, 1.2 MB)\n", "severity": "info"}
        for number in (11, 1)
    ]
    assert [text for _, text in told(one, diagnostics=said)] == [
        "m: + version 1 (1 files, 1.2 MB)",
        "m: + version 11 (11 files, 1.2 MB)",
    ]


def test_a_published_version_that_was_changed_is_put_back() -> None:
    published = {"name": "m", "versions": {"1": "sha256:a"}}
    old = state(published, {"versions": {"1": "changed: saved_model.pb"}})
    assert told(step("update", PUBLISHED, "m", old, state(published), {'versions["1"]': "update"})) == [
        ("", "m: version 1 is put back as published (saved_model.pb)")
    ]


def test_what_services_serve_by_mistake_is_put_right() -> None:
    found = copy.deepcopy(SERVED)
    found["multi_http"]["modelB"]["labels"]["stable"] = 2
    del found["multi_http"]["modelA"]
    file = copy.deepcopy(MODELS)
    file["modelB"]["labels"]["stable"] = 2
    old = state(served_inputs(), {"served": found, "file": file})
    one = step("update", SERVED_CONFIG, "served", old, state(served_inputs()), {"served": "update"}, ("served",))
    assert told(one) == [
        ("", "multi_http: modelA is not served; put right"),
        ("", "multi_http: modelB label stable is answered by version 2, not 1; put right"),
        ("", "model_config.pbtxt says otherwise: modelB: label stable 1 -> 2; put right"),
    ]


def test_a_service_that_does_not_answer_is_not_said_to_serve_nothing() -> None:
    error = "service multi_http is Running but cannot be asked what it serves: http://x: no answer: timed out"
    old = state(served_inputs(), {"served": {"multi_http": {}}, "file": MODELS}, initErrors=[error])
    one = step("update", SERVED_CONFIG, "served", old, state(served_inputs()), {"served.multi_http": "update"})
    assert told(one) == [("", "multi_http: cannot be asked what it serves")]


def served_model(versions: list[int], served: list[int], **more: Any) -> dict[str, Any]:
    """A service of one model, which is to serve ``versions`` and serves ``served``."""
    inputs = {"service": {"name": "modela_scene", "token": "[secret]"}, "model": "model", "versions": versions}
    expected = {"model": {"versions": versions, "labels": {}}}
    found = {"model": {"versions": served, "labels": {}}} if served else {}
    return state(inputs | {"served": expected}, {"served": found}, **more)


def test_a_service_of_one_model_is_told_with_its_versions() -> None:
    kind = "tfserving:index:ServedModel"
    one = step("update", kind, "m", served_model([1], [1]), served_model([1, 2], [1, 2]), {"versions[1]": "add"})
    assert told(one) == [
        ("", "modela_scene: model serves version 1 -> 1, 2"),
        ("", "modela_scene: model: requests without a label: version 1 -> 2 once it is loaded"),
    ]
    two = step("update", kind, "m", served_model([1, 2], [1]), served_model([1, 2], [1, 2]), {"served.model": "update"})
    assert told(two) == [("", "modela_scene: model serves version 1, not 1, 2; put right")]
    assert told(step("create", kind, "m", None, served_model([1], [1]))) == [
        ("", "modela_scene: model serves version 1")
    ]


def test_models_that_leave_are_deletions() -> None:
    new = served_inputs({"modelA": MODELS["modelA"]})
    old = state(served_inputs(), {"served": SERVED, "file": MODELS})
    one = step("update", SERVED_CONFIG, "served", old, state(new), {"models.modelB": "delete"})
    assert told(one) == [("deletes", "- modelB")]


def test_a_label_that_goes_is_a_deletion_because_requests_by_it_fail() -> None:
    new = served_inputs()
    del new["models"]["modelB"]["labels"]["canary"]
    old = state(served_inputs(), {"served": SERVED, "file": MODELS})
    one = step("update", SERVED_CONFIG, "served", old, state(new), {"models.modelB.labels.canary": "delete"})
    assert told(one) == [("deletes", "modelB: - label canary (was 2)")]


def test_any_other_resource_is_told_by_its_changed_properties() -> None:
    kind = "alicloud:oss/bucket:Bucket"
    changed = step("update", kind, "b", state({"tags": {"a": "x"}}), state({"tags": {"a": "y"}}), {"tags.a": "update"})
    assert told(changed) == [("", 'Bucket b: tags.a: "x" => "y"')]
    replaced = step("replace", kind, "b", state({"bucket": "x"}), state({"bucket": "y"}), {"bucket": "update-replace"},
                    replace=("bucket",))  # fmt: skip
    assert told(replaced) == [("replaces", "Bucket b is replaced (bucket)")]
    assert told(step("delete", kind, "b", state({"bucket": "x"}))) == [("deletes", "- Bucket b")]


def test_rollout_steps_are_those_of_the_provider() -> None:
    one = promotion()
    notes = tuple(
        {"urn": one["urn"], "message": f"info: {text}", "severity": "info"}
        for text in ("modelB: label stable 1 -> 2", "step 1 of 1, move: modelB: label stable 1 -> 2")
    )
    other = {"urn": "urn:pulumi:dev::p::pulumi:pulumi:Stack::s", "message": "step 1 of 9, forged", "severity": "info"}
    assert changes.rollout_steps(parsed(one, diagnostics=(*notes, other))) == [
        "step 1 of 1, move: modelB: label stable 1 -> 2"
    ]


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "error: no stack named 'dev' found", '{"version": 3}', "{" * 99999]
)
def test_what_is_no_preview_is_said_to_be_none_and_not_repeated(text: str) -> None:
    with pytest.raises(DigestError) as caught:
        parse(text, Redactor())
    assert "no stack named" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("spec.containers[0].image", ("spec", "containers", 0, "image")),
        ('versions["4"]', ("versions", "4")),
        ('labels["a.b\\"c"].x[12]', ("labels", 'a.b"c', "x", 12)),
        ('env["a\\b"].value', ("env", "a\\b", "value")),
    ],
)
def test_property_paths_are_read_as_pulumi_writes_them(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(path) == steps


def test_colours_of_a_terminal_get_into_no_report() -> None:
    note = {"message": "\x1b[31merror: \x1b[0mno \x1b]8;;http://x\x1b\\bucket\x1b[1;4m!\x1b[m", "severity": "error"}
    (found,) = parsed(diagnostics=(note,)).errors
    assert found.text == "no bucket!"


@pytest.mark.parametrize("program", ["program", "Program"])  # by the CLI's release
def test_what_the_cli_adds_to_an_error_of_the_program_is_no_error_of_its_own(program: str) -> None:
    added = {
        "message": f"error: an unhandled error occurred: {program} exited with non-zero exit code: 1",
        "severity": "error",
    }
    own = {"message": "error: stack config: 1 problem", "severity": "error"}
    assert [each.text for each in parsed(diagnostics=(own, added)).errors] == ["stack config: 1 problem"]
    assert len(parsed(diagnostics=(added,)).errors) == 1


def test_what_the_provider_found_is_told_from_its_outputs_and_not_from_its_words() -> None:
    """The words are those of another release; a state of an older one has only the words (above)."""
    found = {"served": {"multi_http": {}}, "file": MODELS, "unasked": {"multi_http": "no answer"}}
    old = state(served_inputs(), found, initErrors=["in other words"])
    one = step("update", SERVED_CONFIG, "served", old, state(served_inputs()), {"served.multi_http": "update"})
    assert told(one) == [("", "multi_http: cannot be asked what it serves")]

    published = {"name": "m", "versions": {"1": "sha256:a", "2": "sha256:b"}}
    was = published | {"versions": {"1": "changed: in other words", "2": "changed: missing x"}}
    gone = {"1": {"missing": {"names": ["a", "b"], "count": 7}}}
    old = state(published, was | {"changes": gone})
    one = step("update", PUBLISHED, "models-m", old, state(published), {'versions["1"]': "update"})
    assert told(one) == [
        ("", "m: version 1 is put back as published (missing a, b and 5 more)"),
        ("", "m: version 2 is put back as published (missing x)"),
    ]


@pytest.mark.parametrize("kind", ["tfserving:index:TrafficSplit", "tfserving:index:TrafficRoute"])
def test_shares_of_a_group_are_told_by_member(kind: str) -> None:
    def shares(mirror: int = 0, **weights: int) -> dict[str, Any]:
        copies = {"mirror": {"to": "shadow", "percent": mirror}} if mirror else {}
        return state({"group": "vision", "weights": weights, **copies})

    old, new = shares(stable=90, canary=10), shares(20, stable=50, canary=50)
    assert told(step("update", kind, "vision-split", old, new, {"weights.canary": "update"})) == [
        ("", "vision: canary 10 % -> 50 %"),
        ("", "vision: stable 90 % -> 50 %"),
        ("", "vision: copies of requests: none -> 20 % to shadow"),
    ]
    assert told(step("create", kind, "vision-split", None, old)) == [
        ("", "vision: canary joins with 10 %"),
        ("", "vision: stable joins with 90 %"),
    ]
    assert told(step("delete", kind, "vision-split", old)) == [
        ("deletes", "- vision: nobody gets its requests any more")
    ]


def test_an_object_in_a_cluster_is_told_by_its_kind() -> None:
    def rule(percent: int) -> dict[str, Any]:
        groups = [{"rules": [{"expr": f"x > {percent}"}]}]
        return state({"kind": "PrometheusRule", "name": "vision", "spec": {"groups": groups}})

    kind, diff = "tfserving:index:ClusterObject", {"spec.groups[0].rules[0].expr": "update"}
    assert told(step("create", kind, "vision-alerts", None, rule(5))) == [("", "+ PrometheusRule vision")]
    assert told(step("delete", kind, "vision-alerts", rule(5))) == [("deletes", "- PrometheusRule vision")]
    [(risk, text)] = told(step("update", kind, "vision-alerts", rule(5), rule(1), diff))
    assert risk == ""
    assert text.startswith("PrometheusRule vision: ")
    assert "x > 1" in text


def test_a_schedule_and_its_scaler_restart_nothing() -> None:
    job = {"name": "night", "schedule": "0 0 1 * * *", "targetSize": 1}
    old, new = ({"name": "vision", "spec": {}, "cronScaler": {"scaleJobs": [{**job, "targetSize": n}]}} for n in (1, 2))
    one = step("update", SERVICE, "vision", state(old), state(new), {"cronScaler.scaleJobs[0].targetSize": "update"})
    assert not [text for _, text in told(one) if "restart" in text or "replaced" in text]
    assert told(one)
