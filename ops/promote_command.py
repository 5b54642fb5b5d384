"""``python -m ops promote MODEL --to N``: a new version, tried and judged, step by step."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial

from ops import answer, options, promote, promotion_requests
from ops.github import GitHub, Post
from ops.metrics_command import add_prometheus
from ops.preview_command import redactor_for
from ops.promotion_files import Files
from tfserving import promotion
from tfserving.durations import as_text
from tfserving.judgement import Limits
from tfserving.promotion import Group, PromotionError, Record
from tfserving.stack_edit import REMOVED, Path

BACK, UNDECIDED = 3, 4
"""Exit status: the version was not good enough, and the stack is where it began; or too few requests to say."""

_STATUS = {"done": 0, "back": BACK, "undecided": UNDECIDED}


def main(argv: Sequence[str]) -> int:
    """Promotes a version, or continues or aborts a promotion that is under way.

    Returns:
        0: done. :data:`BACK`, :data:`UNDECIDED`.

    Raises:
        TFServingError: it cannot be begun, or cannot go on.
    """
    command = _parser()
    chosen = command.parse_args(list(argv))
    if not chosen.resume and not chosen.abort and (not chosen.model or chosen.to is None):
        command.error("MODEL and --to are needed, or --continue, or --abort")
    files = Files(chosen.stack)
    with files.lock():
        return _promote(chosen, files)


def _promote(chosen: argparse.Namespace, files: Files) -> int:
    record = files.record()
    run = promote.Run(chosen.stack, chosen.engine, files, redactor_for(chosen.stack, chosen.engine), answer.note)
    if chosen.resume or chosen.abort:
        if record is None:
            raise PromotionError(f"no promotion of stack {chosen.stack} is under way")
        if chosen.pull_request:
            return _by_request(chosen, files, run, record)
        ended = run.turn_back(record, ("aborted",)) if chosen.abort else run.resume(record)
    elif record is not None:
        raise PromotionError(
            f"a promotion of {record.model} to version {record.to} is under way (step {record.step + 1} of "
            f"{len(record.steps)}). Fix: run it again with --continue, or --abort"
        )
    else:
        planned = _planned(chosen, files)
        if not planned.steps:
            text = f"{chosen.model}: label {chosen.label} is version {chosen.to} already; nothing to do"
            answer.give(chosen, promote.as_value(promote.Ended("done", (), planned), chosen.stack), text)
            return 0
        if chosen.pull_request:
            return _by_request(chosen, files, run, planned)
        if not _confirmed(chosen, planned):
            return 1
        ended = run.run(planned)
    answer.give(chosen, promote.as_value(ended, chosen.stack), _told(ended))
    return _STATUS[ended.outcome]


def _by_request(chosen: argparse.Namespace, files: Files, run: promote.Run, record: Record) -> int:
    hub, base = GitHub.from_environment(), promotion_requests.base_branch()
    requests = promotion_requests.Requests(chosen.stack, chosen.engine, files, run, hub, base)
    post: Post | None
    if chosen.abort:
        ended, post = requests.turn_back(record, ("aborted",))
    elif chosen.resume:
        ended, post = requests.go_on(record)
    else:
        ended, post = promote.Ended("done", (), record), requests.begin(record)
    value = promote.as_value(ended, chosen.stack) | {"pullRequest": post.url if post else None}
    why = promote.as_lines(ended.reasons)
    text = f"pull request {post.number}: {post.url}{why}" if post else f"not decided:{why}"
    answer.give(chosen, value, text)
    return _STATUS[ended.outcome]


def _planned(chosen: argparse.Namespace, files: Files) -> Record:
    promotion.see_known(chosen.model, chosen.label, files.value)
    group = None
    readers: list[str] = []
    kept = promotion.kept_labels(chosen.model, chosen.label, files.value)
    if chosen.traffic:
        weights = files.value((promotion.TRAFFIC, chosen.traffic, "weights"))
        weights = weights if isinstance(weights, dict) else {}
        canary = chosen.canary
        if not canary and weights:
            sets = {name: files.value((promotion.SERVICES, name, "models")) for name in weights}
            canary = promotion.choose_canary(weights, sets, chosen.model)
        group = Group(chosen.traffic, canary, chosen.steps)
        kept.pop(canary, None)
    else:
        every = [name for name in promote.readers(chosen.stack, chosen.engine, chosen.model) if name not in kept]
        if kept and not every:
            places = ", ".join(map(promotion.shown_path, kept.values()))
            raise PromotionError(
                f"no service follows label {chosen.label} of {chosen.model}: {places} say otherwise. Fix: remove the "
                "labels of the services that are to follow it and deploy them, or try the version with --traffic"
            )
        readers, others = promote.judgeable(
            chosen.stack, chosen.engine, every, chosen.prometheus, chosen.prometheus_selector
        )
        for why in others:
            answer.note(f"not judged: {why}")
        if not readers:
            raise PromotionError(
                f"no service that follows the labels of {chosen.model} has counters to judge the version by. Fix: "
                "tf-serving:services.<name>.monitoring: true, or --prometheus URL"
            )
    steps = promotion.plan(chosen.model, chosen.to, chosen.label, files.value, readers, group)
    tell_kept(kept)
    limits = Limits(chosen.max_error_rate, chosen.max_p99, chosen.min_requests)
    return Record(
        chosen.model, chosen.to, chosen.label, steps, limits, chosen.hold,
        prometheus=chosen.prometheus, selector=chosen.prometheus_selector if chosen.prometheus else "",
        id=secrets.token_hex(4),
    )  # fmt: skip


def tell_kept(kept: Mapping[str, Path]) -> None:
    """Tells which services do not move with the label, and what in the stack file says so."""
    for name, place in kept.items():
        answer.note(f"not moved: {name}, which has labels of its own ({promotion.shown_path(place)})")


def _confirmed(chosen: argparse.Namespace, planned: Record) -> bool:
    limits = planned.limits
    lines = [f"promotion of {planned.model} to version {planned.to} on stack {chosen.stack}:"]
    for number, step in enumerate(planned.steps, 1):
        lines.append(f"  {number}. {step.title}")
        for change in step.changes:
            before = "nothing" if change.before is REMOVED else change.before
            lines.append(f"       {'.'.join(change.path)}: {before} -> {change.after}")
        if step.canary:
            against = f"against {', '.join(step.stable)}" if step.stable else "against before"
            lines.append(f"       hold {as_text(planned.hold)}, judge {', '.join(step.canary)} {against}")
    p99 = f", p99 at most {limits.p99 * 1000:g} ms" if limits.p99 is not None else ""
    lines.append(f"  limits: {limits.error_rate:.2%} failed{p99}; at least {limits.requests} requests")
    for line in lines:
        answer.note(line)
    if chosen.yes:
        return True
    if not sys.stdin.isatty():
        raise PromotionError("--yes must be passed where there is no terminal to ask on")
    answer.note("Promote? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _told(ended: promote.Ended) -> str:
    record = ended.record
    match ended.outcome:
        case "done":
            return f"{record.model}: label {record.label} is version {record.to}"
        case "back":
            why = promote.as_lines(ended.reasons)
            return f"{record.model}: version {record.to} was not promoted, the stack is where it began:{why}"
        case _:
            why = promote.as_lines(ended.reasons)
            return (
                f"{record.model}: not decided, step {record.step + 1} of {len(record.steps)} stays as it is:{why}\n"
                "--continue holds once more, --abort goes back"
            )


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops promote",
        description="Promotes a version: each step edits the stack file, updates the stack, holds, and judges the "
        "version by the servers' counters. What is not good enough is set back.",
        epilog=f"Exit status: 0 done, {BACK} set back to where it began, {UNDECIDED} too few requests to decide, 1 an "
        "error. A run that was killed goes on with --continue or --abort.",
    )
    command.add_argument("model", type=options.model_name, metavar="MODEL", nargs="?", help="model name")
    command.add_argument("--to", type=options.version_number, metavar="N", help="the new version")
    command.add_argument(
        "--label", type=options.label, default="stable", help="the label that moves (default: %(default)s)"
    )
    command.add_argument(
        "--traffic", metavar="GROUP", default="", help="try it on shares of this group's requests first"
    )
    command.add_argument("--canary", metavar="SERVICE", default="", help="the group's member that gets it first")
    command.add_argument(
        "--steps", type=_shares, default=(10, 50, 100), metavar="P,P,...", help="percent by step (default: 10,50,100)"
    )
    command.add_argument(
        "--hold", type=options.duration, default=600.0, metavar="TIME", help="how long each step is held (default: 10m)"
    )
    command.add_argument(
        "--max-error-rate", type=_share, default=0.01, metavar="P", help="most requests that may fail (default: 1%%)"
    )
    command.add_argument(
        "--max-p99",
        type=partial(options.duration, least=0.001),
        metavar="TIME",
        help="longest 99th percentile of latency, such as 80ms",
    )
    command.add_argument(
        "--min-requests", type=_count, default=500, metavar="N", help="needed to decide (default: %(default)s)"
    )
    add_prometheus(command)
    options.add_stack(command)
    how = command.add_mutually_exclusive_group()
    how.add_argument("--yes", "-y", action="store_true", help="do not ask")
    how.add_argument(
        "--pull-request", action="store_true", help="change nothing here; open the step as a pull request on GitHub"
    )
    again = command.add_mutually_exclusive_group()
    again.add_argument(
        "--continue", dest="resume", action="store_true", help="go on with the promotion that is under way"
    )
    again.add_argument("--abort", action="store_true", help="set it back to where it began")
    return command


def _shares(text: str) -> tuple[int, ...]:
    try:
        shares = tuple(int(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        shares = ()
    if not shares or list(shares) != sorted(set(shares)) or shares[0] < 1 or shares[-1] > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not rising shares in percent, such as 10,50,100")
    return shares


def _share(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100 if number != text.strip() else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 1% or 0.01")
    return share


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of requests")
    return int(text)
