"""``python -m ops preview-comment``: what a change of the stack means, for the pull request that makes it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ops import answer, comment, digest, engine, github, options, outputs
from ops.redact import Redactor
from tfserving.errors import TFServingError


class PreviewError(TFServingError):
    """The preview cannot be read."""


def main(argv: Sequence[str]) -> int:
    """Previews a stack, or reads a preview, and writes or posts the comment.

    Returns:
        0; 1 where the preview failed. The comment is made in both cases.

    Raises:
        TFServingError: the preview cannot be read, or GitHub refuses the comment.
    """
    chosen = _parser().parse_args(list(argv))
    redactor = redactor_for(chosen.stack, chosen.engine)
    preview = _read(chosen, redactor) if chosen.input else _run(chosen, redactor)
    text = comment.render(preview)
    if chosen.output:
        try:
            Path(chosen.output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise PreviewError(f"--output {chosen.output}: cannot be written: {error}") from error
    posted = None
    if chosen.post:
        number = chosen.pull_request or github.pull_request_number()
        posted = github.GitHub.from_environment().put_comment(number, comment.marker("preview", chosen.stack), text)
        answer.note(f"comment on pull request {number}: {posted.url}")
    failed = bool(preview.failure or (preview.digest and preview.digest.errors))
    value = {"stack": chosen.stack, "failed": failed, "markdown": text, "comment": posted.url if posted else None}
    answer.give(chosen, value, "" if chosen.output or chosen.post else text.removesuffix("\n"))
    if failed:
        print(f"error: the preview of stack {chosen.stack!r} failed; the comment says why", file=sys.stderr)
    return int(failed)


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops preview-comment",
        description="Previews a stack and says in Markdown what would change: what it means first, secrets never.",
        epilog="In a GitHub workflow, --post needs GITHUB_TOKEN with `pull-requests: write`.",
    )
    options.add_stack(command)
    command.add_argument(
        "--input", metavar="FILE", help="read the output of `pulumi preview --json` (- is stdin) instead of previewing"
    )
    command.add_argument("--save-plan", metavar="FILE", help="Pulumi only: also save the plan for `pulumi up --plan`")
    command.add_argument("--output", metavar="FILE", help="write the comment to a file instead of printing it")
    command.add_argument(
        "--post", action="store_true", help="make it the one comment of this stack on the pull request"
    )
    command.add_argument(
        "--pull-request", type=options.count, metavar="N", help="with --post (default: the one of this run)"
    )
    return command


def redactor_for(stack: str, which: engine.Engine, project_dir: Path = engine.PROJECT_DIR) -> Redactor:
    """A redactor that knows the credentials of this environment and, where it can be read, the tokens of the stack."""
    redactor = Redactor()
    redactor.learn_environment(os.environ)
    # A stack that is not there yet has no tokens. For one whose outputs cannot be read, the preview says so itself.
    with contextlib.suppress(TFServingError):
        redactor.learn(outputs.read(stack, which, project_dir))
    return redactor


def _read(chosen: argparse.Namespace, redactor: Redactor) -> comment.Preview:
    try:
        raw = sys.stdin.read() if chosen.input == "-" else Path(chosen.input).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PreviewError(f"--input {chosen.input}: cannot be read: {error}") from error
    try:
        found = digest.parse(raw.removeprefix("\ufeff"), redactor)
    except digest.DigestError as error:
        return _preview(chosen.stack, None, f"{error}. The log of the run says why")
    return _preview(chosen.stack, found)


def _run(chosen: argparse.Namespace, redactor: Redactor) -> comment.Preview:
    arguments = ["preview", "--json"]
    if chosen.save_plan:
        if engine.resolve(chosen.stack, chosen.engine) == "sandbox":
            raise PreviewError("--save-plan: the sandbox engine has no plans; use the Pulumi CLI")
        arguments += ["--save-plan", chosen.save_plan]
    done = engine.run(chosen.stack, arguments, chosen.engine)
    failure = "" if done.code == 0 else redactor.text(done.reason)
    try:
        found = digest.parse(done.out, redactor)
    except digest.DigestError as error:
        return _preview(chosen.stack, None, failure or str(error))
    return _preview(chosen.stack, found, redactor.text(failure))


def _preview(stack: str, found: digest.Digest | None, failure: str = "") -> comment.Preview:
    return comment.Preview(stack, found, failure, github.run_url(), github.commit())
