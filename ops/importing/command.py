"""``python -m ops import``: from running services, a model config file and a bucket to a stack file."""

from __future__ import annotations

from collections.abc import Sequence

from ops import answer
from ops.doctor.cloud import clients_of
from ops.importing import report, sources, target
from ops.importing.checked import check
from ops.importing.gather import gather
from ops.importing.sources import ImportSourceError


def main(argv: Sequence[str]) -> int:
    """Writes a stack file, or prints it, and tells what of it is as it was.

    Returns:
        0: the stack can be previewed. 1: a preview would refuse it; the file is written all the same.

    Raises:
        TFServingError: nothing can be imported: what was named is not there, or the cloud refuses.
    """
    parser = _parser()
    chosen = parser.parse_args(list(argv))
    goal = target.choose(chosen.stack, chosen.like, chosen.region)
    clients = clients_of(goal.stack)
    named = sources.sort(chosen.source)
    if chosen.all:
        named.services += [name for name in sources.all_services(clients) if name not in named.services]
    if not chosen.source and not named.services:
        raise ImportSourceError("nothing was named to be imported: a service, a file, an oss:// URI, or --all")
    gathered = gather(named, goal, clients)
    checked = check(gathered.draft, goal.present)
    text = checked.draft.text()
    told = report.of(goal, gathered, checked)
    if goal.name:
        goal.write(text.whole(), text.lines())
        answer.give(chosen, told.as_json(), told.as_text())
    else:
        answer.give(chosen, told.as_json() | {"text": text.whole()}, text.whole().rstrip())
        if chosen.format != "json":
            answer.note(told.as_text())
    return 0 if checked.settings is not None else 1


def _parser() -> answer.Parser:
    command = answer.Parser(
        prog="python -m ops import",
        description="Makes a stack file of what is there: services, the model config file they read, and versions in "
        "the bucket. Changes nothing in the cloud; says what `up` would change and what could not be carried over.",
        epilog="Exit status: 0 the stack can be previewed, 1 it cannot yet, or nothing could be imported.",
    )
    command.add_argument(
        "source",
        nargs="*",
        metavar="SOURCE",
        help="name of a service; file with service JSON or a model config file; oss://bucket/file of a model config "
        "file; oss://bucket/prefix/ with <model>/<version>/saved_model.pb",
    )
    command.add_argument("--all", action="store_true", help="every service of the region that runs TensorFlow Serving")
    command.add_argument("--stack", "-s", default="", help="write the file of this stack (default: print it)")
    command.add_argument("--region", default="", help="region id, such as cn-hangzhou")
    command.add_argument("--like", default="", metavar="STACK", help="take region and endpoints from another stack")
    return command
