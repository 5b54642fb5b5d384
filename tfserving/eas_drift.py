"""Compares a service JSON we wrote with the one EAS stores now.

EAS returns more than it was given: defaults, other spellings of a number, a list where one value was written. A plain
comparison would find differences for ever. Three configs tell what is a difference: the *declared* one, the *server's*
present one, and the *baseline*, the server's right after our last write. What is in the baseline and still so is EAS's
own doing; what differs from it was changed since.

Paths are written in Pulumi's property path syntax (``containers[0].env[2].value``), with list positions as declared.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tfserving.property_path import format_path
from tfserving.secret_texts import holds_secret, is_secret_name
from tfserving.wire import whole

SECRET = "(secret)"  # noqa: S105 - what is shown in a secret's place
"""Stands for a secret in differences, and in a baseline for a secret the server returned as declared."""

OTHER_SECRET = "(secret, another value)"  # noqa: S105 - what is shown in a secret's place
"""Stands for a secret that is not the declared one."""

DOCUMENTED_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "metadata.enable_grpc": (False,),
    "metadata.enable_webservice": (False,),
    "metadata.rolling_strategy.max_surge": ("2%",),
    "metadata.rolling_strategy.max_unavailable": (0, 1),
    'metadata["eas.termination_grace_period"]': (30,),
    "metadata.rpc.io_threads": (4,),
    "metadata.rpc.rate_limit": (0,),
    "metadata.rpc.max_queue_size": (64,),
    "metadata.rpc.max_batch_size": (16,),
    "metadata.rpc.max_batch_timeout": (50,),
    "metadata.rpc.worker_threads": (5,),
    "metadata.rpc.batching": (False,),
    "metadata.rpc.enable_sigterm": (False,),
}
"""Values EAS documents for keys that are left out: they never count as something that was added."""

_IDENTITY = {"storage": "mount_path", "env": "name"}
"""Lists whose elements are told apart by one of their keys, not by position."""

_SECRET_KEYS = frozenset({"token", "dockerauth", "password", "aksecret"})
KEPT = frozenset({"metadata.workspace_id", "metadata.group"})
"""What a service keeps when a write leaves it out."""

_Step = str | int | tuple[str, str]
"""One step of a path: a key, a position, or (identity key, identity) in a list of :data:`_IDENTITY`."""
_Path = tuple[_Step, ...]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def normalize(server_config: Mapping[str, Any]) -> dict[str, Any]:
    """A service JSON in the form in which two of them are compared.

    Whole floats become integers, null and empty values disappear, ``cloud.computing.instance_type`` becomes the one
    element of ``instances``, OSS paths end in a slash and mount paths in none, and the workspace, which EAS shows at
    the top as well, stands in
    ``metadata``. Secrets stay: see :func:`baseline` for a form to store.
    """
    config: dict[str, Any] = _tidy(server_config)
    _spell_out(config)
    return config


def _spell_out(config: dict[str, Any]) -> None:
    """Replaces the short spellings, in place."""
    cloud = config.get("cloud")
    computing = cloud.get("computing") if isinstance(cloud, dict) else None
    if isinstance(computing, dict) and isinstance(computing.get("instance_type"), str):
        only = computing.pop("instance_type")
        computing.setdefault("instances", [{"type": only}])
    workspace, metadata = config.get("workspace_id"), config.setdefault("metadata", {})
    if workspace is not None and isinstance(metadata, dict):
        metadata.setdefault("workspace_id", config.pop("workspace_id"))
    if not metadata:
        del config["metadata"]
    storage = config.get("storage")
    for item in storage if isinstance(storage, list) else []:
        oss = item.get("oss") if isinstance(item, dict) else None
        if isinstance(oss, dict) and isinstance(oss.get("path"), str):
            oss["path"] = oss["path"].rstrip("/") + "/"
        if isinstance(item, dict) and isinstance(item.get("mount_path"), str):
            item["mount_path"] = item["mount_path"].rstrip("/") or "/"


def baseline(
    server: Mapping[str, Any],
    declared: Mapping[str, Any],
    previous: Mapping[str, Any] | None = None,
    *,
    secrets: Collection[str] = (),
) -> dict[str, Any]:
    """What to remember of the server's config right after a write. Holds no secret.

    Args:
        server: the config the server stored.
        declared: the config that was written.
        previous: the config declared before it, if any. A key it had and ``declared`` no longer has, but the server
            still has with the same value, is left out, so that :func:`drift` shows it; unless EAS fills such a key in
            by itself: then it is EAS's from now on.
        secrets: paths of further secrets.
    """
    flat_server, flat_declared = _flatten(normalize(server)), _flatten(normalize(declared))
    flat_previous = _flatten(normalize(previous or {}))
    names = _Names(declared, server)
    remembered = normalize(server)
    for path, value in reversed(flat_server.items()):
        wanted = flat_declared.get(path, _ABSENT)
        text = names.text(path)
        if (
            wanted is _ABSENT
            and equivalent(flat_previous.get(path, _ABSENT), value)
            and not (_is_default(text, value) or _is_filled_in(path, text))
        ):
            _remove(remembered, path)
        elif _is_secret(path, value, wanted) or text in secrets:
            _set(remembered, path, SECRET if equivalent(wanted, value) else OTHER_SECRET)
    return remembered


def drift(
    declared: Mapping[str, Any],
    server: Mapping[str, Any],
    baseline: Mapping[str, Any],
    *,
    autoscaled: bool,
    secrets: Collection[str] = (),
) -> dict[str, tuple[Any, Any]]:
    """What somebody else changed: ``{path: (value it should have, value the server has)}``, in the order of the paths.

    ``None`` stands for an absent value. Values the server added or rewrote at the last write do not show; declared
    values that changed do, and so do keys that are on the server and neither declared nor in the baseline. Secrets show
    as :data:`SECRET` and :data:`OTHER_SECRET`. A token the server made is not a difference.

    Args:
        declared: the config last written.
        server: the config the server has now.
        baseline: what :func:`baseline` returned after that write; empty for a service that was never written.
        autoscaled: an autoscaler owns the replica count, which is then not compared.
        secrets: paths of further secrets.
    """
    names = _Names(declared, server)
    shown = {}
    differences = _differences(declared, server, baseline, autoscaled, secrets)
    for path, (wanted, found) in differences.items():
        if _is_identity(path) and any(path[:-1] == other[: len(path) - 1] for other in differences if other != path):
            continue  # the other differences of that element say it
        text = names.text(path)
        if _is_secret(path, wanted, found) or text in secrets:
            # A declared secret keeps its plain name; whatever else is there is another one.
            shown[text] = (
                None if wanted is _ABSENT else SECRET,
                None if found is _ABSENT else SECRET if wanted is _ABSENT else OTHER_SECRET,
            )
        else:
            shown[text] = (None if wanted is _ABSENT else wanted, None if found is _ABSENT else found)
    return shown


def actual(
    declared: Mapping[str, Any],
    server: Mapping[str, Any],
    baseline: Mapping[str, Any],
    *,
    autoscaled: bool,
    secrets: Collection[str] = (),
) -> dict[str, Any]:
    """The declared config with each value of :func:`drift` as the server has it: what a refresh reports as inputs.

    Equal to ``declared`` where there is no drift. A changed secret is in it with its real value.
    """
    result: dict[str, Any] = copy.deepcopy(dict(declared))
    differences = _differences(declared, server, baseline, autoscaled, secrets)
    if differences:
        _spell_out(result)
    for path, (_, found) in differences.items():
        if found is not _ABSENT:
            _set(result, path, copy.deepcopy(found))
    for path, (_, found) in reversed(differences.items()):  # the last first: positions before it stay right
        if found is _ABSENT:
            _remove(result, path)
    return result


@dataclass(frozen=True)
class HiddenSecret:
    """A secret of a service JSON.

    Attributes:
        path: where it is.
        variable: name of the environment variable that it is the value of; empty for any other one.
        steps: the path, with elements of lists by their names.
    """

    path: str
    variable: str
    steps: _Path = field(default=(), repr=False)


def without_secrets(server: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[HiddenSecret, ...]]:
    """A service JSON without its secrets, normalized, and what was taken out: variables with their names."""
    names = _Names(server, server)
    rest = normalize(server)
    found = []
    for path in reversed([path for path, value in _flatten(rest).items() if _is_secret(path, value)]):
        step = path[-2] if len(path) > 1 and path[-1] == "value" else None
        variable = step[1] if isinstance(step, tuple) else ""
        found.append(HiddenSecret(names.text(path), variable, path))
        _remove(rest, path)
        if isinstance(step, tuple):
            _remove(rest, (*path[:-1], step[0]))
    return rest, tuple(reversed(found))


def make_room(config: dict[str, Any], secret: HiddenSecret) -> str:
    """Gives ``config`` the elements of lists in which a secret is to be set; the path of the secret in it."""
    depths = [depth for depth, step in enumerate(secret.steps) if not isinstance(step, str)]
    if depths:
        _set(config, secret.steps[: depths[-1] + 1], None)
    return _Names(config, config).text(secret.steps)


def without_defaults(server: Mapping[str, Any]) -> dict[str, Any]:
    """A service JSON, normalized, without what EAS documents as the default of a key that is left out."""
    names = _Names(server, server)
    rest = normalize(server)
    for path, value in reversed(_flatten(rest).items()):
        if _is_default(names.text(path), value):
            _remove(rest, path)
    return rest


def equivalent(one: object, other: object) -> bool:
    """Whether two leaves say the same: ``2``, ``2.0`` and ``"2"`` do, and so do ``True`` and ``"true"``."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equivalent, one, other))
    if isinstance(one, dict | list | _Absent) or isinstance(other, dict | list | _Absent):
        return one == other
    return _canonical(one) == _canonical(other)


def _canonical(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if isinstance(value, int | float) or re.fullmatch(r"-?\d+(\.\d+)?", text):
        whole, _, fraction = (repr(float(text)) if "e" in text else text).partition(".")
        fraction = fraction.rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole
    return text


def _differences(
    declared: Mapping[str, Any],
    server: Mapping[str, Any],
    baseline: Mapping[str, Any],
    autoscaled: bool,
    secrets: Collection[str],
) -> dict[_Path, tuple[Any, Any]]:
    flat_declared, flat_server = _flatten(normalize(declared)), _flatten(normalize(server))
    flat_baseline = _flatten(normalize(baseline))
    names = _Names(declared, server)
    found: dict[_Path, tuple[Any, Any]] = {}
    for path in [*flat_declared, *(path for path in flat_server if path not in flat_declared)]:
        text = names.text(path)
        if autoscaled and path == ("metadata", "instance"):
            continue
        want, have = flat_declared.get(path, _ABSENT), flat_server.get(path, _ABSENT)
        base = flat_baseline.get(path, _ABSENT)
        if equivalent(want, have) or equivalent(have, base):
            continue
        if _is_secret(path, want, have) or text in secrets:
            if _secret_changed(path, want, have, base):
                found[path] = (want, have)
        elif want is not _ABSENT:
            found[path] = (want, have)
        elif not _is_default(text, have):
            found[path] = (base, have)
    return found


def _secret_changed(path: _Path, want: object, have: object, base: object) -> bool:
    """Whether a secret that is not as declared was so by somebody's doing and not by EAS's hiding or making it."""
    if want is _ABSENT:
        return path != ("token",) and base is _ABSENT
    if have is _ABSENT:
        return base is not _ABSENT
    return base != OTHER_SECRET


def _is_identity(path: _Path) -> bool:
    return len(path) > 1 and isinstance(path[-2], tuple) and path[-1] == path[-2][0]


def _is_default(text: str, value: object) -> bool:
    return any(equivalent(value, default) for default in DOCUMENTED_DEFAULTS.get(text, ()))


def _is_filled_in(path: _Path, text: str) -> bool:
    """Whether EAS may give a key its value when a spec leaves it out: the workspace, or CPU in a resource group.

    Another write would not remove such a key. Elements that a person lists (variables, mounts) are never EAS's, nor is
    a key with a documented default when it has another value.
    """
    return text not in DOCUMENTED_DEFAULTS and not any(isinstance(step, tuple) for step in path)


def _is_secret(path: _Path, *values: object) -> bool:
    """Whether a secret stands at a path: by a key on the way, by the variable's name, or by what a value looks like."""
    if any(isinstance(step, str) and step.replace("_", "").lower() in _SECRET_KEYS for step in path):
        return True
    if len(path) > 1 and path[-1] == "value" and isinstance(path[-2], tuple) and path[-2][0] == "name":
        if is_secret_name(path[-2][1]):
            return True
    elif _is_identity(path):
        return False  # a name, and no other one can stand for it
    return any(map(_looks_secret, values))


def _looks_secret(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_looks_secret, value))
    if isinstance(value, Mapping):
        return any(_looks_secret(item) for item in value.values())
    return isinstance(value, str) and holds_secret(value)


# ---- paths


def _tidy(value: Any) -> Any:
    if isinstance(value, Mapping):
        tidy = {str(key): _tidy(item) for key, item in value.items()}
        return {key: item for key, item in tidy.items() if not _is_empty(item)}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    return whole(value)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | dict | list) and not value)


def _flatten(config: Mapping[str, Any]) -> dict[_Path, Any]:
    """The leaves of a normalized config. A list without objects is one leaf."""
    return dict(_leaves(config, ()))


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        identity = _IDENTITY.get(str(path[-1])) if path else None
        for position, item in enumerate(value):
            if identity is None or not isinstance(item.get(identity), str):
                yield from _leaves(item, (*path, position))
                continue
            step = (identity, item[identity])
            # The identity first: it is the first to be set and the last to be removed.
            yield (*path, step, identity), item[identity]
            yield from _leaves({key: inner for key, inner in item.items() if key != identity}, (*path, step))
    else:
        yield path, value


class _Names:
    """Turns paths into text, with the positions that list elements have in the declared config, then the server's."""

    def __init__(self, declared: Mapping[str, Any], server: Mapping[str, Any]) -> None:
        self._positions: dict[_Path, dict[_Step, int]] = {}
        for config in (declared, server):
            for path in _flatten(normalize(config)):
                for depth, step in enumerate(path):
                    if isinstance(step, tuple):
                        known = self._positions.setdefault(path[:depth], {})
                        known.setdefault(step, len(known))

    def text(self, path: _Path) -> str:
        return format_path(
            self._positions[path[:depth]][step] if isinstance(step, tuple) else step for depth, step in enumerate(path)
        )


def _find(items: list[Any], step: _Step) -> int | None:
    """Position of a step's element, ``None`` if it is not there."""
    if isinstance(step, tuple):
        key, identity = step
        matching = (i for i, item in enumerate(items) if isinstance(item, Mapping) and item.get(key) == identity)
        return next(matching, None)
    return step if isinstance(step, int) and step < len(items) else None


def _set(config: dict[str, Any], path: _Path, value: Any) -> None:
    here: Any = config
    for step, following in zip(path, [*path[1:], None], strict=True):
        if isinstance(step, str):
            if following is None:
                here[step] = value
            else:
                empty: Any = {} if isinstance(following, str) else []
                if not isinstance(here.get(step), type(empty)):
                    here[step] = empty
                here = here[step]
        else:
            position = _find(here, step)
            if position is None:
                # Elements told apart by position keep theirs, whatever comes before them.
                here += [{} for _ in range(step - len(here))] if isinstance(step, int) else []
                here.append({step[0]: step[1]} if isinstance(step, tuple) else {})
                position = len(here) - 1
            here = here[position]


def _remove(config: dict[str, Any], path: _Path) -> None:
    """Removes a leaf, and the objects and list elements that are empty without it."""
    trail: list[tuple[Any, Any]] = []
    here: Any = config
    for step in path:
        position = _find(here, step) if isinstance(here, list) else step
        if position is None or (isinstance(here, dict) and position not in here):
            return
        trail.append((here, position))
        here = here[position]
    for depth, (parent, position) in reversed(list(enumerate(trail))):
        if depth < len(trail) - 1 and parent[position]:
            return
        if isinstance(path[depth], int) and position < len(parent) - 1:
            return  # elements behind it are told apart by their position
        del parent[position]
