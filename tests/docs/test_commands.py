"""The commands of the pages, run by a shell as they stand there, in the order in which a page has them.

What a page leaves to the reader ("edit: region, bucket, models, services") is done here in the same way each time: the
stack file becomes that of the local stack under another bucket's name.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from pathlib import Path

import alibabacloud_oss_v2 as oss
import pytest
import yaml
from PIL import Image

from sandbox.kube import build
from tests.cloud.console import browser
from tests.docs.commands import as_written, edited, succeed, written
from tests.docs.where import HERE, WITH_CLI
from tests.e2e import test_import as by_hand
from tests.e2e.checkout import BODY, REGION, Checkout, copy_project
from tests.e2e.test_promotions import Clients
from tests.waiting import until

pytestmark = pytest.mark.slow

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
"""What pip needs is installed. The second one is `--no-build-isolation`: pip reads 0 as the `no` in its name."""


def test_the_commands_of_the_readme(ready: Checkout) -> None:
    shoe = Image.new("L", (28, 28), 0)
    shoe.paste(200, (4, 14, 24, 22))
    shoe.save(ready.root / "shoe.png")
    printed = {command: succeed(ready, command) for command in written("README.md", HERE)}
    assert "console: http" in printed["make up"]
    by_label = next(text for command, text in printed.items() if "--label stable" in command)
    assert "modelB version 1" in by_label
    assert any("curl" in text and ready.service("multi_http")["token"] not in text for text in printed.values())
    assert "no drift" in next(text for command, text in printed.items() if command.endswith("drift"))
    assert "export PULUMI_BACKEND_URL=" in printed["make cloud"]


def test_the_command_for_the_picture_of_the_console(ready: Checkout) -> None:
    if why := browser.missing():
        pytest.skip(why)
    for command in written("docs/console.md", HERE):
        picture = ready.root / "docs" / "console.png"
        picture.unlink()
        succeed(ready, command)
        with Image.open(picture) as image:
            assert image.width == 1280


def test_the_commands_of_the_sandbox_page_end_with_nothing_left(ready: Checkout) -> None:
    printed = {command: succeed(ready, command, **OFFLINE) for command in written("docs/sandbox.md", HERE)}
    assert "unchanged" in printed[".venv/bin/python -m sandbox preview"]
    assert (
        "Running" in printed[".venv/bin/python -m sandbox cloud status"]
        or "127.0.0.1" in printed[".venv/bin/python -m sandbox cloud status"]
    )
    assert ready.processes() == {}


def test_the_commands_about_a_deployed_stack(ready: Checkout) -> None:
    edited(ready, "dev")
    edited(ready, "mine")
    ready.succeed("cloud", "start")
    try:
        ready.succeed("up", "--stack", "dev", "--yes", timeout=600)
        for command in written("docs/operations.md", HERE):
            if "bucket" not in command:
                succeed(ready, command)
        for page in ("docs/troubleshooting.md", "docs/upgrading.md"):
            for command in written(page, HERE):
                succeed(ready, command, **OFFLINE)
    finally:
        ready.run("destroy", "--stack", "dev", "--yes")
        ready.run("cloud", "stop")


def test_the_commands_about_a_bucket_that_cannot_go(ready: Checkout) -> None:
    edited(ready, "mine")
    ready.succeed("cloud", "start")
    try:
        client = ready.oss()
        client.put_bucket(oss.PutBucketRequest("old-bucket"))
        client.put_object(oss.PutObjectRequest("old-bucket", "theirs", body=b"x"))
        show, empty, everything = (each for each in written("docs/operations.md", HERE) if "bucket" in each)
        assert as_written(ready, show).code == 1
        assert "1 " in as_written(ready, empty, "old-bucket\n").text
        assert "deleted" in succeed(ready, everything, "old-bucket\n")
        succeed(ready, show)
    finally:
        ready.run("cloud", "stop")


def test_the_commands_of_the_delivery_page(ready: Checkout) -> None:
    (ready.root / "requests.jsonl").write_text(json.dumps(BODY) + "\n", encoding="utf-8")
    before = ready.stack_file.read_text(encoding="utf-8")
    record, record_again, promote, go_on, abort, back = written("docs/delivery.md", HERE)
    try:
        ready.succeed("up", module="local", timeout=600)
        assert "10 records" in succeed(ready, record)
        assert "1 record " in succeed(ready, record_again)
        ready.set(None, "tf-serving:services", "multi_grpc")
        ready.set(True, "tf-serving:services", "multi_http", "monitoring")
        ready.succeed("up", "--yes", timeout=600)
        assert as_written(ready, promote).code == 4, "nobody asked, so nothing is decided"
        with Clients(ready.service("multi_http")):
            succeed(ready, go_on)
        assert ready.service("multi_http")["models"]["modelB"]["labels"]["stable"] == 2
        succeed(ready, back)
        assert as_written(ready, promote).code == 4
        assert as_written(ready, abort).code == 3
        assert ready.service("multi_http")["models"]["modelB"]["labels"]["stable"] == 1
    finally:
        ready.stack_file.write_text(before, encoding="utf-8")
        ready.run("down", module="local")


def test_the_commands_of_the_page_on_importing_and_of_the_first_run(ready: Checkout) -> None:
    ready.succeed("cloud", "start")
    try:
        made_by_hand(ready)
        started = time.monotonic()
        [command] = written("docs/import.md", HERE)
        assert "2 services" in succeed(ready, command)
        ready.succeed("up", "--stack", "mine", "--yes", timeout=600)
        assert time.monotonic() - started < 400, "minutes, with an installation before them"
        ready.succeed("preview", "--stack", "mine", "--expect-no-changes")
        [command] = written("docs/first-real-run.md", HERE)
        succeed(ready, command)
        assert "sandbox" in (ready.root / "first-run.md").read_text(encoding="utf-8")
    finally:
        ready.run("destroy", "--stack", "mine", "--yes")
        (ready.root / "stacks" / "Pulumi.mine.yaml").unlink(missing_ok=True)
        ready.run("cloud", "stop")


def made_by_hand(checkout: Checkout) -> None:
    """The services of the page on importing, as somebody made them, and the settings of a stack of this cloud."""
    client = by_hand.upload_models(checkout)
    key = "serving/model_config.pbtxt"
    client.put_object(oss.PutObjectRequest(by_hand.BUCKET, key, body=by_hand.CONFIG.encode()))
    for name, spec in (("multi_http", copy.deepcopy(by_hand.HTTP)), ("multi_grpc", by_hand.grpc())):
        spec["metadata"]["name"] = name
        by_hand.make(checkout, spec)
    eas = checkout.eas()
    for name in ("multi_http", "multi_grpc"):
        until(lambda name=name: eas.describe_service(REGION, name).body.status == "Running", 240, f"that {name} runs")
    settings = {key: value for key, value in checkout.config()["config"].items() if key.startswith("alicloud:")}
    document = {"config": settings | {"tf-serving:endpoint": f"127.0.0.1:{checkout.port}"}}
    (checkout.root / "stacks" / "Pulumi.mine.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def test_the_commands_of_the_kubernetes_page(ready: Checkout) -> None:
    if why := build.missing():
        pytest.skip(why)
    shutil.copytree(build.BIN, ready.root / ".sandbox" / "kube" / "bin")
    on_port(ready, "stacks/Pulumi.ack-local.yaml")
    try:
        printed = {command: succeed(ready, command) for command in written("docs/kubernetes.md", HERE)}
        assert any("modelB version 2" in text for text in printed.values())
    finally:
        ready.run("kube", "stop")
        ready.run("cloud", "stop")


def on_port(checkout: Checkout, name: str) -> None:
    """The stack file of another stack names the checkout's own cloud."""
    file = checkout.root / name
    text = file.read_text(encoding="utf-8")
    assert "127.0.0.1:7580" in text
    file.write_text(text.replace("127.0.0.1:7580", f"127.0.0.1:{checkout.port}"), encoding="utf-8")


def test_the_commands_of_the_page_of_examples(ready: Checkout) -> None:
    on_port(ready, "examples/python-own-program/Pulumi.local.yaml")
    try:
        printed = {command: succeed(ready, command) for command in written("examples/README.md", HERE)}
        assert any("api/predict/vision" in text for command, text in printed.items() if " outputs " in command)
    finally:
        ready.run("down", module="local")


def test_the_commands_of_the_page_on_releasing(tmp_path: Path) -> None:
    copied = copy_project(tmp_path / "project")
    git = "git -c user.name=nobody -c user.email=nobody@example.com -c init.defaultBranch=main"
    before = f"{git} init -q --bare ../origin && {git} init -q . && {git} remote add origin ../origin"
    succeed(copied, f"{before} && {git} add . && {git} commit -qm release")
    author = {"GIT_COMMITTER_NAME": "nobody", "GIT_COMMITTER_EMAIL": "nobody@example.com"}
    for command in written("docs/releasing.md", HERE):
        succeed(copied, command, **OFFLINE, **author)
    assert "v0.2.0" in succeed(copied, "git ls-remote --tags origin")
    assert "SHA256SUMS" in {file.name for file in (copied.root / "dist").iterdir()}


def test_the_command_of_the_monitoring_page_prints_the_file_beside_it(ready: Checkout) -> None:
    [command] = written("docs/monitoring.md", HERE)
    assert succeed(ready, command) == (ready.root / "docs" / "grafana-dashboard.json").read_text(encoding="utf-8")


def test_the_commands_of_the_publishing_page(ready: Checkout) -> None:
    shutil.copytree(ready.root / ".sandbox" / "models" / "modelB", ready.root / "exports" / "modelB")
    succeed(ready, "git init --quiet .")
    for command in written("docs/publishing.md", HERE):
        succeed(ready, command)
    staged = succeed(ready, "git diff --cached --name-only").split()
    assert staged == ["manifests/modelB/1.manifest.json", "manifests/modelB/2.manifest.json"]


def test_formatting_leaves_a_clean_tree_as_it_is(ready: Checkout) -> None:
    before = {path: path.read_bytes() for path in ready.root.glob("tfserving/**/*.py")}
    for command in written("CONTRIBUTING.md", HERE):
        succeed(ready, command)
    assert {path: path.read_bytes() for path in before} == before


# ---- with the Pulumi CLI -------------------------------------------------------------------------------------------


def test_the_commands_of_the_readme_with_the_cli(ready: Checkout, cli_env: dict[str, str]) -> None:
    for command in written("README.md", WITH_CLI, "make up ENGINE"):
        succeed(ready, command, **cli_env)
    succeed(ready, "make down ENGINE=pulumi", **cli_env)


@pytest.mark.parametrize(
    ("page", "stack", "start"),
    [
        ("README.md", "mine", "cp "),
        ("docs/operations.md", "mine", "cp "),
        ("docs/first-real-run.md", "mine", ""),
        ("docs/upgrading.md", "dev", ""),
        ("docs/troubleshooting.md", "dev", ""),
    ],
)
def test_a_stack_of_ones_own_with_the_cli(
    page: str, stack: str, start: str, ready: Checkout, cli_env: dict[str, str]
) -> None:
    ready.succeed("cloud", "start")
    # On the same pages are commands for other stacks, and a recipe that has a test of its own.
    others = ("prod", "local", "import", "make")
    commands = [command for command in written(page, WITH_CLI, start) if not any(word in command for word in others)]
    try:
        if not start:
            edited(ready, stack)
            succeed(ready, f"pulumi stack init {stack}", **cli_env)
        for command in commands:
            succeed(ready, command, **cli_env)
            if command.startswith("cp "):
                edited(ready, stack)
    finally:
        as_written(ready, f"pulumi destroy --yes -s {stack}", **cli_env)
        as_written(ready, f"pulumi stack rm --yes {stack}", **cli_env)


def test_services_made_by_hand_become_a_stack_with_the_cli(ready: Checkout, cli_env: dict[str, str]) -> None:
    ready.succeed("cloud", "start")
    made_by_hand(ready)
    try:
        for command in (*written("docs/import.md", HERE), *written("docs/import.md", WITH_CLI)):
            succeed(ready, command, **cli_env)
        succeed(ready, "pulumi preview -s mine --expect-no-changes", **cli_env)
    finally:
        as_written(ready, "pulumi destroy --yes -s mine", **cli_env)
        as_written(ready, "pulumi stack rm --yes mine", **cli_env)


def test_a_bucket_that_exists_is_imported_by_the_recipe_and_the_next_update_makes_the_rest(
    ready: Checkout, cli_env: dict[str, str]
) -> None:
    ready.succeed("cloud", "start")
    ready.oss().put_bucket(oss.PutBucketRequest(bucket="tf-serving-mine"))
    edited(ready, "mine")
    listing, importing = (command for command in written("docs/operations.md", WITH_CLI) if "import.json" in command)
    wanted = ("alicloud", "serving", "models", "models-bucket")
    succeed(ready, "pulumi stack init mine", **cli_env)
    try:
        succeed(ready, listing, **cli_env)
        file = ready.root / "import.json"
        listed = json.loads(file.read_text(encoding="utf-8"))
        kept = {each["name"]: each for each in listed["resources"] if each["name"] in wanted}
        kept["models-bucket"]["id"] = "tf-serving-mine"
        file.write_text(json.dumps({**listed, "resources": list(kept.values())}), encoding="utf-8")
        assert "= 2 imported" in succeed(ready, importing, **cli_env)
        preview = succeed(ready, "pulumi preview -s mine", **cli_env)
        assert "replace" not in preview
        assert "~ 1 to update" in preview
        succeed(ready, "pulumi up -s mine", **cli_env)
        succeed(ready, "pulumi preview -s mine --expect-no-changes", **cli_env)
    finally:
        as_written(ready, "pulumi destroy --yes -s mine", **cli_env)
        as_written(ready, "pulumi stack rm --yes mine", **cli_env)


@pytest.mark.parametrize("page", ["docs/operations.md", "docs/stack-config.md"])
def test_config_is_set_by_path_with_the_cli(page: str, ready: Checkout, cli_env: dict[str, str]) -> None:
    (command,) = (command for command in written(page, WITH_CLI, "") if command.startswith("pulumi config set"))
    stack = "prod" if "-s prod" in command else "local"
    succeed(ready, f"pulumi stack select --create {stack}", **cli_env)
    file = ready.root / "stacks" / f"Pulumi.{stack}.yaml"
    before = file.read_bytes()
    try:
        succeed(ready, command, **cli_env)
        models = yaml.safe_load(file.read_text(encoding="utf-8"))["config"]["tf-serving:models"]
        assert models["modelB"]["labels"]["stable"] == 2
    finally:
        file.write_bytes(before)
        as_written(ready, f"pulumi stack rm --yes --force --preserve-config {stack}", **cli_env)
