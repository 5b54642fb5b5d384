"""The one exception tree: every error a person can cause or meet, with its whole message as text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class TFServingError(Exception):
    """Base of every error raised on purpose. ``str(error)`` is what a person reads; no traceback is needed."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the stack config or a file it names.

    Attributes:
        path: where, as a person would type it (``tf-serving:services.multi_grpc.port``, or a file path).
        message: what is wrong, one sentence without a final period, the bad value included.
        allowed: what would be accepted, if that can be said in a few words.
        fix: what to do, an imperative sentence without a final period.
    """

    path: str
    message: str
    allowed: str = ""
    fix: str = ""

    def __str__(self) -> str:
        parts = [f"{self.path}: {self.message}."]
        if self.allowed:
            parts.append(f"Allowed: {self.allowed}.")
        if self.fix:
            parts.append(f"Fix: {self.fix}.")
        return " ".join(parts)


class ConfigError(TFServingError):
    """The stack config is wrong. Holds every problem found, in the order of the config.

    Attributes:
        problems: at least one problem.
    """

    def __init__(self, problems: Iterable[Problem], subject: str = "stack config") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{subject}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class ModelConfigError(TFServingError):
    """A model config file is not a valid ``ModelServerConfig``."""


class SavedModelError(TFServingError):
    """A version directory is not a complete SavedModel."""


class ServiceError(TFServingError):
    """A TensorFlow Serving service answered with an error.

    Attributes:
        status: HTTP status, or the HTTP status equivalent to the gRPC code; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ServiceUnreachableError(ServiceError):
    """No answer from the service: wrong address, stopped, not ready, or a network that does not lead there."""


class ServiceNotFoundError(ServiceError):
    """The service answered that it does not serve that model, version or label."""


class RolloutError(TFServingError):
    """A rollout stopped before the wanted config was served. The last accepted config stays in force."""


class TrafficError(TFServingError):
    """The requests of a service group cannot be shared as wanted. They are shared as they were, or on the way."""


class CloudError(TFServingError):
    """An Alibaba Cloud API refused a call.

    Attributes:
        code: the API's error code (``InvalidService.NotFound``), empty where there was no answer.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class OwnershipError(TFServingError):
    """Something of that name exists already and was not made by this stack."""
