"""Where a stack, its code and the world have come apart, and which of the three moved.

Two questions to the engine, neither of which writes anything: ``refresh --preview-only`` compares the state with what
is really there, ``preview`` compares the code with that. Their answers overlap, because services are looked at before
every update. So each difference is reported once, by comparing three things: what was recorded at the last update, what
is found now, and what the code says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ops import changes, comment, digest, engine, markdown
from ops.changes import MODEL_CONFIG_FILE, SERVED_CONFIG, SERVED_MODEL
from ops.digest import Digest, Step, has_unknown, lookup
from ops.redact import Redactor
from tfserving.contract.storage import PublishedModelOutputs
from tfserving.errors import TFServingError
from tfserving.property_path import parse_path
from tfserving.published import is_changed, what_changed
from tfserving.secret_texts import MASK

Kind = Literal["cloud", "served", "bucket", "code"]

TITLES: Mapping[Kind, tuple[str, str]] = {
    "cloud": ("The cloud was changed", "`pulumi up` puts it back; to keep a change, make it in the code."),
    "served": ("Services serve something else", "`pulumi up` rolls out what the stack says."),
    "bucket": ("The bucket has other versions", "`pulumi up` goes by them; what is served changes only then."),
    "code": ("The code is ahead", "`pulumi up` deploys it."),
}
"""By kind: its title, and what to do where a plain update looks at the resource by itself."""

_REFRESH = "`pulumi up --refresh` puts it back; to keep a change, make it in the code."
_LOOKED_AT = (
    changes.SERVED_CONFIG,
    changes.SERVED_MODEL,
    MODEL_CONFIG_FILE,
    changes.EAS_SERVICE,
    changes.BUCKET_CONTENTS,
    changes.TRAFFIC_SPLIT,
    changes.TRAFFIC_ROUTE,
    changes.CLUSTER_OBJECT,
)
"""Types that the engine reads before every update; others are compared with the state."""

_SERVED = (SERVED_CONFIG, SERVED_MODEL)
_ELEMENT = re.compile(r"\w+\[\d+\]")
_ADDRESS = re.compile(r"(?:services\.(\w+)|service)\.(token|url|target)")
"""Inputs of both that no code says: they come from the service, so a change is the cloud's."""


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        kind: ``cloud``: a resource is not as it was deployed. ``served``: services answer otherwise, or their config
            file says otherwise. ``bucket``: versions of a model that goes by the bucket have come or gone, and what
            follows from that. ``code``: the code says something that was not deployed.
        subject: resource, service or model.
        text: the difference.
        todo: what to do about it.
    """

    kind: Kind
    subject: str
    text: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}" if self.subject else self.text


@dataclass(frozen=True)
class Report:
    """What a check of one stack found.

    Attributes:
        stack: its name.
        findings: differences, in the order of :data:`TITLES`.
        unchecked: what could not be looked at, and why. With any of these, no findings do not mean no drift.
        notes: warnings of the engine.
    """

    stack: str
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0: no drift. 7: drift. 1: none found, but not everything could be checked."""
        if self.findings:
            return engine.CHANGES
        return 1 if self.unchecked else 0


def check(
    stack: str, which: engine.Engine, redactor: Redactor, project_dir: Path = engine.PROJECT_DIR, seconds: float = 1800
) -> Report:
    """Checks a stack. What cannot be checked is part of the report.

    Args:
        stack: stack name.
        which: whose stack it is.
        redactor: masks what the engine prints.
        project_dir: the directory of ``Pulumi.yaml``.
        seconds: how long each of the two questions may take.
    """
    unchecked: list[str] = []

    def ask(what: str, *arguments: str) -> Digest | None:
        try:
            done = engine.run(stack, arguments, which, project_dir, seconds)
            if done.code in (0, engine.CHANGES):
                found = digest.parse(done.out, redactor)
                unchecked.extend(f"{what}: {each.text}" for each in found.errors)
                if done.code == engine.CHANGES and not found.has_changes:
                    unchecked.append(f"{what}: the engine reports changes and does not say which")
                return found
            unchecked.append(f"{what}: {_why(done, redactor)}")
        except TFServingError as error:
            unchecked.append(f"{what}: {redactor.text(str(error))}")
        return None

    found = ask("what is really there", "refresh", "--preview-only", "--expect-no-changes", "--json")
    if found is None:
        # Without it every difference would look like one of the code.
        return Report(stack, unchecked=tuple(unchecked))
    wanted = ask("what the code says", "preview", "--json")
    report = compare(stack, found, wanted or Digest())
    return replace(report, unchecked=(*unchecked, *report.unchecked))


def _why(done: engine.Done, redactor: Redactor) -> str:
    try:
        errors = digest.parse(done.out, redactor).errors
    except digest.DigestError:
        errors = ()
    return "\n".join(dict.fromkeys(each.text for each in errors)) or redactor.text(done.reason)


def compare(stack: str, found: Digest, wanted: Digest) -> Report:
    """What differs.

    Args:
        stack: stack name.
        found: of ``refresh --preview-only``: old states are what was recorded, new ones what is there.
        wanted: of ``preview``: new states are what the code says.
    """
    findings: list[Finding] = []
    unchecked: list[str] = []
    drifted: dict[str, Step] = {}
    for step in found.steps:
        if step.changes or step.new.get("initErrors"):
            drifted[step.urn] = step
            seen = _in_the_world(step) if step.changes or step.type in _SERVED else ()
            todo = "" if step.type in _LOOKED_AT else _REFRESH
            findings += [replace(each, todo=todo if each.kind == "cloud" else "") for each in seen]
            unchecked += _not_asked(step)
    recorded = {step.urn: step.old for step in found.steps if step.old}
    gone = _gone_services(drifted.values())
    findings = [each for each in findings if each.kind != "served" or each.subject not in gone]
    for step in wanted.changed:
        if _comes_with(step, gone, recorded.get(step.urn)):
            continue  # the service is gone, which is reported already
        findings += _in_the_code(step, recorded.get(step.urn), drifted.get(step.urn))
    findings = _by_the_bucket(findings, wanted, recorded)
    file_is_gone = any(step.type == MODEL_CONFIG_FILE and step.op == "delete" for step in drifted.values())
    if file_is_gone:
        findings = [each for each in findings if each.text != changes.FILE_IS_GONE or each.subject]
    unchecked = list(dict.fromkeys(unchecked)) or list(_untold(found, wanted, findings))
    order = list(TITLES)
    notes = (each.text for each in found.diagnostics if each.severity == "warning" and each.urn not in drifted)
    return Report(
        stack,
        tuple(sorted(dict.fromkeys(findings), key=lambda each: order.index(each.kind))),
        tuple(unchecked),
        tuple(dict.fromkeys(notes)),
    )


def _by_the_bucket(
    findings: Iterable[Finding], wanted: Digest, recorded: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """The findings, those that come of versions in the bucket as such: nobody has changed the code."""
    moved: set[str] = set()
    for step in wanted.changed:
        if step.type == changes.PUBLISHED_MODEL and step.op == "update" and step.new_inputs().get("fromBucket") is True:
            before = _table(_table(recorded.get(step.urn, step.old).get("inputs")).get("versions"))
            if before.keys() != _table(step.new_inputs().get("versions")).keys():
                moved.add(changes.plain(step.after("name")))
    if not moved:
        return list(findings)
    names = "|".join(map(re.escape, moved))
    follows = re.compile(
        rf"(?:{names}): (?:[+-] version |policy |requests without )|\S+: (?:{names}) serves version |"
        rf"\S+: published\.(?:{names})\b"
    )
    return [
        replace(each, kind="bucket") if each.kind == "code" and follows.match(each.text) else each for each in findings
    ]


def _gone_services(drifted: Iterable[Step]) -> frozenset[str]:
    """Names of services that are no longer there."""
    gone = (step for step in drifted if step.type == changes.EAS_SERVICE and step.op == "delete")
    return frozenset(changes.plain(step.before("name") or step.name) for step in gone)


def _comes_with(step: Step, gone: frozenset[str], recorded: Mapping[str, Any] | None) -> bool:
    """Whether a step only proves again what a service serves that is gone; a changed declaration is more than that."""
    if step.type != SERVED_MODEL or step.op == "delete" or changes.service_of(step) not in gone:
        return False
    versions = _table((recorded or step.old).get("inputs")).get("versions")
    return versions is None or versions == step.new_inputs().get("versions")


def _untold(found: Digest, wanted: Digest, findings: Sequence[Finding]) -> Iterator[str]:
    """Changes that the engine counts and does not describe are never nothing."""
    if found.has_changes and not any(each.kind in ("cloud", "served") for each in findings):
        yield f"what is really there: the engine reports changes and does not say which ({comment.counts(found)})"
    if wanted.has_changes and not findings:
        yield f"what the code says: the engine reports changes and does not say which ({comment.counts(wanted)})"


# ---- recorded against found ----------------------------------------------------------------------------------------


def _in_the_world(step: Step) -> Iterator[Finding]:
    match step.type:
        case changes.SERVED_CONFIG | changes.SERVED_MODEL:
            yield from _served(step)
        case changes.MODEL_CONFIG_FILE:
            yield from _config_file(step)
        case changes.PUBLISHED_MODEL:
            yield from _published(step)
        case changes.TRAFFIC_SPLIT | changes.TRAFFIC_ROUTE:
            group = changes.plain(step.before("group") or step.name)
            told = changes.traffic_changes("", step.old_inputs(), step.new_inputs())
            if step.op == "delete":
                told = ["the group is gone"]
            yield from (Finding("cloud", group, text.removeprefix(": ")) for text in told or ["is not ready"])
        case changes.EAS_SERVICE:
            name = changes.plain(step.before("name") or step.name)
            gone = step.op == "delete"
            for text in ["the service is gone"] if gone else changes.service_changes(step) or ["is not ready"]:
                yield Finding("cloud", name, text)
        case _:
            if step.custom and not step.is_provider:
                texts = ["is gone"] if step.op == "delete" else _by_element(changes.properties(step))
                yield from (Finding("cloud", f"{step.type} {step.name}", text) for text in texts or ["is not ready"])


def _by_element(properties: Iterable[str]) -> list[str]:
    """Changed properties, those of one element of a list (a lifecycle rule) as one difference."""
    grouped: dict[str, list[str]] = {}
    for each in properties:
        shown = each[2:]
        element = _ELEMENT.match(shown)
        grouped.setdefault(element[0] if element else shown, []).append(shown)
    return ["; ".join(group) for group in grouped.values()]


def _served(step: Step) -> Iterator[Finding]:
    if step.op == "delete":
        whose = changes.service_of(step) if step.type == SERVED_MODEL else ""
        yield Finding("served", whose, "nothing is rolled out any more")
        return
    expected = step.old_inputs()
    service = changes.service_of(step) if step.type == SERVED_MODEL else ""
    silent = changes.unasked(step.type, service, step.new)
    served = changes.served_by_service(expected, step.new_outputs(), service)
    yield from (Finding("served", *each) for each in changes.served_differences(*served) if each[0] not in silent)
    for text in changes.file_differences(expected.get("file"), step.new_outputs().get("file")):
        yield Finding("served", "", text)


def _not_asked(step: Step) -> Iterator[str]:
    service = changes.service_of(step)
    if step.type in _SERVED and (silent := changes.unasked(step.type, service, step.new)):
        yield from (f"what {service} serves: {reason}" for service, reason in silent.items())
    else:
        yield from (f"{step.name}: {error}" for error in step.new.get("initErrors") or ())


def _config_file(step: Step) -> Iterator[Finding]:
    key = changes.plain(step.before("key") or step.name)
    if step.op == "delete":
        yield Finding("served", key, "the model config file is gone")
    else:
        yield from (Finding("served", key, each[2:]) for each in changes.properties(step))


def _published(step: Step) -> Iterator[Finding]:
    name = changes.plain(step.before("name") or step.name)
    before = _table(step.old_inputs().get("versions"))
    after = {} if step.op == "delete" else _table(step.new_inputs().get("versions"))
    changed = PublishedModelOutputs.read(step.new_outputs()).changes or {}
    for number in sorted({*before, *after}, key=lambda each: (len(each), each)):
        was, now = before.get(number), after.get(number)
        if now is None:
            yield Finding("cloud", name, f"version {number} is no longer complete in the bucket")
        elif was is None:
            yield Finding("cloud", name, f"version {number} is in the bucket and not in the stack")
        elif was != now:
            what = what_changed(str(now), changed.get(number)) if is_changed(str(now)) else "other content"
            yield Finding("cloud", name, f"version {number} is not as published: {what}")


# ---- recorded against the code -------------------------------------------------------------------------------------


def _in_the_code(step: Step, recorded: Mapping[str, Any] | None, drifted: Step | None) -> Iterable[Finding]:
    if drifted is not None and (step.op == "create" or (drifted.op == "delete" and step.op != "delete")):
        return ()  # it is gone, which is reported already
    if step.op in ("create", "delete"):
        return _told(step)
    since = recorded or step.old
    if step.is_provider:
        old, new = _table(since.get("inputs")), step.new_inputs()
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        return [Finding("code", "", f"settings of provider {step.name}: {', '.join(keys) or 'a secret one'}")]
    follows = any(has_unknown(lookup(step.new.get("inputs"), parse_path(path))) for path in step.diff)
    paths = [path for path in step.diff or step.diff_keys if _differs(path, since, step, drifted, follows)]
    addresses = [match for path in paths if (match := _ADDRESS.fullmatch(path))]
    found = [
        Finding("cloud", match[1] or changes.service_of(step), f"its {match[2]} is another one") for match in addresses
    ]
    if len(found) < len(paths):
        diff = {path: step.diff.get(path, "update") for path in paths if not _ADDRESS.fullmatch(path)}
        return [*found, *_told(replace(step, old=since, diff=diff))]
    if found or drifted is not None or follows:
        return found  # what else there is puts right what has drifted, or comes of another change
    if not step.custom:
        return _told(step)
    what = ", ".join(sorted(step.diff) or step.diff_keys) or "is not ready"
    return [Finding("code", step.name, f"the last update did not end well and is to be done again ({what})")]


def _differs(path: str, recorded: Mapping[str, Any], step: Step, drifted: Step | None, follows: bool) -> bool:
    """Whether the code says something else at a path than what was recorded."""
    place = parse_path(path)
    before, now = lookup(recorded.get("inputs"), place), lookup(step.new.get("inputs"), place)
    if has_unknown(now):
        return False
    if before == now and _hides(now):
        # Two secrets look alike here; the engine compared them.
        return not follows and (drifted is None or path not in drifted.diff)
    return bool(before != now)


def _hides(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_hides, value.values()))
    if isinstance(value, list):
        return any(map(_hides, value))
    return isinstance(value, str) and MASK in value


def _told(step: Step) -> list[Finding]:
    lines = [line.text for line in changes.meaning(Digest((step,)))]
    if not lines and step.custom and not step.is_provider:
        lines = [f"{step.name}: {each[2:]}" for each in changes.properties(step)]
    return [Finding("code", "", text) for text in lines]


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# ---- as text -------------------------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """For a terminal."""
    lines = []
    for title, todo, found in _sections(report):
        lines += [f"{title}:", *(f"  {markdown.visible(str(each))}" for each in found), f"  -> {todo}", ""]
    if report.unchecked:
        lines += ["Could not be checked:", *(f"  {line}" for each in report.unchecked for line in _lines(each)), ""]
    if report.notes:
        lines += ["Notes:", *(f"  {line}" for each in report.notes for line in _lines(each)), ""]
    return "\n".join([*lines, f"stack {report.stack}: {verdict(report)}"])


def _sections(report: Report) -> Iterator[tuple[str, str, list[Finding]]]:
    """Title, what to do, and the differences of which that is true; in the order of :data:`TITLES`."""
    for kind, (title, todo) in TITLES.items():
        found = [each for each in report.findings if each.kind == kind]
        for what in sorted({each.todo for each in found}):
            yield title, what or todo, [each for each in found if each.todo == what]


def verdict(report: Report) -> str:
    """The result in one line."""
    if report.findings:
        count = len(report.findings)
        more = ", and not everything could be checked" if report.unchecked else ""
        return f"{count} difference{'s' if count != 1 else ''}{more}"
    return "could not be checked, which does not mean that there is no drift" if report.unchecked else "no drift"


def as_json(report: Report) -> dict[str, Any]:
    """For programs. ``drift`` is null where that is not known."""
    known = bool(report.findings) or not report.unchecked
    return {
        "stack": report.stack,
        "drift": bool(report.findings) if known else None,
        "findings": [asdict(each) | {"todo": each.todo or TITLES[each.kind][1]} for each in report.findings],
        "unchecked": list(report.unchecked),
        "notes": list(report.notes),
    }


def as_markdown(report: Report) -> str:
    """For an issue. Says the same as long as nothing changes: there is no time in it."""
    text = comment.Text(lines=[comment.marker("drift", report.stack)])
    text.lines.append(f"Stack {markdown.code(report.stack, 100)}: {verdict(report)}.")
    for title, todo, found in _sections(report):
        items = [f"- {markdown.code(str(each))}" for each in found]
        text.add(comment.Section([f"### {title}", ""], items, ["", todo], of="differences", share=0.3))
    shown = [f"- {markdown.code(each, 2000)}" for each in report.unchecked]
    text.add(comment.Section(["### Could not be checked", ""], shown, of="problems", share=0.2))
    text.add(comment.Section(["### Notes", ""], [f"- {markdown.code(each, 2000)}" for each in report.notes], share=0.2))
    return str(text)


def _lines(text: str) -> Sequence[str]:
    return [markdown.visible(line) for line in text.splitlines()] or [""]
