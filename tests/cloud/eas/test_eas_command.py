"""What a container of a TensorFlow Serving image would run, and how that becomes a process here."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from sandbox.cloud.eas import servers
from sandbox.cloud.eas.command import NotRunnableError, resolve
from sandbox.cloud.eas.mounts import check, translate

DEFAULTS = ("--port=8500", "--rest_api_port=8501", "--model_name=model", "--model_base_path=/models/model")


def config(
    image: str = "tensorflow-serving:2.14.1", port: int = 8501, env: Any = (), **container: Any
) -> dict[str, Any]:
    env = [{"name": name, "value": value} for name, value in dict(env).items()]
    return {"metadata": {}, "containers": [{"image": image, "port": port, "env": env, **container}]}


def test_the_entry_point_puts_its_defaults_before_the_arguments() -> None:
    command = resolve(config(command="/usr/bin/tf_serving_entrypoint.sh --model_name=modelA --rest_api_port=9000"))
    assert command.flags == (*DEFAULTS, "--model_name=modelA", "--rest_api_port=9000")
    assert (command.grpc_port, command.rest_port, command.port) == (8500, 9000, 8501)
    assert command.listens == "8500 (gRPC) and 9000 (HTTP)"


def test_the_entry_point_honours_its_environment() -> None:
    env = {"MODEL_NAME": "modelA", "MODEL_BASE_PATH": "/mnt"}
    command = resolve(config(command="/usr/bin/tf_serving_entrypoint.sh", env=env))
    assert command.flags[2:] == ("--model_name=modelA", "--model_base_path=/mnt/modelA")


def test_the_server_itself_has_no_rest_port_unless_told() -> None:
    command = resolve(config(command="tensorflow_model_server --model_name=a --model_base_path=/models/a"))
    assert (command.grpc_port, command.rest_port) == (8500, 0)


def test_a_flag_and_its_value_in_two_words_is_no_flag() -> None:
    command = resolve(config(command="tensorflow_model_server --rest_api_port 8501"))
    assert command.rest_port == 0


def test_rest_stays_off_where_both_ports_are_the_same() -> None:
    assert resolve(config(command="tf_serving_entrypoint.sh --rest_api_port=8500")).rest_port == 0


def test_a_script_of_one_command_is_read_as_a_shell_would() -> None:
    arguments = "--x=${WHO}-$MODEL_BASE_PATH '--y=a b'"
    script = f"#!/bin/sh\nset -e\nMODEL_NAME=b exec \\\n  /usr/bin/tf_serving_entrypoint.sh {arguments}\n"
    command = resolve(config(script=script, env={"WHO": "me"}))
    assert command.flags[2:] == ("--model_name=b", "--model_base_path=/models/b", "--x=me-/models", "--y=a b")


def test_a_command_is_not_expanded() -> None:
    assert "--x=$HOME" in resolve(config(command="tf_serving_entrypoint.sh --x=$HOME")).flags


def test_a_scenario_deployment_allows_labels_for_versions_not_loaded_yet() -> None:
    spec = {**config(), "labels": {"tf-serving-deployment": "scenario"}}
    assert resolve(spec).flags == (*DEFAULTS, "--allow_version_labels_for_unavailable_models=true")
    assert resolve(config()).flags == DEFAULTS


def test_a_quoted_operator_is_part_of_a_word() -> None:
    command = resolve(config(command="tf_serving_entrypoint.sh '--grpc_channel_arguments=a=1;b=2'"))
    assert command.flags[-1] == "--grpc_channel_arguments=a=1;b=2"


@pytest.mark.parametrize(
    ("spec", "reason", "text"),
    [
        (
            config("tritonserver:25.03", command="tritonserver --model-repository=/models"),
            "ImageNotSupported",
            "triton",
        ),
        (config("registry/own/image:1"), "ImageNotSupported", "registry/own/image:1"),
        (config("tensorflow-serving:2.14.1", command="python app.py"), "ImageNotSupported", "cannot run python"),
        (config(command="tf_serving_entrypoint.sh | tee log"), "ScriptNotSupported", "shell operators"),
        (config(script="echo hi\ntf_serving_entrypoint.sh"), "ScriptNotSupported", "it has 2"),
        (config(command="tf_serving_entrypoint.sh '--x"), "ScriptNotSupported", "cannot be read"),
        (config(script="A=1"), "ScriptNotSupported", "no program"),
        ({"metadata": {}, "processor": "tensorflow_cpu"}, "ProcessorNotSupported", "processor"),
    ],
)
def test_what_the_sandbox_cannot_run_is_refused_by_name(spec: dict[str, Any], reason: str, text: str) -> None:
    with pytest.raises(NotRunnableError, match=text) as caught:
        resolve(spec)
    assert caught.value.reason == reason


@pytest.mark.parametrize("source", ["nfs", "git", "dataset"])
def test_storage_the_sandbox_does_not_have_is_refused_by_name(source: str) -> None:
    with pytest.raises(NotRunnableError, match=rf"storage\[0\]: .* not {source}"):
        check({"storage": [{"mount_path": "/m", source: {}}]})


def test_the_environment_holds_nothing_of_the_cloud_and_no_container_changes_how_programs_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    env = {"PATH": "/evil", "LD_PRELOAD": "x.so", "PYTHONPATH": "/evil", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    command = resolve(config(command="tf_serving_entrypoint.sh", env=env))
    launch = servers.launch(command, ("server",), {"/models": tmp_path}, 1000, 1001, tmp_path)
    assert launch.program == ("server",)
    assert launch.arguments == (*DEFAULTS, "--port=1000", "--rest_api_port=1001")
    assert launch.env["PATH"] == os.environ["PATH"]
    assert launch.env["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert {"ALIBABA_CLOUD_ACCESS_KEY_SECRET", "HTTP_PROXY", "LD_PRELOAD"}.isdisjoint(launch.env)
    assert json.loads(launch.env["TF_SERVING_SANDBOX_MOUNTS"]) == {"/models": str(tmp_path)}
    assert launch.env["TF_SERVING_SANDBOX_HOST"] == "127.0.0.1"


def test_the_stock_server_gets_local_paths_and_a_config_copy_that_follows_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    binary = tmp_path / "bin" / "tensorflow_model_server"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    view, scratch = tmp_path / "view", tmp_path / "scratch"
    view.mkdir()
    source = view / "model_config.pbtxt"
    source.write_text("model_config_list { config { name: 'a' base_path: '/models/a/' } config { base_path:\"/x\" } }")
    flags = "--model_config_file=/models/model_config.pbtxt --batching_parameters_file=/models/b.txt"
    command = resolve(config(command=f"tf_serving_entrypoint.sh {flags}"))
    launch = servers.launch(command, (), {"/models": view}, 1000, 1001, scratch)
    assert launch.program == (str(binary),)
    assert launch.config_copy is not None
    assert "every network interface" in launch.warnings["ListensEverywhere"]
    assert f"--batching_parameters_file={view}/b.txt" in launch.arguments
    assert f"--model_base_path={view}/model" in launch.arguments
    assert launch.arguments[-3:] == (
        f"--model_config_file={launch.config_copy.path}",
        "--port=1000",
        "--rest_api_port=1001",
    )
    text = launch.config_copy.path.read_text()
    assert f"base_path: '{view}/a'" in text
    assert 'base_path:"/nonexistent/x"' in text
    source.write_text("model_config_list { config { base_path: '/models' } }")
    launch.config_copy.refresh()
    assert f"base_path: '{view}'" in launch.config_copy.path.read_text()
    source.unlink()
    launch.config_copy.refresh()
    assert launch.config_copy.path.exists()


def test_the_longest_mount_wins_and_nothing_else_exists() -> None:
    mounts = {"/models": Path("/view"), "/models/big": Path("/other")}
    assert translate("/models/big/1", mounts) == "/other/1"
    assert translate("/models/bigger", mounts) == "/view/bigger"
    for path in ("/modelsx", "/models/../etc/passwd", "/models/big/../../etc", "/", "etc/passwd"):
        assert not Path(translate(path, mounts)).exists(), path
    assert translate("/models", mounts) == "/view"


@pytest.mark.parametrize(
    "name", ["XLA_FLAGS", "TF_DUMP_GRAPH_PREFIX", "OPENSSL_CONF", "GCONV_PATH", "TMPDIR", "GRPC_TRACE_FILE", "ld_audit"]
)
def test_no_container_makes_the_server_write_or_load_files(name: str, tmp_path: Path) -> None:
    command = resolve(config(command="tf_serving_entrypoint.sh", env={name: "/evil"}))
    assert servers.launch(command, ("server",), {}, 1000, 1001, tmp_path).env.get(name) != "/evil"
