"""What a service has still to do of a step, by what its replicas answer."""

from __future__ import annotations

from provider.asking import Answers
from tfserving.errors import RolloutError
from tfserving.rollout import Step

Failed = tuple[str, str, int]
"""Service, model, version."""


class VersionFailedError(RolloutError):
    """The server says that it cannot load a version.

    Attributes:
        service: the service that says so.
        model: the model.
        version: the version.
    """

    def __init__(self, message: str, service: str, model: str, version: int) -> None:
        super().__init__(message)
        self.service, self.model, self.version = service, model, version


def pending_of(step: Step, service: str, answer: Answers, stale: set[Failed]) -> str:
    """What a service has not done yet of a step; empty when all is done.

    Args:
        step: the step.
        service: its name.
        answer: what it says.
        stale: versions whose old failure still shows; those that show it no longer are taken out.

    Raises:
        VersionFailedError: a version the step needs cannot be loaded.
    """
    for model, versions in step.wait_available.items():
        for version in versions:
            failure = answer.failed(model, (version,))
            if failure is None:
                stale.discard((service, model, version))
            elif (service, model, version) not in stale:
                raise VersionFailedError(
                    f"service {service}: version {version} of {model} cannot be loaded: it is {failure.state} with "
                    f"{failure.error_code}: {failure.error_message}",
                    service,
                    model,
                    version,
                )
            if version not in answer.available(model):
                return f"version {version} of {model} is {answer.state(model, version)}"
    for model, labels in step.wait_labels.items():
        for label, version in labels.items():
            found = answer.label(model, label)
            if found != version:
                shown = "no single version" if found is None else f"version {found}"
                return f"label {label} of {model} is answered by {shown}, not {version}"
    for model, names in step.wait_labels_gone.items():
        for label in names:
            if any(found is not None for found in answer.labels[model].get(label, ())):
                return f"label {label} of {model} is still answered"
    for model, versions in step.wait_gone.items():
        left = [version for version in answer.anywhere(model) if not versions or version in versions]
        if left:
            return f"version {left[0]} of {model} is still {answer.state(model, left[0])}"
    return ""
