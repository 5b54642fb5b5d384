"""Runs as a whole: drift, previews, secrets, programs that fail, interruptions, locks, parallelism."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.waiting import until

if TYPE_CHECKING:
    from conftest import Project

pytestmark = pytest.mark.slow


def change_behind(project: Project, name: str, **inputs: str) -> None:
    (file,) = (project.root / "world").glob(f"{name}-*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | inputs))


def delete_behind(project: Project, name: str) -> None:
    (file,) = (project.root / "world").glob(f"{name}-*.json")
    file.unlink()


def processes_of(project: Project) -> list[str]:
    """Programs and plugins that work in the project's directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == project.root:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_preview_changes_nothing_and_has_the_shape_of_the_cli(project: Project) -> None:
    project.configure(**{"shop:color": "red"})
    project.apply('Thing("a", value="1")\nThing("gone")\nThing("same")\nThing("moved", kind="x")')
    before = project.state_file.read_text()
    project.program("""
        Thing("a", value="2")
        Thing("b", hidden=Output.secret("hush"))
        Thing("same")
        Thing("moved", kind="y")
        pulumi.log.info("so it is")
        pulumi.log.warn("careful")
    """)
    outcome = project.run("preview", "--json")
    assert outcome.status == 0
    digest = outcome.json
    assert set(digest) == {"config", "steps", "diagnostics", "duration", "changeSummary"}
    assert digest["config"] == {"shop:color": "red"}
    assert digest["changeSummary"] == {"create": 1, "update": 1, "replace": 1, "delete": 1, "same": 2}
    steps = {s["urn"].rpartition("::")[2]: s for s in digest["steps"]}
    assert {name: step["op"] for name, step in steps.items()} == {
        "shop-dev": "same",
        "a": "update",
        "b": "create",
        "moved": "replace",
        "gone": "delete",
    }
    assert len(steps) == len(digest["steps"]), "neither what stays the same nor the halves of a replacement"
    assert [(each["severity"], each["message"]) for each in digest["diagnostics"]] == [
        ("info", "so it is\n"),
        ("warning", "warning: careful\n"),
    ]
    update = steps["a"]
    assert update["op"] == "update"
    assert update["diffReasons"] == ["value"]
    assert update["detailedDiff"] == {"value": {"kind": "update", "inputDiff": True}}
    assert update["oldState"]["inputs"]["value"] == "1"
    assert update["newState"]["inputs"]["value"] == "2"
    assert update["provider"].startswith("urn:pulumi:dev::shop::pulumi:providers:world::default::")
    assert steps["b"]["newState"]["inputs"]["hidden"] == "[secret]"
    assert "oldState" not in steps["b"]
    assert steps["gone"]["op"] == "delete"
    assert isinstance(digest["duration"], int)
    assert project.state_file.read_text() == before
    assert set(project.world) == {"a", "gone", "same", "moved"}


def test_a_preview_tells_what_it_has_read_again_as_the_cli_does(project: Project) -> None:
    project.apply('Thing("w", of="Watched", value="1")\nThing("a")')
    digest = project.run("preview", "--json").json
    told = [(step["op"], step["urn"].rpartition("::")[2]) for step in digest["steps"]]
    assert sorted(told) == [("refresh", "w"), ("same", "shop-dev")]
    assert digest["changeSummary"] == {"same": 3}
    change_behind(project, "w", value="else")
    digest = project.run("preview", "--json").json
    assert [step["op"] for step in digest["steps"] if step["urn"].endswith("::w")] == ["refresh", "update"]
    assert digest["changeSummary"] == {"update": 1, "same": 2}


def test_expected_no_changes_exit_7_where_there_are_some(project: Project) -> None:
    project.apply('Thing("a")')
    project.program('Thing("a", value="2")')
    for command in ("preview", "up"):
        outcome = project.run(command, "--yes", "--expect-no-changes")
        assert outcome.status == 7
        assert "no changes were expected" in outcome.err
    assert project.journal == ["create a"]


def test_refresh_finds_drift_and_takes_it_into_the_state(project: Project) -> None:
    project.apply('Thing("a", value="1")\nThing("b")')
    assert project.run("refresh", "--preview-only", "--expect-no-changes").status == 0
    change_behind(project, "a", value="else")
    delete_behind(project, "b")
    before = project.state_file.read_text()
    drift = project.run("refresh", "--preview-only", "--expect-no-changes")
    assert drift.status == 7
    assert '"1" => "else"' in drift.out
    assert project.run("preview", "--refresh", "--expect-no-changes").status == 7
    assert project.run("preview", "--expect-no-changes").status == 0, "without a refresh the state is believed"
    assert project.state_file.read_text() == before
    assert project.run("refresh", "--yes").status == 0
    assert project.resource("a")["inputs"]["value"] == "else"
    assert project.names == {"a"}
    repaired = project.up("--json")
    assert repaired.counts == {"create": 1, "update": 1, "same": 1}
    assert project.world["a"]["value"] == "1"


def test_up_with_refresh_repairs_drift_in_one_go(project: Project) -> None:
    project.apply('a = Thing("a")\nThing("b", value=a.endpoint)')
    delete_behind(project, "a")
    outcome = project.up("--refresh")
    assert outcome.status == 0, outcome
    assert set(project.world) == {"a", "b"}
    assert project.world["b"]["value"] == project.resource("a")["outputs"]["endpoint"]


def test_a_resource_that_asks_for_it_is_read_before_every_update(project: Project) -> None:
    project.apply('Thing("a", of="Watched", value="1")')
    assert project.run("preview", "--expect-no-changes").status == 0
    change_behind(project, "a", value="else")
    outcome = project.run("preview", "--expect-no-changes")
    assert outcome.status == 7
    assert '"else" => "1"' in outcome.out
    delete_behind(project, "a")
    outcome = project.up()
    assert outcome.status == 0
    assert "no longer exists" in outcome.out
    assert project.world["a"]["value"] == "1"


def test_what_cannot_be_reached_is_an_error_and_not_no_drift(project: Project) -> None:
    project.apply('Thing("a", of="Watched")')
    change_behind(project, "a", fail="read")
    for command in ("preview", "refresh", "up"):
        outcome = project.run(command, "--yes", "--expect-no-changes")
        assert outcome.status == 1
        assert "the world cannot be reached" in outcome.out


def test_secrets_are_encrypted_in_the_state_and_masked_in_the_output(project: Project) -> None:
    outcome = project.apply("""
        a = Thing("a", value=Output.secret("hush-1"), deep={"x": Output.secret("hush-2")},
                  opts=ResourceOptions(additional_secret_outputs=["token"]))
        pulumi.export("all", {"token": a.token, "value": a.value, "open": "yes"})
    """)
    assert outcome.status == 0, outcome
    shown = outcome.out + outcome.err + project.up().out + project.run("outputs").out
    for secret in ("hush-1", "hush-2", "token-a"):
        assert secret not in shown + project.state_file.read_text()
    masked = {"token": "[secret]", "value": "[secret]", "open": "yes"}
    assert project.run("outputs", "--json").json == {"all": masked}
    revealed = project.run("outputs", "--json", "--show-secrets").json["all"]
    assert revealed == {"token": f"token-{project.resource('a')['id']}", "value": "hush-1", "open": "yes"}
    assert project.world["a"]["deep"] == {"x": "hush-2"}, "a provider that knows no secrets gets them in the clear"
    changed = project.run("up", "--yes", "--expect-no-changes")
    assert changed.status == 0


def test_a_changed_secret_is_masked_in_the_diff(project: Project) -> None:
    project.apply('Thing("a", value=Output.secret("hush-1"))')
    project.program('Thing("a", value=Output.secret("hush-2"))')
    outcome = project.up()
    assert "~ value: [secret] => [secret]" in outcome.out
    assert "hush" not in outcome.out


def test_the_program_gets_its_config_as_from_the_cli(project: Project) -> None:
    project.configure(count=3, deep={"a": [1, True]}, **{"world:region": "here"})
    outcome = project.apply("""
        assert pulumi.get_project() == "shop" and pulumi.get_stack() == "dev"
        pulumi.export("count", config.require_int("count"))
        pulumi.export("deep", config.require_object("deep"))
        Thing("a")
    """)
    assert outcome.status == 0, outcome
    assert project.run("outputs", "--json").json == {"count": 3, "deep": {"a": [1, True]}}
    assert project.resource("default")["inputs"] == {"region": "here"}


def test_a_programs_own_error_has_no_traceback(project: Project) -> None:
    project.program('raise pulumi.RunError("tf-serving:models: there are none")')
    outcome = project.up()
    assert outcome.status == 1
    assert "error: tf-serving:models: there are none" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


def test_a_program_that_has_said_what_is_wrong_may_end_by_itself(project: Project) -> None:
    project.program('import sys\npulumi.log.error("tf-serving:models: there are none")\nsys.exit(32)')
    outcome = project.up()
    assert outcome.status == 1
    assert "error: tf-serving:models: there are none" in outcome.out
    assert "without saying why" not in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


def test_an_unexpected_exception_shows_the_programs_frames_only(project: Project) -> None:
    (project.root / "helper.py").write_text("def go():\n    return {}['missing']\n")
    project.program('import helper\nThing("a")\nhelper.go()')
    outcome = project.up()
    assert outcome.status == 1
    assert "helper.py" in outcome.out
    assert "KeyError: 'missing'" in outcome.out
    assert "site-packages" not in outcome.out
    assert "runpy" not in outcome.out
    assert project.world == {}


def test_a_syntax_error_names_the_line(project: Project) -> None:
    project.program("def broken(")
    outcome = project.up()
    assert outcome.status == 1
    assert "__main__.py" in outcome.out
    assert "SyntaxError" in outcome.out


def test_what_a_program_prints_and_logs_is_shown_with_the_stack(project: Project) -> None:
    project.program('print("hello")\npulumi.log.warn("careful")\npulumi.log.debug("never shown")')
    outcome = project.run("preview")
    assert "pulumi:pulumi:Stack (shop-dev):" in outcome.out
    assert "    hello\n" in outcome.out
    assert "    warning: careful\n" in outcome.out
    assert "never shown" not in outcome.out


def test_without_a_terminal_nothing_is_done_unasked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    project.program('Thing("a")')
    outcome = project.run("up")
    assert outcome.status == 1
    assert "--yes" in outcome.err
    assert project.world == {}


@pytest.mark.parametrize(("answer", "made"), [("n", set()), ("yes", {"a"})])
def test_at_a_terminal_one_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch, answer: str, made: set[str]
) -> None:
    terminal = io.StringIO(f"{answer}\n")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    project.program('Thing("a")')
    outcome = project.run("up")
    assert outcome.status == 0
    assert "Do you want to perform this up?" in outcome.out
    assert set(project.world) == made


def test_a_plugin_that_does_not_start_is_told_with_its_own_words(project: Project) -> None:
    (project.root / "plugin" / "pulumi-resource-world").write_text(
        "#!/bin/sh\necho 'no such thing as a world' >&2\nexit 3\n"
    )
    outcome = project.apply('Thing("a")')
    assert outcome.status == 1
    assert "provider plugin world did not start" in outcome.out
    assert "no such thing as a world" in outcome.out


def test_a_plugin_on_the_path_needs_no_entry_in_the_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.root / "Pulumi.yaml").write_text("name: shop\nruntime: python\nstackConfigDir: stacks\n")
    monkeypatch.setenv("PATH", f"{project.root / 'plugin'}:{os.environ['PATH']}")
    assert project.apply('Thing("a")').status == 0


def test_real_endpoints_and_credentials_never_reach_program_or_plugin(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI" + "x" * 20)
    monkeypatch.setenv("ALICLOUD_ACCESS_KEY", "LTAI" + "x" * 20)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    outcome = project.apply("""
        import os
        seen = {k: v for k, v in os.environ.items() if "LTAI" in v or "proxy" in k.lower() and v != "*"}
        pulumi.export("seen", seen)
        pulumi.export("key", os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"])
    """)
    assert outcome.status == 0
    assert project.run("outputs", "--json").json == {"seen": {}, "key": "sandbox"}


def test_independent_resources_are_made_at_the_same_time_up_to_the_limit(project: Project) -> None:
    project.program('for i in range(3):\n    Thing(f"t{i}", delay="2")')
    assert project.up().status == 0
    assert max(start for start, _ in project.times) < min(end for _, end in project.times)
    project.forget_journal()
    project.program("")
    assert project.up("--parallel", "1").status == 0
    times = sorted(project.times)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_a_killed_run_continues_where_it_stopped(project: Project) -> None:
    program = """
        a = Thing("a")
        b = Thing("b", value=a.endpoint, delay="{}")
        Thing("c", value=b.endpoint)
    """
    project.program(program.format(600))
    run = project.start("up", "--yes")
    until(lambda: project.state_file.exists() and project.names == {"a"} and project.deployment["pending_operations"])
    run.kill()
    run.communicate()
    (pending,) = project.deployment["pending_operations"]
    assert pending["type"] == "creating"
    assert pending["resource"]["urn"].endswith("::b")
    until(lambda: not processes_of(project))
    project.program(program.format(0))
    outcome = project.up()
    assert outcome.status == 0, outcome
    assert "interrupted while it was creating this" in outcome.out
    assert project.names == {"a", "b", "c"}
    assert project.journal == ["create a", "create b", "create c"]
    assert project.deployment["pending_operations"] == []


def test_ctrl_c_lets_running_operations_end_and_starts_no_more(project: Project) -> None:
    project.program('a = Thing("a", delay="600")\nThing("b", value=a.endpoint)')
    run = project.start("up", "--yes")
    until((project.root / "world" / "at-work").exists)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "waiting for running operations" in err
    assert "Traceback" not in out + err
    assert project.names == {"a"}
    assert project.deployment["pending_operations"] == []
    assert not processes_of(project)


def test_a_second_ctrl_c_stops_at_once(project: Project) -> None:
    # A program that the first one does not end: else the second may come when the run has ended already.
    project.program(
        "import pathlib, signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "pathlib.Path('deaf').touch()\ntime.sleep(600)"
    )
    run = project.start("preview")
    until((project.root / "deaf").exists)
    run.send_signal(signal.SIGINT)
    assert run.stderr is not None
    assert "press Ctrl-C again" in run.stderr.readline()
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=120)
    assert run.returncode == 1
    until(lambda: not processes_of(project))


def test_a_stack_another_run_works_on_is_left_alone(project: Project) -> None:
    project.program('Thing("a", delay="600")')
    run = project.start("up", "--yes")
    until(lambda: project.state_file.exists() and project.deployment["pending_operations"])
    try:
        outcome = project.up()
        assert outcome.status == 1
        assert f"another run is at work on this stack (process {run.pid})" in outcome.err
    finally:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)


def test_long_operations_show_what_they_are_doing(project: Project) -> None:
    project.program('Thing("a", delay="0.2")')
    outcome = project.up()
    assert re.search(r"world:index:Thing a creating \(\d+s\) about to create", outcome.out)
    assert " + " in outcome.out
    assert "Updating (dev):" in outcome.out
    assert re.search(r"world:index:Thing a created \(\d+\.\ds\)", outcome.out)


def test_a_program_that_ends_without_a_word_is_a_failure(project: Project) -> None:
    project.program("import os\nos._exit(3)")
    outcome = project.up()
    assert outcome.status == 1
    assert "the program ended without saying why" in outcome.out


def test_a_project_without_its_directory_or_sdk_is_told(project: Project) -> None:
    settings = (project.root / "Pulumi.yaml").read_text()
    (project.root / "Pulumi.yaml").write_text(f"{settings}main: nowhere\n")
    outcome = project.up()
    assert outcome.status == 1
    assert "the program cannot start" in outcome.err
    python = project.root / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    (project.root / "Pulumi.yaml").write_text(settings.replace("python", "{name: python, options: {virtualenv: env}}"))
    project.program("")
    outcome = project.up()
    assert outcome.status == 1
    assert "the Pulumi SDK is not installed for" in outcome.out


def test_a_preview_shows_outputs_only_if_they_change(project: Project) -> None:
    project.apply('pulumi.export("x", 1)')
    assert "Outputs:" not in project.run("preview").out
    project.program('pulumi.export("x", 2)')
    assert "Outputs:\n    x: 2" in project.run("preview").out
