"""What a deployment does to resources: steps, their order, and what stays in the state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Outcome, Project

pytestmark = pytest.mark.slow

A_AND_B = """
    a = Thing("a", {a})
    b = Thing("b", {b})
    pulumi.export("b", b.value)
"""


def a_and_b(a: str = "", b: str = "value=a.endpoint") -> str:
    return A_AND_B.format(a=a, b=b)


def ops(outcome: Outcome) -> list[tuple[str, str]]:
    steps = outcome.json["steps"]
    return [(s["op"], s["urn"].rpartition("::")[2]) for s in steps if s["op"] != "same"]


def test_a_second_run_changes_nothing(project: Project) -> None:
    first = project.apply(a_and_b())
    assert first.status == 0, first
    assert first.counts == {"create": 3}
    assert project.journal == ["create a", "create b"]
    saved = project.state_file.read_text()
    second = project.up("--expect-no-changes")
    assert second.status == 0, second
    assert "3 unchanged" in second.out
    assert project.journal == ["create a", "create b"]
    assert project.state_file.read_text() == saved


def test_a_changed_input_is_an_update_of_that_resource_only(project: Project) -> None:
    project.apply(a_and_b('value="1"'))
    project.forget_journal()
    project.program(a_and_b('value="2"'))
    outcome = project.up()
    assert outcome.status == 0
    assert '~ value: "1" => "2"' in outcome.out
    assert project.journal == ["update a"]
    assert project.resource("a")["outputs"]["value"] == "2"


def test_a_replacement_is_created_before_its_predecessor_is_deleted(project: Project) -> None:
    project.apply(a_and_b('kind="x"'))
    project.forget_journal()
    outcome = project.apply(a_and_b('kind="y"'))
    assert outcome.status == 0, outcome
    assert project.journal == ["create a", "update b", "delete a"]
    assert outcome.counts == {"same": 1, "update": 1, "replace": 1}
    assert ("replace", "a") in ops(outcome)
    assert project.world["b"]["value"] == project.resource("a")["outputs"]["endpoint"]


def test_delete_before_replace_takes_down_first_what_falls_with_it(project: Project) -> None:
    program = """
        a = Thing("a", of="Slot", kind="{kind}")
        falls = Thing("falls", kind=a.endpoint)
        stays = Thing("stays", value=a.endpoint)
        Thing("falls-too", kind=falls.endpoint)
    """
    project.apply(program.format(kind="x"))
    project.forget_journal()
    outcome = project.apply(program.format(kind="y"))
    assert outcome.status == 0, outcome
    assert project.journal[:4] == ["delete falls-too", "delete falls", "delete a", "create a"]
    assert set(project.journal[4:]) == {"create falls", "create falls-too", "update stays"}
    assert outcome.counts == {"same": 1, "update": 1, "replace": 3}
    assert not any("pendingReplacement" in r or "delete" in r for r in project.deployment["resources"])


@pytest.mark.parametrize(
    ("of", "option", "order"), [("Thing", True, ["delete a", "create a"]), ("Slot", False, ["create a", "delete a"])]
)
def test_the_program_overrides_how_the_provider_replaces(
    project: Project, of: str, option: bool, order: list[str]
) -> None:
    program = f'Thing("a", of="{of}", kind="%s", opts=ResourceOptions(delete_before_replace={option}))'
    project.apply(program % "x")
    project.forget_journal()
    assert project.apply(program % "y").status == 0
    assert project.journal == order


def test_what_the_program_no_longer_registers_is_deleted_dependents_first(project: Project) -> None:
    project.apply(a_and_b())
    project.forget_journal()
    outcome = project.apply("")
    assert outcome.counts == {"delete": 2, "same": 1}
    assert project.journal == ["delete b", "delete a"]
    assert project.world == {}


def test_destroy_deletes_everything_dependents_first(project: Project) -> None:
    program = """
        group = Group("group")
        a = Thing("a", opts=ResourceOptions(parent=group))
        b = Thing("b", opts=ResourceOptions(depends_on=[a]))
        Thing("c", opts=ResourceOptions(parent=b))
    """
    project.apply(program)
    project.forget_journal()
    outcome = project.run("destroy", "--yes")
    assert outcome.status == 0, outcome
    assert "5 deleted" in outcome.out
    assert project.journal == ["delete c", "delete b", "delete a"]
    assert project.deployment["resources"] == []


def test_a_protected_resource_is_neither_deleted_nor_replaced(project: Project) -> None:
    program = 'Thing("a", kind="{}", opts=ResourceOptions(protect={}))'
    project.apply(program.format("x", True))
    for outcome in (project.apply(program.format("y", True)), project.apply(""), project.run("destroy", "--yes")):
        assert outcome.status == 1
        assert "protected" in outcome.out
    assert project.journal == ["create a"]
    assert project.apply(program.format("x", False)).status == 0
    assert project.apply("").status == 0
    assert project.world == {}


def test_a_retained_resource_leaves_only_the_state(project: Project) -> None:
    project.apply('Thing("a", opts=ResourceOptions(retain_on_delete=True))')
    assert project.apply("").status == 0
    assert project.names == set()
    assert "a" in project.world


def test_what_is_deleted_with_another_resource_is_not_deleted_itself(project: Project) -> None:
    project.apply('a = Thing("a")\nThing("inside", opts=ResourceOptions(deleted_with=a))')
    project.forget_journal()
    assert project.run("destroy", "--yes").status == 0
    assert project.journal == ["delete a"]
    assert project.names == set()


def test_ignored_changes_are_kept_as_they_were(project: Project) -> None:
    program = """
        options = ResourceOptions(ignore_changes=["value", "deep.kept"])
        Thing("a", value="{0}", deep={{"kept": "{0}", "other": "{0}"}}, opts=options)
    """
    project.apply(program.format("1"))
    outcome = project.apply(program.format("2"))
    assert outcome.status == 0
    assert project.world["a"] == {"label": "a-label", "value": "1", "deep": {"kept": "1", "other": "2"}}
    (step,) = [s for s in outcome.json["steps"] if s["op"] == "update"]
    assert step["detailedDiff"] == {"deep.other": {"kind": "update", "inputDiff": True}}


def test_replace_on_changes_turns_an_update_into_a_replacement(project: Project) -> None:
    program = 'Thing("a", deep={{"x": "{}"}}, opts=ResourceOptions(replace_on_changes=["deep.x"]))'
    project.apply(program.format("1"))
    outcome = project.apply(program.format("2"))
    assert outcome.counts == {"same": 1, "replace": 1}
    assert project.journal == ["create a", "create a", "delete a"]


def test_components_parent_their_children_and_keep_their_outputs(project: Project) -> None:
    program = """
        group = Group("group")
        inner = Group("inner", opts=ResourceOptions(parent=group))
        thing = Thing("a", opts=ResourceOptions(parent=inner))
        inner.register_outputs({"where": thing.endpoint})
    """
    assert project.apply(program).status == 0
    inner, thing = project.resource("inner"), project.resource("a")
    assert thing["urn"] == "urn:pulumi:dev::shop::shop:index:Group$shop:index:Group$world:index:Thing::a"
    assert thing["parent"] == inner["urn"]
    assert inner["outputs"] == {"where": thing["outputs"]["endpoint"]}


def test_a_renamed_resource_with_an_alias_stays_the_same_resource(project: Project) -> None:
    project.apply('a = Thing("a")\nThing("b", value=a.endpoint)')
    project.forget_journal()
    outcome = project.apply("""
        a = Thing("new", label="a-label", opts=ResourceOptions(aliases=[pulumi.Alias(name="a")]))
        Thing("b", value=a.endpoint)
    """)
    assert outcome.status == 0, outcome
    assert outcome.counts == {"same": 3}
    assert project.names == {"new", "b"}
    assert project.resource("b")["dependencies"] == [project.resource("new")["urn"]]


def test_a_resource_that_is_not_ready_is_kept_and_tried_again(project: Project) -> None:
    outcome = project.apply(a_and_b('unready="yes"'))
    assert outcome.status == 1
    assert "the thing does not answer" in outcome.out
    kept = project.resource("a")
    assert kept["initErrors"] == ["the thing does not answer"]
    assert kept["id"].startswith("a-")
    assert project.names == {"a"}
    project.forget_journal()
    again = project.apply(a_and_b(""))
    assert again.status == 0, again
    assert project.journal == ["update a", "create b"]
    assert "initErrors" not in project.resource("a")


def test_an_unchanged_resource_that_was_not_ready_is_updated(project: Project) -> None:
    project.apply('Thing("a", unready="yes")')
    state = json.loads(project.state_file.read_text())
    for resource in state["deployment"]["resources"]:
        resource.get("inputs", {}).pop("unready", None)
    project.state_file.write_text(json.dumps(state))
    outcome = project.apply('Thing("a")')
    assert outcome.counts == {"same": 1, "update": 1}


def test_after_a_failure_dependents_wait_and_independent_resources_go_on(project: Project) -> None:
    project.apply('Thing("old")')
    program = """
        a = Thing("a", {fail})
        b = Thing("b", value=a.endpoint)
        Thing("c", opts=ResourceOptions(depends_on=[b]))
        Thing("independent")
        pulumi.export("where", a.endpoint)
        pulumi.export("known", "yes")
    """
    failed = project.apply(program.format(fail='fail="create"'))
    assert failed.status == 1
    assert "the world refuses to create this" in failed.out
    assert "Traceback" not in failed.out + failed.err
    assert project.names == {"old", "independent"}, "nothing is deleted after a failure"
    assert project.deployment["pending_operations"] == []
    fixed = project.apply(program.format(fail=""))
    assert fixed.status == 0
    assert project.names == {"a", "b", "c", "independent"}


def test_a_failed_update_keeps_the_old_state_and_the_last_outputs(project: Project) -> None:
    project.apply(a_and_b('value="1"', "value=a.value"))
    outcome = project.apply(a_and_b('value="2", fail="update"', "value=a.value"))
    assert outcome.status == 1
    assert project.resource("a")["inputs"]["value"] == "1"
    assert project.run("outputs", "--json").json == {"b": "1"}


def test_a_failed_delete_keeps_what_it_needs(project: Project) -> None:
    project.apply(a_and_b("", 'value=a.endpoint, fail="delete"'))
    outcome = project.run("destroy", "--yes")
    assert outcome.status == 1
    assert "the world refuses to delete this" in outcome.out
    assert project.names == {"a", "b"}


def test_bad_inputs_fail_the_preview_with_the_property(project: Project) -> None:
    outcome = project.apply(a_and_b("value=[1]"))
    assert outcome.status == 1
    assert "value: must be a text" in outcome.out
    assert not project.state_file.exists()


def test_timeouts_are_kept_in_seconds(project: Project) -> None:
    project.apply(
        'Thing("a", opts=ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="1m30s", delete="2m")))'
    )
    assert project.resource("a")["customTimeouts"] == {"create": 90, "delete": 120}


def test_a_resource_looked_up_is_read_and_never_deleted(project: Project) -> None:
    project.apply('Thing("a", value="1")')
    id = project.resource("a")["id"]
    outcome = project.apply(f"""
        Thing("a", value="1")
        found = Thing("found", value=None, opts=ResourceOptions(id="{id}"))
        pulumi.export("value", found.value)
    """)
    assert outcome.status == 0, outcome
    assert project.resource("found")["external"] is True
    assert project.run("outputs", "--json").json == {"value": "1"}
    assert project.apply('Thing("a", value="1")').status == 0
    assert project.names == {"a"}
    assert project.world["a"]["value"] == "1"


def test_looking_up_what_does_not_exist_is_an_error(project: Project) -> None:
    outcome = project.apply('Thing("found", opts=ResourceOptions(id="nothing"))')
    assert outcome.status == 1
    assert "resource 'nothing' does not exist" in outcome.out


def test_an_explicit_provider_is_updated_in_place(project: Project) -> None:
    program = """
        world = World("mine", region="{}", key=Output.secret("hush"))
        Thing("a", opts=ResourceOptions(provider=world))
    """
    project.apply(program.format("here"))
    before = project.resource("mine")
    assert project.resource("a")["provider"] == f"{before['urn']}::{before['id']}"
    outcome = project.apply(program.format("there"))
    assert outcome.counts == {"same": 2, "update": 1}
    assert project.resource("mine")["inputs"]["region"] == "there"
    assert "hush" not in project.state_file.read_text() + outcome.out
    assert project.run("destroy", "--yes").status == 0
    assert project.world == {}


def test_moving_to_another_provider_does_not_replace_a_resource(project: Project) -> None:
    program = 'world = World("{}")\nThing("a", opts=ResourceOptions(provider=world))'
    project.apply(program.format("one"))
    project.forget_journal()
    outcome = project.apply(program.format("two"))
    assert outcome.status == 0, outcome
    assert not (project.root / "world" / "journal").exists()
    assert project.resource("a")["provider"].startswith(project.resource("two")["urn"])
    assert project.names == {"a"}


def test_broken_provider_settings_fail_the_preview(project: Project) -> None:
    outcome = project.apply('Thing("a", opts=ResourceOptions(provider=World("mine", broken="yes")))')
    assert outcome.status == 1
    assert "these settings are broken" in outcome.out
    assert not project.state_file.exists()


def test_an_unknown_provider_setting_in_a_preview_leaves_everything_open(project: Project) -> None:
    outcome = project.apply(
        'a = Thing("a")\nThing("b", opts=ResourceOptions(provider=World("mine", region=a.endpoint)))'
    )
    assert outcome.status == 0, outcome
    assert project.names == {"a", "b"}


def test_output_values_depend_on_each_other_only_where_they_do(project: Project) -> None:
    project.apply('a = Thing("a")\nThing("b", value=a.endpoint, other="x")')
    assert project.resource("b")["propertyDependencies"] == {"value": [project.resource("a")["urn"]]}


def test_changed_stack_outputs_are_saved_though_no_resource_changes(project: Project) -> None:
    project.apply('pulumi.export("x", 1)')
    outcome = project.apply('pulumi.export("x", 2)')
    assert outcome.counts == {"same": 1}
    assert project.run("outputs", "--json").json == {"x": 2}


def test_a_name_registered_twice_is_an_error(project: Project) -> None:
    outcome = project.apply('Thing("a")\nThing("a")')
    assert outcome.status == 1
    assert "Duplicate resource URN" in outcome.out


@pytest.mark.parametrize(
    ("program", "named"),
    [
        ('Thing("a", opts=ResourceOptions(import_="x"))', "import"),
        ('Thing("a", opts=ResourceOptions(transforms=[lambda args: None]))', "transforms"),
        ('Thing("a", opts=ResourceOptions(replacement_trigger="x"))', "replacement_trigger"),
        ('Thing("a", of="Nothing")', "world:index:Nothing"),
        ('pulumi.CustomResource("moon:index:Rock", "a", {})', "no plugin for package moon"),
        ('pulumi.StackReference("other/stack/dev")', "no plugin for package pulumi"),
        ('pulumi.runtime.invoke("world:index:getMoon", {})', "no function world:index:getMoon"),
        ('Thing("a", opts=ResourceOptions(hide_diffs=["value"]))', "hide_diffs"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(project: Project, program: str, named: str) -> None:
    outcome = project.apply(program)
    assert outcome.status == 1
    assert named in outcome.out
    assert not project.state_file.exists()


def test_functions_of_a_provider_are_passed_through(project: Project) -> None:
    program = 'pulumi.export("found", pulumi.runtime.invoke("world:index:getCount", {"asked": "yes"}).value)'
    assert project.apply(f'Thing("a")\n{program}').status == 0
    assert project.apply(f'Thing("a")\n{program}').status == 0
    assert project.run("outputs", "--json").json == {"found": {"asked": "yes", "count": 1}}


BELOW_THE_STACK = """
class Holder(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("shop:index:Holder", name, None, opts)
        self.thing = Thing(f"{name}-thing", opts=ResourceOptions(parent=self))

def build(**below):
    world = pulumi.ProviderResource("world", "own", {}, ResourceOptions(**below))
    holder = Holder("holder", ResourceOptions(providers=[world], **below))
    return Thing("last", value=holder.thing.endpoint, opts=ResourceOptions(provider=world, **below))
"""

AROUND = (
    BELOW_THE_STACK
    + """
group = Group("all")
build(parent=group, aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)])
"""
)


def test_what_moves_below_a_component_stays_what_it_is_with_everything_below_it(project: Project) -> None:
    project.apply(BELOW_THE_STACK + "build()\n")
    project.forget_journal()
    before = {name: project.resource(name)["id"] for name in ("holder-thing", "last", "own")}
    outcome = project.apply(AROUND)
    assert outcome.status == 0, outcome
    assert outcome.counts == {"create": 1, "same": 5}
    assert project.journal == []
    assert {name: project.resource(name)["id"] for name in before} == before
    thing, provider = project.resource("holder-thing"), project.resource("own")
    assert thing["urn"].split("::")[2] == "shop:index:Group$shop:index:Holder$world:index:Thing"
    assert thing["provider"] == f"{provider['urn']}::{provider['id']}"
    assert project.resource("last")["dependencies"] == [thing["urn"]]
    assert project.apply(AROUND).counts == {"same": 6}


def test_a_move_that_failed_half_way_goes_on_with_the_next_run(project: Project) -> None:
    project.apply(BELOW_THE_STACK + "build()\n")
    project.forget_journal()
    ids = {name: project.resource(name)["id"] for name in ("holder-thing", "last")}
    bad = 'bad = Thing("bad", fail="create")\n    return Thing("last", depends=bad.endpoint,'
    assert project.apply(AROUND.replace('return Thing("last",', bad)).status != 0
    provider = project.resource("own")
    assert "shop:index:Group$" in provider["urn"]
    assert project.resource("last")["urn"].split("::")[2] == "world:index:Thing", "it was not reached"
    assert project.resource("last")["provider"] == f"{provider['urn']}::{provider['id']}"
    outcome = project.apply(AROUND)
    assert outcome.status == 0, outcome
    assert {name: project.resource(name)["id"] for name in ids} == ids
    assert "delete last" not in project.journal
