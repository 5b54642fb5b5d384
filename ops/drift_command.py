"""``python -m ops drift``: is the stack still what it was deployed as, and is it what the code says?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ops import answer, comment, drift, github, options
from ops.preview_command import redactor_for

_LABEL = "drift"


def main(argv: Sequence[str]) -> int:
    """Checks a stack and prints what differs; keeps the issue of the stack up to date where asked to.

    Returns:
        0: no drift. 7: drift. 1: could not be checked.

    Raises:
        TFServingError: GitHub refuses the issue.
    """
    chosen = _parser().parse_args(list(argv))
    report = drift.check(chosen.stack, chosen.engine, redactor_for(chosen.stack, chosen.engine), seconds=chosen.timeout)
    text = drift.as_markdown(report).removesuffix("\n") if chosen.format == "markdown" else drift.as_text(report)
    answer.give(chosen, drift.as_json(report), text)
    if chosen.issue:
        _keep_issue(report)
    return report.exit_status


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops drift",
        description="Says where stack, code and cloud have come apart. Changes nothing.",
        epilog="Exit status: 0 no drift, 7 drift, any other: could not be checked.",
        formats=("markdown",),
    )
    options.add_stack(command)
    command.add_argument(
        "--issue",
        action="store_true",
        help="keep one GitHub issue per stack: open it on drift, update it, close it when there is none",
    )
    command.add_argument(
        "--timeout",
        type=partial(options.duration, least=1, most=options.DAY),
        default=1800.0,
        metavar="S",
        help="seconds for each of two looks (default: %(default)g)",
    )
    return command


def _keep_issue(report: drift.Report) -> None:
    """A check that could not be made leaves the issue as it is: that is the failed run's business."""
    marker, here = comment.marker("drift", report.stack), github.GitHub.from_environment()
    if report.findings:
        title = f"Stack {report.stack} has drifted"
        post = here.put_issue(marker, title, drift.as_markdown(report), (_LABEL,))
        answer.note(f"issue {post.number}: {post.url}")
    elif not report.unchecked:
        closed = here.close_issue(marker, f"No drift any more: {github.run_url() or 'checked by hand'}")
        if closed is not None:
            answer.note(f"issue {closed.number} is closed: {closed.url}")
