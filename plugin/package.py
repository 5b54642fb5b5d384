"""What the plugin serves beyond the provider's resources: components, and the schema of everything."""

from __future__ import annotations

import threading
from pathlib import Path

from pulumi.runtime.proto import provider_pb2

from plugin import sdk

SCHEMA = Path(__file__).with_name("schema.json")
"""Made by ``make schema``: nobody who asks for it waits for the SDKs that the components import."""


class Package:
    """The components, and the schema. The Pulumi SDK is loaded by the first component, not before."""

    def schema(self) -> str:
        """The schema of the package, as JSON."""
        return SCHEMA.read_text(encoding="utf-8")

    def construct(
        self, request: provider_pb2.ConstructRequest, engine: str, provider: str, cancelled: threading.Event
    ) -> provider_pb2.ConstructResponse:
        """Make a component (:func:`plugin.construct.construct`)."""
        sdk.load()
        from plugin.construct import construct

        return construct(request, engine, provider, cancelled)
