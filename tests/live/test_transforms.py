"""Transforms of a program under the Pulumi CLI: they reach what components are made of, wherever these are made."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.e2e.checkout import Checkout
from tests.live.cli import Cli

pytestmark = pytest.mark.slow

IN_PYTHON = """
def slow(args):
    args.opts.custom_timeouts = pulumi.CustomTimeouts(create="7m")
    return pulumi.ResourceTransformResult(args.props, args.opts)


pulumi.runtime.register_resource_transform(slow)
models = ModelRepository("""
IN_TYPESCRIPT = """
pulumi.runtime.registerResourceTransform((args) => ({
    props: args.props,
    opts: { ...args.opts, customTimeouts: { create: "7m" } },
}));
const models = new """


@pytest.mark.parametrize(
    ("name", "file", "before", "after"),
    [
        ("python-own-program", "__main__.py", "\nmodels = ModelRepository(", IN_PYTHON),
        ("typescript", "index.ts", "\nconst models = new ", IN_TYPESCRIPT),
    ],
)
def test_a_transform_reaches_the_children_of_a_component(
    cli: Cli, name: str, file: str, before: str, after: str
) -> None:
    root = cli.checkout.root / "examples" / name
    if name == "typescript":
        if shutil.which("npm") is None or shutil.which("pulumi-language-nodejs") is None:
            pytest.skip("npm or the CLI's host of Node.js is missing")
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    program, stack_file = root / file, root / "Pulumi.local.yaml"
    text = program.read_text(encoding="utf-8")
    assert text.count(before) == 1
    program.write_text(text.replace(before, after), encoding="utf-8")
    text = stack_file.read_text(encoding="utf-8")
    stack_file.write_text(text.replace("127.0.0.1:7580", f"127.0.0.1:{cli.checkout.port}"), encoding="utf-8")
    made = replace(cli, checkout=Checkout(root, cli.checkout.port))
    made.succeed("stack", "select", "--create")
    try:
        made.succeed("up", "--yes", "--skip-preview")
        resources = json.loads(made.succeed("stack", "export"))["deployment"]["resources"]
        slow = {each["type"] for each in resources if each.get("customTimeouts", {}).get("create") == 420}
        assert slow >= {"tfserving:index:PublishedModel", "tfserving:index:ServedConfig", "tfserving:index:EasService"}
        made.succeed("preview", "--expect-no-changes")
    finally:
        done = made.run("destroy", "--yes")
    assert done.code == 0, done.text
