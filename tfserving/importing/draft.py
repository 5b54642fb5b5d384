"""The stack file that is made of what was found, and what of it could not be carried over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfserving.errors import Problem
from tfserving.importing import entry
from tfserving.importing.models import ModelImport
from tfserving.importing.place import CONFIG_FILE_NAME, Place
from tfserving.importing.service import ServiceImport
from tfserving.importing.text import Entry, Section, StackText
from tfserving.property_path import join_path

MODELS = "tf-serving:models"
SERVICES = "tf-serving:services"

_VERSIONS = "versions"
_EXAMPLE = {
    "deployment": "custom",
    "configFile": True,
    "configPollSeconds": 30,
    "allowLabelsForUnavailableVersions": True,
    "instanceType": "ecs.c7.large",
}


@dataclass(frozen=True)
class Draft:
    """What a stack file is made of.

    Attributes:
        place: where the stack has its models.
        settings: config keys of the cloud: region, protocol, endpoints.
        entries: by config key (``tf-serving:models``), the entries in the order in which they are written.
        head: comments at the top of the file, one paragraph each.
        left: what could not be carried over, beside what is said of entries: subject and reason.
        first: what a person has to do before the first update.
    """

    place: Place
    settings: Mapping[str, Any]
    entries: Mapping[str, tuple[Entry, ...]]
    head: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    first: tuple[str, ...] = ()

    def text(self) -> StackText:
        """The stack file."""
        place = self.place
        settings: dict[str, Any] = {
            **self.settings,
            "tf-serving:bucket": {"name": place.bucket, "existing": True},
            "tf-serving:modelRoot": place.root,
        }
        if place.config_file not in ("", CONFIG_FILE_NAME):
            settings["tf-serving:configFileName"] = place.config_file
        return StackText(
            self.head,
            settings,
            (
                Section(MODELS, self.entries[MODELS], (f"Models below {place.uri}, which stay where they are.",)),
                Section(SERVICES, self.entries[SERVICES], (_ABOUT_SERVICES,)),
            ),
        )

    def without(self, problems: Iterable[Problem]) -> Draft | None:
        """The draft with entries as comments that have problems; ``None`` where a problem is none of an entry."""
        entries = {key: list(some) for key, some in self.entries.items()}
        left = []
        for problem in problems:
            found = _entry_of(problem, self.entries)
            if found is None:
                return None
            key, index = found
            one = entries[key][index]
            entries[key][index] = replace(one, disabled=(*one.disabled, _reason(problem, join_path(key, one.name))))
            _hand_versions_on(entries[key], index)
            left.append((_subject(key, one.name), _reason(problem, join_path(key, one.name))))
        return replace(self, entries={key: tuple(some) for key, some in entries.items()}, left=(*self.left, *left))


_ABOUT_SERVICES = (
    "`adopt: true` takes a service over that exists already; once that is done, it says nothing any more and can go."
)


def of(
    place: Place,
    settings: Mapping[str, Any],
    models: Sequence[tuple[ModelImport, tuple[str, ...]]],
    services: Sequence[tuple[ServiceImport, Mapping[str, Any], tuple[str, ...]]],
    left: Sequence[tuple[str, str]] = (),
    head: tuple[str, ...] = (),
) -> Draft:
    """Makes a draft.

    Args:
        place: where the stack has its models.
        settings: config keys of the cloud.
        models: the models, each with sentences for people.
        services: each with further keys of its entry, and sentences for people.
        left: what could not be carried over already.
        head: comments at the top of the file.
    """
    lost: list[tuple[str, str]] = []
    first: list[str] = []
    model_entries: list[Entry] = []
    for model, comments in models:
        _add_model(model_entries, _model_entry(model, comments))
        subject = _subject(MODELS, model.model.name)
        lost += [(subject, text) for text in ((model.left_out,) if model.left_out else ()) + model.lost]
    service_entries = []
    for service, more, comments in services:
        name = service.spec.name
        lost += [(_subject(SERVICES, name), text) for text in service.lost]
        commands = [_secret_command(name, secret) for secret in service.secrets]
        first += [f"service {name}: {command}" for command in commands]
        value = {**entry.of_service(service.spec), **{file.key: file.value for file in service.start_files}, **more}
        disabled_keys = {}
        if commands:
            told = "; ".join(commands)
            first.append(f"service {name}: then remove the `#` before `adopt: true`")
            disabled_keys["adopt"] = (
                f"Holds secrets, which are not written here. Set them before it is taken over: {told}"
            )
        service_entries.append(
            Entry(
                name, {**value, "adopt": True}, (*comments, *service.lost, *_about(value)), disabled_keys=disabled_keys
            )
        )
    if not service_entries:
        reason = "an example; no service was named to be taken over"
        service_entries.append(Entry("multi_http", _EXAMPLE, disabled=(reason,)))
    entries = {MODELS: tuple(model_entries), SERVICES: tuple(service_entries)}
    return Draft(place, settings, entries, head, (*left, *lost), tuple(first))


def _model_entry(found: ModelImport, comments: tuple[str, ...]) -> Entry:
    value = entry.of_model(found.model, found.directory or found.model.name)
    if found.versions:
        value[_VERSIONS] = list(found.versions)
    unknown = "its versions are not known: the policy names none, and the bucket was not listed; add `versions: [...]`"
    left_out = found.left_out or ("" if found.versions else unknown)
    disabled = (left_out,) if left_out else ()
    return Entry(found.model.name, value, (*comments, *found.lost), disabled)


def _directory(model: Entry) -> str:
    return str(model.value.get("path") or model.name)


def _add_model(entries: list[Entry], model: Entry) -> None:
    """Adds a model; the versions of a directory that several models serve are listed by the first of them."""
    first = next((at for at, each in enumerate(entries) if not each.disabled and _shares(each, model)), None)
    if first is not None and not model.disabled:
        versions = sorted({*entries[first].value[_VERSIONS], *model.value[_VERSIONS]})
        entries[first] = replace(entries[first], value={**entries[first].value, _VERSIONS: versions})
        model = replace(model, value={key: item for key, item in model.value.items() if key != _VERSIONS})
    entries.append(model)


def _shares(one: Entry, other: Entry) -> bool:
    return _directory(one) == _directory(other)


def _hand_versions_on(entries: list[Entry], index: int) -> None:
    """Lets the next model of the directory list the versions of one that became a comment."""
    versions = entries[index].value.get(_VERSIONS)
    for at, each in enumerate(entries):
        if versions and not each.disabled and _shares(each, entries[index]):
            entries[at] = replace(each, value={**each.value, _VERSIONS: versions})
            return


def _about(value: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person is to know of an entry that keeps what is there."""
    found = []
    if value.get("script") or value.get("command"):
        found.append("Its start command is kept as it is, so that nothing restarts for it.")
    if value.get("extraConfig"):
        found.append("`extraConfig` keeps what this project has no option for, or would set otherwise.")
    return tuple(found)


def _secret_command(service: str, path: str) -> str:
    return f"pulumi config set --secret --path '{join_path(SERVICES, service)}.{path}'"


def _entry_of(problem: Problem, entries: Mapping[str, Sequence[Entry]]) -> tuple[str, int] | None:
    for key, some in entries.items():
        for index, one in enumerate(some):
            here = join_path(key, one.name)
            if not one.disabled and (problem.path == here or problem.path.startswith((f"{here}.", f"{here}["))):
                return key, index
    return None


def _reason(problem: Problem, here: str) -> str:
    at = problem.path[len(here) :].lstrip(".")
    parts = [f"{at}: {problem.message}" if at else problem.message]
    parts += [f"allowed: {problem.allowed}"] if problem.allowed else []
    parts += [f"fix: {problem.fix}"] if problem.fix else []
    return "; ".join(parts)


def _subject(key: str, name: str) -> str:
    return f"{'model' if key == MODELS else 'service'} {name}"
