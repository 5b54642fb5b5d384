"""What the command lines do in the same way, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tfserving.command_line import Command, Commands

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = ["sandbox", "outputs", "--json", "--stack", "local"]


def reader_gone(arguments: list[str], both: bool = False) -> tuple[int, bytes]:
    """Exit status and stderr of a command whose output nobody reads."""
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        if both:
            process.stderr.close()
        told = b"" if both else process.stderr.read()
    return process.returncode, told


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["ops", "--help"], 141),
        (["ops", "predict", "--help"], 0),  # argparse takes no notice
        (["ops", "schema"], 141),
        (["sandbox", "--help"], 141),
        (["sandbox", "preview", "--help"], 0),
        (OUTPUTS, 141),
        (["sandbox", "model-server", "--version"], 141),
    ],
)
def test_a_reader_that_goes_away_is_no_traceback(arguments: list[str], status: int) -> None:
    assert reader_gone(arguments) == (status, b"")


@pytest.mark.parametrize("arguments", [["ops", "nonsense"], ["sandbox", "nonsense"]], ids=" ".join)
def test_a_reader_of_the_errors_that_goes_away_is_none_either(arguments: list[str]) -> None:
    assert reader_gone(arguments, both=True) == (141, b"")


@pytest.mark.parametrize("module", ["ops", "sandbox"])
def test_a_full_disk_and_a_closed_output_are_no_traceback(module: str) -> None:
    for redirection, status, told in (
        ("> /dev/full", 1, "error: what was printed cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{sys.executable} -m {module} --help {redirection}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, told)


CLOSED = """
import sys
from tfserving.command_line import run

def command():
    print("said")
    print("noted", file=sys.stderr)
    sys.stdin.isatty(), sys.stdin.readline()
    return 3 if sys.stdout.isatty() else 4

sys.exit(run(command))
"""


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_stream_that_is_closed_takes_what_is_printed_and_holds_nothing(closed: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'{sys.executable} -c "$0" {closed}', CLOSED],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    stdout, stderr = ("" if stream in closed else text for stream, text in (("1>", "said\n"), ("2>", "noted\n")))
    assert (done.returncode, done.stdout, done.stderr) == (4, stdout, stderr), "neither is printed where the other goes"


def test_with_a_reader_the_status_is_the_commands_own() -> None:
    for arguments, status in ((["ops", "--help"], 0), (["ops", "nonsense"], 2), (["sandbox", "nonsense"], 2)):
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == status


def test_a_package_that_is_missing_is_told_and_a_missing_module_of_ours_is_a_bug(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = Commands(
        "x", "About.", {"a": Command("no_such_package", "does a"), "b": Command("ops.no_such", "b")}, "Do this."
    )
    assert commands.run(["a"]) == 1
    assert capsys.readouterr().err == "error: the Python package 'no_such_package' is not installed. Do this.\n"
    with pytest.raises(ModuleNotFoundError):
        commands.run(["b"])
