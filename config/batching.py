"""Batching of services against the models they serve: what would not load, and which requests would fail."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.kubernetes import AckServiceSettings
from config.loading import AnyService, effective_flags, saved_model_tags
from tfserving import batching, saved_model
from tfserving.batching import PARAMETERS_FILE, Batching
from tfserving.errors import Problem, SavedModelError
from tfserving.manifest import HashCache


@dataclass(frozen=True, kw_only=True)
class ServedVersion:
    """A version on this machine that a service is to serve.

    Attributes:
        model: name of the model.
        number: the version.
        directory: where its ``saved_model.pb`` is.
        path: where the model is named in the stack config.
    """

    model: str
    number: int
    directory: Path
    path: str


@dataclass
class Found:
    """What there is to say.

    Attributes:
        problems: versions that would not load.
        warnings: requests that would fail, and parameters that nobody reads or has seen.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(services: Iterable[tuple[AnyService, Collection[ServedVersion]]], cache: HashCache) -> Found:
    """Look at every service with batching, and at the versions it serves that are on this machine.

    Args:
        services: each with these versions.
        cache: spares reading files that were read before and have not changed.
    """
    found = Found()
    unread: dict[tuple[str, int], bool] = {}  # versions with parameters of their own; whether a service reads them
    for service, versions in services:
        given = effective_flags(service)
        if given is None:
            continue
        reads_own = _reads_own(service, given)
        for version in versions:
            if (version.directory / PARAMETERS_FILE).is_file():
                key = version.model, version.number
                unread[key] = unread.get(key, True) and not reads_own
        if _is_on(service, given):
            _check_service(service, given, versions, cache, found)
    for (model, number), nobody in sorted(unread.items()):
        if nobody:
            found.warnings.append(
                f"model {model}: {PARAMETERS_FILE} of version {number} is read by no service: that takes batching with "
                "flags.enable_per_model_batching_parameters: true"
            )
    return found


def _is_on(service: AnyService, given: Mapping[str, Any]) -> bool:
    if given.get("platform_config_file"):
        return False  # that file alone says so then
    return given.get("enable_batching") is True or bool(isinstance(service, AckServiceSettings) and _text(service))


def _reads_own(service: AnyService, given: Mapping[str, Any]) -> bool:
    return _is_on(service, given) and given.get("enable_per_model_batching_parameters") is True


def _text(service: AnyService) -> str:
    """The batching file that the stack makes for a service; empty without one."""
    if isinstance(service, AckServiceSettings):
        return service.spec.batching
    return next((file.text for file in service.start_files if file.kind == "batching"), "")


def _check_service(
    service: AnyService,
    given: Mapping[str, Any],
    versions: Collection[ServedVersion],
    cache: HashCache,
    found: Found,
) -> None:
    text, file = _text(service), str(given.get("batching_parameters_file") or "")
    of_all = Batching.of(batching.parse(text)) if text else Batching(known=not file)
    if file and not text:
        found.warnings.append(
            f"service {service.name}: {file} (--batching_parameters_file) is not a file of this stack, and nobody "
            "has looked into it: without it the server does not start, and with a last allowed size that is not "
            "max_batch_size no model loads. Write its parameters under batching, and both are seen to"
        )
    troubles: dict[tuple[str, str, str], list[int]] = {}
    for version in versions:
        used: Batching | None = of_all
        try:
            if given.get("enable_per_model_batching_parameters") is True:
                used, problems = batching.of_version(version.directory, version.path)
                found.problems += [problem for problem in problems if problem not in found.problems]
            if used is None:
                continue  # not batched
            signatures = saved_model.signatures(version.directory, cache, saved_model_tags(service) or ())
        except SavedModelError:
            continue  # told already
        for name, signature in sorted(signatures.items()):
            if told := batching.troubles(signature, used):
                troubles.setdefault((version.model, name, "; ".join(told)), []).append(version.number)
    for (model, name, trouble), numbers in troubles.items():
        listed = ", ".join(map(str, numbers))
        found.warnings.append(
            f"service {service.name} batches requests, and model {model}, version {listed}, signature {name}, does not "
            f"take that: {trouble}. Fix: change the parameters or the signature, or serve the model without batching"
        )
