"""The cluster itself: real programs, safe on a machine with other users, gone when it is stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox import cli, ports
from sandbox.kube import build, process
from sandbox.kube.cluster import ClusterError, ClusterFiles, LocalCluster, running
from tests.waiting import until

pytestmark = pytest.mark.slow


def test_it_is_the_pinned_release_of_kubernetes(api: Any) -> None:
    assert api.call("GET", "/version").body["gitVersion"] == f"v{build.version()}"


def test_nobody_gets_in_without_a_certificate(cluster: LocalCluster) -> None:
    address = urlsplit(cluster.url)
    context = ssl.create_default_context(cafile=str(cluster.files.pki / "kubernetes-ca.crt"))
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, context=context, timeout=60)
    try:
        connection.request("GET", "/api/v1/namespaces")
        assert connection.getresponse().status == 401
    finally:
        connection.close()


def test_the_api_servers_certificate_is_not_trusted_by_others(cluster: LocalCluster) -> None:
    address = urlsplit(cluster.url)
    connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=60)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/version")


def test_keys_and_kubeconfig_are_readable_by_their_owner_only(cluster: LocalCluster) -> None:
    secret = [cluster.kubeconfig, *cluster.files.pki.rglob("*.key")]
    assert len(secret) > 5
    assert {path.stat().st_mode & 0o077 for path in secret} == {0}


def test_it_listens_on_loopback_only(cluster: LocalCluster) -> None:
    mine = {str(process.pid) for process in cluster._processes.values()}
    inodes = {
        os.readlink(link).removeprefix("socket:[").rstrip("]")
        for pid in mine
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if os.readlink(link).startswith("socket:[")
    }
    listening = [
        columns[1].partition(":")[0]
        for table in ("tcp", "tcp6")
        for columns in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if columns[3] == "0A" and columns[9] in inodes
    ]
    assert len(listening) >= 5
    assert set(listening) == {"0100007F"}


def test_an_unknown_field_is_refused_by_name(api: Any, namespace: str) -> None:
    """What the other tests rely on when they say that every field is known."""
    answer = api.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace}, "dta": {"a": "b"}}
    )
    assert answer.status >= 400
    assert "dta" in answer.message


def test_a_cluster_started_again_has_its_objects_and_its_address_still(tmp_path: Path, api: Any) -> None:
    """The session's cluster is only there to skip this where nothing is built."""
    with running(tmp_path / "c") as first:
        url = first.url
        other = type(api)(first)
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}}
        assert other.apply(body).status == 201
    port = urlsplit(url).port
    assert port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "it still listens"
    with running(tmp_path / "c") as again:
        assert again.url == url
        assert type(api)(again).get("ConfigMap", "default", "kept")["metadata"]["name"] == "kept"


def test_ports_that_somebody_takes_are_given_up(
    tmp_path: Path, api: Any, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(wanted: Iterable[int]) -> list[int]:
        listening = [held.enter_context(socket.create_server(("127.0.0.1", port))) for port in wanted]
        return [each.getsockname()[1] for each in listening]

    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}}
    with contextlib.ExitStack() as held:
        taken = hold([0] * len(cluster._ports))
        given, find = iter(taken), ports.free_port
        # They are found free, and somebody listens there before the programs do.
        monkeypatch.setattr(ports, "free_port", lambda others: next(given, None) or find(others))
        with running(tmp_path / "c") as first:
            assert next(given, None) is None
            mine, url = set(first._ports.values()), first.url
            assert len(mine) == len(taken)
            assert mine.isdisjoint(taken)
            assert type(api)(first).apply(body).status == 201
        # Those of the run before are taken when it starts again.
        hold(mine)
        with running(tmp_path / "c") as again:
            assert again.url != url
            assert again.url in again.kubeconfig.read_text()
            assert mine.isdisjoint(again._ports.values())
            assert type(api)(again).get("ConfigMap", "default", "kept")["metadata"]["name"] == "kept"


def test_a_program_that_ends_is_named_with_its_last_words(tmp_path: Path, cluster: LocalCluster) -> None:
    files = ClusterFiles(tmp_path / "c")
    (files.data / "etcd").mkdir(parents=True)
    (files.data / "etcd" / "member").write_text("not a directory")
    with pytest.raises(ClusterError, match="etcd ended with status"), running(files.data):
        pass


def test_it_runs_in_the_background_once_and_leaves_nothing_behind(
    tmp_path: Path, cluster: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    files, data = ClusterFiles(tmp_path / "c"), str(tmp_path / "c")
    assert cli.main(["kube", "status", "--data", data]) == 3
    try:
        assert cli.main(["kube", "start", "--data", data]) == 0
        pid = process.lock(files).holder()
        assert pid
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert len(children) >= 4
        assert cli.main(["kube", "start", "--data", data]) == 0
        assert process.lock(files).holder() == pid
        assert "is running already" in capfd.readouterr().out
    finally:
        assert cli.main(["kube", "stop", "--data", data]) == 0
    assert process.lock(files).holder() is None
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_its_programs_die_with_it_even_when_it_is_killed(tmp_path: Path, cluster: LocalCluster) -> None:
    if sys.platform != "linux":
        pytest.skip("only the Linux kernel does that")
    files = ClusterFiles(tmp_path / "c")
    process.start(files)
    pid = process.lock(files).holder()
    assert pid
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(pid, 9)
    until(lambda: not [child for child in children if _state(child) not in ("", "Z")], what="the end of the programs")
    until(lambda: process.lock(files).holder() is None, what="the end of the lock")


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
