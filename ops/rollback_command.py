"""``python -m ops rollback MODEL``: a label back to the version that it named before."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ops import answer, options, promote, state
from ops.preview_command import redactor_for
from ops.promote_command import tell_kept
from ops.promotion_files import Files
from tfserving import promotion
from tfserving.promotion import PromotionError, Record


def main(argv: Sequence[str]) -> int:
    """Moves the label back, by one update of the stack.

    Returns:
        0: done. 1: not wanted. 3: the update failed, and the stack is where it was.

    Raises:
        TFServingError: no version is known to go back to, or it cannot be done.
    """
    chosen = _parser().parse_args(list(argv))
    files = Files(chosen.stack)
    with files.lock():
        return _roll_back(chosen, files)


def _roll_back(chosen: argparse.Namespace, files: Files) -> int:
    if files.record() is not None:
        raise PromotionError(
            "a promotion of this stack is under way. Fix: `.venv/bin/python -m ops promote --abort` sets it back"
        )
    promotion.see_known(chosen.model, chosen.label, files.value)
    now = files.value((promotion.MODELS, chosen.model, "labels", chosen.label))
    kept = promotion.kept_labels(chosen.model, chosen.label, files.value)
    # A canary keeps its own label when its version is promoted: what is set back is the version, wherever it is.
    also = {name: place for name, place in kept.items() if files.value(place) == now}
    staying = {name: place for name, place in kept.items() if name not in also}
    to = version_before(state.read(chosen.stack, chosen.engine), chosen.model, chosen.label, staying)
    steps = promotion.plan(chosen.model, to, chosen.label, files.value, (), also=tuple(also.values()))
    if not steps:
        text = f"{chosen.model}: label {chosen.label} is version {to} already; the stack file is ahead of its services"
        raise PromotionError(f"{text}. Fix: deploy it")
    tell_kept(staying)
    answer.note(f"{chosen.model}: label {chosen.label} {now} -> {to}, back to what it was before")
    if not chosen.yes:
        if not sys.stdin.isatty():
            raise PromotionError("--yes must be passed where there is no terminal to ask on")
        answer.note("Go back? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 1
    record = Record(chosen.model, to, chosen.label, steps, id=secrets.token_hex(4))
    redactor = redactor_for(chosen.stack, chosen.engine)
    ended = promote.Run(chosen.stack, chosen.engine, files, redactor, answer.note).run(record)
    value = promote.as_value(ended, chosen.stack) | {"from": now}
    done = ended.outcome == "done"
    text = f"{chosen.model}: label {chosen.label} is version {to if done else now}" + promote.as_lines(ended.reasons)
    answer.give(chosen, value, text)
    return 0 if done else 3


def version_before(resources: Sequence[state.Resource], model: str, label: str, staying: Collection[str] = ()) -> int:
    """The version that a label named before, as the state has it; one that it was set back from is none.

    Args:
        resources: of the stack.
        model: whose label.
        label: that goes back.
        staying: services whose labels do not go back with it.

    Raises:
        PromotionError: the state has none, or services disagree.
    """
    found = {
        int(version)
        for resource in resources
        if resource.kind == state.SERVED_CONFIG and not _all_in(resource.inputs.get("services"), staying)
        for version in (((resource.outputs.get("previous") or {}).get(model) or {}).get(label) or ())[-1:]
    }
    if len(found) == 1:
        return found.pop()
    if found:
        shown = " or ".join(map(str, sorted(found)))
        raise PromotionError(
            f"label {label} of {model} was version {shown} on different services. Fix: promote --to one"
        )
    raise PromotionError(
        f"the state knows no version that label {label} of {model} could go back to: it has not moved since that is "
        "kept, or it was set back already. Fix: name one with `.venv/bin/python -m ops promote`"
    )


def _all_in(services: Mapping[str, Any] | None, staying: Collection[str]) -> bool:
    return bool(services) and all(name in staying for name in services or ())


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops rollback",
        description="Moves a label back to the version that it named before, by one update of the stack. Done again, "
        "it goes one further back; a version that was set back is never gone to.",
        epilog="Exit status: 0 done, 3 the update failed and the stack is where it was, 1 an error.",
    )
    command.add_argument("model", type=options.model_name, metavar="MODEL", help="model name")
    command.add_argument("--label", type=options.label, default="stable", help="the label (default: %(default)s)")
    command.add_argument("--yes", "-y", action="store_true", help="do not ask")
    options.add_stack(command)
    return command
