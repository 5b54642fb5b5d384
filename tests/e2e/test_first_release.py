"""A stack that release 0.1.0 deployed goes on with today's program: nothing is replaced, nothing restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from sandbox.engine.properties import is_secret, rewrite, secret
from sandbox.engine.state import Snapshot
from tests.e2e.checkout import Checkout
from tests.e2e.first_release import ALONE, RECORDED, as_recorded
from tfserving.property_values import SECRET, SIGNATURE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    """Deployed with today's program; then its state is set back to what 0.1.0 wrote."""
    prepared.set(ALONE, "tf-serving:services", "alone")
    prepared.succeed("up", module="local", timeout=600)
    state = prepared.root / ".sandbox" / "state" / "local.json"
    snapshot = Snapshot(state)
    live = rewrite(
        snapshot.left,
        lambda item: {SIGNATURE: SECRET, "plaintext": json.dumps(item["value"])} if is_secret(item) else item,
    )
    snapshot.left = rewrite(
        as_recorded(live),
        lambda item: secret(json.loads(item["plaintext"])) if isinstance(item, dict) and SIGNATURE in item else item,
    )
    snapshot.save()
    unstamp(prepared)
    yield prepared
    prepared.run("down", module="local")


def unstamp(stack: Checkout) -> None:
    """Takes the line out of the config file that says which create holds it: 0.1.0 wrote none."""
    key = "models/tf_serving/model_config.pbtxt"
    found = stack.oss().get_object(oss.GetObjectRequest(bucket="tf-serving-local", key=key))
    lines = found.body.read().decode().splitlines(keepends=True)
    kept = "".join(line for line in lines if not line.startswith("# Created as "))
    assert len(kept.splitlines()) == len(lines) - 1
    stack.oss().put_object(oss.PutObjectRequest(bucket="tf-serving-local", key=key, body=kept.encode()))


def operations(stack: Checkout, *command: str) -> dict[str, str]:
    """What a run does or would do, by name; what stays the same left out."""
    steps: list[dict[str, Any]] = json.loads(stack.succeed(*command, "--stack", "local", "--json"))["steps"]
    return {step["urn"].rpartition("::")[2]: step["op"] for step in steps if step["op"] not in ("same", "refresh")}


NEW = {"serving", "models-contents"}
"""What 0.1.0 did not have: the component around everything, and the look at the bucket, which makes nothing in OSS."""

CHANGED = {"alicloud", "models-bucket", "multi_http-service", "multi_grpc-service", "alone-service"}
"""What is written anew in place: what today's release sets in the bucket, and the stamp of who made a thing."""


def test_a_state_of_the_first_release_goes_on_without_a_replacement(stack: Checkout) -> None:
    running = stack.processes()
    planned = operations(stack, "preview")
    assert {name for name, operation in planned.items() if operation == "create"} == NEW
    assert {name for name, operation in planned.items() if operation == "update"} <= CHANGED
    assert set(planned.values()) == {"create", "update"}, "nothing is replaced or deleted"
    stack.succeed("up", "--yes", "--stack", "local")
    assert stack.processes() == running
    text = (stack.root / ".sandbox" / "state" / "local.json").read_text(encoding="utf-8")
    left = [each["urn"] for each in RECORDED[1:] if f'"{each["urn"]}' in text]
    assert left == [], "nothing refers to a resource by the name it had"
    assert operations(stack, "preview") == {}


def test_what_was_taken_over_is_still_looked_after(stack: Checkout) -> None:
    stack.set({"stable": 2, "canary": 2}, "tf-serving:models", "modelB", "labels")
    assert operations(stack, "preview") == {"served": "update"}
    stack.succeed("up", "--yes", "--stack", "local")
    assert stack.service("multi_http")["models"]["modelB"]["labels"] == {"stable": 2, "canary": 2}
    stack.set({"stable": 1, "canary": 2}, "tf-serving:models", "modelB", "labels")
    stack.succeed("up", "--yes", "--stack", "local")
