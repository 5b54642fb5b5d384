"""The plugin as a package of its own: what the Pulumi CLI installs for it."""

from __future__ import annotations

from pathlib import Path

import yaml

from sandbox.paths import ROOT


def pins(file: Path) -> set[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def test_the_packages_own_pins_are_those_of_the_project_without_what_only_the_program_needs() -> None:
    left_out = pins(ROOT / "requirements.txt") - pins(ROOT / "plugin/requirements.txt")
    assert pins(ROOT / "plugin/requirements.txt") <= pins(ROOT / "requirements.txt")
    assert {pin.partition("==")[0] for pin in left_out} == {
        "pillow",
        "pulumi-alicloud",
        "pulumi-kubernetes",
        "rich",
    }


def test_the_cli_prepares_an_environment_that_is_not_the_projects() -> None:
    described = yaml.safe_load((ROOT / "plugin/PulumiPlugin.yaml").read_text(encoding="utf-8"))
    prepared = ROOT / "plugin" / described["runtime"]["options"]["virtualenv"]
    assert prepared.resolve() != (ROOT / ".venv").resolve()
