"""The plugin process and the protocol: how it starts, what it answers, how it ends, and what its errors look like."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, provider_pb2

from provider.properties import decode, encode
from tests.ports import free_port
from tests.provider.harness import LAUNCHER, OWNER, ROOT, Engine, Failed, Plugin, config
from tests.waiting import until
from tfserving.contract import VERSION
from tfserving.property_values import Secret

PROVIDER = {"urn": "urn:pulumi:test::p::pulumi:providers:tfserving::default", "type": "pulumi:providers:tfserving"}
SERVICE = {"name": "multi_http", "spec": {"containers": []}, "owner": OWNER}


@pytest.mark.slow
def test_it_starts_from_any_directory_and_through_a_symbolic_link(engine: tuple[Engine, str], tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(ROOT / "plugin")
    (tmp_path / "launcher").symlink_to(LAUNCHER)
    for launcher in (tmp_path / "linked" / LAUNCHER.name, tmp_path / "launcher"):
        plugin = Plugin(*engine, launcher=launcher, cwd=tmp_path)
        assert plugin.call("GetPluginInfo", empty_pb2.Empty()).version == VERSION
        assert plugin.stop() == 0


@pytest.mark.slow
def test_it_starts_as_a_directory_as_the_cli_does_on_windows(engine: tuple[Engine, str], tmp_path: Path) -> None:
    script = tmp_path / "launch"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "plugin"} "$@"\n')
    script.chmod(0o755)
    plugin = Plugin(*engine, launcher=script, cwd=tmp_path)
    assert plugin.stop() == 0


def test_it_starts_without_the_sdk_which_it_does_not_need() -> None:
    code = (
        "import sys; from plugin import sdk; sdk.leave_out(); import plugin.package, provider.process; "
        "print([name for name in ('pulumi.resource', 'alibabacloud_oss_v2', 'alibabacloud_eas20210701') "
        "if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_missing_virtual_environment_is_said_in_words(tmp_path: Path) -> None:
    directory = tmp_path / "project" / "plugin"
    directory.mkdir(parents=True)
    copy = directory / LAUNCHER.name
    copy.write_bytes(LAUNCHER.read_bytes())
    copy.chmod(0o755)
    ended = subprocess.run([str(copy), "127.0.0.1:1"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "create the virtual environment" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.slow
def test_it_speaks_only_the_port_on_standard_output(engine: tuple[Engine, str]) -> None:
    plugin = Plugin(*engine)
    plugin.process.send_signal(signal.SIGTERM)
    rest, _ = plugin.process.communicate(timeout=60)
    assert rest == ""
    assert plugin.stop() == 0


@pytest.mark.slow
def test_it_ends_when_the_process_that_started_it_is_gone(engine: tuple[Engine, str], tmp_path: Path) -> None:
    starter = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
        "print(p.pid, p.stdout.readline().strip(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, str(LAUNCHER), engine[1]], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline().split()[0])
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child), what="the end of the plugin")


def _is_zombie(pid: int) -> bool:
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_the_handshake_says_what_the_provider_takes(plugin: Plugin, engine: tuple[Engine, str]) -> None:
    answer = plugin.call("Handshake", provider_pb2.ProviderHandshakeRequest(engine_address=engine[1]))
    assert answer.accept_secrets
    assert answer.accept_resources
    assert answer.accept_outputs
    assert not answer.supports_autonaming_configuration


def test_the_schema_names_every_resource_with_its_properties(plugin: Plugin) -> None:
    schema = json.loads(plugin.call("GetSchema", provider_pb2.GetSchemaRequest(version=0)).schema)
    assert schema["name"] == "tfserving"
    assert {token for token, each in schema["resources"].items() if not each.get("isComponent")} == {
        f"tfserving:index:{kind}"
        for kind in (
            "PublishedModel",
            "RetiredVersions",
            "ModelConfigFile",
            "EasService",
            "ServedConfig",
            "ServedModel",
            "BucketContents",
            "TrafficRoute",
            "TrafficSplit",
            "ClusterObject",
        )
    }
    service = schema["resources"]["tfserving:index:EasService"]
    assert service["properties"]["token"]["secret"] is True
    assert service["inputProperties"]["name"]["willReplaceOnChanges"] is True
    assert set(service["requiredInputs"]) == {"name", "spec", "owner"}
    for resource in (each for each in schema["resources"].values() if not each.get("isComponent")):
        assert set(resource["requiredInputs"]) <= set(resource["inputProperties"]) <= set(resource["properties"])


@pytest.mark.parametrize(
    ("method", "request_message", "named"),
    [
        ("Invoke", provider_pb2.InvokeRequest(tok="tfserving:index:getModel"), "function tfserving:index:getModel"),
        ("Call", provider_pb2.CallRequest(tok="tfserving:index:Model/predict"), "method tfserving:index:Model/predict"),
        ("Construct", provider_pb2.ConstructRequest(type="tfserving:index:Stack"), "component tfserving:index:Stack"),
        ("Parameterize", provider_pb2.ParameterizeRequest(), "parameters"),
    ],
)
def test_what_it_does_not_have_it_refuses_by_name(
    plugin: Plugin, method: str, request_message: object, named: str
) -> None:
    with pytest.raises(Failed) as failed:
        plugin.call(method, request_message)
    assert failed.value.code is grpc.StatusCode.UNIMPLEMENTED
    assert named in failed.value.message


def test_an_unknown_resource_is_refused_with_those_there_are(plugin: Plugin) -> None:
    with pytest.raises(Failed, match=r"no resource tfserving:index:Models; it has .*PublishedModel"):
        plugin.check("Models", {})


@pytest.mark.slow
def test_an_operation_before_configure_is_refused(engine: tuple[Engine, str]) -> None:
    plugin = Plugin(*engine)
    try:
        with pytest.raises(Failed, match="not configured"):
            plugin.create("EasService", SERVICE, preview=True)
    finally:
        plugin.stop()


# ---- provider settings ---------------------------------------------------------------------------------------------


def _check_config(plugin: Plugin, **news: object) -> dict[str, str]:
    answer = plugin.call("CheckConfig", provider_pb2.CheckRequest(**PROVIDER, news=encode(news)))
    return {failure.property: failure.reason for failure in answer.failures}


def test_settings_of_a_real_region_are_accepted(plugin: Plugin) -> None:
    assert (
        _check_config(plugin, region="cn-hangzhou", accessKey=Secret(""), secretKey=Secret(""), version="0.1.0") == {}
    )


def test_a_missing_region_is_refused(plugin: Plugin) -> None:
    assert "required" in _check_config(plugin)["region"]


def test_a_misspelt_setting_is_refused_with_the_right_one(plugin: Plugin) -> None:
    assert "did you mean ossEndpoint?" in _check_config(plugin, region="cn-hangzhou", osEndpoint="x")["osEndpoint"]


def test_plain_http_is_refused_unless_it_stays_on_this_machine(plugin: Plugin) -> None:
    assert "in the clear" in _check_config(plugin, region="cn-hangzhou", protocol="HTTP")["easEndpoint"]
    local = config("127.0.0.1:7580")
    assert _check_config(plugin, **local) == {}
    assert "ossEndpoint" in _check_config(plugin, **{**local, "ossEndpoint": "oss-cn-hangzhou.aliyuncs.com"})


def test_half_of_a_key_pair_is_refused(plugin: Plugin) -> None:
    assert "secretKey" in _check_config(plugin, region="cn-hangzhou", accessKey="a")


def test_another_region_replaces_everything_and_another_key_nothing(plugin: Plugin) -> None:
    def diff(**news: str) -> provider_pb2.DiffResponse:
        old = encode({"region": "cn-hangzhou", "accessKey": "a"})
        new = encode({"region": "cn-hangzhou", "accessKey": "a"} | news)
        request = provider_pb2.DiffRequest(**PROVIDER, old_inputs=old, olds=old, news=new)
        found: provider_pb2.DiffResponse = plugin.call("DiffConfig", request)
        return found

    assert list(diff(region="cn-beijing").replaces) == ["region"]
    assert list(diff(accessKey="b").replaces) == []
    assert diff().changes == provider_pb2.DiffResponse.DIFF_NONE


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cloud_that_does_not_answer_is_one_clean_line(plugin: Plugin) -> None:
    with pytest.raises(Failed) as failed:
        plugin.read("EasService", "multi_http", SERVICE, {})
    assert failed.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.message.startswith("EAS DescribeService multi_http: no answer from the EAS API:")
    assert "\n" not in failed.value.message
    assert "Traceback" not in failed.value.message


@pytest.mark.slow
def test_a_bucket_that_does_not_answer_is_one_clean_line(plugin: Plugin) -> None:
    inputs = {"name": "m", "bucket": "bucket", "prefix": "m/", "source": "m", "versions": {}}
    with pytest.raises(Failed, match=r"cannot list oss://bucket/m/: no answer from OSS: ") as failed:
        plugin.read("PublishedModel", "oss://bucket/m/", inputs, inputs)
    assert "\n" not in failed.value.message


@pytest.mark.slow
def test_missing_credentials_say_where_to_put_them(engine: tuple[Engine, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ALIBABA_CLOUD", "ALICLOUD")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    plugin = Plugin(*engine)
    try:
        plugin.configure(**{**config(f"127.0.0.1:{free_port()}"), "accessKey": "", "secretKey": ""})
        with pytest.raises(Failed, match="no Alibaba Cloud credentials were found: set alicloud:accessKey"):
            plugin.read("EasService", "multi_http", SERVICE, {})
        with pytest.raises(Failed, match="no Alibaba Cloud credentials were found"):
            plugin.read("PublishedModel", "oss://bucket/m/", {"bucket": "bucket", "prefix": "m/"}, {})
    finally:
        plugin.stop()


def test_a_surprise_is_one_line_and_its_traceback_only_a_debug_message(plugin: Plugin, log: Engine) -> None:
    broken = {"spec": {"metadata": "no object"}}
    with pytest.raises(Failed) as failed:
        plugin.diff("EasService", broken, {}, broken)
    assert failed.value.code is grpc.StatusCode.INTERNAL
    assert failed.value.message.startswith("unexpected error in the tfserving provider: ValueError: ")
    assert "\n" not in failed.value.message
    assert any("Traceback" in line for line in log.lines(engine_pb2.DEBUG))
    assert not any("Traceback" in line for line in log.lines(engine_pb2.INFO) + log.lines(engine_pb2.ERROR))


@pytest.mark.slow
def test_after_cancel_nothing_new_is_begun(engine: tuple[Engine, str]) -> None:
    plugin = Plugin(*engine)
    try:
        plugin.configure(**config(f"127.0.0.1:{free_port()}"))
        plugin.call("Cancel", empty_pb2.Empty())
        started = time.monotonic()
        with pytest.raises(Failed) as failed:
            plugin.create("EasService", SERVICE)
        assert failed.value.code is grpc.StatusCode.CANCELLED
        assert time.monotonic() - started < 20
    finally:
        plugin.stop()


def test_a_preview_needs_no_cloud(plugin: Plugin) -> None:
    _, outputs = plugin.create("EasService", SERVICE, preview=True)
    assert decode(encode(outputs))["status"] == "Running"
