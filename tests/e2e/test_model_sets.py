"""Model sets of services, two instances each, under constant load: splitting, moving and merging fails no request.

One stack for the whole file; the tests run in order.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.e2e.checkout import Checkout
from tests.e2e.load import IMAGE, Load, Target
from tfserving.client import connect
from tfserving.errors import TFServingError

pytestmark = pytest.mark.slow

BUCKET, ROOT = "tf-serving-local", "models/tf_serving/"
SERVICES = "tf-serving:services"
MODEL_A, STABLE, CANARY, MODEL_C = (
    Target("modelA", version=1),
    Target("modelB", label="stable"),
    Target("modelB", label="canary"),
    Target("modelC"),
)


@pytest.fixture(scope="module")
def stack(prepared: Checkout) -> Iterator[Checkout]:
    for service in ("multi_http", "multi_grpc"):
        prepared.set(2, SERVICES, service, "replicas")
        prepared.set(1, SERVICES, service, "configPollSeconds")
    prepared.succeed("up", module="local", timeout=600)
    yield prepared
    prepared.run("down", module="local")


def keys_of(stack: Checkout) -> set[str]:
    listed = stack.oss().list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, prefix=ROOT, max_keys=1000))
    return {str(item.key).removeprefix(ROOT) for item in listed.contents or ()}


def files(stack: Checkout) -> set[str]:
    return {key for key in keys_of(stack) if key.endswith(".pbtxt")}


def models_of(stack: Checkout, service: str) -> dict[str, Any]:
    return dict(stack.service(service)["models"])


@contextlib.contextmanager
def load(stack: Checkout, **targets: tuple[Target, ...]) -> Iterator[None]:
    """Asks each service for its own targets; fails on any failed request."""
    services = stack.outputs()["services"]
    with contextlib.ExitStack() as running:
        loads = [running.enter_context(Load({name: services[name]}, asked)) for name, asked in targets.items()]
        yield
    assert [failure for each in loads for failure in each.failures] == []
    assert min(count for each in loads for count in each.requests.values()) >= 5


@contextlib.contextmanager
def asking_either(stack: Checkout, target: Target) -> Iterator[None]:
    """A client that finds a model wherever it is at the moment; fails when neither service answers."""
    stopped, missing, answered = threading.Event(), list[str](), list[str]()
    services = stack.outputs()["services"]

    def ask() -> None:
        with contextlib.ExitStack() as clients:
            found = {
                name: clients.enter_context(
                    connect(
                        **({"target": each["target"]} if each["protocol"] == "grpc" else {"url": each["url"]}),
                        token=each["token"],
                        timeout=20,
                    )
                )
                for name, each in services.items()
            }
            while not stopped.wait(0.1):
                # Twice round: it may arrive at the one between the questions to both.
                reasons = []
                for name in (*found, *found):
                    try:
                        found[name].predict(target.model, IMAGE, version=target.version, label=target.label)
                    except TFServingError as error:
                        reasons.append(f"{name}: {error}")
                    else:
                        answered.append(name)
                        break
                else:
                    missing.extend(reasons)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(60)
    assert missing == []
    assert len(answered) >= 5


def up(stack: Checkout) -> str:
    printed = stack.succeed("up", "--yes", timeout=900)
    assert stack.run("preview", "--expect-no-changes").code == 0
    return printed


def test_splitting_one_set_in_two_fails_no_request(stack: Checkout) -> None:
    assert files(stack) == {"model_config.pbtxt"}
    stack.set(["modelA", "modelB"], SERVICES, "multi_http", "models")
    stack.set(["modelC", "modelB"], SERVICES, "multi_grpc", "models")
    with load(stack, multi_http=(MODEL_A, STABLE, CANARY), multi_grpc=(STABLE, CANARY, MODEL_C)):
        up(stack)
    assert files(stack) == {"model_config.models.modelA-modelB.pbtxt", "model_config.models.modelB-modelC.pbtxt"}
    assert set(models_of(stack, "multi_http")) == {"modelA", "modelB"}
    assert set(models_of(stack, "multi_grpc")) == {"modelB", "modelC"}


def test_moving_a_model_to_the_other_service_leaves_it_served_all_along(stack: Checkout) -> None:
    stack.set(["modelB"], SERVICES, "multi_http", "models")
    stack.set(["modelA", "modelB", "modelC"], SERVICES, "multi_grpc", "models")
    with load(stack, multi_http=(STABLE, CANARY), multi_grpc=(STABLE, MODEL_C)), asking_either(stack, MODEL_A):
        up(stack)
    assert files(stack) == {"model_config.models.modelB.pbtxt", "model_config.pbtxt"}
    assert set(models_of(stack, "multi_http")) == {"modelB"}
    assert set(models_of(stack, "multi_grpc")) == {"modelA", "modelB", "modelC"}


def test_a_promotion_in_the_set_of_one_service_touches_no_other(stack: Checkout) -> None:
    own = {"modelB": {"policy": {"specific": [1, 2]}, "labels": {"stable": 1, "canary": 2}}}
    stack.set(own, SERVICES, "multi_http", "models")
    with load(stack, multi_http=(STABLE, CANARY), multi_grpc=(STABLE, MODEL_C)):
        up(stack)
    assert files(stack) == {"model_config.multi_http.pbtxt", "model_config.pbtxt"}
    running = stack.processes()
    stack.set(2, SERVICES, "multi_http", "models", "modelB", "labels", "stable")
    steps = json.loads(stack.succeed("preview", "--json"))["steps"]
    changed = {step["urn"].rpartition("::")[2] for step in steps if step["op"] not in ("same", "refresh")}
    assert changed == {"served-multi_http"}
    with load(stack, multi_http=(STABLE, CANARY), multi_grpc=(STABLE, CANARY)):
        up(stack)
    assert stack.processes() == running, "no process restarts"
    assert models_of(stack, "multi_http")["modelB"]["labels"] == {"stable": 2, "canary": 2}
    assert models_of(stack, "multi_grpc")["modelB"]["labels"] == {"stable": 1, "canary": 2}


def test_files_of_a_version_go_once_no_set_serves_it(stack: Checkout) -> None:
    place = stack.root / ".sandbox" / "models" / "modelC"
    shutil.move(place / "3", place.parent / "kept-3")
    with load(stack, multi_http=(STABLE, CANARY), multi_grpc=(STABLE, MODEL_C)):
        printed = up(stack)
    assert "modelC: version 3 removed from the bucket" in printed
    assert not {key for key in keys_of(stack) if key.startswith("modelC/3/")}
    shutil.move(place.parent / "kept-3", place / "3")
    up(stack)


def test_what_the_config_file_of_another_stack_names_stays_in_the_bucket(stack: Checkout) -> None:
    place = stack.root / ".sandbox" / "models" / "modelC"
    theirs = (
        "# Managed by Pulumi project other, stack prod: not ours\n"
        'model_config_list { config { name: "modelC" base_path: "/models/modelC" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 3 } } } }\n"
    )
    key = f"{ROOT}model_config.theirs.pbtxt"
    stack.oss().put_object(oss.PutObjectRequest(bucket=BUCKET, key=key, body=theirs.encode()))
    shutil.move(place / "3", place.parent / "kept-3")
    printed = up(stack)
    assert "modelC: version 3 stays in the bucket" in printed
    assert {key for key in keys_of(stack) if key.startswith("modelC/3/")}
    stack.oss().delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key=key))
    shutil.move(place.parent / "kept-3", place / "3")
    up(stack)


def test_merging_the_sets_again_fails_no_request(stack: Checkout) -> None:
    stack.set(None, SERVICES, "multi_http", "models")
    stack.set(None, SERVICES, "multi_grpc", "models")
    with load(stack, multi_http=(CANARY,), multi_grpc=(STABLE, CANARY, MODEL_C)):
        started = time.monotonic()
        up(stack)
    assert time.monotonic() - started < 900
    assert files(stack) == {"model_config.pbtxt"}
    assert models_of(stack, "multi_http") == models_of(stack, "multi_grpc")
