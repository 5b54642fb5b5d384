"""The first run on a real account: the list is whole, looks tell what is there, and the report tells no secrets."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from ops.doctor import command, first_run, looks
from ops.doctor.looks import LOOKS, Seen, World
from ops.doctor.questions import QUESTIONS
from ops.doctor.stack import StackConfig
from ops.outputs import ExportedService
from provider.clients import Clients, CloudSettings, DescribedService
from tests.cloud.eas.conftest import running_eas
from tfserving.errors import CloudError
from tfserving.protos import tf_serving_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "TheTokenOfTheService1234567890abcdef"
ACCOUNT = "1234567890123456"


def stack(services: Mapping[str, Any] | None = None, endpoint: str = "") -> StackConfig:
    values = {
        "alicloud:region": "cn-hangzhou",
        "alicloud:protocol": "HTTP" if endpoint else "HTTPS",
        "tf-serving:endpoint": endpoint,
        "tf-serving:bucket": "models",
        "tf-serving:services": services if services is not None else {"multi_http": {}, "multi_grpc": {}},
    }
    return StackConfig("mine", Path("Pulumi.mine.yaml"), values, frozenset(), False)


def described(name: str, config: Mapping[str, Any] | None = None, **changes: Any) -> DescribedService:
    service = DescribedService(
        name=name,
        id="eas-m-x",
        status="Running",
        message="",
        config=dict(config or {}),
        token=TOKEN,
        internet_endpoint="",
        intranet_endpoint="",
        labels={},
        total=1,
        running=1,
        pending=0,
        workspace_id="",
        updated="",
    )
    return dataclasses.replace(service, **changes)


def exported(name: str, protocol: str = "http", url: str = "", target: str = "", **models: Any) -> ExportedService:
    return ExportedService(name, protocol, url, target, TOKEN, models or {"modelA": {"versions": [1]}})


class FakeEas:
    """What EAS answers."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        answer = self._answers.get(name, [])
        if isinstance(answer, Exception):

            def fail(*_: Any) -> None:
                raise answer

            return fail
        return lambda *_: answer


class Empty:
    """OSS without a bucket: each call fails as the SDK's do."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any) -> None:
            raise ConnectionError("no way there")

        return fail


def world(
    services: Mapping[str, DescribedService] | None = None,
    outputs: Mapping[str, ExportedService] | None = None,
    of: StackConfig | None = None,
    **answers: Any,
) -> World:
    clients: Any = SimpleNamespace(eas=FakeEas(**answers), oss=Empty())
    return World(of or stack(), clients, services or {}, outputs or {})


def look(name: str, at: World) -> Seen:
    return LOOKS[name](at)


# ---- the list ------------------------------------------------------------------------------------------------------


def test_every_question_has_a_name_of_its_own_and_says_what_is_assumed() -> None:
    ids = [question.id for question in QUESTIONS]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", name) for name in ids)
    assert all(question.text.endswith("?") and question.assumed for question in QUESTIONS)


def test_every_question_is_looked_at_by_the_command_or_says_how_to_look() -> None:
    assert LOOKS.keys() <= {question.id for question in QUESTIONS}
    for question in QUESTIONS:
        assert bool(question.look) != (question.id in LOOKS), question.id


def test_questions_of_one_area_stand_together() -> None:
    areas = [question.area for question in QUESTIONS]
    changes = sum(before != after for before, after in itertools.pairwise(areas))
    assert changes == len(set(areas)) - 1


def test_the_page_has_every_question() -> None:
    text = (ROOT / first_run.PAGE).read_text(encoding="utf-8")
    assert first_run.page(ROOT) == text
    assert all(f"| `{question.id}`: {question.text} |" in text for question in QUESTIONS)


# ---- looks ---------------------------------------------------------------------------------------------------------


def test_keys_of_the_service_json_are_told_without_values_labels_and_variables() -> None:
    config = {
        "metadata": {"name": "a", "rpc": {"keepalive": 5000}},
        "containers": [{"image": "x", "env": [{"name": "PASSWORD", "value": "hush"}]}, {"port": 1}],
        "labels": {"who": "me"},
        "token": TOKEN,
    }
    seen = look("json-echo", world({"a": described("a", config)}))
    assert seen.verdict == "seen"
    assert set(re.findall(r"`([^`]+)`", seen.text)) == {
        "metadata.name",
        "metadata.rpc.keepalive",
        "containers[].image",
        "containers[].env[]",
        "containers[].port",
        "labels",
        "token",
    }
    assert "hush" not in seen.text
    assert TOKEN not in seen.text


def test_the_image_that_eas_made_of_a_name_is_told() -> None:
    of = stack({"a": {"image": "tensorflow-serving:2.14.1"}})
    found = described("a", {"containers": [{"image": "registry/pai-eas/tensorflow-serving:2.14.1"}]})
    text = look("json-image", world({"a": found}, of=of)).text
    assert text == "`a`: `tensorflow-serving:2.14.1` is `registry/pai-eas/tensorflow-serving:2.14.1`"


@pytest.mark.parametrize(("status", "verdict"), [("Running", "as assumed"), ("Failed", "different")])
def test_a_scenario_deployment_with_labels_runs_or_not(status: str, verdict: str) -> None:
    service = described("a", labels={"tf-serving-deployment": "scenario"}, status=status)
    outputs = {"a": exported("a", modelB={"labels": {"stable": 1}})}
    assert look("json-scenario-labels", world({"a": service}, outputs)).verdict == verdict
    assert look("json-scenario-labels", world({"a": service}, {"a": exported("a")})).verdict == "not seen"


def test_the_default_of_keepalive_is_told_only_where_nobody_set_it() -> None:
    service = described("a", {"metadata": {"rpc": {"keepalive": 5000}}})
    assert look("json-keepalive", world({"a": service}, of=stack({"a": {}}))).text == "`a`: 5000"
    of = stack({"a": {"rpcKeepaliveMs": 60000}})
    assert look("json-keepalive", world({"a": service}, of=of)).verdict == "not seen"


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        ({"metadata": {"eas.termination_grace_period": 30}}, "as assumed"),
        ({"runtime": {"termination_grace_period": 30}}, "different"),
        ({"metadata": {"name": "a"}}, "not seen"),
    ],
)
def test_the_place_of_the_grace_period_is_told(config: dict[str, Any], verdict: str) -> None:
    assert look("json-grace", world({"a": described("a", config)})).verdict == verdict


def test_an_autoscaler_in_the_service_json_is_another_thing_than_assumed() -> None:
    scaler = {"min": 1, "max": 2, "scaleStrategies": []}
    alone = world({"a": described("a")}, autoscaler=scaler)
    assert look("json-autoscaler", alone).verdict == "as assumed"
    both = world({"a": described("a", {"autoscaler": {"min": 1}})}, autoscaler=scaler)
    assert look("json-autoscaler", both).verdict == "different"
    assert (
        look("json-autoscaler", world({"a": described("a")}, autoscaler=None, cron_scaler=None)).verdict == "not seen"
    )


def test_a_schedule_whose_time_zone_does_not_come_back_is_another_thing_than_assumed() -> None:
    job = {"name": "night", "schedule": "0 0 1 * * *", "targetSize": 1}
    for shown, verdict in (({**job, "timeZone": "UTC"}, "as assumed"), (job, "different")):
        at = world({"a": described("a")}, cron_scaler={"scaleJobs": [shown], "excludeDates": []})
        assert look("cron-zone", at).verdict == verdict
    assert look("cron-zone", world({"a": described("a")}, cron_scaler=None)).verdict == "not seen"


@pytest.mark.parametrize(
    ("address", "verdict"),
    [
        (f"http://{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/multi_http", "as assumed"),
        (f"http://{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/multi-http", "different"),
        ("http://multi-http.example.com", "different"),
    ],
)
def test_the_form_of_a_url_is_compared(address: str, verdict: str) -> None:
    at = world({"multi_http": described("multi_http")}, {"multi_http": exported("multi_http", url=address)})
    assert look("address-url", at).verdict == verdict


@pytest.mark.parametrize(
    ("address", "verdict"),
    [
        (f"multi-grpc.{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com:80", "as assumed"),
        (f"multi_grpc.{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com:80", "different"),
        (f"multi-grpc.{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com:443", "different"),
    ],
)
def test_the_form_of_a_grpc_host_is_compared(address: str, verdict: str) -> None:
    at = world({"multi_grpc": described("multi_grpc")}, {"multi_grpc": exported("multi_grpc", "grpc", target=address)})
    assert look("address-host", at).verdict == verdict


class Gateway:
    """Takes the token in the forms it is told to, and answers on every path below the service."""

    def __init__(self, *forms: str) -> None:
        self.forms = forms
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                taken = self.headers.get("Authorization", "") in outer.forms
                here = "/api/predict/multi_http/" in self.path
                self.send_response((200 if taken else 401) if here else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal of the tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/predict/multi_http"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    started = Gateway(TOKEN)
    yield started
    started.server.shutdown()
    started.server.server_close()


def behind(gateway: Gateway, of: StackConfig | None = None) -> World:
    return world({"multi_http": described("multi_http")}, {"multi_http": exported("multi_http", url=gateway.url)}, of)


def test_forms_of_the_token_are_tried_over_http(gateway: Gateway) -> None:
    assert look("token-http", behind(gateway)) == Seen("as assumed", "as it is: 200, `Bearer`: 401, none: 401")
    gateway.forms = (f"Bearer {TOKEN}",)
    assert look("token-http", behind(gateway)) == Seen("different", "as it is: 401, `Bearer`: 200, none: 401")
    gateway.forms = (TOKEN, "")
    assert look("token-http", behind(gateway)).verdict == "different", "a gateway that asks for nothing"


def test_metrics_and_what_is_not_there_are_asked_for_through_the_gateway(gateway: Gateway) -> None:
    assert look("address-nothing", behind(gateway)) == Seen("as assumed", "GET answers 404")
    assert look("address-metrics", behind(gateway)).verdict == "not seen"
    of = stack({"multi_http": {"monitoring": True}})
    assert look("address-metrics", behind(gateway, of)) == Seen("as assumed", "GET answers 200")


def test_nobody_there_is_told_and_is_no_traceback(gateway: Gateway) -> None:
    gateway.server.shutdown()
    gateway.server.server_close()
    assert "no answer" in look("token-http", behind(gateway)).text


def test_forms_of_the_token_are_tried_over_grpc() -> None:
    taken = [f"Bearer {TOKEN}"]

    def status(_: Any, context: grpc.ServicerContext) -> pb.GetModelStatusResponse:
        if dict(context.invocation_metadata()).get("authorization", "") not in taken:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
        return pb.GetModelStatusResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        status,
        request_deserializer=pb.GetModelStatusRequest.FromString,
        response_serializer=pb.GetModelStatusResponse.SerializeToString,
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    services = [grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", {"GetModelStatus": handler})]
    server.add_generic_rpc_handlers(services)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        outputs = {"multi_grpc": exported("multi_grpc", "grpc", target=f"127.0.0.1:{port}")}
        at = world({"multi_grpc": described("multi_grpc")}, outputs)
        refused = "UNAUTHENTICATED"
        assert look("token-grpc", at) == Seen("as assumed", f"as it is: {refused}, `Bearer`: OK, none: {refused}")
        taken[:] = [TOKEN, f"Bearer {TOKEN}", ""]
        assert look("token-grpc", at).verdict == "different", "a gateway that asks for nothing"
    finally:
        server.stop(0)


def test_services_that_a_listing_by_label_misses_are_named() -> None:
    both = {"a": described("a"), "b": described("b")}
    assert look("life-owner", world(both, labelled=list(both.values()))).verdict == "as assumed"
    seen = look("life-owner", world(both, labelled=[both["a"]]))
    assert seen == Seen("different", "ListServices does not find `b`")


def test_logs_and_events_of_another_form_are_told() -> None:
    one = {"a": described("a")}
    assert look("life-log", world(one, log_tail=["... tensorflow_serving/core ..."])).verdict == "as assumed"
    assert look("life-log", world(one, log_tail=["hello"])).verdict == "different"
    event = "2026-01-01 00:00:00 Normal Started: the service runs"
    assert look("life-events", world(one, events=[event])).verdict == "as assumed"
    assert look("life-events", world(one, events=["2026 None None: x"])).verdict == "different"
    assert look("life-events", world(one)).verdict == "not seen"


def test_the_release_of_the_server_is_read_from_its_log() -> None:
    one = {"a": described("a")}
    line = "I0000 model_servers/main.cc] TensorFlow ModelServer: 2.14.1-rc0+dev.sha.x"
    assert (
        look("server-release", world(one, log_tail=[line])).text == "`a`: TensorFlow ModelServer: 2.14.1-rc0+dev.sha.x"
    )
    assert look("server-release", world(one, log_tail=["unknown argument: --x"])).verdict == "different"
    assert look("server-release", world(one)).verdict == "not seen"


def test_without_any_service_every_look_says_so_and_none_fails() -> None:
    for name, function in LOOKS.items():
        if not name.startswith("oss-"):
            assert function(world()).verdict == "not seen", name


# ---- the report ----------------------------------------------------------------------------------------------------


def test_a_look_that_fails_holds_up_no_other_and_says_why() -> None:
    refused = CloudError(f"EAS ListServices: Forbidden: {TOKEN}")
    at = world({"a": described("a")}, labelled=refused, autoscaler=None, cron_scaler=None)
    found = {answer.question.id: answer for answer in first_run.answers(at)}
    assert found["life-owner"].verdict == "not seen"
    assert "Forbidden" in found["life-owner"].text
    assert found["oss-region"].verdict == "not seen"
    assert found["json-settles"].verdict == "yours"
    assert set(found) == {question.id for question in QUESTIONS}


def test_a_report_has_neither_token_nor_account() -> None:
    address = f"http://{ACCOUNT}.cn-hangzhou.pai-eas.aliyuncs.com/api/predict/multi_http?{TOKEN}"
    at = world(
        {"multi_http": described("multi_http")},
        {"multi_http": exported("multi_http", url=address)},
        log_tail=[f"tensorflow_serving {TOKEN}"],
    )
    text = first_run.report(at.stack, [a for a in first_run.answers(at) if not a.question.id.startswith("token")])
    assert TOKEN not in text
    assert ACCOUNT not in text
    assert "<uid>.cn-hangzhou.pai-eas.aliyuncs.com" in text


def test_a_report_asks_a_person_what_no_machine_sees() -> None:
    text = first_run.report(stack(), first_run.answers(world()))
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert [entry.partition(":")[0] for entry in entries] == [question.id for question in QUESTIONS]
    for entry, question in zip(entries, QUESTIONS, strict=True):
        assert question.assumed in entry
        assert question.id in LOOKS or (question.look in entry and "**Answer**:" in entry)
    assert "sandbox" not in text.partition("## ")[0]


@pytest.mark.slow
def test_the_command_writes_a_report_that_says_it_is_of_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_eas(tmp_path / "cloud") as cloud:
        spec = cloud.spec("multi_http", token=TOKEN, labels={"pulumi-owner": "tf-serving/mine"})
        running = cloud.run(spec)
        endpoint = f"127.0.0.1:{cloud.port}"
        of = stack({"multi_http": {"image": "tensorflow-serving:2.14.1"}}, endpoint)
        keys = {"access_key": "sandbox-key", "secret_key": "sandbox-secret"}
        settings = CloudSettings("cn-hangzhou", endpoint, endpoint, "HTTP", **keys)
        clients = Clients(settings, threading.Event())
        outputs = {"multi_http": exported("multi_http", url=running.internet_endpoint.rstrip("/"))}
        monkeypatch.setattr(command, "load", lambda _: of)
        monkeypatch.setattr(first_run, "clients_of", lambda *_: clients)
        monkeypatch.setattr(first_run.outputs, "services", lambda *_: outputs)
        report = tmp_path / "first-run.md"
        assert command.main(["--stack", "mine", "--first-run", "--output", str(report)]) == 0
        assert str(report) in capsys.readouterr().out
        assert command.main(["--stack", "mine", "--first-run", "--format", "json"]) == 0
    text = report.read_text(encoding="utf-8")
    assert "This stack is one of the sandbox" in text
    assert TOKEN not in text
    told = {each["id"]: each["verdict"] for each in json.loads(capsys.readouterr().out)["answers"]}
    assert told["token-http"] == "as assumed"
    assert told["life-owner"] == "as assumed"
    assert told["life-events"] == "as assumed"
    assert told["address-nothing"] == "as assumed"
    assert told["address-url"] == "different", "the sandbox is on loopback"
    assert looks.LOOKS.keys() == {name for name, verdict in told.items() if verdict != "yours"}
