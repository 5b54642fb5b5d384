"""Shares of a group in a real stack, over both protocols and under load: the tests of this file run in order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from alibabacloud_eas20210701 import models as eas

from tests.e2e.checkout import REGION, Checkout
from tests.e2e.load import IMAGE, Load, Target
from tfserving.client import connect

pytestmark = pytest.mark.slow

SERVICES, TRAFFIC = "tf-serving:services", "tf-serving:traffic"
TARGETS = (Target("modelB", label="stable"), Target("modelB", version=2), Target("modelB"), Target("modelC"))


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    """A group for each protocol, of two services each, and a shadow."""
    document = prepared.config()
    config = document["config"]
    http, grpc = (dict(config[SERVICES][name]) for name in ("multi_http", "multi_grpc"))
    config[SERVICES] = {
        **dict.fromkeys(("vision_stable", "vision_canary", "vision_shadow"), http),
        **dict.fromkeys(("talk_stable", "talk_canary"), grpc),
    }
    config[TRAFFIC] = {
        "vision": {
            "weights": {"vision_stable": 90, "vision_canary": 10},
            "mirror": {"to": "vision_shadow", "percent": 20},
        },
        "talk": {"weights": {"talk_stable": 90, "talk_canary": 10}},
    }
    prepared.write(json.loads(json.dumps(document)))  # without YAML's references to what is there twice
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


def ops(stack: Checkout, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def weights(stack: Checkout, stable: int, canary: int) -> None:
    for group in ("vision", "talk"):
        stack.set({f"{group}_stable": stable, f"{group}_canary": canary}, TRAFFIC, group, "weights")


def under_load(stack: Checkout) -> str:
    """``up`` while both groups are asked in every way; fails on any failed request."""
    with Load(stack.outputs()["traffic"], TARGETS) as load:
        printed = stack.succeed("up", "--yes", timeout=600)
    assert load.failures == []
    assert len(load.requests) == 2 * len(TARGETS)
    assert stack.run("preview", "--expect-no-changes").code == 0
    return printed


def asked(stack: Checkout, group: str, count: int) -> dict[str, int]:
    """How many of so many requests each member answered."""
    found = stack.outputs()["traffic"][group]
    address = {"target": found["target"]} if found["protocol"] == "grpc" else {"url": found["url"]}
    with connect(**address, token=found["token"], timeout=20) as client:
        return dict(Counter(client.predict("modelB", IMAGE, label="stable").member for _ in range(count)))


def test_a_group_answers_by_its_own_address_and_says_which_member_did(stack: Checkout) -> None:
    outputs = stack.outputs()
    assert {name: found["protocol"] for name, found in outputs["traffic"].items()} == {"vision": "http", "talk": "grpc"}
    assert outputs["traffic"]["vision"]["token"] != outputs["services"]["vision_stable"]["token"]
    for group in ("vision", "talk"):
        code, printed = ops(stack, "predict", group, "modelB", "--label", "canary")
        assert code == 0, printed
        assert "modelB version 2 by label canary" in printed
        assert re.search(rf"answered by {group}_(stable \(90|canary \(10) % of the requests\)", printed), printed
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_a_change_of_shares_is_previewed_by_name_fails_no_request_and_restarts_nothing(stack: Checkout) -> None:
    weights(stack, 50, 50)
    preview = stack.succeed("preview")
    for group in ("vision", "talk"):
        assert f"{group}: {group}_canary 10 % -> 50 %" in preview
        assert f"{group}: {group}_stable 90 % -> 50 %" in preview
    before = stack.processes()
    under_load(stack)
    assert stack.processes() == before
    for group in ("vision", "talk"):
        found = asked(stack, group, 40)
        assert set(found) == {f"{group}_stable", f"{group}_canary"}
        assert abs(found[f"{group}_canary"] - 20) <= 1


def test_the_shadow_got_its_share_of_the_requests(stack: Checkout) -> None:
    request = eas.DescribeServiceLogRequest()
    assert stack.eas().describe_service_log(REGION, "vision_shadow", request).body.logs
    mirror = stack.eas().describe_service_mirror(REGION, "vision_canary").body
    assert (mirror.ratio, mirror.target) == ("20", "vision_shadow")


def test_shares_that_somebody_changed_are_drift_which_up_puts_back(stack: Checkout) -> None:
    request = eas.ReleaseServiceRequest(weight=450)
    stack.eas().release_service(REGION, "vision_stable", request)
    code, printed = ops(stack, "drift", "--stack", "local")
    assert code == 7, printed
    assert "vision_stable 50 % -> 90 %" in printed
    under_load(stack)
    assert ops(stack, "drift", "--stack", "local")[0] == 0


def test_a_member_that_dies_at_50_percent_leaves_the_old_answers_everywhere(stack: Checkout) -> None:
    outputs = stack.outputs()["traffic"]
    with Load(outputs, TARGETS) as load:
        lost = [pid for group in ("vision", "talk") for pid in pids(stack, f"{group}_canary")]
        assert len(lost) == 2
        for pid in lost:
            os.kill(pid, signal.SIGKILL)
        weights(stack, 100, 0)
        stack.succeed("up", "--yes", timeout=600)
    # A request that the server had when it was killed is gone with it; every later one was answered by the other.
    assert len(load.failures) <= 2 * len(TARGETS)
    assert all(float(each.split()[0]) < 5 for each in load.failures), load.failures
    for group in ("vision", "talk"):
        assert asked(stack, group, 3) == {f"{group}_stable": 3}


def pids(stack: Checkout, service: str) -> list[int]:
    """The model servers of a service."""
    files = stack.root.glob(f".sandbox/**/run/{service.replace('_', '-')}-*.pid")
    return [json.loads(file.read_text(encoding="utf-8"))["pid"] for file in files]


def test_one_member_joins_while_another_one_leaves_and_is_deleted(stack: Checkout) -> None:
    services = stack.config()["config"][SERVICES]
    stack.set(services["vision_canary"], SERVICES, "vision_next")
    stack.set(None, SERVICES, "vision_canary")
    stack.set({"vision_stable": 30, "vision_next": 70}, TRAFFIC, "vision", "weights")
    preview = stack.succeed("preview")
    assert "vision: vision_next joins with 70 %" in preview
    assert "vision: vision_canary 0 % -> leaves" in preview
    under_load(stack)
    found = asked(stack, "vision", 40)
    assert set(found) == {"vision_next", "vision_stable"}
    # Ten requests are shared exactly; where the first and the last ten begin, the load before left open.
    assert abs(found["vision_next"] - 28) <= 3


def test_a_service_that_exists_outside_of_the_group_is_refused_by_the_preview(stack: Checkout) -> None:
    stack.set(None, TRAFFIC, "vision", "mirror")
    stack.set({"vision_stable": 30, "vision_next": 60, "vision_shadow": 10}, TRAFFIC, "vision", "weights")
    preview = stack.run("preview")
    assert preview.code != 0
    assert "vision_shadow exists and is in no group, so it cannot join vision" in preview.text
    stack.set({"vision_stable": 30, "vision_next": 70}, TRAFFIC, "vision", "weights")
    under_load(stack)


def test_without_the_group_its_services_go_on_and_nobody_gets_its_requests(stack: Checkout) -> None:
    gone = stack.outputs()["traffic"]["vision"]
    before = stack.processes()
    with Load(stack.outputs()["services"], TARGETS) as load:
        stack.set({"talk": stack.config()["config"][TRAFFIC]["talk"]}, TRAFFIC)
        stack.succeed("up", "--yes", timeout=600)
    assert load.failures == []
    assert stack.processes() == before
    assert set(stack.outputs()["traffic"]) == {"talk"}
    with Load({"gone": gone}, TARGETS[:1]) as late:
        pass
    assert late.failures
    assert "503" in late.failures[0]
    assert stack.run("preview", "--expect-no-changes").code == 0
