"""GPU instance types of ECS: which cards they have, read from their names.

Sources: Alibaba Cloud's pages on the naming of ECS instance types and on its GPU-accelerated instance families.
A type is ``ecs.<family>-c<vCPUs per card>g1.<size>`` (``ecs.gn6i-c4g1.xlarge``), ``ecs.<family>.<size>`` with one card,
or ``ecs.<family>-<cards>x.<size>``. A size is ``large`` (2 vCPUs), ``xlarge`` (4) or ``<n>xlarge`` (4n).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A GPU card.

    Attributes:
        name: its model.
        memory: its memory in GiB.
    """

    name: str
    memory: int


FAMILIES: Mapping[str, Card] = {
    "gn5": Card("NVIDIA P100", 16),
    "gn5i": Card("NVIDIA P4", 8),
    "gn6e": Card("NVIDIA V100", 32),
    "gn6i": Card("NVIDIA T4", 16),
    "gn6v": Card("NVIDIA V100", 16),
    "gn7": Card("NVIDIA A100", 40),
    "gn7e": Card("NVIDIA A100", 80),
    "gn7i": Card("NVIDIA A10", 24),
    "gn7s": Card("NVIDIA A30", 24),
    "gn8is": Card("NVIDIA L20", 48),
}
"""Cards by family, for families with whole cards. Bare metal (``ebm``) families have the same cards."""

_TYPE = re.compile(
    r"ecs\.(?P<kind>ebm|scc|v|s)?(?P<family>gn\d+[a-z]*)(?P<detail>(-[a-z0-9]+)*)\.(?P<size>(\d+x)?large|xlarge)"
)
_PER_CARD = re.compile(r"-c(\d+)g1\b")
_CARDS = re.compile(r"-(\d+)x\b")
_CPU_TYPE = re.compile(r"ecs\.[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+")


@dataclass(frozen=True)
class GpuInstanceType:
    """What is known of one GPU instance type.

    Attributes:
        name: its full name.
        family: family without ``ebm``, ``scc``, ``v`` or ``s`` in front.
        virtual: it has a share of a card (vGPU), not whole cards.
        card: its card; ``None`` for a family this module does not know, and for a vGPU.
        cards: number of cards; ``None`` where the name does not tell.
    """

    name: str
    family: str
    virtual: bool
    card: Card | None
    cards: int | None


def parse_instance_type(name: str) -> GpuInstanceType | None:
    """What the name of an instance type tells of its GPUs; ``None`` if it is not the name of a GPU instance type."""
    match = _TYPE.fullmatch(name)
    if match is None:
        return None
    virtual = match["kind"] in ("v", "s")
    cards: int | None = None
    if found := _PER_CARD.search(match["detail"]):
        cards = _vcpus(match["size"]) // int(found[1]) or None
    elif found := _CARDS.search(match["detail"]):
        cards = int(found[1])
    elif match["kind"] is None and not match["detail"] and match["family"] == "gn8is":
        cards = 1
    card = None if virtual else FAMILIES.get(match["family"])
    return GpuInstanceType(name, match["family"], virtual, card, None if virtual else cards)


def _vcpus(size: str) -> int:
    if size in ("large", "xlarge"):
        return {"large": 2, "xlarge": 4}[size]
    return 4 * int(size.removesuffix("xlarge"))


def looks_like_instance_type(name: str) -> bool:
    """Whether this has the form of an ECS instance type, with GPUs or without."""
    return bool(_CPU_TYPE.fullmatch(name))
