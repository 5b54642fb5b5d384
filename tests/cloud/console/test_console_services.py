"""The console's own API, with real model servers behind it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.cloud.state import STATE
from tests.cloud.console.conftest import BODY, FAVOURITES, Served
from tests.cloud.eas.conftest import Eas, http
from tests.waiting import until
from tfserving.client import GrpcClient

pytestmark = pytest.mark.slow


def favourite(answer: dict[str, Any]) -> int:
    (scores,) = json.loads(answer["body"])["predictions"]
    return int(scores.index(max(scores)))


@pytest.mark.parametrize("name", ["multi_http", "multi_grpc"])
def test_the_overview_says_what_the_replicas_serve(served: Served, name: str) -> None:
    until(lambda: served.model(name)["labels"][1]["answered"] == [1])
    service = served.overview()[name]
    assert (service["status"], service["replicas"]) == ("Running", {"ready": 1, "wanted": 1})
    assert service["address"] == str(served.eas.describe(name).internet_endpoint).removeprefix(
        "http://" if name == "multi_grpc" else ""
    )
    (model,) = service["models"]
    assert model["policy"] == "specific [1, 2]"
    assert [(each["version"], each["states"]) for each in model["versions"]] == [
        (2, {"AVAILABLE": 1}),
        (1, {"AVAILABLE": 1}),
    ]
    assert model["labels"] == [
        {"label": "canary", "wanted": 2, "answered": [2]},
        {"label": "stable", "wanted": 1, "answered": [1]},
    ]


def test_neither_overview_nor_answers_hold_a_token(served: Served) -> None:
    seen = json.dumps([served.overview(), served.ask("multi_http", path="/v1/models/modelB:predict")])
    for name in ("multi_http", "multi_grpc"):
        assert served.token(name) not in seen


@pytest.mark.parametrize(("by", "version"), [("", 2), ("/versions/1", 1), ("/labels/stable", 1), ("/labels/canary", 2)])
def test_an_http_service_is_asked_at_its_url_and_the_version_that_answered_is_named(
    served: Served, by: str, version: int
) -> None:
    answer = served.ask("multi_http", path=f"/v1/models/modelB{by}:predict")
    assert (answer["status"], answer["version"], favourite(answer)) == (200, version, FAVOURITES[version])


@pytest.mark.parametrize(("by", "version"), [({}, 2), ({"version": 1}, 1), ({"label": "stable"}, 1)])
def test_a_grpc_service_is_asked_by_grpc(served: Served, by: dict[str, Any], version: int) -> None:
    answer = served.ask("multi_grpc", model="modelB", **by)
    assert (answer["status"], answer["version"], favourite(answer)) == (200, version, FAVOURITES[version])


@pytest.mark.parametrize(
    ("service", "asked"), [("multi_http", {"path": "/v1/models/modelB:predict"}), ("multi_grpc", {"model": "modelB"})]
)
def test_whole_inputs_are_answered_with_whole_outputs(served: Served, service: str, asked: dict[str, Any]) -> None:
    answer = served.ask(service, **asked, body=json.dumps({"inputs": json.loads(BODY)["instances"]}))
    assert answer["status"] == 200, answer
    (scores,) = json.loads(answer["body"])["outputs"]
    assert len(scores) == 10


def test_a_grpc_service_describes_itself_through_the_gateway(served: Served) -> None:
    where = served.overview()["multi_grpc"]["address"]
    with GrpcClient(where, served.token("multi_grpc")) as client:
        assert client.reflects()


def test_a_request_without_a_body_is_a_get(served: Served) -> None:
    answer = served.ask("multi_http", path="/v1/models/modelB", body=" ")
    assert answer["status"] == 200
    assert "model_version_status" in json.loads(answer["body"])
    assert answer["version"] is None


@pytest.mark.parametrize("service", ["multi_http", "multi_grpc"])
def test_the_servers_own_words_come_through_when_it_refuses(served: Served, service: str) -> None:
    answer = served.ask(service, path="/v1/models/modelB/labels/nobody:predict", model="modelB", label="nobody")
    assert answer["status"] in (400, 404)
    assert "Unrecognized servable version label: nobody" in json.loads(answer["body"])["error"]


@pytest.mark.parametrize(
    ("service", "request_", "reason"),
    [
        ("multi_http", {"path": "v1/models/modelB"}, "does not begin with a slash"),
        ("multi_http", {"path": "/v1/models/modelB\r\nX-Header: 1"}, "characters a path cannot have"),
        ("multi_http", {"path": "/v1 HTTP/1.1"}, "characters a path cannot have"),
        ("multi_grpc", {"model": ""}, "needs a model name"),
        ("multi_grpc", {"model": "modelB", "body": "{"}, "is not JSON"),
        ("multi_grpc", {"model": "modelB", "body": "[1]"}, "must be"),
        ("multi_grpc", {"model": "modelB", "body": '{"inputs": [1], "instances": [1]}'}, "must be"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(
    served: Served, service: str, request_: dict[str, Any], reason: str
) -> None:
    answer = served.ask(service, **request_)
    assert answer["http"] == 400
    assert reason in answer["Message"]


def test_a_path_cannot_carry_the_token_of_a_service_anywhere_else(served: Served) -> None:
    """Whatever the path, the request goes to the service's own address with the service's own token."""
    for path in ("/../../../-/console/api/overview", "/..%2f..%2fother", "//127.0.0.2/", "/@127.0.0.2/"):
        answer = served.ask("multi_http", path=path, body="")
        assert answer["http"] == 200
        assert answer["status"] in (400, 401, 403, 404)


def test_looking_is_no_traffic_but_sending_is(served: Served) -> None:
    service = served.eas.app[STATE].products[0]
    deployment = service.runtime.get("multi_http")  # type: ignore[attr-defined]
    deployment._requests = 0
    for _ in range(3):
        served.overview()
    assert deployment._requests == 0
    served.ask("multi_http", path="/v1/models/modelB:predict")
    assert deployment._requests == 2  # the prediction, and the question which version it was


def test_a_label_moves_in_the_overview_when_the_servers_have_moved_it(served: Served) -> None:
    for stable in (2, 1):
        served.publish(stable)
        wanted = {"label": "stable", "wanted": stable, "answered": [stable]}
        for name in ("multi_http", "multi_grpc"):
            until(lambda name=name, wanted=wanted: wanted in served.model(name)["labels"])


def test_a_service_that_is_stopped_is_shown_with_what_it_would_serve(served: Served) -> None:
    spec = served.eas.spec("single")
    spec["containers"][0] |= {"command": "tf_serving_entrypoint.sh --model_name=alone", "env": []}
    spec["metadata"]["instance"] = 0
    served.eas.create(spec)
    try:
        served.eas.client.stop_service("cn-hangzhou", "single")
        served.eas.wait("single", "Stopped")
        until(lambda: served.overview().get("single", {}).get("status") == "Stopped")
        service = served.overview()["single"]
        assert service["replicas"]["ready"] == 0
        assert [model["name"] for model in service["models"]] == ["alone"]
        answer = served.ask("single", path="/v1/models/alone:predict")
        assert answer["status"] == 503
    finally:
        served.eas.delete("single")


def test_a_group_shows_which_share_each_member_gets(served: Served) -> None:
    eas = served.eas
    specs = [eas.spec(f"shop_{name}", 0, metadata={"group": "shop"}) for name in ("new", "old")]
    for spec in specs:
        eas.create(spec)
    try:
        request = eas.models.ReleaseServiceRequest(traffic_state="grouping", weight=25)
        eas.client.release_service("cn-hangzhou", "shop_new", request)
        request = eas.models.ReleaseServiceRequest(traffic_state="grouping", weight=75)
        eas.client.release_service("cn-hangzhou", "shop_old", request)
        group_of(eas).change(traffic_mode="customized")
        overview = http("GET", f"{served.url}api/overview").json
        (group,) = overview["groups"]
        assert group["address"] == f"http://127.0.0.1:{eas.port}/api/predict/shop"
        shares = {each["service"]: each["percent"] for each in group["members"]}
        assert shares == {"shop_new": 25, "shop_old": 75}
        assert group_of(eas).token not in json.dumps(overview)
        assert http("GET", f"{served.url}api/overview?q=multi").json["groups"] == []
    finally:
        for spec in specs:
            eas.delete(spec["metadata"]["name"])


def group_of(eas: Eas) -> Any:
    """The group, where nobody calls UpdateGroup, which this release of the SDK has no method for."""
    product = eas.app[STATE].products[0]
    return product.runtime.groups.find("shop")  # type: ignore[attr-defined]


def test_log_events_and_rollouts_tell_what_happened_and_no_token(served: Served) -> None:
    def look(path: str) -> Any:
        return http("GET", f"{served.url}api/{path}").json

    lines = look("log?service=multi_http&word=Successfully")["lines"]
    assert lines
    assert all("Successfully" in line for line in lines)
    assert len(look("log?service=multi_http&lines=2")["lines"]) == 2
    assert "Creating" in {event["reason"] for event in look("events?service=multi_grpc")["events"]}
    writes = look("rollouts")["writes"]
    assert writes[-1]["services"] == ["multi_grpc", "multi_http"]
    for path in ("log?service=multi_http", "events?service=multi_http", "rollouts", "names", "overview"):
        text = json.dumps(look(path))
        assert not any(served.token(name) in text for name in ("multi_http", "multi_grpc"))


def test_a_service_that_is_not_there_is_said(served: Served) -> None:
    for path in ("log", "events", "metrics", "model"):
        answer = http("GET", f"{served.url}api/{path}?service=none")
        assert (answer.status, answer.json["Message"]) == (404, "The specified service [none] is not found.")


@pytest.mark.parametrize(
    ("service", "asked"), [("multi_http", {"path": "/v1/models/modelB:predict"}), ("multi_grpc", {"model": "modelB"})]
)
def test_the_same_request_is_sent_to_two_versions_and_compared(
    served: Served, service: str, asked: dict[str, Any]
) -> None:
    answer = served.ask(service, **asked, other={"version": "1"})
    assert (answer["version"], answer["other"]["version"]) == (2, 1)
    assert (answer["difference"]["instances"], answer["difference"]["agreeing"]) == (1, 0)
    (top,) = answer["difference"]["classes"]
    assert (top["left"]["index"], top["right"]["index"]) == (FAVOURITES[2], FAVOURITES[1])
    assert answer["bars"][0]["rows"][0]["index"] == FAVOURITES[2]
    refused = served.ask(service, **asked, other={"label": "nobody"})
    assert refused["difference"]["problem"] == "not both are answers with predictions or outputs"


def test_a_body_is_made_from_the_signature_of_the_version_that_is_chosen(served: Served) -> None:
    for service in ("multi_http", "multi_grpc"):
        found = http("GET", f"{served.url}api/model?service={service}&model=modelB&label=stable").json
        assert (found["problem"], found["sample"]["version"]) == ("", 1)
        assert found["sample"]["inputs"] == "image float32 [?, 28, 28, 1]"
        answer = served.ask(service, path="/v1/models/modelB:predict", model="modelB", body=found["sample"]["body"])
        assert answer["status"] == 200
        gone = http("GET", f"{served.url}api/model?service={service}&model=modelB&version=9").json
        assert "9" in gone["problem"]
