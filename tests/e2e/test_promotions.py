"""Promotions of a real stack under load: tried, judged by the servers' own counters, set back, killed and continued.

One stack for the whole file, so the tests run in order.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from sandbox.model_server.examples import INPUT_NAME, OUTPUT_NAME
from tests.e2e.checkout import Checkout
from tfserving.client import connect
from tfserving.errors import TFServingError

pytestmark = pytest.mark.slow

MODELS, SERVICES = "tf-serving:models", "tf-serving:services"
SHORT = ("--hold", "6s", "--min-requests", "10")
INJECTED = "a bright first pixel"
KINDS = Path(__file__).with_name("make_versions.py")


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    models = prepared.root / ".sandbox" / "models" / "modelB"
    shutil.copytree(models / "2", models / "3")
    for number, kind in ((4, "failing"), (5, "slow")):
        subprocess.run(
            [sys.executable, str(KINDS), kind, str(models / str(number)), INPUT_NAME, OUTPUT_NAME], check=True
        )
    prepared.set(None, SERVICES, "multi_grpc")
    prepared.set(2, SERVICES, "multi_http", "replicas")
    prepared.set(True, SERVICES, "multi_http", "monitoring")
    prepared.set({"specific": [1, 2, 3, 4, 5]}, MODELS, "modelB", "policy")
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


class Clients:
    """Clients that ask for a label with pictures whose first pixel is anything from 0 to 1."""

    def __init__(self, service: dict[str, Any], clients: int = 3, pause: float = 0.02) -> None:
        self._service, self._pause = service, pause
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _ask(self) -> None:
        with connect(url=self._service["url"], token=self._service["token"], timeout=30) as client:
            while not self._stop.is_set():
                image = [[[[1.0]] * 28 for _ in range(28)]]
                image[0][0] = [[random.random()]] + [[1.0]] * 27  # noqa: S311
                try:
                    client.predict("modelB", image, label="stable")
                    self.answers["good"] += 1
                except TFServingError as error:
                    self.failures.append(str(error))
                time.sleep(self._pause)


def ops(stack: Checkout, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ops", *arguments],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def promote(stack: Checkout, *arguments: str) -> tuple[int, dict[str, Any], str]:
    code, printed, told = ops(stack, "promote", *arguments, "--format", "json")
    return code, json.loads(printed), told


def served(stack: Checkout) -> int:
    return int(stack.service("multi_http")["models"]["modelB"]["labels"]["stable"])


def record(stack: Checkout) -> Path:
    return stack.stack_file.with_name("Pulumi.local.promotion.json")


def settled(stack: Checkout, version: int) -> None:
    """The stack is where it is to be, in the file, in the state and on the servers, and nothing is left over."""
    assert served(stack) == version
    assert stack.config()["config"][MODELS]["modelB"]["labels"]["stable"] == version
    assert not record(stack).exists()
    assert stack.run("preview", "--expect-no-changes").code == 0


def test_metrics_of_every_replica_are_added_up(stack: Checkout) -> None:
    with Clients(stack.service("multi_http")) as clients:
        while clients.answers["good"] < 60:
            time.sleep(0.1)
    code, printed, told = ops(stack, "metrics", "multi_http", "--format", "json")
    assert code == 0, told
    found = json.loads(printed)
    assert found["replicas"] == 2
    assert found["models"]["modelB"]["requests"] == clients.answers["good"]
    assert found["models"]["modelB"]["errors"] == {}
    assert 0 < found["models"]["modelB"]["p50Ms"] <= found["models"]["modelB"]["p99Ms"]
    code, printed, _ = ops(stack, "metrics", "multi_http", "--over", "2s")
    assert code == 0
    assert "in 2s, 2 replicas heard" in printed


def test_the_status_says_what_each_service_serves_and_logs_and_events_what_it_says(stack: Checkout) -> None:
    code, printed, told = ops(stack, "status", "--format", "json")
    assert code == 0, told
    found = json.loads(printed)
    [service] = found["services"]
    assert (service["name"], service["status"], service["running"], service["total"]) == ("multi_http", "Running", 2, 2)
    model = next(each for each in found["models"] if each["model"] == "modelB")
    assert model["versions"] == {str(number): "AVAILABLE" for number in range(1, 6)}
    assert model["labels"] == {"stable": 1, "canary": 2}
    assert (found["lastRollout"] != "", found["promotion"]) == (True, None)
    code, printed, told = ops(stack, "status")
    assert code == 0, told
    assert "5 AVAILABLE" in printed
    code, printed, told = ops(stack, "logs", "multi_http", "--model", "modelB", "--since", "1h", "--format", "json")
    assert code == 0, told
    lines = json.loads(printed)["lines"]
    assert lines
    assert all("modelB" in line for line in lines)
    assert stack.service("multi_http")["token"] not in printed
    code, printed, told = ops(stack, "events", "multi_http")
    assert code == 0, told
    assert "multi_http" in printed or "Normal" in printed


@pytest.mark.parametrize("command", [["status", "--watch", "--every", "1s"], ["logs", "multi_http", "--follow"]])
def test_what_goes_on_and_on_ends_quietly_with_its_reader(stack: Checkout, command: list[str]) -> None:
    line = f"{sys.executable} -m ops {' '.join(command)} | head -1"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_a_good_version_is_promoted_and_no_request_fails(stack: Checkout) -> None:
    before = stack.stack_file.read_text(encoding="utf-8")
    with Clients(stack.service("multi_http")) as clients:
        code, found, told = promote(stack, "modelB", "--to", "3", "--yes", *SHORT, "--max-p99", "20s")
    assert code == 0, told
    assert found["outcome"] == "done"
    assert clients.failures == []
    assert clients.answers["good"] > 100
    settled(stack, 3)
    assert stack.stack_file.read_text(encoding="utf-8") == before.replace("stable: 1", "stable: 3", 1)
    assert "holding" in told
    assert "yet" in told
    assert stack.service("multi_http")["token"] not in told
    code, found, _ = promote(stack, "modelB", "--to", "3", "--yes", *SHORT)
    assert (code, found["steps"]) == (0, [])


def test_a_version_that_fails_three_requests_in_a_hundred_is_set_back(stack: Checkout) -> None:
    before = stack.stack_file.read_bytes()
    with Clients(stack.service("multi_http"), clients=4, pause=0.005) as clients:
        code, found, told = promote(stack, "modelB", "--to", "4", "--yes", "--hold", "60s", "--min-requests", "300")
        failed = len(clients.failures)
        time.sleep(1)
    assert (code, found["outcome"]) == (3, "back"), told
    assert "requests failed" in found["reasons"][0]
    assert clients.failures
    assert all(INJECTED in each for each in clients.failures), "nothing failed but what the version fails at"
    assert len(clients.failures) == failed, "the old answers are back"
    assert stack.stack_file.read_bytes() == before
    settled(stack, 3)


def test_a_version_that_is_slow_is_set_back_before_the_hold_is_over(stack: Checkout) -> None:
    began = time.monotonic()
    with Clients(stack.service("multi_http")) as clients:
        code, found, told = promote(
            stack, "modelB", "--to", "5", "--yes", "--hold", "5m", "--max-p99", "400ms", "--min-requests", "10000"
        )
    assert (code, found["outcome"]) == (3, "back"), told
    assert "p99 is" in found["reasons"][0]
    assert time.monotonic() - began < 240
    assert clients.failures == []
    settled(stack, 3)


def test_too_few_requests_are_not_decided_and_stay_until_somebody_says(stack: Checkout) -> None:
    code, found, told = promote(stack, "modelB", "--to", "2", "--yes", "--hold", "2s", "--min-requests", "30")
    assert (code, found["outcome"]) == (4, "undecided"), told
    assert served(stack) == 2
    code, _, told = ops(stack, "promote", "modelB", "--to", "1", "--yes")
    assert code == 1
    assert "is under way" in told
    with Clients(stack.service("multi_http")):
        code, found, told = promote(stack, "--continue")
    assert (code, found["outcome"]) == (0, "done"), told
    settled(stack, 2)


def killed(stack: Checkout, until: str, *arguments: str) -> None:
    """Begins a promotion and kills it with everything it started, as soon as it says something."""
    with subprocess.Popen(
        [sys.executable, "-m", "ops", "promote", *arguments],
        cwd=stack.root,
        env={**os.environ, "PYTHONPATH": str(stack.root)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        for line in process.stderr or ():
            if until in line:
                break
        else:
            pytest.fail(f"it never said {until!r}")
        for child in _descendants(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()


def _descendants(pid: int) -> list[int]:
    """A process and what it started; the update first, so that nobody tidies up after it."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += [*_descendants(int(child)), int(child)]
    return found


@pytest.mark.parametrize("how", ["--continue", "--abort"])
@pytest.mark.parametrize("until", [": writing", ": previewing", ": updating", "updating (", ": holding"])
def test_a_run_that_was_killed_is_continued_or_aborted_by_the_next(stack: Checkout, until: str, how: str) -> None:
    begin, to = served(stack), 3 if served(stack) == 2 else 2
    before = stack.stack_file.read_bytes()
    with Clients(stack.service("multi_http")) as clients:
        killed(stack, until, "modelB", "--to", str(to), "--yes", *SHORT)
        assert record(stack).exists()
        code, found, told = promote(stack, how)
    assert (code, found["outcome"]) == ((0, "done") if how == "--continue" else (3, "back")), told
    assert clients.failures == []
    settled(stack, to if how == "--continue" else begin)
    if how == "--abort":
        assert stack.stack_file.read_bytes() == before


def test_somebody_elses_edit_is_seen_and_kept(stack: Checkout) -> None:
    to = 3 if served(stack) == 2 else 2
    begin = served(stack)
    killed(stack, ": holding", "modelB", "--to", str(to), "--yes", *SHORT)
    text = stack.stack_file.read_text(encoding="utf-8")
    stack.stack_file.write_text(
        text.replace("tf-serving:modelRoot", "# somebody was here\n  tf-serving:modelRoot"), "utf-8"
    )
    with Clients(stack.service("multi_http")):
        code, found, told = promote(stack, "--continue")
    assert (code, found["outcome"]) == (0, "done"), told
    assert "# somebody was here" in stack.stack_file.read_text(encoding="utf-8")
    settled(stack, to)
    # What the promotion itself changes is another matter.
    killed(stack, ": holding", "modelB", "--to", str(begin), "--yes", *SHORT)
    text = stack.stack_file.read_text(encoding="utf-8")
    stack.stack_file.write_text(text.replace(f"stable: {begin}", "stable: 1"), encoding="utf-8")
    code, _, told = ops(stack, "promote", "--continue")
    assert code == 1
    assert "somebody else changed what this promotion changes, and nothing was written" in told
    assert "stable: 1" in stack.stack_file.read_text(encoding="utf-8")
    stack.stack_file.write_text(text, encoding="utf-8")
    code, found, told = promote(stack, "--abort")
    assert (code, found["outcome"]) == (3, "back"), told
    settled(stack, to)


def test_an_edit_during_the_hold_stops_the_promotion_with_nothing_written(stack: Checkout) -> None:
    to = 3 if served(stack) == 2 else 2
    edited = threading.Event()

    def edit() -> None:
        while not record(stack).exists() or '"phase": "hold"' not in record(stack).read_text(encoding="utf-8"):
            time.sleep(0.05)
        text = stack.stack_file.read_text(encoding="utf-8")
        stack.stack_file.write_text(text + "# me too\n", encoding="utf-8")
        edited.set()

    threading.Thread(target=edit, daemon=True).start()
    with Clients(stack.service("multi_http")):
        code, _, told = ops(stack, "promote", "modelB", "--to", str(to), "--yes", *SHORT)
        assert edited.is_set()
        assert code == 1
        assert "somebody else changed Pulumi.local.yaml" in told
        code, found, told = promote(stack, "--continue")
    assert (code, found["outcome"]) == (0, "done"), told
    assert stack.stack_file.read_text(encoding="utf-8").endswith("# me too\n")
    settled(stack, to)


def test_what_a_preview_refuses_leaves_everything_as_it_is(stack: Checkout) -> None:
    before = stack.stack_file.read_bytes()
    code, _, told = ops(stack, "promote", "modelB", "--to", "9", "--yes", *SHORT)
    assert code == 1
    assert "the preview refuses it, and the stack file is as it was" in told
    assert stack.stack_file.read_bytes() == before
    assert not record(stack).exists()


def test_a_label_goes_back_to_what_it_was_before(stack: Checkout) -> None:
    now = served(stack)
    resources = json.loads(stack.succeed("export"))["deployment"]["resources"]
    [way] = [
        each["outputs"]["previous"]["modelB"]["stable"] for each in resources if "previous" in each.get("outputs", {})
    ]
    before = int(way[-1])
    assert before in {1, 2, 3} - {now}, "never a version that was set back"
    with Clients(stack.service("multi_http")) as clients:
        code, printed, told = ops(stack, "rollback", "modelB", "--yes", "--format", "json")
    assert code == 0, told
    found = json.loads(printed)
    assert (found["outcome"], found["from"], found["to"]) == ("done", now, before)
    assert clients.failures == []
    settled(stack, before)
    code, _, told = ops(stack, "rollback", "modelB", "--label", "canary", "--yes")
    assert code == 1
    assert "the state knows no version" in told


def test_without_a_terminal_nothing_is_done_unasked(stack: Checkout) -> None:
    other = next(number for number in (1, 2, 3) if number != served(stack))
    code, _, told = ops(stack, "promote", "modelB", "--to", str(other), *SHORT)
    assert code == 1
    assert "--yes must be passed" in told
    assert not record(stack).exists()
