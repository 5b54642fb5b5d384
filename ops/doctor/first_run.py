"""``ops doctor --first-run``: every question of :mod:`ops.doctor.questions`, answered as far as a machine can.

The report is Markdown, to be completed by a person and filed back. It holds no token, no key and no account.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from ops import outputs
from ops.doctor.cloud import clients_of
from ops.doctor.looks import LOOKS, Seen, Verdict, World
from ops.doctor.questions import QUESTIONS, Question
from ops.doctor.stack import StackConfig
from ops.engine import PROJECT_DIR, Engine
from ops.outputs import ExportedService, OutputsError
from ops.redact import Redactor
from ops.state import StateError
from tfserving.contract import VERSION
from tfserving.errors import TFServingError

_BEGIN: Final = "<!-- questions -->"
_END: Final = "<!-- end -->"
PAGE: Final = "docs/first-real-run.md"

_SANDBOX: Final = (
    "\nThis stack is one of the sandbox: the report shows what one looks like, and is no run on a real account."
)

_ACCOUNT = re.compile(r"(?<!\d)\d{15,17}(?!\d)")
"""An account id. The URL of a service begins with it."""


@dataclass(frozen=True)
class Answer:
    """A question, and what is known about it now.

    Attributes:
        question: the question.
        verdict: see :data:`ops.doctor.looks.Verdict`; ``yours``: no machine can look at it.
        text: what was seen, or why nothing was.
    """

    question: Question
    verdict: Verdict | Literal["yours"]
    text: str


def world_of(stack: StackConfig, engine: Engine = "auto", project_dir: Path = PROJECT_DIR) -> World:
    """What there is to look at.

    Raises:
        CloudError: the cloud refuses, or cannot be reached.
        EngineError: there is no engine to ask for the stack's outputs.
        DoctorError: the credentials of the stack cannot be read.
    """
    clients = clients_of(stack, project_dir)
    exported: dict[str, ExportedService] = {}
    try:
        exported = outputs.services(stack.name, engine, project_dir)
    except (OutputsError, StateError) as error:
        raise OutputsError(f"{error}. A first run is looked at once the stack is deployed") from None
    found = {name: clients.eas.describe(name) for name in stack.needs.services}
    described = {name: service for name, service in found.items() if service is not None}
    return World(stack, clients, described, exported)


def answers(world: World) -> list[Answer]:
    """Every question with what a machine sees. A look that fails says why, and holds up no other."""
    redactor = Redactor(service.token for service in world.exported.values())
    redactor.remember(service.token for service in world.described.values())
    found = []
    for question in QUESTIONS:
        look = LOOKS.get(question.id)
        if look is None:
            found.append(Answer(question, "yours", question.look))
            continue
        try:
            seen = look(world)
        except TFServingError as error:
            seen = Seen("not seen", str(error))
        found.append(Answer(question, seen.verdict, _ACCOUNT.sub("<uid>", redactor.text(seen.text))))
    return found


def report(stack: StackConfig, found: Sequence[Answer]) -> str:
    """The report, to be completed and filed back."""
    lines = [
        "# First run on a real account",
        "",
        f"Release {VERSION}, region {stack.region}. {summary(found)}",
        *([_SANDBOX] if stack.is_local else []),
        "",
        "Complete it where it says **Answer**, read it once more, and file it: the issue form",
        "'Report of a first run on a real account' of the repository takes it as it is.",
    ]
    for area, group in groupby(found, key=lambda answer: answer.question.area):
        lines += ["", f"## {area}"]
        for answer in group:
            lines += ["", *_entry(answer)]
    return "\n".join(lines) + "\n"


def summary(found: Iterable[Answer]) -> str:
    """How many answers of each kind there are, in a sentence."""
    counts = Counter(answer.verdict for answer in found)
    order: tuple[Verdict | Literal["yours"], ...] = ("as assumed", "different", "seen", "not seen", "yours")
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict]) + "."


def _entry(answer: Answer) -> Iterable[str]:
    question = answer.question
    yield f"### {question.id}: {question.text}"
    yield ""
    yield f"- Assumed: {question.assumed}"
    if answer.verdict == "yours":
        yield f"- To look: {answer.text}"
        yield "- **Answer**:"
    else:
        yield f"- {answer.verdict.capitalize()}: {answer.text}"
        if answer.verdict in ("different", "not seen"):
            yield "- **Answer**, if you know more:"


def table() -> str:
    """The list of the page: one table an area."""
    lines: list[str] = []
    for area, group in groupby(QUESTIONS, key=lambda question: question.area):
        lines += ["", f"### {area}", "", "| question | taken for true until then | how to see it |", "| -- | -- | -- |"]
        for question in group:
            look = "the command looks" if question.id in LOOKS else question.look
            cells = (f"`{question.id}`: {question.text}", question.assumed, look)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines).strip("\n")


def page(project: Path = PROJECT_DIR) -> str:
    """The page with its list as it ought to be."""
    text = (project / PAGE).read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{_BEGIN}\n")
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{table()}\n\n{_END}{after}"
