"""``tf-serving:alerts``, and ``alerts`` of a service: read into :class:`tfserving.alerts.Alerts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.option_reader import read_plain
from config.reader import Reader
from tfserving import alerts
from tfserving.alerts import Alerts, CloudMonitor, ErrorRate, FailedLoad, NoReplica, SlowAnswers
from tfserving.kubernetes.names import label_problems
from tfserving.options import keys
from tfserving.property_path import join_path

_RULES: Mapping[str, tuple[str, type]] = {
    "errorRate": ("error_rate", ErrorRate),
    "latency": ("latency", SlowAnswers),
    "noReplica": ("no_replica", NoReplica),
    "failedLoad": ("failed_load", FailedLoad),
}
_ON, _OFF = (True, "true"), (False, "false")


def read_alerts(reader: Reader, value: Any, path: str) -> Alerts | None:
    """Reads and checks alerts; ``None`` where they are left out.

    Args:
        reader: takes the problems.
        value: the mapping, or ``false``.
        path: where it stands.
    """
    if value is None or value in _OFF:
        return None
    before = len(reader.problems)
    given = reader.mapping(value, path, keys(Alerts), "false, or a mapping of rules and whom to tell")
    fields = read_plain(reader, given, path, Alerts)
    for key, (name, cls) in _RULES.items():
        rule = given.get(key)
        if rule is None or rule in _OFF:
            continue
        if rule in _ON and cls is not SlowAnswers:
            fields[name] = cls()
            continue
        at = join_path(path, key)
        allowed = "a mapping of p99Ms, averageMs, minutes" if cls is SlowAnswers else "true, false, or a mapping"
        fields[name] = cls(**_rule(reader, reader.mapping(rule, at, keys(cls), allowed), at, cls))
    if given.get("cloudMonitor") is not None:
        at = join_path(path, "cloudMonitor")
        names = reader.mapping(given["cloudMonitor"], at, keys(CloudMonitor))
        fields["cloud_monitor"] = CloudMonitor(**read_plain(reader, names, at, CloudMonitor))
    read = Alerts(**fields)
    if len(reader.problems) == before:
        reader.problems += [*alerts.problems(read, path), *label_problems(read.labels, join_path(path, "labels"))]
    return read


def _rule(reader: Reader, given: Mapping[str, Any], path: str, cls: type) -> dict[str, Any]:
    found = read_plain(reader, given, path, cls, but=("percent",))
    if given.get("percent") is not None:
        before, at = len(reader.problems), join_path(path, "percent")
        percent = reader.number(given["percent"], at, allowed=alerts.PERCENT, zero=True)
        if len(reader.problems) == before:
            found["percent"] = percent
    return found


def merged(own: Any, below: Any) -> Any:
    """A service's alerts over those of the stack: key by key, ``false`` leaves a rule or all of them out."""
    if own is None:
        return below
    if not isinstance(own, Mapping) or not isinstance(below, Mapping):
        return own
    found = dict(below)
    for key, value in own.items():
        under = below.get(key)
        under = {} if under in _ON else under
        nested = isinstance(value, Mapping) and isinstance(under, Mapping)
        found[key] = {**under, **value} if nested else value  # type: ignore[dict-item]
    return found
