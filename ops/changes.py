"""What a preview means, in the words of those who review it: ``modelB: label stable 1 -> 2``.

Everything is derived from the states and the property paths of the preview (:mod:`ops.digest`), so it reads the same
whichever engine made it. For kinds of resources that are not known here the changed properties are named.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ops.digest import UNKNOWN, Diagnostic, Digest, Step, has_unknown, lookup
from tfserving import model_config, pinning, served, traffic, wording
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs, ServedModelInputs, ServedModelOutputs
from tfserving.contract.storage import PublishedModelOutputs
from tfserving.errors import TFServingError
from tfserving.gates.plan import of_one_model as gates_of_one_model
from tfserving.model_config import ModelServerConfig
from tfserving.published import is_changed, what_changed
from tfserving.wording import some_of

EAS_SERVICE = "tfserving:index:EasService"
SERVED_CONFIG = "tfserving:index:ServedConfig"
SERVED_MODEL = "tfserving:index:ServedModel"
TRAFFIC_SPLIT = "tfserving:index:TrafficSplit"
TRAFFIC_ROUTE = "tfserving:index:TrafficRoute"
CLUSTER_OBJECT = "tfserving:index:ClusterObject"
MODEL_CONFIG_FILE = "tfserving:index:ModelConfigFile"
PUBLISHED_MODEL = "tfserving:index:PublishedModel"
BUCKET_CONTENTS = "tfserving:index:BucketContents"

FILE_IS_GONE = "model_config.pbtxt is gone, or lists nothing"

Danger = Literal["", "replaces", "deletes"]

_LONGEST = 160
_PLAIN = {
    "spec.containers[0].image": "image",
    "spec.metadata.instance": "replicas",
    "spec.metadata.cpu": "cpu",
    "spec.metadata.memory": "memory",
    "spec.metadata.gpu": "gpu",
    "spec.cloud.computing.instances": "instance types",
    "spec.cloud.computing.instance_type": "instance type",
}
_SCRIPT = "spec.containers[0].script"
_NO_RESTART = (
    "spec.metadata.instance",
    "autoscaler",
    "cronScaler",
    "adopt",
    "reachable",
    "autoscaled",
    "probe",
    "owner",
    "status",
)


_ROLLED = ("create", "update")


@dataclass(frozen=True)
class Line:
    """One change.

    Attributes:
        text: what changes, plain text.
        danger: whether something is replaced or deleted.
    """

    text: str
    danger: Danger = ""


def meaning(digest: Digest) -> list[Line]:
    """What changes, what is deleted or replaced first."""
    lines = [line for step in digest.changed for line in _of_step(step, digest.diagnostics)]
    lines += [Line(text) for step in digest.changed for text in _moved_requests(step)]
    order: dict[Danger, int] = {"deletes": 0, "replaces": 1, "": 2}
    return sorted(dict.fromkeys(lines), key=lambda line: order[line.danger])


def rollout_steps(digest: Digest) -> list[str]:
    """The steps in which model versions and labels will be rolled out, as the provider will do them."""
    planned = [_planned(step) for step in digest.changed if _rolls_out(step)]
    return [line for plan in planned for line in (*filter(None, [plan.pin]), *plan.step_lines)]


def gate_lines(digest: Digest) -> list[str]:
    """What is tried beside the steps of a rollout, and what came of the last gates."""
    lines: list[str] = []
    for step in digest.changed:
        if _rolls_out(step) and (gates := _planned(step).gates) is not None:
            lines += gates.notes
        elif step.type == SERVED_MODEL and step.op in _ROLLED and not has_unknown(step.new_inputs()):
            wanted, before = (ServedModelInputs.read(inputs) for inputs in (step.new_inputs(), step.old_inputs()))
            plan = gates_of_one_model(wanted, before, ServedModelOutputs.read(step.old_outputs()))
            lines += (f"{wanted.service.name}: {line}" for line in plan.lines)
    return lines


def _rolls_out(step: Step) -> bool:
    return step.type == SERVED_CONFIG and step.op in _ROLLED


def _planned(step: Step) -> served.Planned:
    """What the provider will do, from the states it plans with itself."""
    if has_unknown({name: step.new_inputs().get(name) for name in ("models", "published")}):
        return served.Planned(())
    try:
        wanted, before = (ServedConfigInputs.read(inputs) for inputs in (step.new_inputs(), step.old_inputs()))
        found = ServedConfigOutputs.read(step.old_outputs())
        return served.plan(wanted, before if step.op == "update" else None, found)
    except TFServingError:  # the provider says so itself
        return served.Planned(())


def _moved_requests(step: Step) -> Iterable[str]:
    """Models whose requests without label and version move."""
    if step.op != "update":
        return ()
    if step.type == SERVED_CONFIG:
        return _planned(step).unlabelled
    if step.type == SERVED_MODEL and not has_unknown(step.new_inputs().get("versions")):
        before, after = (ServedModelInputs.read(inputs) for inputs in (step.old_inputs(), step.new_inputs()))
        moved = pinning.unlabelled({after.model: before.versions}, {after.model: after.versions})
        return [f"{service_of(step)}: {line}" for line in moved]
    return ()


def properties(step: Step) -> list[str]:
    """The changed properties of a step: ``~ path: old => new``, every property for what is created or deleted."""
    if step.op == "create" or (step.op == "delete" and not step.diff):
        sign, inputs = ("+", step.new_inputs()) if step.op == "create" else ("-", step.old_inputs())
        return [f"{sign} {path}: {compact(value)}" for path, value in _leaves(inputs) if path]
    paths = step.diff or dict.fromkeys(step.diff_keys, "update")
    return [_property(step, path, kind) for path, kind in sorted(paths.items())]


def _pair(old: Any, new: Any) -> str:
    """``old -> new``; of long values that begin alike only what comes from shortly before the first difference."""
    before, after = plain(old), plain(new)
    if before != after or old == new:
        return f"{before} -> {after}"
    before, after = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (old, new))
    alike = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    start = max(alike - _LONGEST // 4, 0)
    return f"{compact(f'...{before[start:]}')} -> {compact(f'...{after[start:]}')}"


def _property(step: Step, path: str, kind: str) -> str:
    sign = {"add": "+", "delete": "-"}.get(kind.removesuffix("-replace"), "~")
    old, new = compact(step.before(path)), compact(step.after(path))
    shown = {"+": new, "-": old}.get(sign, f"{old} => {new}")
    return f"{sign} {path}: {shown}{' (replaces)' if kind.endswith('-replace') else ''}"


def compact(value: Any) -> str:
    """A value on one line."""
    text = value if value == UNKNOWN else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def plain(value: Any) -> str:
    """A value as a person writes it: strings without quotes."""
    if value is None:
        return "unset"
    return value if isinstance(value, str) and len(value) <= _LONGEST else compact(value)


# ---- by kind of resource -------------------------------------------------------------------------------------------


def _of_step(step: Step, diagnostics: Iterable[Diagnostic]) -> Iterable[Line]:
    match step.type:
        case "tfserving:index:ServedConfig":
            return _served_config(step)
        case "tfserving:index:ServedModel":
            return _served_model(step)
        case "tfserving:index:PublishedModel":
            return _published_model(step, [each.text for each in diagnostics])
        case "tfserving:index:EasService":
            return _eas_service(step)
        case "tfserving:index:ModelConfigFile":
            return _model_config_file(step)
        case "tfserving:index:TrafficSplit" | "tfserving:index:TrafficRoute":
            return _traffic_split(step)
        case "tfserving:index:ClusterObject":
            return _cluster_object(step)
    if step.op == "replace" or (step.custom and not step.is_provider):
        return _any(step)
    return ()


def _any(step: Step) -> Iterable[Line]:
    return _whole(step, f"{step.type.rpartition(':')[2] or step.type} {step.name}", "is not ready")


def _cluster_object(step: Step) -> Iterable[Line]:
    kind, name = (plain(step.before(key) or step.after(key)) for key in ("kind", "name"))
    return _whole(step, f"{kind} {name}", "is not as declared")


def _whole(step: Step, title: str, otherwise: str) -> Iterable[Line]:
    """What happens to a resource as a whole, else its properties; ``otherwise`` where none of them changes."""
    match step.op:
        case "create":
            yield Line(f"+ {title}")
        case "delete":
            yield Line(f"- {title}", "deletes")
        case "replace":
            reasons = f" ({', '.join(step.replace_keys)})" if step.replace_keys else ""
            yield Line(f"{title} is replaced{reasons}", "replaces")
        case _:
            yield Line(f"{title}: {some_of([each[2:] for each in properties(step)], 5, '; ') or otherwise}")


def _traffic_split(step: Step) -> Iterable[Line]:
    group = plain(step.before("group") or step.after("group"))
    if step.op == "delete":
        yield Line(f"- {group}: nobody gets its requests any more", "deletes")
        return
    if step.op == "replace":
        yield Line(f"{group} becomes {plain(step.after('group'))}, with another address and token", "replaces")
    yield from map(Line, traffic_changes(group, step.old_inputs(), step.new_inputs()))


def traffic_changes(group: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What changes from some inputs of TrafficSplit to others, in the words of its preview."""
    weights = [{name: int(share) for name, share in _table(each.get("weights")).items()} for each in (before, after)]
    mirrors = [
        traffic.Mirror(str(found["to"]), int(found["percent"])) if (found := _table(each.get("mirror"))) else None
        for each in (before, after)
    ]
    return [*traffic.changes(group, *weights), *traffic.mirror_change(group, *mirrors)]


def _model_config_file(step: Step) -> Iterable[Line]:
    where = plain(step.before("key") or step.after("key"))
    match step.op:
        case "create":
            yield Line(f"+ {where}")
        case "delete":
            yield Line(f"- {where}", "deletes")
        case "replace":
            yield Line(f"{where} is written to another place ({', '.join(step.replace_keys)})", "replaces")
        case _:
            yield Line(f"{where}: {', '.join(sorted(step.diff) or step.diff_keys)}")


def _published_model(step: Step, told: Iterable[str]) -> Iterable[Line]:
    name = plain(step.before("name") or step.after("name"))
    if step.op == "delete":
        versions = sorted(_versions(step.old_inputs()), key=_number)
        yield Line(f"- {name}: its versions {', '.join(versions) or 'none'} are deleted from the bucket", "deletes")
        return
    before = _versions(step.old_outputs()) or _versions(step.old_inputs())
    after = _versions(step.new_inputs())
    if step.op == "replace":
        yield Line(
            f"{name}: all versions are published anew ({', '.join(step.replace_keys)}), then deleted where they were",
            "replaces",
        )
        return
    changes = PublishedModelOutputs.read(step.old_outputs()).changes or {}
    files = PublishedModelOutputs.read(step.new_outputs()).files
    for number in sorted({*before, *after}, key=_number):
        was, now = before.get(number), after.get(number)
        if now is None:
            yield Line(f"{name}: - version {number}", "deletes")
        elif was is None:
            # In a preview the CLI leaves outputs out; the provider says the size all the same.
            bare, line = (f"{name}: + {wording.version(number, each)}" for each in (None, files.get(number)))
            yield Line(next((text for text in told if text.startswith(f"{bare} (")), line))
        elif was != now and is_changed(str(was)):
            what = what_changed(str(was), changes.get(number))
            yield Line(f"{name}: version {number} is put back as published ({what})")
        elif was != now:
            yield Line(f"{name}: version {number} has other content")


def _versions(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    versions = properties.get("versions")
    return versions if isinstance(versions, dict) else {}


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)


def _served_config(step: Step) -> Iterable[Line]:
    if step.op == "delete":
        yield Line("- models, versions and labels are rolled out no longer")
        return
    if step.op == "replace":
        yield Line("what is served is rolled out anew", "replaces")
    if has_unknown(step.new_inputs().get("models")) or has_unknown(step.new_inputs().get("published")):
        yield Line("models, versions and labels: known after the update")
        return
    before = {} if step.op == "create" else step.old_inputs().get("models")
    for text in config_changes(before, step.new_inputs().get("models")):
        # Requests by a label that is removed fail from then on.
        yield Line(text, "deletes" if text.startswith("- ") or ": - label " in text else "")
    if step.op != "create":
        expected, found = step.old_inputs().get("served"), step.old_outputs().get("served")
        silent = unasked(step.type, "", step.old)
        for service, text in served_differences(expected, found):
            if service not in silent:
                yield Line(f"{service}: {text}; put right")
        for service in silent:
            yield Line(f"{service}: cannot be asked what it serves")
        for text in file_differences(step.old_inputs().get("file"), step.old_outputs().get("file")):
            yield Line(f"{text}; put right")
    for model, versions in _table(step.old_outputs().get("obsolete")).items():
        yield Line(f"{model}: files of version {_listed(versions)} are removed from the bucket", "deletes")


def _served_model(step: Step) -> Iterable[Line]:
    service, model = service_of(step), plain(step.after("model") or step.before("model"))
    before, after = step.old_inputs().get("versions"), step.new_inputs().get("versions")
    if step.op == "create" and not has_unknown(after):
        yield Line(f"{service}: {model} serves version {_listed(after)}")
    if step.op in ("create", "delete"):
        return  # it comes and goes with the service
    if before != after and not has_unknown(after):
        yield Line(f"{service}: {model} serves version {_listed(before)} -> {_listed(after)}")
    if service in unasked(step.type, service, step.old):
        yield Line(f"{service}: cannot be asked what it serves")
        return
    for _, text in served_differences(*served_by_service(step.old_inputs(), step.old_outputs(), service)):
        yield Line(f"{service}: {text}; put right")


def service_of(step: Step) -> str:
    """The service a ServedModel is about."""
    return plain(step.after("service.name") or step.before("service.name") or step.name)


def served_by_service(
    expected: Mapping[str, Any], found: Mapping[str, Any], service: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is to be served and what is, by service, of a ServedConfig; of a ServedModel with its ``service``."""
    wanted, serves = _table(expected.get("served")), _table(found.get("served"))
    return ({service: wanted}, {service: serves}) if service else (dict(wanted), dict(serves))


def config_changes(old: Any, new: Any) -> list[str]:
    """:func:`tfserving.model_config.changes` of two configs as properties; what cannot be read is said to differ."""
    try:
        return model_config.changes(_config(old), _config(new))
    except TFServingError:
        return [] if old == new else [f"{compact(old)} -> {compact(new)}"]


def _config(value: Any) -> ModelServerConfig:
    return model_config.from_dict(value) if isinstance(value, dict) and value else ModelServerConfig()


def file_differences(expected: Any, found: Any) -> list[str]:
    """How the model config file differs from what it is to say."""
    if expected and not found:
        return [FILE_IS_GONE]
    return [f"model_config.pbtxt says otherwise: {text}" for text in config_changes(expected, found)]


def unasked(step_type: str, service: str, state: Mapping[str, Any]) -> Mapping[str, str]:
    """Services that run and did not answer, with what the provider says of each.

    Args:
        step_type: type of the resource, a ServedConfig or a ServedModel.
        service: the service of a ServedModel.
        state: the resource's state.
    """
    inputs, outputs = (_table(state.get(part)) for part in ("inputs", "outputs"))
    if step_type == SERVED_CONFIG:
        found, services = ServedConfigOutputs.read(outputs).unasked, tuple(_table(inputs.get("services")))
    else:
        reason = ServedModelOutputs.read(outputs).unasked
        found, services = {service: reason} if reason else None, (service,)
    # A state of an older release has only the error.
    errors = [line for error in state.get("initErrors") or () for line in str(error).splitlines()]
    told = ((name, line, wording.unasked(name, "")) for name in services for line in errors)
    return found or {name: line.removeprefix(start) for name, line, start in told if line.startswith(start)}


def served_differences(expected: Any, found: Any) -> list[tuple[str, str]]:
    """How what services serve differs from what they are to serve, both by service and model.

    Returns:
        service and difference: ``("multi_http", "modelB label stable is answered by version 2, not 1")``.
    """
    lines: list[tuple[str, str]] = []
    wanted_services, found_services = _table(expected), _table(found)
    for service in sorted({*wanted_services, *found_services}):
        wanted, serves = _table(wanted_services.get(service)), _table(found_services.get(service))
        if wanted and not serves:
            lines.append((service, "serves nothing"))
            continue
        for model in sorted({*wanted, *serves}):
            lines += ((service, text) for text in _model_differences(model, wanted.get(model), serves.get(model)))
    return lines


def _model_differences(model: str, wanted: Any, serves: Any) -> Iterator[str]:
    if serves is None:
        yield f"{model} is not served"
        return
    if wanted is None:
        yield f"{model} is served, and is not to be"
        return
    have, want = lookup(serves, ("versions",)) or [], lookup(wanted, ("versions",)) or []
    if have != want:
        yield f"{model} serves version {_listed(have)}, not {_listed(want)}"
    labels, wanted_labels = _table(lookup(serves, ("labels",))), _table(lookup(wanted, ("labels",)))
    for label in sorted({*labels, *wanted_labels}):
        if labels.get(label) != wanted_labels.get(label):
            answer = f"version {labels[label]}" if labels.get(label) is not None else "nothing"
            goal = plain(wanted_labels[label]) if wanted_labels.get(label) is not None else "at all"
            yield f"{model} label {label} is answered by {answer}, not {goal}"


def _eas_service(step: Step) -> Iterable[Line]:
    name = plain(step.before("name") or step.after("name") or step.name)
    match step.op:
        case "create":
            yield Line(f"+ service {name} ({', '.join(_facts(step.new_inputs()))})")
        case "delete":
            yield Line(f"- service {name}: its URL and token end with it", "deletes")
        case "replace":
            new = plain(step.after("name"))
            called = f" by service {new}" if new != name else ""
            yield Line(f"{name}: replaced{called} ({', '.join(step.replace_keys)}); new URL and token", "replaces")
            yield from _eas_update(step, name)
        case _:
            yield from _eas_update(step, name)


def _facts(inputs: Mapping[str, Any]) -> Iterator[str]:
    spec = inputs.get("spec")
    image = lookup(spec, ("containers", 0, "image"))
    if image is not None:
        yield f"image {plain(image).rpartition('/')[2]}"
    elif lookup(spec, ("processor",)) is not None:
        yield f"processor {plain(lookup(spec, ('processor',)))}"
    replicas = lookup(spec, ("metadata", "instance"))
    if replicas is not None:
        yield f"{plain(replicas)} replica{'s' if replicas != 1 else ''}"
    if (protocol := lookup(inputs, ("probe", "protocol"))) is not None:
        yield "gRPC" if protocol == "grpc" else plain(protocol).upper()


def _eas_update(step: Step, name: str) -> Iterable[Line]:
    parts = service_changes(step)
    paths = step.diff or dict.fromkeys(step.diff_keys)
    if step.op == "update" and any(not path.startswith(_NO_RESTART) for path in paths):
        parts.append("rolling restart")
    if not parts and step.old.get("initErrors"):
        parts.append("the last update did not end well and is done again")
    if parts:
        yield Line(f"{name}: {', '.join(parts)}")


def service_changes(step: Step) -> list[str]:
    """What differs of a service: ``image 2.14.1 -> 2.17.1``, ``replicas 1 -> 2``."""
    found: list[str] = []
    for path in sorted(step.diff or dict.fromkeys(step.diff_keys)):
        if path == "name":
            continue
        old, new = step.before(path), step.after(path)
        if path == "spec.containers[0].image":
            old, new = _tags(plain(old), plain(new))
        if path == _SCRIPT and isinstance(old, str) and isinstance(new, str):
            found += _flag_changes(old, new)
            continue
        title = _PLAIN.get(path, path.removeprefix("spec."))
        found.append(f"{title} {_pair(old, new)}")
    return found


def _tags(old: str, new: str) -> tuple[str, str]:
    """Of two images of one repository only the tags; of others the last part of their name."""
    before, after = old.rpartition("/")[2], new.rpartition("/")[2]
    if old.rpartition("/")[0] != new.rpartition("/")[0]:
        return old, new
    if before.partition(":")[0] == after.partition(":")[0] and ":" in before and ":" in after:
        return before.partition(":")[2], after.partition(":")[2]
    return before, after


def _flag_changes(old: str, new: str) -> list[str]:
    before, after = _flags(old), _flags(new)
    if not before or not after or before.get("") != after.get(""):
        return [f"start command {_pair(old, new)}"]
    return [
        f"{flag} {_pair(before.get(flag, 'unset'), after.get(flag, 'unset'))}"
        for flag in sorted({*before, *after})
        if before.get(flag) != after.get(flag)
    ]


def _flags(script: str) -> dict[str, str]:
    """Flags of a start command by name; everything else under the empty name."""
    try:
        words = shlex.split(script)
    except ValueError:
        return {}
    flags = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    return {"": shlex.join(word for word in words if not word.startswith("--"))} | flags


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in sorted(value.items()):
            if key == "__defaults":
                continue  # bookkeeping of bridged providers
            plain_key = re.fullmatch(r"[A-Za-z_$][\w$:-]*", key)
            step = (f".{key}" if path else key) if plain_key else f"[{json.dumps(key, ensure_ascii=False)}]"
            yield from _leaves(item, path + step)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) and values else "none"


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
