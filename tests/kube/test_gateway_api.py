"""Routes of the Gateway API on a real API server: what is refused before and after it has them, and shares of requests.

In the place of pods there are small servers; in the place of a gateway controller there is the sandbox's stand-in.
"""

from __future__ import annotations

import http.client
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from kubernetes import client, config

from sandbox.kube import gateway_crds
from sandbox.kube.cluster import LocalCluster
from sandbox.kube.gateway_routes import CONTROLLER, GatewayController
from tests.kube.conftest import Api
from tests.provider.harness import OWNER, Failed, Plugin, Stack
from tests.waiting import until
from tfserving.client import MEMBER_HEADER
from tfserving.kubernetes import GRPC_PORT, HTTP_PORT, gateway_api
from tfserving.property_values import plain
from tfserving.traffic import Mirror

pytestmark = pytest.mark.slow

HTTP_NAME, GRPC_NAME = "vision.example.com", "grpc.vision.example.com"
PORT = 8080


@dataclass
class Server:
    """A pod of TensorFlow Serving, as far as a gateway knows: both ports, at a loopback address."""

    host: str
    asked: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked["http"] += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, details: Any) -> Any:
                return grpc.unary_unary_rpc_method_handler(self.answer)

            def answer(self, request: bytes, context: Any) -> bytes:
                asked["grpc"] += 1
                return request

        self.http = ThreadingHTTPServer((self.host, HTTP_PORT), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(8))
        self.grpc.add_generic_rpc_handlers((Echo(),))
        self.grpc.add_insecure_port(f"{self.host}:{GRPC_PORT}")
        self.grpc.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.grpc.stop(0)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    base = f"127.{secrets.randbelow(40) + 50}.{secrets.randbelow(250)}"
    found = {name: Server(f"{base}.{i + 1}") for i, name in enumerate(("stable", "canary", "shadow"))}
    for each in found.values():
        each.start()
    yield found
    for each in found.values():
        each.stop()


@pytest.fixture(scope="module")
def ready(servers: dict[str, Server]) -> dict[str, list[str] | None]:
    """Addresses of the pods of each Service; tests may take some away."""
    return {name: [each.host] for name, each in servers.items()}


@pytest.fixture(scope="module")
def place(cluster: LocalCluster) -> str:
    """A namespace for the module."""
    api, name = Api(cluster), f"gw-{secrets.token_hex(3)}"
    assert api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).status == 201
    return name


@pytest.fixture(scope="module")
def wanted(cluster: LocalCluster, place: str) -> Callable[..., dict[str, Any]]:
    def make(mirror: int = 0, group: str = "vision", **weights: int) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "group": group,
            "owner": OWNER,
            "namespace": place,
            "gateway": f"{place}/entry",
            "hostname": HTTP_NAME,
            "grpcHostname": GRPC_NAME,
            "weights": weights,
            "kubeconfig": str(cluster.kubeconfig),
        }
        return inputs | ({"mirror": {"to": "shadow", "percent": mirror}} if mirror else {})

    return make


def test_without_the_gateway_api_the_preview_is_refused(plugin: Plugin, wanted: Any) -> None:
    inputs = plugin.check("TrafficRoute", wanted(stable=90, canary=10))[0]
    for preview in (True, False):
        with pytest.raises(Failed, match=r"does not have the Gateway API .* Fix: install its CRDs"):
            plugin.create("TrafficRoute", inputs, preview=preview)


@pytest.fixture(scope="module")
def crds(cluster: LocalCluster) -> None:
    try:
        gateway_crds.install(cluster.kubeconfig)
    except gateway_crds.GatewayCrdsError as error:
        pytest.skip(str(error))


def test_without_its_gateway_the_preview_is_refused(crds: None, plugin: Plugin, wanted: Any, place: str) -> None:
    inputs = plugin.check("TrafficRoute", wanted(stable=90, canary=10))[0]
    with pytest.raises(Failed, match=f"there is no Gateway {place}/entry in the cluster"):
        plugin.create("TrafficRoute", inputs, preview=True)


@pytest.fixture(scope="module")
def entry(
    crds: None, cluster: LocalCluster, place: str, ready: dict[str, list[str] | None]
) -> Iterator[tuple[str, int]]:
    """A Gateway that the stand-in serves: its address."""
    api = Api(cluster)
    prefix = f"/apis/{gateway_api.GROUP}/v1"
    gateway_class = {
        "apiVersion": f"{gateway_api.GROUP}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "sandbox"},
        "spec": {"controllerName": CONTROLLER},
    }
    listeners = [{"name": "http", "protocol": "HTTP", "port": PORT}]
    gateway = {
        "apiVersion": f"{gateway_api.GROUP}/v1",
        "kind": "Gateway",
        "metadata": {"name": "entry", "namespace": place},
        "spec": {"gatewayClassName": "sandbox", "listeners": listeners},
    }
    assert api.call("POST", f"{prefix}/gatewayclasses", gateway_class).status == 201
    assert api.call("POST", f"{prefix}/namespaces/{place}/gateways", gateway).status == 201
    load: Any = config
    objects = client.CustomObjectsApi(load.new_client_from_config(str(cluster.kubeconfig)))
    controller = GatewayController(objects, lambda service: ready.get(service.partition("/")[2]))
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            controller.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        found = until(
            lambda: (
                api.call("GET", f"{prefix}/namespaces/{place}/gateways/entry").body.get("status", {}).get("addresses")
            ),
            what="the Gateway's address",
        )
        yield found[0]["value"], PORT
    finally:
        stop.set()
        thread.join()
        controller.close()


class Asking:
    """A client of the gateway, by host name."""

    def __init__(self, entry: tuple[str, int], kind: str) -> None:
        self.entry, self.kind = entry, kind
        self.channel = grpc.insecure_channel(
            f"{entry[0]}:{entry[1]}", options=[("grpc.default_authority", GRPC_NAME), ("grpc.enable_http_proxy", 0)]
        )

    def once(self) -> str:
        """The Service that answered; raises where none did."""
        if self.kind == "grpc":
            body, done = self.channel.unary_unary("/test.Service/Echo").with_call(b"x", timeout=60)
            assert body == b"x"
            return str(dict(done.initial_metadata())[MEMBER_HEADER])
        connection = http.client.HTTPConnection(*self.entry, timeout=60)
        try:
            connection.request("POST", "/v1/models/m:predict", b"{}", {"Host": HTTP_NAME})
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"{}")
            return str(answer.headers[MEMBER_HEADER])
        finally:
            connection.close()

    def close(self) -> None:
        self.channel.close()


def shares(entry: tuple[str, int], kind: str, count: int) -> dict[str, int]:
    asking = Asking(entry, kind)
    try:
        return dict(Counter(asking.once() for _ in range(count)))
    finally:
        asking.close()


@pytest.fixture(scope="module")
def route(entry: tuple[str, int], plugin: Plugin, wanted: Any) -> Stack:
    made = Stack(plugin, "TrafficRoute")
    assert made.up(wanted(stable=90, canary=10)) == "create"
    return made


def test_routes_are_what_a_strict_api_server_takes(entry: tuple[str, int], api: Api, place: str) -> None:
    route = gateway_api.Route(f"{place}/entry", "strict.example.com", {"stable": 99, "canary": 1}, Mirror("shadow", 5))
    for kind in gateway_api.KINDS:
        manifest = gateway_api.manifest(kind, "strict", place, OWNER, route)
        path = f"/apis/{gateway_api.GROUP}/v1/namespaces/{place}/{kind.plural}"
        made = api.call("POST", f"{path}?fieldValidation=Strict&dryRun=All", manifest)
        assert made.status == 201, made.body
        assert gateway_api.read(made.body) == route


def test_both_protocols_are_shared_by_weight_at_their_host_names(route: Stack, entry: tuple[str, int]) -> None:
    assert plain(route.outputs["url"]) == f"http://{HTTP_NAME}:{PORT}"
    assert plain(route.outputs["target"]) == f"{GRPC_NAME}:{PORT}"
    assert plain(route.outputs["address"]) == entry[0]
    for kind in ("http", "grpc"):
        assert shares(entry, kind, 40) == {"stable": 36, "canary": 4}


def test_no_request_fails_while_shares_change_ten_times(route: Stack, entry: tuple[str, int], wanted: Any) -> None:
    stop, failures, counted = threading.Event(), list[str](), Counter[str]()

    def ask(kind: str) -> None:
        asking = Asking(entry, kind)
        while not stop.is_set():
            try:
                counted[f"{kind} {asking.once()}"] += 1
            except Exception as error:
                failures.append(f"{kind}: {error!r}")
        asking.close()

    clients = [threading.Thread(target=ask, args=(kind,)) for kind in ("http", "grpc", "http", "grpc")]
    for each in clients:
        each.start()
    try:
        for stable in (75, 50, 10, 0, 50, 100, 99, 1, 60, 90):
            assert route.up(wanted(stable=stable, canary=100 - stable)) == "update"
            assert route.refresh() == {}
    finally:
        stop.set()
        for each in clients:
            each.join()
    assert failures == []
    assert sum(counted.values()) > 200
    assert set(counted) == {"http stable", "http canary", "grpc stable", "grpc canary"}
    for kind in ("http", "grpc"):
        until(lambda kind=kind: shares(entry, kind, 10) == {"stable": 9, "canary": 1})  # type: ignore[misc]


def test_a_shadow_gets_copies_and_changes_no_answer(
    route: Stack, entry: tuple[str, int], wanted: Any, servers: dict[str, Server]
) -> None:
    servers["shadow"].asked.clear()
    assert route.up(wanted(mirror=20, stable=90, canary=10)) == "update"
    until(lambda: shares(entry, "http", 5) and servers["shadow"].asked["http"])
    before = Counter(servers["shadow"].asked)
    for kind in ("http", "grpc"):
        assert set(shares(entry, kind, 20)) <= {"stable", "canary"}
    until(lambda: servers["shadow"].asked["http"] - before["http"] >= 3)
    until(lambda: servers["shadow"].asked["grpc"] - before["grpc"] >= 3)
    servers["shadow"].asked.clear()
    assert route.up(wanted(stable=90, canary=10)) == "update"


def test_a_member_without_pods_gives_its_share_to_the_other(
    route: Stack, entry: tuple[str, int], wanted: Any, ready: dict[str, list[str] | None], servers: dict[str, Server]
) -> None:
    route.up(wanted(stable=50, canary=50))
    ready["canary"] = ["127.1.2.3"]  # a pod that is gone, which the gateway has not noticed yet
    try:
        for kind in ("http", "grpc"):
            until(lambda kind=kind: shares(entry, kind, 3) == {"stable": 3})  # type: ignore[misc]
    finally:
        ready["canary"] = [servers["canary"].host]
        route.up(wanted(stable=90, canary=10))


@pytest.mark.parametrize("plural", ["httproutes", "grpcroutes"])
def test_shares_that_somebody_changed_are_drift(plural: str, route: Stack, api: Api, place: str, wanted: Any) -> None:
    path = f"/apis/{gateway_api.GROUP}/v1/namespaces/{place}/{plural}/vision"
    found = api.call("GET", path).body
    found["spec"]["rules"][0]["backendRefs"][1]["weight"] = 40
    api.call("PATCH", path, {"spec": found["spec"]}, "application/merge-patch+json")
    drift = route.refresh()
    assert "inStep" in drift
    assert ("weights.canary" in drift or "weights.stable" in drift) is (plural == "httproutes")
    assert route.up(wanted(stable=90, canary=10)) == "update"
    assert route.refresh() == {}


def test_routes_that_a_newer_resource_took_over_stay_when_the_older_one_is_deleted(
    route: Stack, plugin: Plugin, entry: tuple[str, int], wanted: Any
) -> None:
    inputs = wanted(group="renamed", stable=90, canary=10) | {
        "hostname": "a.example.com",
        "grpcHostname": "b.example.com",
    }
    original, renamed = Stack(plugin, "TrafficRoute"), Stack(plugin, "TrafficRoute")
    original.up(inputs)
    renamed.up(inputs)
    original.plugin.delete("TrafficRoute", original.id, original.inputs, original.outputs)
    assert any("HTTPRoute" in line and "stays: a newer resource" in line for line in plugin.engine.lines())
    assert renamed.refresh() == {}
    assert set(original.refresh()) == {"createdBy"}
    assert original.up(inputs) == "update"
    assert original.refresh() == {}
    original.plugin.delete("TrafficRoute", original.id, original.inputs, original.outputs)
    assert renamed.refresh() == {"gone": True}


def test_a_preview_names_each_share_that_changes(route: Stack, plugin: Plugin, wanted: Any) -> None:
    plugin.engine.messages.clear()
    news = plugin.check("TrafficRoute", wanted(stable=50, canary=50))[0]
    plugin.update("TrafficRoute", route.id, route.inputs, route.outputs, news, preview=True)
    assert plugin.engine.lines() == ["vision: canary 10 % -> 50 %", "vision: stable 90 % -> 50 %"]


def test_somebody_elses_routes_are_refused_by_the_preview(
    route: Stack, plugin: Plugin, api: Api, place: str, wanted: Any
) -> None:
    foreign = gateway_api.Route(f"{place}/entry", "foreign.example.com", {"stable": 100})
    path = f"/apis/{gateway_api.GROUP}/v1/namespaces/{place}/httproutes"
    manifest = gateway_api.manifest(gateway_api.HTTP_ROUTE, "foreign", place, "other/stack", foreign)
    assert api.call("POST", path, manifest).status == 201
    inputs = plugin.check("TrafficRoute", wanted(group="foreign", stable=100))[0]
    with pytest.raises(Failed, match="exists already and belongs to other/stack"):
        plugin.create("TrafficRoute", inputs, preview=True)


def test_a_route_that_no_gateway_takes_is_an_error_with_its_reason(route: Stack, plugin: Plugin, wanted: Any) -> None:
    inputs = plugin.check("TrafficRoute", wanted(group="swapped", stable=100) | {"hostname": GRPC_NAME})[0]
    inputs = {name: value for name, value in inputs.items() if name != "grpcHostname"}
    with pytest.raises(
        Failed, match=r"no gateway routes by HTTPRoute .*/swapped: .*other kind has the host name"
    ) as it:
        plugin.create("TrafficRoute", inputs)
    assert it.value.partial is not None  # what was made is not lost
    plugin.delete("TrafficRoute", it.value.partial.id, inputs, it.value.outputs)


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"weights": {"stable": 90}}, "weights", "add up to 90"),
        ({"gateway": "entry"}, "gateway", "is not namespace/name"),
        ({"hostname": "no host"}, "hostname", "is not a host name"),
        ({"hostname": None, "grpcHostname": None}, "hostname", "a host name is needed"),
        ({"grpcHostname": HTTP_NAME}, "grpcHostname", "no gateway takes HTTP and gRPC routes for one host name"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, Any], path: str, words: str, plugin: Plugin, wanted: Any) -> None:
    good = wanted(stable=90, canary=10)
    assert plugin.check("TrafficRoute", good)[1] == {}
    news = {name: value for name, value in (good | change).items() if value is not None}
    assert words in plugin.check("TrafficRoute", news)[1][path]


def test_without_its_routes_nobody_gets_the_requests(route: Stack, entry: tuple[str, int], wanted: Any) -> None:
    weights = plain(route.outputs["weights"])
    assert weights == {"stable": 90, "canary": 10}
    route.destroy()

    def refused() -> bool:
        connection = http.client.HTTPConnection(*entry, timeout=60)
        connection.request("POST", "/x", b"{}", {"Host": HTTP_NAME})
        return connection.getresponse().status == 404

    until(refused)
