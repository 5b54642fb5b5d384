"""A policy pack over the engine: what it refuses is not deployed, what it puts right is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project

pytest.importorskip("pulumi_policy", reason="pulumi-policy is not installed (requirements-nodeps.txt)")
pytestmark = pytest.mark.slow

PACK = """
from pulumi_policy import *

def no_red(args, report):
    if args.props.get("value") == "red":
        report("red is not allowed")

def warn(args, report):
    if args.props.get("value") == "amber":
        report("amber is noticed")

def encrypt(args):
    target = args.props["__target"]
    if target.get("value") == "plain":
        target["value"] = Secret("plain")
        return args.props

PolicyPack("colours", [
    ResourceValidationPolicy("no-red", "No red.", no_red, EnforcementLevel.MANDATORY),
    ResourceValidationPolicy("amber", "Amber is noticed.", warn, EnforcementLevel.ADVISORY),
    ResourceValidationPolicy("encrypt", "Encrypted.", None, EnforcementLevel.REMEDIATE, remediate=encrypt),
])
"""


@pytest.fixture
def pack(project: Project) -> str:
    directory = project.root / "policy"
    directory.mkdir()
    (directory / "__main__.py").write_text(PACK)
    return str(directory)


def test_a_mandatory_violation_ends_the_preview_and_nothing_is_made(project: Project, pack: str) -> None:
    project.program('Thing("good", value="green")\nThing("bad", value="red")')
    for command in ("preview", "up"):
        outcome = project.run(command, *(["--yes"] if command == "up" else []), "--policy-pack", pack)
        assert outcome.status == 1
        assert "policy no-red: No red." in outcome.out + outcome.err
        assert "red is not allowed" in outcome.out + outcome.err
    assert project.world == {}


def test_an_advisory_violation_is_a_warning(project: Project, pack: str) -> None:
    project.program('Thing("so so", value="amber")')
    outcome = project.up("--policy-pack", pack)
    assert outcome.status == 0
    assert "amber is noticed" in outcome.out
    assert set(project.world) == {"so so"}


def test_what_the_pack_puts_right_is_what_is_deployed(project: Project, pack: str) -> None:
    project.program('Thing("it", value="plain")')
    assert project.up("--policy-pack", pack).status == 0
    assert "plain" not in project.state_file.read_text()
    assert project.world["it"]["value"] == "plain"
    outcome = project.run("preview", "--policy-pack", pack, "--expect-no-changes")
    assert outcome.status == 0
