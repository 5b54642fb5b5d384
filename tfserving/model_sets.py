"""Model sets: which models a service with a model config file serves, and the file that its set has.

Services without a choice of their own serve all models, from ``model_config.pbtxt``. Services that list the same models
share a file named after them, so that a service that joins or leaves changes no name. A service that also chooses
policies or labels has a file named after itself, even where another one chooses the same: a canary that was promoted
would otherwise be merged with the stable service, and both would start anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfserving.model_config import Model, ModelServerConfig, VersionPolicy
from tfserving.options import option

DEFAULT_FILE = "model_config.pbtxt"
"""File of the services that serve all models."""

_LONGEST = 80
_PLAIN = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Which versions are served, where that is not ``all``.

    Attributes:
        latest: the highest versions, so many of them.
        specific: exactly these versions.
    """

    latest: int = option(1, least=1)
    specific: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """What a service chooses for one of its models, instead of what ``tf-serving:models`` says.

    Attributes:
        policy: which versions are served.
        labels: version by label; these replace all labels of the model.
    """

    policy: PolicyOptions = option(PolicyOptions(), also=("all",), otherwise="the model's")
    labels: Mapping[str, int] = option(factory=dict, otherwise="the model's")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A :class:`ModelChoice`, read; ``None`` is what the model itself says."""

    policy: VersionPolicy | None = None
    labels: Mapping[str, int] | None = None

    def __bool__(self) -> bool:
        return self.policy is not None or self.labels is not None


@dataclass(frozen=True, kw_only=True)
class ModelSet:
    """The models of one config file.

    Attributes:
        part: what tells its file from that of all models; empty for that one.
        config: what the file is to say.
        services: the services that read it, on PAI-EAS.
        pods: the services on Kubernetes that read it in a ConfigMap, again and again.
        adopt: take over a file that is there and not this stack's.
        default_file: name of the file of all models.
    """

    part: str = ""
    config: ModelServerConfig = field(default_factory=ModelServerConfig)
    services: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    adopt: bool = False
    default_file: str = DEFAULT_FILE

    @property
    def file_name(self) -> str:
        """Name of the file, in the bucket and in the ConfigMap."""
        return file_name(self.part, self.default_file)

    @property
    def readers(self) -> tuple[str, ...]:
        """The services that read the file, wherever they run."""
        return (*self.services, *self.pods)

    @property
    def suffix(self) -> str:
        """What names of resources of this set end in; nothing for the set of all models."""
        return f"-{self.part}" if self.part else ""


def file_name(part: str, default: str = DEFAULT_FILE) -> str:
    """Name of the file of a set; ``default`` is that of all models."""
    return f"model_config.{part}.pbtxt" if part else default


def config_map_name(default: str, part: str) -> str:
    """Name of the ConfigMap of a set: lower-case letters, digits, ``-`` and ``.``, and never that of another set."""
    if not part:
        return default
    labels = (re.sub(r"[^a-z0-9]+", "-", label).strip("-") for label in part.lower().split("."))
    shown = ".".join(label for label in labels if label)
    return f"{default}.{shown}" if shown == part else f"{default}.{shown}-{_digest([part])}"


def part_of(service: str, choices: Mapping[str, Choice], models: Collection[str]) -> str:
    """What tells the file of a service from that of all models.

    Args:
        service: its name.
        choices: its models, in any order; empty: all.
        models: every model of the stack.
    """
    if any(choices.values()):
        return service
    if not choices or set(choices) == set(models):
        return ""
    names = sorted(choices)
    shown = "-".join(names)
    if len(shown) > _LONGEST:
        shown = f"{names[0]}-and-{len(names) - 1}-more"
    # Only names without "-" and "." can be told apart in a row.
    plain = len("-".join(names)) <= _LONGEST and all(_PLAIN.fullmatch(name) for name in names)
    return f"models.{shown}" if plain else f"models.{shown}-{_digest(names)}"


def chosen(declared: ModelServerConfig, choices: Mapping[str, Choice]) -> ModelServerConfig:
    """What a service serves of the models that are declared: those of its choice, as it wants them."""
    if not choices:
        return declared
    kept = (model for model in declared.models if model.name in choices)
    return ModelServerConfig(tuple(_as(model, choices[model.name]) for model in kept))


def _as(model: Model, choice: Choice) -> Model:
    return replace(
        model,
        policy=model.policy if choice.policy is None else choice.policy,
        labels=model.labels if choice.labels is None else dict(choice.labels),
    )


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:8]
