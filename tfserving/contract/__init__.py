"""The contract of every resource: what goes in, what comes out, and of which kind each value is.

Frozen dataclasses are the only place that says it. From them follow the provider's checks and the typed values that its
resources work with, the arguments of the resource classes that programs use, the integers that are text on the wire
(:mod:`tfserving.contract.integers`), and the package schema (:mod:`tfserving.contract.schema`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tfserving.contract.cluster import CLUSTER_OBJECT
from tfserving.contract.provider_config import ProviderConfig
from tfserving.contract.records import PACKAGE, Contract
from tfserving.contract.serving import EAS_SERVICE, SERVED_CONFIG, SERVED_MODEL
from tfserving.contract.storage import BUCKET_CONTENTS, MODEL_CONFIG_FILE, PUBLISHED_MODEL, RETIRED_VERSIONS
from tfserving.contract.traffic import TRAFFIC_ROUTE, TRAFFIC_SPLIT

VERSION: Final = "0.1.0"
"""Version of the package, as ``Pulumi.yaml`` names it."""

CONTRACTS: Final[Mapping[str, Contract]] = {
    each.token: each
    for each in (
        BUCKET_CONTENTS,
        PUBLISHED_MODEL,
        MODEL_CONFIG_FILE,
        EAS_SERVICE,
        SERVED_CONFIG,
        SERVED_MODEL,
        RETIRED_VERSIONS,
        TRAFFIC_SPLIT,
        TRAFFIC_ROUTE,
        CLUSTER_OBJECT,
    )
}
"""All of them by type."""

__all__ = [
    "BUCKET_CONTENTS",
    "CLUSTER_OBJECT",
    "CONTRACTS",
    "EAS_SERVICE",
    "MODEL_CONFIG_FILE",
    "PACKAGE",
    "PUBLISHED_MODEL",
    "RETIRED_VERSIONS",
    "SERVED_CONFIG",
    "SERVED_MODEL",
    "TRAFFIC_ROUTE",
    "TRAFFIC_SPLIT",
    "VERSION",
    "Contract",
    "ProviderConfig",
]
