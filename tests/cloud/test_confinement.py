"""What a container's program may do on this machine: nothing outside its own directories."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import confinement, guard, keys, paths

kernel = pytest.mark.skipif(not confinement.is_by_kernel(), reason="this kernel has no Landlock")

TRY = """
import json, os, socket, sys
def attempt(kind, *names):
    try:
        if kind == "read": open(names[0]).read()
        if kind == "list": os.listdir(names[0])
        if kind == "write": open(names[0], "w").write("x")
        if kind == "append": open(names[0], "a").write("x")
        if kind == "truncate": os.truncate(names[0], 0)
        if kind == "remove": os.unlink(names[0])
        if kind == "rename": os.rename(*names)
        if kind == "link": os.symlink(*names)
        if kind == "directory": os.mkdir(names[0])
        if kind == "socket": socket.socket(socket.AF_UNIX).bind(names[0])
        if kind == "connect": socket.create_connection(("127.0.0.1", int(names[0])))
    except ConnectionRefusedError: return "allowed"
    except OSError as error: return type(error).__name__
    return "allowed"
print(json.dumps([attempt(*each) for each in json.loads(sys.argv[1])]))
"""


def attempts(tries: list[list[str]], read: list[Path], write: list[Path]) -> list[str]:
    command = confinement.guarded((sys.executable, "-c"), (TRY, json.dumps(tries)), read, write)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@kernel
@pytest.mark.parametrize("kind", ["write", "append", "truncate", "remove", "read"])
def test_a_file_outside_is_out_of_reach(tmp_path: Path, kind: str) -> None:
    outside, own = tmp_path / "outside.txt", tmp_path / "own"
    outside.write_text("theirs")
    own.mkdir()
    (own / "link").symlink_to(outside)
    names = [str(outside), str(own / ".." / "outside.txt"), str(own / "link")]
    found = attempts([[kind, name] for name in names], [], [own])
    # A link in its own directory may be removed: the file it points to is still there.
    assert found == ["PermissionError"] * 2 + (["allowed"] if kind == "remove" else ["PermissionError"])
    assert outside.read_text() == "theirs"


@kernel
def test_what_is_mounted_from_oss_is_read_and_not_changed(tmp_path: Path) -> None:
    view, own = tmp_path / "view", tmp_path / "own"
    view.mkdir()
    own.mkdir()
    (view / "file").write_text("an object")
    tries = [["read", str(view / "file")], ["list", str(view)]]
    tries += [[kind, str(view / "file")] for kind in ("write", "append", "truncate", "remove")]
    tries += [["write", str(view / "new")], ["directory", str(view / "d")], ["link", "/etc", str(view / "l")]]
    tries += [["rename", str(view / "file"), str(own / "file")], ["socket", str(view / "s")]]
    assert attempts(tries, [view], [own]) == ["allowed"] * 2 + ["PermissionError"] * 9
    assert [path.name for path in view.iterdir()] == ["file"]


@kernel
def test_an_empty_directory_of_its_own_is_written(tmp_path: Path) -> None:
    tries = [["write", str(tmp_path / "a")], ["directory", str(tmp_path / "d")], ["read", str(tmp_path / "a")]]
    tries += [["rename", str(tmp_path / "a"), str(tmp_path / "b")], ["remove", str(tmp_path / "b")]]
    assert attempts(tries, [], [tmp_path]) == ["allowed"] * 5


@kernel
def test_neither_the_access_key_nor_the_home_directory_is_readable(tmp_path: Path) -> None:
    key = tmp_path / keys.FILE
    keys.of_cloud(tmp_path, {})
    tries = [
        ["read", str(key)],
        ["list", str(key.parent)],
        ["list", str(Path.home())],
        ["read", str(paths.ROOT / "Makefile")],
    ]
    assert attempts(tries, [], []) == ["PermissionError"] * 4
    assert attempts([["list", str(paths.ROOT)]], [], []) == ["allowed"]  # Python looks for modules there


@kernel
@pytest.mark.skipif(guard.landlock() < 4, reason="this kernel does not confine TCP")
def test_no_other_server_of_this_machine_is_reached() -> None:
    assert attempts([["connect", "9"]], [], []) == ["PermissionError"]


def test_a_path_among_the_arguments_opens_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    command = confinement.guarded((sys.executable,), (str(secret), f"--model_base_path={tmp_path}"), [], [])
    rules = json.loads(command[5])
    assert not any(
        tmp_path.is_relative_to(path) or str(tmp_path) in path
        for path in rules["list"] + rules["read"] + rules["write"]
    )


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    command = confinement.guarded((str(tmp_path / "none"),), (), [], [])
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot start {tmp_path / 'none'}: ")


@pytest.mark.parametrize(
    "key",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        "./x",
        "a/./b",
        "..",
        ".",
        "",
        "//",
        "a/..",
        "a\0b",
        "x" * 256,
        "\udcff",
    ],
)
def test_an_object_without_a_place_below_the_mount_gets_no_file(tmp_path: Path, key: str) -> None:
    assert confinement.object_path(tmp_path, key) is None


@pytest.mark.parametrize("key", ["a", "a/b/", "..a", "a..", "...", "~", "a\\..\\b", "é", "a b"])
def test_other_objects_do(tmp_path: Path, key: str) -> None:
    found = confinement.object_path(tmp_path, key)
    assert found is not None
    assert found.is_relative_to(tmp_path)
    assert ".." not in found.relative_to(tmp_path).parts
