"""The provider: its resource types."""

from __future__ import annotations

from sandbox.plugins.kubernetes.api_server import ApiServer
from sandbox.plugins.kubernetes.objects import TYPES


class Kubernetes(ApiServer):
    """The objects that :mod:`sandbox.plugins.kubernetes.objects` knows."""

    def __init__(self) -> None:
        super().__init__()
        self.types = {kind.token: kind(self) for kind in TYPES}
