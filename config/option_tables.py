"""The tables of options on the docs' pages: made from the dataclasses that declare the options.

A page says which table stands where: ``<!-- options: BucketSettings -->``, the table, ``<!-- end -->``. Several classes
make one table; a topic behind a semicolon takes only the options of that topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from config.bucket import BucketSettings
from config.cloud import AlicloudSettings, Endpoints
from config.kubernetes import AckServiceSettings, ClusterSettings, KubernetesSettings
from config.models import ModelOptions, VersionsFrom
from config.service_entry import Timeouts
from config.services import OneInstanceType, ServiceSettings, StartFiles
from config.stack import StackOptions
from config.traffic import MirrorOptions, TrafficOptions
from tfserving import alerts, eas_spec, kubernetes
from tfserving.alerts import Alerts
from tfserving.contract.gates import Agreement, Gate, Latency, Tolerance
from tfserving.kubernetes import names
from tfserving.model_sets import ModelChoice
from tfserving.options import Option, choices, is_mapping, is_union, options
from tfserving.schedule import Schedule, ScheduledSize

PAGES = ("docs/stack-config.md", "docs/kubernetes.md")
"""Pages with tables, relative to the project."""

CLASSES: Mapping[str, type] = {
    cls.__name__: cls
    for cls in (
        StackOptions,
        Endpoints,
        BucketSettings,
        ModelOptions,
        VersionsFrom,
        TrafficOptions,
        MirrorOptions,
        Gate,
        Tolerance,
        Agreement,
        Latency,
        ModelChoice,
        AlicloudSettings,
        eas_spec.ServiceSpec,
        OneInstanceType,
        StartFiles,
        ServiceSettings,
        eas_spec.InstanceType,
        eas_spec.Vpc,
        Alerts,
        alerts.ErrorRate,
        alerts.SlowAnswers,
        alerts.NoReplica,
        alerts.FailedLoad,
        alerts.CloudMonitor,
        eas_spec.Autoscaler,
        Schedule,
        ScheduledSize,
        eas_spec.RollingStrategy,
        eas_spec.HealthChecks,
        eas_spec.Probe,
        Timeouts,
        KubernetesSettings,
        ClusterSettings,
        kubernetes.ModelVolume,
        kubernetes.GpuNodePoolSpec,
        kubernetes.Scaling,
        kubernetes.Spot,
        kubernetes.DataDisk,
        names.Taint,
        kubernetes.KubernetesServingSpec,
        AckServiceSettings,
        kubernetes.PodAutoscaler,
        kubernetes.LoadBalancer,
        kubernetes.GrpcIngress,
        names.Toleration,
    )
}
"""The dataclasses that a page can name."""

_TABLE = re.compile(r"(?P<begin><!-- options: (?P<what>[^>]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_HEAD = ("| key | type | default |  |", "| -- | -- | -- | -- |")


def write(project_dir: Path, page: str) -> str:
    """A page with its tables made anew.

    Args:
        project_dir: the project.
        page: the page, one of :data:`PAGES`.

    Raises:
        ValueError: a marker names a class or a topic that does not exist.
    """
    texts = {name: (project_dir / name).read_text(encoding="utf-8") for name in (page, *PAGES)}
    headings = [(name, title) for name, text in texts.items() for title in _HEADING.findall(text)]

    def table(match: re.Match[str]) -> str:
        above = _HEADING.findall(texts[page], 0, match.start())
        rows = [_row(each, _link(each, above[-1], page, headings)) for each in _wanted(match["what"])]
        return match["begin"] + "\n" + "\n".join((*_HEAD, *rows)) + "\n\n" + match["end"]

    return _TABLE.sub(table, texts[page])


def _wanted(what: str) -> list[Option]:
    listed, _, topic = (part.strip() for part in what.partition(";"))
    classes = [name.strip() for name in listed.split(",")]
    if unknown := [name for name in classes if name not in CLASSES]:
        raise ValueError(f"<!-- options: {what} -->: {unknown[0]} is not one of {', '.join(CLASSES)}")
    known = [each for name in classes for each in options(CLASSES[name])]
    found = [each for each in known if not topic or each.topic == topic]
    if not found:
        topics = ", ".join(dict.fromkeys(each.topic for each in known))
        raise ValueError(f"<!-- options: {what} -->: no option has the topic {topic!r}; there are {topics}")
    return found


def _row(option: Option, link: str) -> str:
    kind = f"[{type_words(option)}]({link})" if link else type_words(option)
    sentence = option.markdown.replace("|", "\\|")
    return f"| `{option.key}` | {kind} | {default_words(option)} | {sentence} |"


def _link(option: Option, heading: str, page: str, headings: Sequence[tuple[str, str]]) -> str:
    """Where an option has a section of its own: under its path, or under its bare key on the same page."""
    path = heading.strip("`")
    path += option.key if path.endswith(":") else f".{option.key}"
    for name, title in headings:
        plain = title.strip("`")
        own = name == page and plain in (option.key, f"{option.key}[n]")
        if own or (plain.startswith(path) and re.fullmatch(r"|\[n\]|\.<\w+>", plain[len(path) :])):
            return ("" if name == page else Path(name).name) + "#" + re.sub(r"[^\w -]", "", plain.lower())
    return ""


def type_words(option: Option) -> str:
    """The type of an option, as a person says it."""
    words = _type(option.plain_type, option.unit)
    if option.most is not None:
        words += f", {option.least or 0} to {option.most}"
    elif option.least:
        words += f", {option.least} or more"
    return " or ".join([*(_code(value) for value in option.also), words])


def _type(hint: Any, unit: str = "") -> str:
    if values := [name for name in choices(hint) if name]:
        *most, last = (f"`{value}`" for value in values)
        return f"{', '.join(most)} or {last}" if most else last
    if is_dataclass(hint):
        return "mapping"
    if is_mapping(hint) or get_origin(hint) is tuple:
        part = get_args(hint)[1 if is_mapping(hint) else 0]
        several = {str: " of texts", int: " of numbers", float: " of numbers"}.get(part, "")
        return ("mapping" if is_mapping(hint) else "list") + several
    if is_union(hint):
        return "number or share" if set(get_args(hint)) == {int, str} else " or ".join(map(_type, get_args(hint)))
    return unit or {str: "text", bool: "boolean", int: "number", float: "number"}.get(hint, "any")


def default_words(option: Option) -> str:
    """What holds where an option is not given."""
    if option.otherwise:
        return option.otherwise
    if option.default is MISSING:
        return "required"
    if option.default in (None, "", (), {}) or is_dataclass(option.default):
        return "none"
    return _code(option.default)


def _code(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
