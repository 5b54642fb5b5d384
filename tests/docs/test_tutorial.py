"""The tutorial, followed to the letter: files are saved, lines changed, commands run, and what they print compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.commands import as_written
from tests.e2e.checkout import PROJECT, Checkout

TUTORIAL = (PROJECT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def follow(checkout: Checkout, steps: list[pages.Step], **env: str) -> None:
    """Does what the page says, and looks whether the page shows what is printed."""
    saved: list[Path] = []
    printed = ""
    for number, step in enumerate(steps):
        match step:
            case pages.Save(path, text):
                file = checkout.root / path
                file.parent.mkdir(exist_ok=True)
                file.write_text(text.replace("127.0.0.1:7580", f"127.0.0.1:{checkout.port}"), encoding="utf-8")
                saved.append(file)
            case pages.Edit(old, new):
                (file,) = (each for each in saved if old in each.read_text(encoding="utf-8"))
                file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
            case pages.Run(commands):
                after = steps[number + 1] if number + 1 < len(steps) else None
                fails = isinstance(after, pages.Shows) and any(line.startswith("error:") for line in after.lines)
                done = [as_written(checkout, command, **env) for command in commands]
                printed = "\n".join(each.text for each in done)
                assert [each.code != 0 for each in done] == [fails] * len(done), printed
            case pages.Shows(lines):
                # The CLI has words of its own between "error:" and the message.
                missing = [line for line in lines if not pages.shown(line.removeprefix("error: ")).search(printed)]
                assert missing == [], printed


@pytest.mark.slow
def test_the_tutorial_as_it_is_written(checkout: Checkout) -> None:
    before = {file for file in checkout.root.rglob("*") if not re.search(r"__pycache__|/\.", str(file))}
    follow(checkout, list(pages.steps(TUTORIAL)))
    assert checkout.processes() == {}
    after = {file for file in checkout.root.rglob("*") if not re.search(r"__pycache__|/\.", str(file))}
    assert after == before, "the last step removes everything"


@pytest.mark.slow
def test_the_tutorial_with_the_cli(ready: Checkout, cli_env: dict[str, str]) -> None:
    def by_the_cli(step: pages.Step) -> pages.Step:
        """As the last section of the page says."""
        if not isinstance(step, pages.Run):
            return step
        ours = re.compile(r"\.venv/bin/python -m sandbox (preview|up|destroy) --stack courier( --yes)?")
        return pages.Run(tuple(ours.sub(r"pulumi \1 -s courier", command) for command in step.commands))

    steps = [by_the_cli(step) for step in pages.steps(TUTORIAL)]
    (first,) = (number for number, step in enumerate(steps) if "pulumi preview" in str(step))
    steps.insert(first, pages.Run(("pulumi stack init courier",)))
    assert sum("pulumi" in command for step in steps if isinstance(step, pages.Run) for command in step.commands) == 7
    follow(ready, steps, **cli_env)


def test_a_page_that_is_followed_is_read_as_saves_edits_commands_and_what_they_print() -> None:
    page = (
        "Save this\nas `a/b.py`:\n\n```python\nx\n```\n\nThen:\n\n```sh\nrun  # it\nmore\n```\n\n```\nwrote 12 bytes\n"
        "...\nin 1.5 s\n```\n\n```diff\n-  a: 1\n+  a: 2\n+  b: 3\n```\n"
    )
    assert list(pages.steps(page)) == [
        pages.Save("a/b.py", "x\n"),
        pages.Run(("run", "more")),
        pages.Shows(("wrote 12 bytes", "in 1.5 s")),
        pages.Edit("  a: 1\n", "  a: 2\n  b: 3\n"),
    ]
    assert pages.shown("wrote 12 bytes").search("x wrote 9 bytes")
    assert pages.shown("in 1.5 s, 3 records").search("in -20.25 s,  3 records")
    assert not pages.shown("3 records").search("4 records")
    assert not pages.shown("in 1.5 s").search("in five s")
