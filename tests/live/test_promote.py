"""`ops` on a stack that the Pulumi CLI holds: what runs, and a promotion by updates of the CLI."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.test_promotions import Clients
from tests.live.cli import Cli

pytestmark = pytest.mark.slow

SERVICES = "tf-serving:services"


@pytest.fixture(scope="module")
def stack(cli: Cli) -> Cli:
    """The stack, deployed, with counters to judge by."""
    cli.checkout.set(None, SERVICES, "multi_grpc")
    cli.checkout.set(True, SERVICES, "multi_http", "monitoring")
    cli.succeed("up", "--yes", "--skip-preview")
    return cli


def ops(stack: Cli, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "ops", *arguments, "--engine", "pulumi", "--stack", "local", "--format", "json"],
        cwd=stack.checkout.root,
        env={**stack.env, "PYTHONPATH": str(stack.checkout.root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def service(stack: Cli) -> dict[str, Any]:
    found: dict[str, Any] = stack.json("stack", "output", "services", "--show-secrets")
    return dict(found["multi_http"])


def test_the_status_of_a_stack_of_the_cli(stack: Cli) -> None:
    code, found, told = ops(stack, "status")
    assert code == 0, told
    assert [(each["name"], each["status"]) for each in found["services"]] == [("multi_http", "Running")]
    assert found["lastRollout"]


def test_a_promotion_by_updates_of_the_cli_and_back(stack: Cli) -> None:
    with Clients(service(stack)) as clients:
        code, found, told = ops(
            stack, "promote", "modelB", "--to", "2", "--yes", "--hold", "5s", "--min-requests", "20"
        )
        assert (code, found["outcome"]) == (0, "done"), told
        assert service(stack)["models"]["modelB"]["labels"]["stable"] == 2
        assert service(stack)["token"] not in told
        code, found, told = ops(stack, "rollback", "modelB", "--yes")
    assert (code, found["outcome"], found["to"]) == (0, "done", 1), told
    assert clients.failures == []
    stack.succeed("preview", "--expect-no-changes")
