"""The workflows: checked by actionlint and zizmor, pinned, with the least permissions, and true to the project."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").rglob("action.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"

WRITES = {"preview": {"pull-requests"}, "drift": {"issues"}, "publish": {"contents", "attestations"}}
"""What a job may write, besides asking for a token of its own."""

names = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def steps(file: Path) -> list[dict[str, Any]]:
    document = read(file)
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    return [step for job in jobs for step in job["steps"]]


def test_the_workflows_are_there() -> None:
    assert [file.stem for file in WORKFLOWS] == ["ci", "deploy", "drift", "preview", "promote", "release"]


def test_zizmor_has_nothing_to_say() -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}:{ROOT / '.venv' / 'bin'}")
    assert zizmor, "zizmor comes with requirements-dev.txt"
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", str(GITHUB)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_actionlint_has_nothing_to_say(tmp_path: Path) -> None:
    actionlint = shutil.which("actionlint")
    if actionlint is None:
        if shutil.which("go") is None:
            pytest.skip("neither actionlint nor Go, which builds it, is on PATH")
        built = subprocess.run(
            ["go", "install", ACTIONLINT],
            env={**os.environ, "GOBIN": str(tmp_path), "GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if built.returncode:
            pytest.skip(f"actionlint cannot be built here: {built.stderr.strip()[-300:]}")
        actionlint = str(tmp_path / "actionlint")
    done = subprocess.run([actionlint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [*WORKFLOWS, *ACTIONS], ids=lambda file: file.parent.name + "-" + file.stem)
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(file: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", file.read_text(encoding="utf-8"))
    for action, rest in used:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", rest), action


def test_one_action_has_one_pin() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in (*WORKFLOWS, *ACTIONS))
    pins = set(re.findall(r"uses: ([\w-]+/[\w-]+)@(\w+)", text))
    assert len(pins) == len({action for action, _ in pins})


@names
def test_a_workflow_has_no_permission_that_a_job_does_not_ask_for(file: Path) -> None:
    document = read(file)
    assert document["permissions"] == {}
    for name, job in document["jobs"].items():
        allowed = job["permissions"]
        writes = {right for right, level in allowed.items() if level == "write"}
        assert allowed["contents"] == ("write" if name == "publish" else "read")
        assert writes <= {"id-token", *WRITES.get(name, set())}


def test_what_may_write_to_the_repository_runs_none_of_its_code() -> None:
    publish = read(GITHUB / "workflows" / "release.yml")["jobs"]["publish"]
    assert publish["environment"] == "release"
    text = str(publish["steps"])
    assert "actions/checkout" not in text
    assert "make " not in text
    assert "python" not in text


def test_a_release_is_built_of_a_tag_on_main_alone() -> None:
    document = read(GITHUB / "workflows" / "release.yml")
    assert document[True] == {"push": {"tags": ["v*"]}}
    scripts = [step.get("run", "") for step in document["jobs"]["build"]["steps"]]
    asked = next(index for index, script in enumerate(scripts) if "--is-ancestor HEAD origin/main" in script)
    assert asked < next(index for index, script in enumerate(scripts) if "make release-build" in script)


@names
def test_pull_requests_from_forks_meet_no_credentials(file: Path) -> None:
    text, document = file.read_text(encoding="utf-8"), read(file)
    triggers = document[True]  # YAML 1.1 reads the key `on` as a boolean
    assert "pull_request_target" not in text
    assert "workflow_run" not in text
    for job in document["jobs"].values():
        if "pull_request" in triggers and ("secrets." in str(job) or "id-token" in job["permissions"]):
            assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]


@names
def test_nothing_from_outside_is_pasted_into_a_script(file: Path) -> None:
    assert not [step["run"] for step in steps(file) if "${{" in step.get("run", "")]


def test_stacks_are_those_of_the_project_and_each_is_touched_by_one_run_at_a_time() -> None:
    for file in WORKFLOWS:
        for name, job in read(file)["jobs"].items():
            stacks = job.get("strategy", {}).get("matrix", {}).get("stack")
            if stacks is None:
                continue
            assert all((ROOT / "stacks" / f"Pulumi.{stack}.yaml").exists() for stack in stacks)
            if name in ("apply", "drift"):
                assert job["concurrency"] == {"group": "stack-${{ matrix.stack }}", "cancel-in-progress": False}


def test_an_older_plan_gives_way_to_a_newer_one_and_pushes_out_no_deployment() -> None:
    jobs = read(GITHUB / "workflows" / "deploy.yml")["jobs"]
    assert jobs["plan"]["concurrency"] == {"group": "plan-${{ matrix.stack }}", "cancel-in-progress": True}
    assert jobs["apply"]["concurrency"]["group"] != jobs["plan"]["concurrency"]["group"]


def test_the_policy_pack_is_asked_before_a_change_is_approved_and_when_it_is_made() -> None:
    pack = "--policy-pack policy"
    deploy = read(GITHUB / "workflows" / "deploy.yml")["jobs"]
    preview = read(GITHUB / "workflows" / "preview.yml")["jobs"]["preview"]
    for job, command in ((preview, "preview"), (deploy["plan"], "preview"), (deploy["apply"], "up")):
        assert any(f"pulumi {command} " in step.get("run", "") and pack in step["run"] for step in job["steps"])
    # In the pull request also where the comment says that the preview failed; in a deployment before the plan is kept.
    assert preview["steps"][-1]["if"] == "!cancelled()"
    names = [step.get("run", "") + step.get("uses", "") for step in deploy["plan"]["steps"]]
    asked = next(index for index, name in enumerate(names) if pack in name)
    assert asked < next(index for index, name in enumerate(names) if "upload-artifact" in name)
    installed = next(step["run"] for step in steps(ACTIONS[0]) if "policy/.venv" in step.get("run", ""))
    assert "-r policy/requirements.txt" in installed


def test_a_deployment_is_bound_to_its_plan_and_approved_by_its_environment() -> None:
    jobs = read(GITHUB / "workflows" / "deploy.yml")["jobs"]
    assert jobs["apply"]["needs"] == "plan"
    assert jobs["apply"]["environment"] == "${{ matrix.stack }}"
    assert jobs["plan"]["environment"] == "${{ matrix.stack }}-preview"
    assert any(
        "pulumi up" in step.get("run", "") and "--plan plan.json" in step["run"] for step in jobs["apply"]["steps"]
    )
    assert any("--save-plan plan.json" in step.get("run", "") for step in jobs["plan"]["steps"])


def test_the_cli_is_the_release_of_the_sdk() -> None:
    pinned = re.search(r"^pulumi==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned
    [version] = [
        step["with"]["pulumi-version"] for step in steps(ACTIONS[0]) if "pulumi-version" in step.get("with", {})
    ]
    assert version == pinned[1]


def commands(text: str) -> list[list[str]]:
    """Every ``python -m ops ...`` in a script or a document, as words."""
    joined = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"python -m ops ([^\n`'|;>&]+)", joined)
    made = {'"${request[@]}"': "multi_http modelB", '"${options[@]}"': "--hold 10m", '"$TO"': "2", '"$MODEL"': "modelB"}
    for variable, value in made.items():
        found = [line.replace(variable, value) for line in found]
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("file", [*WORKFLOWS, ROOT / "docs" / "operations.md"], ids=lambda file: file.name)
def test_commands_in_workflows_and_in_the_docs_are_ones_that_there_are(file: Path) -> None:
    for name, *arguments in commands(file.read_text(encoding="utf-8")):
        if name != "...":
            importlib.import_module(COMMANDS[name].module)._parser().parse_args(arguments)


def test_the_jenkins_example_has_the_same_jobs_and_closes_what_it_opens() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("```groovy")[1].split("```")[0]
    assert re.findall(r"stage\('(\w+)'\)", text) == ["environment", "preview", "deploy", "drift"]
    for pair in ("{}", "()", "[]"):
        assert text.count(pair[0]) == text.count(pair[1])
    assert "status == 7" in text
    assert text.count("lock(resource: 'stack-dev')") == 2


def test_the_gitlab_example_is_yaml_with_the_same_three_jobs() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    document = yaml.safe_load(text.split("```yaml")[1].split("```")[0])
    assert set(document) == {".pulumi", "preview", "deploy", "drift"}
    assert document["drift"]["allow_failure"] == {"exit_codes": [7]}
