"""Names, labels, taints and quantities, by the rules of the Kubernetes API."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tfserving.errors import Problem
from tfserving.options import option
from tfserving.property_path import join_path

Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
EFFECTS: tuple[Effect, ...] = ("NoSchedule", "PreferNoSchedule", "NoExecute")

DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""RFC 1035 label: what a Service may be called."""

_NAME_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


@dataclass(frozen=True, kw_only=True)
class Taint:
    """A taint of a node: pods without a matching toleration stay away.

    Attributes:
        key: label key.
        value: label value, may be empty.
        effect: ``PreferNoSchedule``: pods come only if there is no room elsewhere.
    """

    key: str
    value: str = ""
    effect: Effect = "NoSchedule"

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A toleration of a pod.

    Attributes:
        key: key of the taint; empty with ``Exists`` tolerates every key.
        operator: ``Equal``: key and value; ``Exists``: the key, whatever the value.
        value: value of the taint, with ``Equal``.
        effect: effect of the taint.
    """

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Effect | Literal[""] = option("", otherwise="every effect")

    def tolerates(self, taint: Taint) -> bool:
        """Whether a pod with this toleration may run on a node with ``taint``, as the scheduler decides."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> list[Taint]:
    """The taints that keep a pod with these tolerations off the node."""
    given = list(tolerations)
    return [
        taint
        for taint in taints
        if taint.effect != "PreferNoSchedule" and not any(toleration.tolerates(taint) for toleration in given)
    ]


def is_subdomain(name: str) -> bool:
    """Whether this is a DNS subdomain, as most objects are named."""
    return bool(_DNS_SUBDOMAIN.fullmatch(name))


def is_label_key(key: str) -> bool:
    """Whether this is the key of a label or taint: ``[domain/]name``."""
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME_PART.fullmatch(name)) and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Whether this is the value of a label or taint; it may be empty."""
    return value == "" or bool(_NAME_PART.fullmatch(value))


def label_problems(labels: Mapping[str, str], path: str) -> list[Problem]:
    """What the API server would refuse in ``labels``."""
    problems = []
    for key, value in labels.items():
        here = join_path(path, key)
        if not is_label_key(key):
            problems.append(
                Problem(here, f"`{key}` is not a label", "name or domain/name of letters, digits and - _ .")
            )
        elif not is_label_value(value):
            problems.append(
                Problem(here, f"`{value}` is not the value of a label", "up to 63 letters, digits and - _ . inside")
            )
    return problems


def taint_problems(taints: Iterable[Taint], path: str) -> list[Problem]:
    """What the API server would refuse in ``taints``."""
    problems = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        here = f"{path}[{index}]"
        if not is_label_key(taint.key):
            problems.append(Problem(f"{here}.key", f"`{taint.key}` is not the key of a taint", "name or domain/name"))
        if not is_label_value(taint.value):
            allowed = "up to 63 letters, digits and - _ . inside"
            problems.append(Problem(f"{here}.value", f"`{taint.value}` is not the value of a taint", allowed))
        if taint.effect not in EFFECTS:
            problems.append(Problem(f"{here}.effect", f"`{taint.effect}` is not an effect", ", ".join(EFFECTS)))
        if (taint.key, taint.effect) in seen:
            message = f"taint {taint.key} with effect {taint.effect} is there twice"
            problems.append(Problem(here, message, "", "keep one"))
        seen.add((taint.key, taint.effect))
    return problems
