"""``python -m ops bucket``: what keeps a bucket from being deleted, and how it is emptied."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import yaml

from ops import answer, options
from ops.doctor.cloud import clients_of
from ops.doctor.stack import load
from ops.engine import PROJECT_DIR, short_name
from ops.tables import Report, Table
from provider.own_bucket import OwnBucket
from tfserving.bucket_contents import Contents
from tfserving.errors import CloudError, TFServingError


def main(argv: Sequence[str]) -> int:
    """Runs the command.

    Returns:
        0: done; ``show``: nothing is in the way. 1: something is, or the answer to the question was not the name.

    Raises:
        TFServingError: no such stack or bucket, no credentials, or OSS refuses.
    """
    chosen = _parser().parse_args(list(argv))
    stack = load(chosen.stack)
    bucket = OwnBucket(clients_of(stack).oss, chosen.name)
    project = yaml.safe_load((PROJECT_DIR / "Pulumi.yaml").read_text(encoding="utf-8"))["name"]
    owner = f"{project}/{short_name(chosen.stack)}"
    try:
        contents = bucket.contents(owner)
    except CloudError as error:
        if error.code == "NoSuchBucket":
            raise TFServingError(f"there is no bucket {chosen.name}; nothing is in the way") from None
        raise
    value = {
        "bucket": chosen.name,
        "owner": owner,
        "current": len(contents.current),
        "removable": len(contents.removable),
        "inTheWay": contents.in_the_way(),
    }
    described = _described(chosen.name, owner, contents)
    if chosen.action == "show":
        answer.give(chosen, value, described)
        return 1 if contents.in_the_way() else 0
    say = answer.note if chosen.format == "json" else print
    say(described.text())
    emptied = _empty(bucket, contents, say, everything=chosen.everything, sure=chosen.yes)
    answer.give(chosen, value | {"emptied": emptied}, "")
    return 0 if emptied else 1


def _empty(bucket: OwnBucket, contents: Contents, say: Callable[[str], None], *, everything: bool, sure: bool) -> bool:
    versions, uploads = list(contents.removable), list(contents.own_uploads)
    if everything:
        versions += [*contents.current, *contents.strange]
        uploads += contents.uploads
    if not versions and not uploads:
        say("nothing to delete")
        return True
    what = f"{len(versions)} object versions and delete markers, {len(uploads)} unfinished uploads"
    say(f"deletes for good, so that nothing can restore it: {what}")
    if everything and contents.current:
        say(f"warning: {len(contents.current)} of them are current objects, which services may be reading")
    if not sure:
        say(f"Type the name of the bucket to delete them: {bucket.name}")
        if sys.stdin.readline().strip() != bucket.name:
            say("nothing was deleted")
            return False
    bucket.remove(versions, uploads)
    say(f"deleted: {what}")
    return True


def _described(name: str, owner: str, contents: Contents) -> Report:
    rows = [
        (f"{len(contents.current)}", "current objects that this stack published"),
        (f"{len(contents.removable)}", "old versions and delete markers of what it published"),
    ]
    return Report(
        [
            f"bucket {name}, seen from {owner}",
            Table(("OBJECTS", "WHAT"), rows, right=[0]),
            f"in the way of a deletion: {contents.in_the_way() or 'nothing of others'}",
        ]
    )


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops bucket",
        description="Says what keeps a bucket from being deleted, with every version of every object, and deletes it.",
        epilog="Exit status: 0 done, 1 something is in the way or was refused.",
    )
    command.add_argument(
        "action", choices=("show", "empty"), help="show: change nothing; empty: delete, after a question"
    )
    command.add_argument("name", help="name of the bucket")
    options.add_stack_name(command)
    command.add_argument(
        "--everything",
        action="store_true",
        help="empty: current objects and those of others, too (default: only old versions of what the stack published)",
    )
    command.add_argument("--yes", "-y", action="store_true", help="empty: do not ask")
    return command
