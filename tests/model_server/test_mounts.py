"""Container paths and local ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.model_server.mounts import VARIABLE, Mounts, MountsError
from tests.waiting import until


def test_without_the_variable_paths_are_used_as_they_are() -> None:
    mounts = Mounts.from_environment({})
    assert mounts.local("/models/a") == Path("/models/a")
    assert mounts.local("relative") == Path("relative")


def test_the_longest_mounted_prefix_decides() -> None:
    mounts = Mounts({"/models": "/data/all", "/models/modelA": "/data/one"})
    assert mounts.local("/models/modelB/1") == Path("/data/all/modelB/1")
    assert mounts.local("/models/modelA/1") == Path("/data/one/1")
    assert mounts.local("/models/modelAB") == Path("/data/all/modelAB")
    assert mounts.local("/models/") == Path("/data/all")


def test_a_path_cannot_climb_out_of_its_mount() -> None:
    mounts = Mounts({"/models": "/data"})
    assert mounts.local("/models//x/./y") == Path("/data/x/y")
    for path in ("/models/../etc/passwd", "/etc/passwd", "/", "//etc", "etc/passwd", "../..", "/models/a/../../../etc"):
        assert not mounts.local(path).exists(), path
    assert mounts.conceal(f"{mounts.local('/models/../etc/passwd')}; Not found") == "/etc/passwd; Not found"


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "file:///etc/passwd", "."])
def test_nothing_exists_in_a_container_without_mounts(path: str) -> None:
    assert not Mounts.from_environment({VARIABLE: "{}"}).local(path).exists()


def test_a_mounted_root_holds_every_path() -> None:
    assert Mounts({"/": "/data"}).local("/models/a") == Path("/data/models/a")


def test_the_variable_is_normalised() -> None:
    mounts = Mounts.from_environment({VARIABLE: '{"/models/": "/data"}'})
    assert mounts.local("/models/a") == Path("/data/a")


def test_messages_show_the_containers_path() -> None:
    mounts = Mounts({"/models": "/data/x", "/models/a": "/data/x/deep"})
    assert mounts.conceal("no /data/x/deep/1 and /data/x/b") == "no /models/a/1 and /models/b"


@pytest.mark.parametrize("text", ["{", "[]", '{"models": "/data"}', '{"/models": "data"}', '{"/models": 1}'])
def test_a_malformed_variable_is_refused(text: str) -> None:
    with pytest.raises(MountsError, match=VARIABLE):
        Mounts.from_environment({VARIABLE: text})


@pytest.mark.slow
@pytest.mark.parametrize(
    "flag",
    [
        "--model_config_file={}",
        "--model_base_path=/models/scalar --monitoring_config_file={}",
        "--model_base_path=/models/scalar --enable_batching=true --batching_parameters_file={}",
        "--model_base_path=/models/scalar --tensorflow_session_config_file={}",
        "--model_base_path=/models/scalar --monitoring_config_file=/models/..{}",
    ],
)
def test_a_flag_finds_no_file_of_this_machine(start_server: Any, tiny_models: Path, tmp_path: Path, flag: str) -> None:
    file = tmp_path / "theirs.pbtxt"
    file.write_text("secret_of_this_machine: 1")
    server = start_server(*flag.format(file).split(), mounts={"/models": tiny_models}, wait=False)
    assert server.process.wait(60) == 255
    assert f"{file}; No such file or directory" in server.log
    assert "secret_of_this_machine" not in server.log


@pytest.mark.slow
def test_a_model_config_finds_no_directory_of_this_machine(
    start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    models = tmp_path / "mounted"
    models.mkdir()
    (models / "config.pbtxt").write_text(
        f"model_config_list {{ config {{ name: 'theirs' base_path: '{tiny_models}/scalar' "
        "model_platform: 'tensorflow' } }"
    )
    server = start_server("--model_config_file=/models/config.pbtxt", mounts={"/models": models}, wait=False)
    until(lambda: f"Could not find base path {tiny_models}/scalar" in server.log, what="the log")
    assert not server.listens()


@pytest.mark.slow
def test_a_server_in_a_container_opens_no_socket_outside_its_mounts(
    start_server: Any, tiny_models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "grpc.sock"
    flags = ("--model_name=scalar", "--model_base_path=/models/scalar", f"--grpc_socket_path={path}")
    server = start_server(*flags, mounts={"/models": tiny_models})
    assert "--grpc_socket_path has no effect here" in server.log
    assert not path.exists()
