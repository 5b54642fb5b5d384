"""What stands in for the kubelet, the pod network and the OSS driver, without a cluster."""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_oss_v2 import DeleteObjectRequest, PutBucketRequest, PutObjectRequest

from sandbox.kube import agent
from sandbox.kube.network import PodNetwork
from sandbox.kube.oss import OssMounts
from sandbox.kube.pods import ConfigMapVolume, Health, PodError, RunningPod, Volumes, _sleep_seconds
from sandbox.model_server import address
from tests.cloud.conftest import running_cloud
from tests.ports import free_port
from tests.waiting import until

HOLLOW = (sys.executable, str(Path(__file__).with_name("hollow_server.py")))


# ---- ConfigMaps


def test_a_config_map_is_laid_out_as_the_kubelet_does(tmp_path: Path) -> None:
    volume = ConfigMapVolume(tmp_path / "config")
    volume.update({"a.pbtxt": "1", "b.pbtxt": "2"})
    assert os.readlink(volume.directory / "a.pbtxt") == "..data/a.pbtxt"
    assert os.readlink(volume.directory / "..data").startswith("..2")
    volume.update({"a.pbtxt": "3"})
    assert (volume.directory / "a.pbtxt").read_text() == "3"
    assert sorted(path.name for path in volume.directory.iterdir() if not path.name.startswith("..")) == ["a.pbtxt"]
    assert len([path for path in volume.directory.iterdir() if path.name.startswith("..2")]) == 1


def test_readers_of_a_config_map_see_the_old_files_or_the_new_ones(tmp_path: Path) -> None:
    volume = ConfigMapVolume(tmp_path / "config")
    volume.update({"a": "0", "b": "0"})
    stop, mixed = threading.Event(), []

    def read() -> None:
        while not stop.wait(0.001):
            data = os.open(volume.directory / "..data", os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = {name: Path(f"/proc/self/fd/{data}/{name}").read_text() for name in ("a", "b")}
                if found["a"] != found["b"]:
                    mixed.append(found)
            except FileNotFoundError:  # removed after it was replaced: a reader opens the link anew
                pass
            finally:
                os.close(data)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        volume.update({"a": str(number), "b": str(number)})
    stop.set()
    reader.join()
    assert mixed == []


# ---- probes


def test_a_probe_counts_results_in_a_row() -> None:
    health = Health({"periodSeconds": 5, "failureThreshold": 2, "successThreshold": 2})
    now = itertools.count(time.monotonic() + 1, 5)
    last = 0.0

    def check(result: bool) -> bool | None:
        nonlocal last
        last = next(now)
        return health.check(lambda _: result, last)

    assert [check(result) for result in (False, True, False, False)] == [None, None, None, False]
    assert [check(result) for result in (True, True)] == [None, True]
    assert health.check(lambda _: True, last + 4) is None  # before its time nothing is asked


# ---- pods


def pod(**container: Any) -> dict[str, Any]:
    base = {
        "name": "tensorflow-serving",
        "image": "tensorflow/serving:2.19.1",
        "command": ["/usr/bin/tensorflow_model_server"],
        "args": ["--port=8500", "--rest_api_port=8501"],
        "ports": [{"name": "grpc", "containerPort": 8500}, {"name": "http", "containerPort": 8501}],
        "startupProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 0.1, "failureThreshold": 100},
        "readinessProbe": {"httpGet": {"path": "/v1/models/m/metadata", "port": "http"}, "periodSeconds": 0.1},
        "livenessProbe": {"tcpSocket": {"port": "grpc"}, "periodSeconds": 0.1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/tf-serving/config"}],
    }
    return {
        "metadata": {"name": "vision-1", "uid": "uid-1"},
        "spec": {
            "containers": [base | container],
            "terminationGracePeriodSeconds": 2,
            "volumes": [{"name": "config", "configMap": {"name": "config"}}],
        },
    }


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., tuple[RunningPod, list[Mapping[str, Any]]]]]:
    started: list[RunningPod] = []

    def begin(
        spec: dict[str, Any], config: Mapping[str, str] | None, server: tuple[str, ...] = HOLLOW
    ) -> tuple[RunningPod, list[Mapping[str, Any]]]:
        statuses: list[Mapping[str, Any]] = []
        volumes = Volumes(lambda _: config, lambda _: None)
        host = f"127.{50 + len(started)}.{os.getpid() % 256}.{os.getpid() // 256 % 256}"
        found = RunningPod(spec, volumes, "10.244.0.9", host, tmp_path / "pod", statuses.append, 0.1, server=server)
        started.append(found)
        found.start()
        return found, statuses

    yield begin
    for found in started:
        found.end()
        assert found.finished.wait(60)


def ready(statuses: list[Mapping[str, Any]]) -> bool:
    return bool(statuses) and statuses[-1]["containerStatuses"][0]["ready"]


@pytest.mark.slow
def test_a_pod_is_started_and_then_ready_as_its_probes_say(run: Any) -> None:
    _, statuses = run(pod(), {"model_config.pbtxt": ""})
    until(lambda: ready(statuses))
    seen = [(s["containerStatuses"][0]["started"], s["containerStatuses"][0]["ready"]) for s in statuses]
    assert seen == [(False, False), (True, False), (True, True)]
    assert statuses[-1]["podIP"] == "10.244.0.9"


@pytest.mark.slow
def test_a_container_that_ends_is_started_again_and_says_why(run: Any) -> None:
    server = (sys.executable, "-c", "import sys; sys.exit('cannot read the config file')")
    _, statuses = run(pod(), {}, server)
    state = until(lambda: [s for s in statuses if "waiting" in s["containerStatuses"][0]["state"]])[0]
    waiting = state["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert "cannot read the config file" in waiting["message"]
    until(lambda: statuses[-1]["containerStatuses"][0]["restartCount"] >= 2)


@pytest.mark.slow
def test_a_pod_without_its_config_map_waits_for_it(run: Any) -> None:
    _, statuses = run(pod(), None)
    waiting = until(lambda: statuses)[0]["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "ContainerCreating", "message": 'configmap "config" not found'}


@pytest.mark.slow
def test_what_is_no_model_server_does_not_run(run: Any) -> None:
    _, statuses = run(pod(command=["/bin/sh", "-c", "true"]), {})
    waiting = until(lambda: statuses)[0]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "CreateContainerError"


@pytest.mark.slow
def test_a_hook_of_a_container_runs_no_command_on_this_machine(tmp_path: Path, run: Any) -> None:
    evil = tmp_path / "evil"
    hook = {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"touch {evil}"]}}}
    found, statuses = run(pod(lifecycle=hook), {})
    until(lambda: ready(statuses))
    found.end()
    assert found.finished.wait(60)
    assert not evil.exists()


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (["/bin/sleep", "5"], 5.0),
        (["sleep", "0.5"], 0.5),
        (["sleep", "infinity"], None),
        (["sleep", "1", "2"], None),
        (["sh", "-c", "sleep 1"], None),
        (["sleep"], None),
    ],
)
def test_only_a_plain_sleep_is_a_hook_here(command: list[str], seconds: float | None) -> None:
    assert _sleep_seconds(command) == seconds


@pytest.mark.slow
def test_a_changed_config_map_reaches_a_running_pod(run: Any) -> None:
    data = {"model_config.pbtxt": "old"}
    found, statuses = run(pod(), data)
    until(lambda: ready(statuses))
    data["model_config.pbtxt"] = "new"
    file = found._directory / "volumes" / "config" / "model_config.pbtxt"
    until(lambda: file.read_text() == "new")


@pytest.mark.parametrize("value", ["10.0.0.1", "192.0.2.1", "localhost", "::1"])
def test_the_model_server_listens_nowhere_but_on_loopback(value: str) -> None:
    with pytest.raises(SystemExit, match=r"127\.0\.0\.0/8"):
        address.host({address.VARIABLE: value})
    assert address.host({}) == "127.0.0.1"
    assert address.host({address.VARIABLE: "127.3.2.1"}) == "127.3.2.1"


# ---- the pod network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[PodNetwork]:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    found = PodNetwork(directory / "pods.sock")
    yield found
    found.close()
    assert not (directory / "pods.sock").exists()


def connect(network: PodNetwork, target: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    directory = os.open(network._path.parent, os.O_RDONLY | os.O_DIRECTORY)
    found.connect(f"/proc/self/fd/{directory}/pods.sock")
    os.close(directory)
    found.settimeout(10)
    found.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return found


def test_the_proxy_leads_to_the_pod_behind_an_address(network: PodNetwork) -> None:
    assert network._path.stat().st_mode & 0o077 == 0
    ip, host = network.add()
    assert ip.startswith("10.244.")
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        with connect(network, f"{ip}:{port}") as client:
            peer, _ = server.accept()
            with peer:
                assert client.recv(100).startswith(b"HTTP/1.1 200")
                client.sendall(b"question")
                assert peer.recv(100) == b"question"
                peer.sendall(b"answer" * 50_000)
                peer.shutdown(socket.SHUT_WR)
                answer = b""
                while chunk := client.recv(65536):
                    answer += chunk
                assert answer == b"answer" * 50_000


@pytest.mark.parametrize("target", ["127.0.0.1:22", "10.244.9.9:80", "nonsense", "10.244.0.1:"])
def test_the_proxy_leads_nowhere_else(network: PodNetwork, target: str) -> None:
    with connect(network, target) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 502")


def test_a_pod_that_does_not_listen_is_said_to(network: PodNetwork) -> None:
    ip, _ = network.add()
    with connect(network, f"{ip}:1") as client:
        assert client.recv(100).startswith(b"HTTP/1.1 503")


def test_addresses_are_used_again_last(network: PodNetwork) -> None:
    first, host = network.add()
    network.remove(first)
    assert network.host(first) is None
    assert network.add()[0] != first
    assert host.startswith("127.")


def test_a_load_balancer_takes_ready_pods_in_turn(network: PodNetwork) -> None:
    hosts, port, behind = ["127.60.0.1", "127.60.0.2"], free_port(), free_port()
    servers = [socket.create_server((host, behind)) for host in hosts]
    balancer = agent.LoadBalancer({port: behind}, lambda: hosts)
    try:
        reached = []
        for server in servers:
            with socket.create_connection((balancer.address, port), 5):
                server.settimeout(5)
                peer, _ = server.accept()
                reached.append(peer.getsockname()[0])
                peer.close()
        assert reached == hosts
    finally:
        balancer.close()
        for server in servers:
            server.close()


# ---- OSS volumes


def test_only_the_sandboxs_own_oss_is_mounted(tmp_path: Path) -> None:
    mounts = OssMounts(tmp_path / "oss")
    try:
        with pytest.raises(PodError, match="no OSS but its own"):
            mounts.mount({"url": "https://oss-cn-hangzhou-internal.aliyuncs.com", "bucket": "b", "path": "/"})
        with pytest.raises(PodError, match=r"MountVolume\.SetUp failed"):
            mounts.mount({"url": "http://127.0.0.1:1", "bucket": "b", "path": "/"})
    finally:
        mounts.close()


@pytest.mark.slow
def test_an_oss_volume_follows_the_bucket(tmp_path: Path) -> None:
    mounts = OssMounts(tmp_path / "oss")
    try:
        with running_cloud(tmp_path / "cloud") as cloud:
            client = cloud.client(use_path_style=True)
            client.put_bucket(PutBucketRequest(bucket="models"))

            def put(key: str, body: bytes) -> None:
                client.put_object(PutObjectRequest(bucket="models", key=key, body=body))

            put("root/modelB/1/saved_model.pb", b"one")
            put("other/file", b"not below the prefix")
            evil = tmp_path / "evil"
            for key in (f"{evil}", f"/{evil}", "a//evil"):
                put(f"root/{key}", b"outside of the volume")
            found = mounts.mount({"url": cloud.url, "bucket": "models", "path": "/root/"})
            assert (found / "modelB/1/saved_model.pb").read_bytes() == b"one"
            assert [path.name for path in found.iterdir()] == ["modelB"]
            assert not list(tmp_path.rglob("evil"))
            put("root/modelB/2/saved_model.pb", b"two")
            put("root/modelB/1/saved_model.pb", b"uno")
            until(lambda: (found / "modelB/2/saved_model.pb").exists())
            until(lambda: (found / "modelB/1/saved_model.pb").read_bytes() == b"uno")
            client.delete_object(DeleteObjectRequest(bucket="models", key="root/modelB/2/saved_model.pb"))
            until(lambda: not (found / "modelB/2").exists())
            assert mounts.mount({"url": cloud.url, "bucket": "models", "path": "root"}) == found
    finally:
        mounts.close()
