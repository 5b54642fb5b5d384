"""What the plugin serves besides the provider's own resources: who makes it is none of the provider's business."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from pulumi.runtime.proto import provider_pb2

from tfserving.errors import TFServingError


class UnimplementedError(TFServingError):
    """The engine asked for something this provider does not have."""


class ComponentError(TFServingError):
    """A component cannot be made from what the program gave.

    Attributes:
        reasons: what is wrong, by property path; empty where it is no single property.
    """

    def __init__(self, message: str, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reasons = dict(reasons or {})


class Package(Protocol):
    """The components, and the schema of everything."""

    def schema(self) -> str:
        """The schema of the package, as JSON."""

    def construct(
        self, request: provider_pb2.ConstructRequest, engine: str, provider: str, cancelled: threading.Event
    ) -> provider_pb2.ConstructResponse:
        """Make a component, and wait until everything in it is registered. Calls may overlap.

        Args:
            request: the component: type, name, inputs and options.
            engine: ``host:port`` of the engine.
            provider: reference to the provider that was asked, for resources of this package; empty where an engine
                does not tell it.
            cancelled: set when the engine gives up.

        Raises:
            UnimplementedError: there is no component of that type.
            ComponentError: the arguments are wrong, or something in the component failed.
        """
