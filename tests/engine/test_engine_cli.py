"""The command line: what it prints, and what it refuses before anything starts."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import pytest

from sandbox.engine import cli

if TYPE_CHECKING:
    from conftest import Project


@pytest.mark.slow
def test_the_output_reads_like_pulumis(project: Project) -> None:
    project.apply('Thing("same")\nThing("changed", value="1")\nThing("gone")\nThing("other", kind="x")')
    project.program("""
        group = Group("group")
        Thing("same")
        Thing("changed", value="2")
        Thing("inner", opts=ResourceOptions(parent=group), key=Output.secret("hush"))
        Thing("other", kind="y")
        pulumi.log.warn("careful")
        pulumi.export("text", "x" * 90)
        pulumi.export("deep", {"a": {"b": "y" * 90}, "c": [1]})
    """)
    outcome = project.run("preview", "--diff")
    assert outcome.status == 0
    text = re.sub(r"Duration: \d+s", "Duration: 1s", outcome.out)
    tree, _, rest = text.partition("\n\n")
    lines = {re.sub(r" +", " ", line).strip() for line in tree.splitlines()}
    assert lines == {
        "Previewing update (dev):",
        "Type Name Plan Info",
        "pulumi:pulumi:Stack shop-dev 1 warning",
        "+ ├─ shop:index:Group group create",
        "+ │ └─ world:index:Thing inner create",
        "~ ├─ world:index:Thing changed update [diff: ~value]",
        "+- ├─ world:index:Thing other replace [diff: ~kind]",
        "- └─ world:index:Thing gone delete",
    }
    assert ' ~ world:index:Thing changed\n     ~ value: "1" => "2"\n' in rest
    assert "     + key: [secret]" in rest
    assert "Diagnostics:\n  pulumi:pulumi:Stack (shop-dev):\n    warning: careful\n" in rest
    assert "    deep: {\n        a: {\n" in rest
    assert "        c: [1]\n" in rest
    assert rest.endswith(
        textwrap.dedent("""
            Resources:
                + 2 to create
                ~ 1 to update
                +- 1 to replace
                - 1 to delete
                5 changes. 2 unchanged

            Duration: 1s

        """)
    )


@pytest.mark.slow
def test_outputs_are_a_table_or_json(project: Project) -> None:
    assert project.run("outputs").out == "Current stack outputs (0):\n    OUTPUT  VALUE\n"
    project.apply(
        'pulumi.export("where", "x")\npulumi.export("deep", {"a": [1]})\npulumi.export("key", Output.secret(1))'
    )
    assert project.run("outputs").out.splitlines()[1:] == [
        "    OUTPUT  VALUE",
        '    deep    {"a": [1]}',
        "    key     [secret]",
        "    where   x",
    ]
    assert project.run("outputs", "--json").json == {"where": "x", "deep": {"a": [1]}, "key": "[secret]"}


@pytest.mark.parametrize(
    "arguments", [["fly"], [], ["up", "--parallel", "0"], ["up", "--parallel", "x"], ["preview", "--x"]]
)
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_directory_without_a_project_is_told(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "Pulumi.yaml").unlink()
    outcome = project.run("preview")
    assert outcome.status == 1
    assert outcome.err.startswith("error: Pulumi.yaml: 1 problem")
    assert "Traceback" not in outcome.err


def test_a_stack_that_means_the_real_cloud_is_refused(project: Project) -> None:
    project.configure(**{"alicloud:region": "cn-hangzhou"})
    for command in ("preview", "up", "refresh", "destroy", "outputs"):
        outcome = project.run(command)
        assert outcome.status == 1
        assert "deploy this stack with the Pulumi CLI" in outcome.err
