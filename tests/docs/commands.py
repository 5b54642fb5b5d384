"""Commands of pages, run by a shell as they stand there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import yaml

from tests.docs import pages
from tests.docs.where import MORE_OPTIONS, PLACEHOLDERS
from tests.e2e.checkout import Checkout, Done

MAKE_VARIABLES = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}


def typed(command: str) -> str:
    """A command as a reader types it: with names for its placeholders, and with answers to its questions."""
    for placeholder, name in PLACEHOLDERS.items():
        command = command.replace(placeholder, name)
    return f"{command} {MORE_OPTIONS.get(command, '')}".strip()


def as_written(checkout: Checkout, command: str, answer: str = "", **env: str) -> Done:
    """Runs one line of a page in a shell, in the checkout, with ``answer`` to what it asks."""
    outside = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed(command)],
        cwd=checkout.root,
        env={**outside, **env},
        input=answer,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return Done(done.returncode, done.stdout)


def succeed(checkout: Checkout, command: str, answer: str = "", **env: str) -> str:
    done = as_written(checkout, command, answer, **env)
    assert done.code == 0, f"{command}\n{done.text}"
    return done.text


def written(page: str, known: frozenset[tuple[str, str]], start: str = "") -> Iterator[str]:
    """The commands of a page that are run here, in their order, from the first that begins with ``start``."""
    commands = [command.text for block in pages.page_blocks(page) for command in block]
    first = next(index for index, command in enumerate(commands) if command.startswith(start))
    yield from (command for command in commands[first:] if (page, command) in known)


def edited(checkout: Checkout, stack: str) -> None:
    """The reader's part: the stack file names this machine's sandbox cloud and a bucket of its own."""
    document = checkout.config()
    document["config"]["tf-serving:services"]["multi_http"]["monitoring"] = True
    document["config"]["tf-serving:bucket"] = {"name": f"tf-serving-{stack}", "forceDestroy": True}
    file = checkout.root / "stacks" / f"Pulumi.{stack}.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
