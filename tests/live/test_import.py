"""Importing an existing bucket as docs/operations.md says, with the Pulumi CLI."""

from __future__ import annotations

import json
import subprocess

import alibabacloud_oss_v2 as oss
import pytest

from tests.live.cli import Cli

pytestmark = pytest.mark.slow

BUCKET = "made-by-hand"


def test_a_bucket_that_exists_is_imported_by_the_recipe_and_the_next_update_makes_the_rest(cli: Cli) -> None:
    root, file = cli.checkout.root, cli.checkout.root / "import.json"
    cli.checkout.oss().put_bucket(oss.PutBucketRequest(bucket=BUCKET))
    text = cli.checkout.stack_file.read_text(encoding="utf-8").replace("name: tf-serving-local", f"name: {BUCKET}")
    (root / "stacks" / "Pulumi.mine.yaml").write_text(text, encoding="utf-8")

    def pulumi(*arguments: str) -> str:
        command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
        done = subprocess.run(command, cwd=root, env=cli.env, text=True, capture_output=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pulumi("stack", "init", "mine")
    try:
        pulumi("preview", "-s", "mine", "--import-file", "import.json")
        listed = json.loads(file.read_text(encoding="utf-8"))
        kept = {
            each["name"]: each
            for each in listed["resources"]
            if each["name"] in ("alicloud", "models", "models-bucket")
        }
        kept["models-bucket"]["id"] = BUCKET
        file.write_text(json.dumps({**listed, "resources": list(kept.values())}), encoding="utf-8")
        assert "= 2 imported" in pulumi(
            "import", "-s", "mine", "--file", "import.json", "--generate-code=false", "--yes"
        )
        preview = pulumi("preview", "-s", "mine")
        assert "replace" not in preview
        assert "~ 1 to update" in preview
        pulumi("up", "-s", "mine", "--yes", "--skip-preview")
        pulumi("preview", "-s", "mine", "--expect-no-changes")
    finally:
        pulumi("destroy", "-s", "mine", "--yes", "--skip-preview")
