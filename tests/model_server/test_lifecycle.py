"""A real server process from start to stop: what opens the ports, what ends it, what a poll changes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

pytestmark = pytest.mark.slow

LABELS_FLAG = "--allow_version_labels_for_unavailable_models=true"
QUICK = ("--max_num_load_retries=0", "--load_retry_interval_micros=0")


def config(*entries: str) -> str:
    return "model_config_list {" + "".join(f" config {{ {entry} }}" for entry in entries) + " }\n"


def model(name: str, rest: str = "") -> str:
    return f"name: '{name}' base_path: '/models/{name}' model_platform: 'tensorflow' {rest}"


def specific(*versions: int) -> str:
    return "model_version_policy { specific {" + "".join(f" versions: {version}" for version in versions) + " } }"


def label(name: str, version: int) -> str:
    return f" version_labels {{ key: '{name}' value: {version} }}"


def write(path: Path, text: str) -> None:
    staged = path.with_name(path.name + ".new")
    staged.write_text(text)
    staged.replace(path)


@pytest.fixture
def models(tmp_path: Path, tiny_models: Path) -> Path:
    """A directory of models that a test may change: ``m/1`` is there."""
    publish(tiny_models / "half_plus/1", tmp_path / "m/1")
    return tmp_path


def publish(version: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    staged = target.with_name(f".staging-{target.name}")
    shutil.copytree(version, staged)
    staged.rename(target)


def answer(server: Any, path: str = "m") -> float | str:
    """x = 0 answers 2.0 from version 1 and 3.0 from version 2."""
    status, text = server.post(f"/v1/models/{path}:predict", {"instances": [[0]]})
    found = json.loads(text)
    return found["predictions"][0][0] if status == 200 else f"{status} {found['error']}"


# Start


def test_a_single_model_is_served_under_its_name(start_server: Any, models: Path) -> None:
    server = start_server("--model_name=own", "--model_base_path=/models/m", mounts={"/models": models})
    assert answer(server, "own") == 2.0
    assert "Running gRPC ModelServer at 127.0.0.1:" in server.log
    assert "Reading SavedModel from: /models/m/1" in server.log
    assert str(models) not in server.log
    assert server.stop() == 0
    assert not server.listens()


def test_an_unknown_flag_is_reported_and_ignored(start_server: Any, models: Path) -> None:
    server = start_server("--model_base_path=/models/m", "--rest_api_prt=1", "word", mounts={"/models": models})
    assert answer(server, "default") == 2.0
    assert "unknown argument: --rest_api_prt=1\nusage: " in server.log


def test_ports_stay_closed_until_every_model_has_a_version(start_server: Any, models: Path, tiny_models: Path) -> None:
    (models / "c").write_text(config(model("m"), model("late")))
    server = start_server("--model_config_file=/models/c", mounts={"/models": models}, wait=False)
    until(lambda: "Could not find base path /models/late for servable late" in server.log)
    time.sleep(0.5)
    assert not server.listens()
    publish(tiny_models / "half_plus/2", models / "late/7")
    server.wait()
    assert (answer(server), answer(server, "late")) == (2.0, 3.0)


def test_a_server_that_waits_for_its_models_can_be_stopped(start_server: Any, models: Path) -> None:
    server = start_server("--model_base_path=/models/none", mounts={"/models": models}, wait=False)
    until(lambda: "Could not find base path" in server.log)
    assert server.stop(signal.SIGINT) == 0


def failed_start(start_server: Any, models: Path, *flags: str) -> str:
    server = start_server(*flags, mounts={"/models": models}, wait=False)
    assert server.process.wait(30) == 255
    lines = [line for line in server.log.splitlines() if line.startswith("Failed to start server. Error: ")]
    assert len(lines) == 1, server.log
    assert "Traceback" not in server.log
    return str(lines[0].removeprefix("Failed to start server. Error: "))


def test_labels_without_the_flag_fail_the_start(start_server: Any, models: Path) -> None:
    (models / "c").write_text(config(model("m", label("stable", 1))))
    assert failed_start(start_server, models, "--model_config_file=/models/c") == (
        "FAILED_PRECONDITION: Request to assign label to version 1 of model m, which is not currently available for "
        "inference"
    )


def test_a_config_that_does_not_parse_fails_the_start(start_server: Any, models: Path) -> None:
    (models / "c").write_text("improper")
    assert failed_start(start_server, models, "--model_config_file=/models/c") == (
        "INVALID_ARGUMENT: Invalid protobuf file: '/models/c'"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (("--model_config_file=/models/no",), "NOT_FOUND: /models/no; No such file or directory"),
        (
            ("--model_base_path=m",),
            "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=m",
        ),
        (
            ("--model_base_path=/models/m", "--port=0"),
            "INVALID_ARGUMENT: At least one of server_options.grpc_port or server_options.grpc_socket_path must be "
            "set.",
        ),
        (
            ("--model_base_path=/models/m", "--batching_parameters_file=/b"),
            "INVALID_ARGUMENT: server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true.",
        ),
        (
            ("--model_base_path=/models/m", "--enable_batching", "--batching_parameters_file=/models/b"),
            "INVALID_ARGUMENT: Invalid protobuf file: '/models/b'",
        ),
        (
            ("--model_base_path=/models/m", "--monitoring_config_file=/models/b"),
            "INVALID_ARGUMENT: Invalid protobuf file: '/models/b'",
        ),
        (
            ("--model_base_path=/models/m", "--ssl_config_file=/s"),
            "UNIMPLEMENTED: --ssl_config_file is not offered by the sandbox's model server.",
        ),
    ],
)
def test_flags_that_cannot_work_fail_the_start(
    start_server: Any, models: Path, flags: tuple[str, ...], message: str
) -> None:
    (models / "b").write_text("no_such_field: 1")
    assert failed_start(start_server, models, *flags) == message


BROKEN = {
    1: "NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied export directory path: /models/broken/1. Check "
    "that the directory exists and that you have the right permissions for accessing it.",
    2: "DATA_LOSS: Can't parse /models/broken/2/saved_model.pb as binary proto",
    3: "NOT_FOUND: Could not find meta graph def matching supplied tags: { serve }. To inspect available tag-sets in "
    "the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
}


@pytest.mark.parametrize("version", BROKEN)
def test_a_first_version_that_cannot_load_fails_the_start(
    start_server: Any, tiny_models: Path, tmp_path: Path, version: int
) -> None:
    publish(tiny_models / f"broken/{version}", tmp_path / f"broken/{version}")
    assert failed_start(start_server, tmp_path, "--model_name=b", "--model_base_path=/models/broken", *QUICK) == (
        f"UNKNOWN: 1 servable(s) did not become available: {{{{{{name: b version: {version}}} due to error: "
        f"{BROKEN[version]}}}, }}"
    )


def test_a_model_whose_variables_lack_their_data_cannot_load(
    start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    publish(tiny_models / "broken/5", tmp_path / "broken/5")
    message = failed_start(start_server, tmp_path, "--model_base_path=/models/broken", *QUICK)
    assert "/models/broken/5/variables/variables" in message
    assert str(tmp_path) not in message


def test_a_model_without_its_variables_loads_and_fails_when_asked(
    start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    publish(tiny_models / "broken/4", tmp_path / "broken/4")
    server = start_server("--model_name=b", "--model_base_path=/models/broken", mounts={"/models": tmp_path})
    assert server.states("b") == {4: "AVAILABLE"}
    assert "The specified SavedModel has no variables; no checkpoints were restored." in server.log
    assert str(answer(server, "b")).startswith("400 ")
    assert "uninitialized" in str(answer(server, "b"))


def test_flags_change_what_requests_get(start_server: Any, models: Path) -> None:
    server = start_server(
        "--model_base_path=/models/m",
        "--rest_api_enable_cors_support=true",
        "--enable_signature_method_name_check=true",
        "--enable_batching=true",
        "--flush_filesystem_caches=false",
        mounts={"/models": models},
    )
    request = {"signature_name": "classify", "examples": [{"x": 1.0}]}
    status, text = server.post("/v1/models/default:regress", request)
    assert (status, json.loads(text)["error"]) == (
        400,
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify",
    )
    _, headers, _ = server.request("GET", "/v1/models/default")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Access-Control-Allow-Methods"] == "POST, GET"
    assert headers["Access-Control-Allow-Headers"] == "Content-Type"
    assert "--flush_filesystem_caches has no effect" in server.log


def test_the_version_flag_prints_both_versions(start_server: Any, models: Path) -> None:
    server = start_server("--version", mounts={"/models": models}, wait=False)
    assert server.process.wait(30) == 0
    assert server.log.splitlines()[0].startswith("TensorFlow ModelServer: 2.")
    assert server.log.splitlines()[1].startswith("TensorFlow Library: 2.")


def test_a_malformed_flag_ends_in_the_usage(start_server: Any, models: Path) -> None:
    server = start_server("--num_load_threads=x", mounts={"/models": models}, wait=False)
    assert server.process.wait(30) == 255
    assert server.log.startswith("Couldn't interpret value x for flag num_load_threads.\nusage: ")


def test_equal_ports_leave_rest_off(start_server: Any, models: Path) -> None:
    server = start_server("--model_base_path=/models/m", "--rest_api_port=0", mounts={"/models": models}, wait=False)
    until(lambda: "Running gRPC ModelServer" in server.log)
    same = f"--rest_api_port={server.port}"
    assert server.stop() == 0
    again = start_server(
        "--model_base_path=/models/m", same, f"--port={server.port}", mounts={"/models": models}, wait=False
    )
    until(lambda: "server_options.http_port cannot be same as grpc_port." in again.log)
    assert again.process.poll() is None


def test_a_grpc_port_that_is_taken_fails_the_start(start_server: Any, models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert failed_start(start_server, models, "--model_base_path=/models/m", f"--port={port}") == (
            "INVALID_ARGUMENT: Failed to BuildAndStart gRPC server"
        )


def test_a_rest_port_that_is_taken_leaves_grpc_running(start_server: Any, models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = ("--model_base_path=/models/m", f"--rest_api_port={port}")
        server = start_server(*flags, mounts={"/models": models}, wait=False)
        until(lambda: f"Failed to start HTTP Server at 127.0.0.1:{port}" in server.log)
        assert server.process.poll() is None


# Polling


@pytest.fixture
def polling(start_server: Any, models: Path, tiny_models: Path) -> Any:
    """Serves ``m`` with versions 1 and 2, ``stable`` on 1, reading its config every second."""
    publish(tiny_models / "half_plus/2", models / "m/2")
    (models / "c").write_text(config(model("m", specific(1, 2) + label("stable", 1))))
    flags = ("--model_config_file=/models/c", "--model_config_file_poll_wait_seconds=1", LABELS_FLAG, *QUICK)
    server = start_server(*flags, mounts={"/models": models})
    until(lambda: server.states("m") == {2: "AVAILABLE", 1: "AVAILABLE"})
    return server


def test_a_label_moves_and_moves_back_by_polling(polling: Any, models: Path) -> None:
    assert answer(polling, "m/labels/stable") == 2.0
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 2))))
    until(lambda: answer(polling, "m/labels/stable") == 3.0)
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 1))))
    until(lambda: answer(polling, "m/labels/stable") == 2.0)


def test_no_request_fails_while_versions_and_labels_change(polling: Any, models: Path, tiny_models: Path) -> None:
    failures: list[str] = []
    stop = threading.Event()

    def ask(path: str) -> None:
        while not stop.is_set():
            found = answer(polling, path)
            if found not in (2.0, 3.0):
                failures.append(f"{path}: {found}")

    threads = [threading.Thread(target=ask, args=(path,)) for path in ("m", "m/labels/stable", "m/versions/2")]
    for thread in threads:
        thread.start()
    publish(tiny_models / "half_plus/1", models / "m/3")
    write(models / "c", config(model("m", specific(1, 2, 3) + label("stable", 1))))
    until(lambda: polling.states("m").get(3) == "AVAILABLE")
    write(models / "c", config(model("m", specific(1, 2, 3) + label("stable", 3))))
    until(lambda: polling.get("/v1/models/m/labels/stable/metadata")[1].find('"version": "3"') > 0)
    write(models / "c", config(model("m", specific(2, 3) + label("stable", 3))))
    until(lambda: polling.states("m")[1] == "END")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert polling.states("m") == {3: "AVAILABLE", 2: "AVAILABLE", 1: "END"}


def test_a_file_that_cannot_be_read_keeps_the_last_config(polling: Any, models: Path) -> None:
    write(models / "c", "model_config_list { config { nam: 'm' } }")
    until(lambda: "Failed to read ModelServerConfig file: Invalid protobuf file: '/models/c'" in polling.log)
    (models / "c").unlink()
    until(lambda: "Failed to read ModelServerConfig file: /models/c; No such file or directory" in polling.log)
    assert answer(polling, "m/labels/stable") == 2.0
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 2))))
    until(lambda: answer(polling, "m/labels/stable") == 3.0)


def test_a_refused_config_keeps_the_last_one(polling: Any, models: Path) -> None:
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 7))))
    until(lambda: "PollFilesystemAndReloadConfig failed to ReloadConfig: Request to assign label" in polling.log)
    assert answer(polling, "m/labels/stable") == 2.0


def test_a_broken_new_version_leaves_one_old_one_serving(polling: Any, models: Path, tiny_models: Path) -> None:
    publish(tiny_models / "broken/1", models / "m/3")
    write(models / "c", config(model("m", specific(3))))
    until(lambda: polling.states("m") == {3: "END", 2: "AVAILABLE", 1: "END"})
    assert answer(polling) == 3.0
    state = json.loads(polling.get("/v1/models/m/versions/3")[1])["model_version_status"][0]
    assert state["status"]["error_code"] == "NOT_FOUND"
    assert "Could not find SavedModel .pb" in state["status"]["error_message"]


def test_models_come_and_go(polling: Any, models: Path, tiny_models: Path) -> None:
    publish(tiny_models / "counter_tf2/1", models / "n/1")
    write(models / "c", config(model("n")))
    until(lambda: polling.states("n") == {1: "AVAILABLE"})
    until(lambda: polling.states("m") == {2: "END", 1: "END"})
    assert answer(polling) == "404 Servable not found for request: Latest(m)"
    assert answer(polling, "m/labels/stable") == "400 Unrecognized servable version label: stable"


def test_a_new_model_without_a_directory_stops_the_polling_until_it_appears(
    polling: Any, models: Path, tiny_models: Path
) -> None:
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 1)), model("ghost")))
    until(lambda: "(Re-)adding model: ghost" in polling.log)
    write(models / "c", config(model("m", specific(1, 2) + label("stable", 2))))
    time.sleep(2.5)
    assert answer(polling, "m/labels/stable") == 2.0
    publish(tiny_models / "counter_tf2/1", models / "ghost/1")
    until(lambda: answer(polling, "m/labels/stable") == 3.0)


# Warm-up


def test_warm_up_records_run_before_a_version_is_available(
    start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    publish(tiny_models / "warm/1", tmp_path / "w/1")
    server = start_server("--model_name=w", "--model_base_path=/models/w", *QUICK, mounts={"/models": tmp_path})
    assert "Number of warmup records read: 2." in server.log
    publish(tiny_models / "warm/2", tmp_path / "w/2")
    until(lambda: server.states("w") == {2: "END", 1: "AVAILABLE"})
    assert answer(server, "w") == 2.0
    state = json.loads(server.get("/v1/models/w/versions/2")[1])["model_version_status"][0]["status"]
    assert state["error_code"] == "INVALID_ARGUMENT"
    assert state["error_message"].startswith("Signature input alias: x(feed name: x:0) not found in request")


def test_warm_up_can_be_turned_off(start_server: Any, tiny_models: Path, tmp_path: Path) -> None:
    publish(tiny_models / "warm/2", tmp_path / "w/2")
    flags = ("--model_name=w", "--model_base_path=/models/w", "--enable_model_warmup=false")
    assert start_server(*flags, mounts={"/models": tmp_path}).states("w") == {2: "AVAILABLE"}


# Stop


def test_running_requests_finish_before_the_server_stops(start_server: Any, tiny_models: Path, models: Path) -> None:
    publish(tiny_models / "slow/1", models / "slow/1")
    server = start_server(
        "--model_name=slow", "--model_base_path=/models/slow", "--rest_api_timeout_in_ms=0", mounts={"/models": models}
    )
    answers: list[tuple[int, str]] = []
    count = 300_000
    thread = threading.Thread(
        target=lambda: answers.append(server.post("/v1/models/slow:predict", {"instances": [count]}))
    )
    stat = Path(f"/proc/{server.process.pid}/stat")

    def ticks() -> int:
        """Processor time of the server, in hundredths of a second."""
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))

    idle = ticks()
    thread.start()
    until(lambda: ticks() > idle + 10)  # it is at work
    assert server.stop() == 0
    thread.join()
    assert [(status, json.loads(text)) for status, text in answers] == [(200, {"predictions": [count]})]
