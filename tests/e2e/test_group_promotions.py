"""Promotions by shares of a group's requests, under load: the tests of this file run in order."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandbox.model_server.examples import INPUT_NAME, OUTPUT_NAME
from tests.e2e.checkout import Checkout
from tests.e2e.test_promotions import INJECTED, KINDS, MODELS, SERVICES, Clients, ops, promote, record

pytestmark = pytest.mark.slow

TRAFFIC = "tf-serving:traffic"
GROUP = ("--traffic", "vision", "--steps", "20,100", "--yes")
BEGIN = {"vision_stable": 100, "vision_canary": 0}


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    """A group of two services, the canary with a model set of its own."""
    models = prepared.root / ".sandbox" / "models" / "modelB"
    shutil.copytree(models / "2", models / "3")
    command = [sys.executable, str(KINDS), "failing", str(models / "4"), INPUT_NAME, OUTPUT_NAME]
    subprocess.run(command, check=True)
    config = prepared.config()["config"]
    service = {**config[SERVICES]["multi_http"], "monitoring": True}
    specific = {"specific": [1, 2, 3, 4]}
    own = {"modelA": {}, "modelB": {"labels": {"stable": 1, "canary": 2}}, "modelC": {}}
    prepared.set({"vision_stable": service, "vision_canary": {**service, "models": own}}, SERVICES)
    prepared.set(specific, MODELS, "modelB", "policy")
    prepared.set({"vision": {"weights": BEGIN}}, TRAFFIC)
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


def group(stack: Checkout) -> dict[str, object]:
    return dict(stack.outputs()["traffic"]["vision"])


def settled(stack: Checkout, stable: int, canary: int) -> None:
    """Labels and shares in the state, on the servers and in the file; nothing is left over."""
    services = stack.outputs()["services"]
    labels = {name: service["models"]["modelB"]["labels"]["stable"] for name, service in services.items()}
    assert labels == {"vision_stable": stable, "vision_canary": canary}
    assert group(stack)["weights"] == BEGIN
    assert not record(stack).exists()
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_a_version_is_tried_on_rising_shares_and_promoted_without_a_failed_request(stack: Checkout) -> None:
    with Clients(group(stack), clients=4) as clients:
        code, found, told = promote(stack, "modelB", "--to", "3", *GROUP, "--hold", "15s", "--min-requests", "20")
    assert (code, found["outcome"]) == (0, "done"), told
    assert clients.failures == []
    assert clients.answers["good"] > 200
    assert "vision_canary 20 %" in told
    settled(stack, 3, 3)


def test_a_version_that_fails_on_the_canary_never_reaches_the_others(stack: Checkout) -> None:
    before = stack.stack_file.read_bytes()
    with Clients(group(stack), clients=4, pause=0.005) as clients:
        code, found, told = promote(stack, "modelB", "--to", "4", *GROUP, "--hold", "3m", "--min-requests", "5000")
    assert (code, found["outcome"]) == (3, "back"), told
    assert "requests failed" in found["reasons"][0]
    assert clients.failures
    assert all(INJECTED in each for each in clients.failures)
    assert len(clients.failures) < 0.02 * clients.answers["good"], "a fifth of the requests met it"
    assert stack.stack_file.read_bytes() == before
    settled(stack, 3, 3)


def test_a_member_with_labels_of_its_own_is_refused_and_nothing_is_begun(stack: Checkout) -> None:
    before = stack.stack_file.read_bytes()
    own = {"modelA": {}, "modelB": {"labels": {"stable": 3}}, "modelC": {}}
    try:
        stack.set(own, SERVICES, "vision_stable", "models")
        code, _, told = ops(stack, "promote", "modelB", "--to", "2", *GROUP, "--canary", "vision_canary")
    finally:
        stack.stack_file.write_bytes(before)
    assert code == 1
    assert "tf-serving:services.vision_stable.models.modelB.labels.stable: label stable is version 3 there" in told
    assert not record(stack).exists()


def test_a_rollback_takes_the_canary_with_it(stack: Checkout) -> None:
    code, printed, told = ops(stack, "rollback", "modelB", "--yes")
    assert code == 0, told
    assert "label stable is version 1" in printed
    settled(stack, 1, 1)
