"""What the pages say can be typed: every command in a block is run by a test, inline ones name what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import PROJECT, Command
from tests.docs.where import ELSEWHERE, HERE, TOP_TO_BOTTOM, WITH_CLI

MODULE = re.compile(r"(?P<python>[\w./]*python[\d.]*) -m (?P<module>ops|sandbox|local|bench|release|tests\S*)\b")
MAKE = re.compile(r"make ([a-z][a-z-]*)")


def test_every_command_on_every_page_is_run_by_a_test_or_says_why_not() -> None:
    found = {(command.page, command.text) for command in pages.all_commands() if command.page not in TOP_TO_BOTTOM}
    known = HERE | WITH_CLI | ELSEWHERE.keys()
    assert sorted(found - known) == [], "new on a page: say in tests/docs/where.py what runs it"
    assert sorted(known - found) == [], "on no page any more: remove it from tests/docs/where.py"


def test_a_command_is_run_in_one_way_only() -> None:
    assert not (HERE & WITH_CLI | (HERE | WITH_CLI) & ELSEWHERE.keys())


@pytest.mark.parametrize("name", sorted({place for place, _ in ELSEWHERE.values() if place}))
def test_the_test_that_is_said_to_run_a_command_exists(name: str) -> None:
    file, _, function = name.partition("::")
    text = (PROJECT / file).read_text(encoding="utf-8")
    assert not function or f"def {function}(" in text


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_a_module_of_the_project_is_run_by_the_virtualenv_and_nobody_activates_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    others = [match[0] for match in MODULE.finditer(text) if match["python"] != ".venv/bin/python"]
    assert others == [], "another Python has none of the packages"
    assert not re.search(r"bin/activate|conda activate|pipenv |poetry run|uv run", text), "one way throughout"


def test_what_has_options_is_to_be_typed_and_stands_there_in_full() -> None:
    """`ops status` is the name of a command; with an option behind it, it has to work when it is copied."""
    short = [
        str(command)
        for command in pages.all_inline()
        if command.page != "CHANGELOG.md" and re.match(r"(ops|sandbox|local|release) [^:]*(?<!\S)--?\w", command.text)
    ]
    assert short == [], "write .venv/bin/python -m ..."


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_a_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    name, text = page.relative_to(PROJECT).as_posix(), page.read_text(encoding="utf-8")
    commands = [*pages.inline(text, name), *(command for block in pages.blocks(text, name) for command in block)]
    wrong = [str(each) for each in commands if (make := MAKE.match(each.text)) and make[1] not in targets]
    assert wrong == []


@cache
def _help(module: str, subcommand: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *subcommand, "--help"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _documented() -> list[Command]:
    mentioned = [*pages.all_commands(), *pages.all_inline()]
    return [command for command in mentioned if re.match(r"\S*python -m (ops|sandbox|bench) [a-z]", command.text)]


@pytest.mark.parametrize("command", _documented(), ids=str)
def test_every_subcommand_and_option_that_a_page_names_exists(command: Command) -> None:
    words = shlex.split(command.text.split("&&")[0])
    module, rest = words[2], words[3:]
    if module == "bench":
        rest = [word for word in rest if word.startswith("-")]
    subcommand = [word for word in rest[:2] if re.fullmatch(r"[a-z][a-z-]*", word)]
    two = module == "sandbox" and rest[:1] and rest[0] in ("cloud", "kube", "local", "state")
    printed = _help(module, tuple(subcommand[: 2 if two else 1]))
    for option in (word.partition("=")[0] for word in rest if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", printed), f"{command}: no option {option}"


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, heading in pages.links(text):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), file
        if heading and target.suffix == ".md":
            assert heading in pages.headings(target.read_text(encoding="utf-8")), f"{file}#{heading}"


def test_links_in_code_and_to_other_sites_are_left_alone() -> None:
    text = "[a](b.md#c-d) [e](https://f) `[g](h)`\n```\n[i](j)\n```\n[k](#l)"
    assert list(pages.links(text)) == [("b.md", "c-d"), ("", "l")]
    assert pages.headings("# A `b`: c_d, e?\n```\n# no\n```\n") == {"a-b-c_d-e"}


def test_comments_and_other_blocks_are_no_commands_and_lines_are_joined() -> None:
    shell = "```sh\nmake up   # all of it\n# a remark\npulumi up \\\n  -s local\n```\n"
    text = f"{shell}```yaml\nmake: down\n```\n  ```sh\n  a\n  ```\n"
    assert [[command.text for command in block] for block in pages.blocks(text)] == [
        ["make up", "pulumi up -s local"],
        ["a"],
    ]
