"""Every error of the provider is one that a preview says, or one that ``docs/previews.md`` says why it cannot."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.syntax_trees import tree_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "previews.md"

IN_PREVIEW = {
    "bucket_contents._check_fixed": "test_what_a_bucket_was_made_with_is_refused_in_the_preview",
    "cluster.ClusterApi._load": "test_a_preview_without_a_usable_kubeconfig_is_refused_and_one_without_an_answer_warns",
    "cluster_object._Place._plural": "test_without_its_kind_in_the_cluster_the_preview_is_refused",
    "cluster_object._refuse_other": "test_an_object_of_somebody_else_is_refused_by_the_preview_and_stays",
    "cluster.ConfigMap.check_namespace": "test_a_namespace_that_is_not_there_is_refused_in_the_preview",
    "eas.ownership.check_owner": "test_a_service_that_another_stack_took_over_is_refused_by_the_preview_of_an_update",
    "eas.ownership.check_group": "test_a_service_that_exists_cannot_join_a_group_which_the_preview_says",
    "gateway.Gateways.check": "test_without_the_gateway_api_the_preview_is_refused",
    "gateway.Gateways.gateway": "test_without_its_gateway_the_preview_is_refused",
    "traffic_route.TrafficRoute._refuse_others": "test_somebody_elses_routes_are_refused_by_the_preview",
    "traffic_split._Group.refuse_others": "test_members_of_another_stack_are_refused_by_the_preview",
    "eas.ownership.check_lock": "test_a_safety_lock_is_told_by_the_preview_of_a_change_that_it_forbids",
    "gates.refuse": "test_a_preview_lists_what_is_tried_and_refuses_what_cannot_pass",
    "gates.GateFiles._records": "test_a_preview_lists_what_is_tried_and_refuses_what_cannot_pass",
    "model_config_file.ConfigObject.refuse_other_owner": "test_somebody_elses_config_file_is_refused_and_stays",
    "oss.Bucket.get_text": "test_what_should_be_a_text_and_is_none_is_refused_in_the_preview",
    "published_model.PublishedModel.diff": "test_changed_content_of_a_published_version_is_refused_in_the_preview",
    "publication.layout.load_manifest": "test_the_preview_refuses_to_drop_a_version_whose_manifest_is_damaged",
    "publication.sources.LocalSource.open": "test_a_committed_manifest_stands_in_for_files_that_are_published",
    "publication.sources.BucketSource.open": "test_the_preview_refuses_what_a_source_in_oss_does_not_hold",
    "publication.sources.BucketSource.manifest": "test_the_preview_refuses_a_source_of_symbolic_links_or_without"
    "_checksums",
    "publication.sources.refuse_other_content": "test_content_in_oss_that_cannot_be_what_its_name_says_is_refused"
    "_before_anything_is_copied",
    "publication.jobs.Looked.refuse": "test_the_preview_refuses_versions_that_are_not_there_all_together",
    "publication.run.Publication._listed": "test_the_preview_refuses_versions_in_a_bucket_that_is_yet_to_be_made",
    "publication.run.Publication._look": "test_the_preview_refuses_files_of_others_and_other_content",
    "publication.run.Publication._refuse_long_keys": "test_a_key_that_is_too_long_for_oss_is_refused_in_the_preview",
    "publication.run.Publication._refuse_foreign_files": "test_the_preview_refuses_files_of_others_and_other_content",
    "publication.run.Publication._refer": "test_the_preview_of_an_added_version_is_refused_like_its_update",
}
"""Where an error is raised that a preview says as well, and the test of that."""

ONLY_UP = {
    "the cloud refuses to write": ["clients.EasApi._call", "cluster.ClusterApi.call", "eas_service.EasService.create",
                                   "eas_service.EasService._replace", "oss.Bucket._call"],
    "no answer, or one of a proxy": ["faults._look", "cluster.ClusterApi.call"],
    "no byte went through": ["faults.oss_retryer.Retryer.retry_delay"],
    "a service does not start": ["eas_service.EasService._wait_running", "eas_service.EasService._wait_answer",
                                 "eas_service.EasService._wait_gone"],
    "a service was restarted": ["pinning._File._restart", "rollout.run.Rollout._restart_failed"],
    "a version cannot be loaded": ["rollout.run.Rollout._look_into_logs", "rollout.pending.pending_of",
                                   "rollout.run.Rollout._fall_back", "served_model.ServedModel._prove"],
    "a version does not pass its gate": ["rollout.run.Rollout._go_back", "rollout.gating.Gating.try_out",
                                         "served_model.ServedModel._try"],
    "a step, a pin or a proof": ["pinning._File._wait", "rollout.run.Rollout._too_late",
                                 "served_model.ServedModel._prove"],
    "a service cannot be asked": ["rollout.run.Rollout._ask_before", "rollout.run.Rollout._prove",
                                  "served_config.ServedConfig.read", "served_model.ServedModel.read",
                                  "asking.Fleet.connections"],
    "a file changed since the run began": ["oss.Bucket.put_text", "oss.Bucket._upload", "oss.Bucket._make",
                                           "oss.PartUpload._send", "oss._FileRange.read", "oss._readable",
                                           "publication.run.Publication._publish_one"],
    "no gateway routes by": ["traffic_route.TrafficRoute._wait_accepted"],
    "a member of a group does not run": ["traffic_split._Group.refuse_unready", "traffic_split.TrafficSplit._apply"],
    "something came or went": ["cluster.ConfigMap.put_text", "eas_service.EasService.update",
                               "publication.sources.BucketSource.manifest.entry"],
    "a model moves to another service": ["moves.wait_for_others"],
    "a bucket of the stack is gone": ["bucket_contents.BucketContents._put_right"],
    "a service that is to be deleted": ["eas.ownership.check_deletable"],
    "cancelled, or the time": ["resource.Context.check"],
}  # fmt: skip
"""By the first words of a row of the page: where such errors are raised."""

NEITHER = {
    "model_config_file.ModelConfigFile.read": "pulumi import",
    "traffic_route.TrafficRoute.read": "pulumi import",
    "cluster_object.ClusterObject.read": "pulumi import",
    "server": "the protocol",
    "properties": "the protocol",
    "publication.sources.Source.open": "never called",
    "publication.parallel.run_all": "hands on what a task raised",
    "faults.Silence.check": "what the call before it could not do: preview and update fare alike",
}
"""What no update raises, with the reason."""


def raised() -> Iterator[str]:
    """Where the provider raises something: module, class and function."""

    def within(node: ast.AST, name: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Raise) and child.exc is not None:
                yield name
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            yield from within(child, f"{name}.{child.name}" if named else name)

    for file in sorted((ROOT / "provider").rglob("*.py")):
        if ".venv" not in file.parts:  # the CLI makes one there
            module = ".".join(file.relative_to(ROOT / "provider").with_suffix("").parts)
            yield from within(tree_of(file), module)


def rows() -> list[str]:
    """First cells of the table on the page."""
    _, _, table = PAGE.read_text(encoding="utf-8").partition("## What only `up` can say, and why")
    return [
        line.split(" | ")[0].removeprefix("| ")
        for line in table.splitlines()
        if line.startswith("| ") and not line.startswith("| --")
    ][1:]


def test_every_place_that_raises_is_sorted_in() -> None:
    known = {*IN_PREVIEW, *NEITHER, *(place for places in ONLY_UP.values() for place in places)}
    found = set(raised())
    modules = {place for place in known if "." not in place}
    assert {place for place in found - known if place.partition(".")[0] not in modules} == set()
    assert known - modules - found == set()


@pytest.mark.parametrize("words", ONLY_UP)
def test_the_page_says_what_only_up_can_say(words: str) -> None:
    assert any(row.startswith(words) for row in rows())


def test_the_page_says_nothing_else() -> None:
    of_the_program = ["ACK gives out no kubeconfig"]
    assert [row for row in rows() if not row.startswith((*ONLY_UP, *of_the_program))] == []


def test_every_error_of_a_preview_has_its_test() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py"))
    assert [name for name in IN_PREVIEW.values() if f"def {name}(" not in tests] == []
