"""A Pulumi policy pack in Python, asked about resources as the Pulumi CLI asks it (the Analyzer service).

Only policies about single resources: those about whole stacks are the CLI's.
"""

from __future__ import annotations

import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import grpc
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from sandbox.engine.config import Stack
from sandbox.engine.plugins import CHANNEL
from tfserving.errors import TFServingError

_START_SECONDS = 60.0


class PolicyPackError(TFServingError):
    """A policy pack cannot be started."""


@dataclass(frozen=True)
class Violation:
    """A resource that a policy does not allow.

    Attributes:
        policy: name of the policy.
        message: what is wrong with the resource.
        is_mandatory: it must not be deployed.
    """

    policy: str
    message: str
    is_mandatory: bool

    def __str__(self) -> str:
        return f"policy {self.policy}: {self.message}"


class PolicyPack:
    """The process of a policy pack."""

    def __init__(
        self, directory: Path, stack: Stack, config: analyzer_pb2.ConfigureAnalyzerRequest | None = None
    ) -> None:
        """Starts it.

        Args:
            directory: holds ``PulumiPolicy.yaml`` and ``__main__.py``.
            stack: what the pack knows of the stack: project and name.
            config: of its policies.

        Raises:
            PolicyPackError: it does not start.
        """
        own = directory / ".venv" / "bin" / "python"
        python = str(own) if own.exists() else stack.python
        environment = {
            **stack.environment,
            "PULUMI_PROJECT": stack.project_name,
            "PULUMI_STACK": stack.name,
            "PULUMI_ORGANIZATION": "organization",
            "PULUMI_DRY_RUN": "true",
        }
        self._process = subprocess.Popen(
            [python, "-u", str(directory / "__main__.py")],
            env=environment,
            text=True,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # its errors go where ours go
        )
        output = cast("IO[str]", self._process.stdout)
        ready, _, _ = select.select([output], [], [], _START_SECONDS)
        port = output.readline().strip() if ready else ""
        if not port.isdigit():
            self._process.kill()
            self._process.communicate()
            raise PolicyPackError(f"policy pack {directory} does not start: what it printed is above")
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL)
        self._analyzer: Any = analyzer_pb2_grpc.AnalyzerStub(self._channel)
        if config is not None:
            self._analyzer.Configure(config)

    def check(self, request: Any, urn: str) -> list[Violation]:
        """What the pack has against a resource. What it can put right, it puts right in ``request``.

        Args:
            request: a ``RegisterResourceRequest``.
            urn: of the resource.
        """
        options = analyzer_pb2.AnalyzerResourceOptions(
            protect=request.protect, additionalSecretOutputs=request.additionalSecretOutputs, parent=request.parent
        )
        asked = analyzer_pb2.AnalyzeRequest(
            type=request.type, name=request.name, urn=urn, properties=request.object, options=options
        )
        try:
            for remedy in self._analyzer.Remediate(asked).remediations:
                if remedy.HasField("properties"):
                    request.object.CopyFrom(remedy.properties)
                    asked.properties.CopyFrom(remedy.properties)
            found = self._analyzer.Analyze(asked).diagnostics
        except grpc.RpcError as error:
            return [Violation("pack", f"it failed on this resource: {error.details()}", True)]
        return [
            Violation(each.policyName, each.message, each.enforcementLevel == analyzer_pb2.MANDATORY) for each in found
        ]

    def close(self) -> None:
        """Ends the process."""
        self._channel.close()
        self._process.kill()
        self._process.communicate()
