"""What an import tells: what is taken over, what an update changes, what could not be carried over, what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ops.importing.checked import Checked, file_changes, service_changes
from ops.importing.gather import Gathered
from ops.importing.target import Target
from tfserving.importing.draft import MODELS, SERVICES

_OWN = ('labels["managed-by"]', 'labels["pulumi-owner"]')
_OF_EAS = " is not declared: it goes, unless EAS adds it by itself"


@dataclass(frozen=True)
class Report:
    """What came of an import.

    Attributes:
        file: the stack file; empty where none was written.
        models: versions by model, those that are taken over; ``None`` where they are looked up at each preview.
        services: names of the services that are taken over.
        left: what could not be carried over: subject and reason.
        changes: what an update changes, one line each; ``None`` where a preview refuses the stack.
        first: what a person has to do before the first update.
        problems: what a preview still refuses.
        commands: what to run next.
    """

    file: str
    models: Mapping[str, Any]
    services: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    changes: tuple[str, ...] | None
    first: tuple[str, ...]
    problems: tuple[str, ...]
    commands: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "file": self.file,
            "models": dict(self.models),
            "services": list(self.services),
            "notCarriedOver": [{"subject": subject, "reason": reason} for subject, reason in self.left],
            "changes": None if self.changes is None else list(self.changes),
            "beforeUp": list(self.first),
            "problems": list(self.problems),
            "next": list(self.commands),
        }

    def as_text(self) -> str:
        """For people."""
        versions = sum(len(some) for some in self.models.values() if isinstance(some, list))
        counts = [_count(len(self.models), "model"), _count(versions, "version"), _count(len(self.services), "service")]
        told = [f"{self.file or 'the stack file above'}: {counts[0]} with {counts[1]}, {counts[2]}"]
        told += _block("not carried over, and why", (f"{subject}: {reason}" for subject, reason in self.left))
        if self.changes is not None:
            told += _block("what `up` changes, beside labels that name this stack", self.changes or ("nothing",))
        told += _block("before the first `up`", self.first)
        told += _block("what a preview still refuses", self.problems)
        told += _block("next", self.commands)
        return "\n".join(told)


def of(target: Target, gathered: Gathered, checked: Checked) -> Report:
    """Makes the report."""
    models = {entry.name: entry.value.get("versions") for entry in checked.draft.entries[MODELS] if not entry.disabled}
    return Report(
        str(target.file) if target.name else "",
        models,
        tuple(entry.name for entry in checked.draft.entries[SERVICES] if not entry.disabled),
        checked.draft.left,
        _changes(target, gathered, checked),
        checked.draft.first,
        tuple(map(str, checked.problems)),
        _next(target) if target.name and checked.settings is not None else (),
    )


def _changes(target: Target, gathered: Gathered, checked: Checked) -> tuple[str, ...] | None:
    if checked.settings is None:
        return None
    found = {name: each.config for name, each in gathered.services.items()}
    told = []
    for name, every in service_changes(checked.settings, target.owner, found).items():
        owner = gathered.services[name].owner
        if owner and owner != target.owner:
            told.append(f"service {name} belongs to stack {owner} now, which loses it")
        changes = [change for change in every if not change.startswith(_OWN)]
        told += [f"service {name}: {change}" for change in changes if not change.endswith(_OF_EAS)]
        if rest := [change.removesuffix(_OF_EAS) for change in changes if change.endswith(_OF_EAS)]:
            told.append(
                f"service {name}: not declared, so that it goes unless EAS adds it by itself: {', '.join(rest)}"
            )
    if gathered.file is not None and checked.settings.config_file_services:
        told += [f"{gathered.file_uri}: {change}" for change in file_changes(checked.settings, gathered.file.config)]
    return tuple(told)


def _next(target: Target) -> tuple[str, ...]:
    if target.stack.is_local:
        sandbox = ".venv/bin/python -m sandbox"
        return f"{sandbox} preview --stack {target.name}", f"{sandbox} up --stack {target.name}"
    return f"pulumi stack init {target.name}", f"pulumi preview -s {target.name}", f"pulumi up -s {target.name}"


def _block(title: str, items: Iterable[str]) -> list[str]:
    listed = [f"  {line}" for item in items for line in f"- {item}".splitlines()]
    return ["", f"{title}:", *listed] if listed else []


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
