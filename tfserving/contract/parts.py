"""Records that several resources share: models, services, pods, the ConfigMap and its cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tfserving import model_config, wire
from tfserving.contract.kinds import Fault, Kind, MapOf, Path, Reference, Version
from tfserving.contract.records import ObjectOf, Record, prop
from tfserving.errors import ConfigError
from tfserving.model_config import ModelServerConfig
from tfserving.property_path import parse_path
from tfserving.property_values import has_unknown, plain


class EveryVersion(StrEnum):
    """A version policy without a number: all versions, or the latest one."""

    ALL = "all"
    LATEST = "latest"


@dataclass(frozen=True, kw_only=True)
class VersionPolicy(Record):
    """Which versions are served: exactly one of the two is given.

    Attributes:
        latest: so many of the newest.
        specific: exactly these.
    """

    latest: int | None = None
    specific: tuple[Version, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """A model of a model config file.

    Attributes:
        base_path: directory of its version directories, as the server sees it.
        platform: ``tensorflow``, which is the default.
        policy: which versions are served; by default the latest one.
        labels: names of versions.
        logging: the lines inside of its ``logging_config``.
    """

    base_path: str
    platform: str | None = None
    policy: EveryVersion | VersionPolicy | None = None
    labels: Mapping[str, Version] | None = None
    logging: str | None = None


@dataclass(frozen=True)
class ModelsByName(Kind):
    """Models of a model config file by name: a :class:`~tfserving.model_config.ModelServerConfig` in Python."""

    word = "object"
    _form = MapOf(ObjectOf(Model))

    @property
    def empty(self) -> ModelServerConfig:
        return ModelServerConfig()

    def takes(self, value: Any) -> bool:
        return self._form.takes(value)

    def holds(self, value: Any) -> bool:
        return isinstance(value, ModelServerConfig)

    def decode(self, value: Any) -> ModelServerConfig:
        """Raises ConfigError with everything that is wrong."""
        return self.empty if has_unknown(value) else model_config.from_dict(self._with_numbers(value))

    def encode(self, value: Any, lift: wire.Lift) -> Any:
        return model_config.to_dict(value)

    def within(self, value: Any, at: Path) -> Iterator[Fault]:
        if has_unknown(value):
            return
        try:
            config = model_config.from_dict(self._with_numbers(value), str(at[0]))
            problems = model_config.out_of_range(config, str(at[0]))
        except ConfigError as error:
            problems = list(error.problems)
        for problem in problems:
            allowed = f" Allowed: {problem.allowed}." if problem.allowed else ""
            fix = f" Fix: {problem.fix}." if problem.fix else ""
            yield parse_path(problem.path), f"{problem.message}.{allowed}{fix}"

    def _with_numbers(self, value: Any) -> Any:
        patterns = [("models", *path) for path in self.integers()]
        change = wire.decode_integer
        return wire.rewritten({"models": plain(value)}, patterns, lambda each, _: change(each))["models"]

    def schema(self, reference: Reference) -> dict[str, Any]:
        return self._form.schema(reference)

    def integers(self) -> tuple[wire.Pattern, ...]:
        return self._form.integers()


MODELS: Final = ModelsByName()


@dataclass(frozen=True, kw_only=True)
class ServedVersions(Record):
    """What is served of a model.

    Attributes:
        versions: the versions that answer, ascending.
        labels: the version that answers by each label; where replicas disagree, a text that names every one.
    """

    versions: tuple[Version, ...] = ()
    labels: Mapping[str, Version | str] = prop(factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pods(Record):
    """The pods of a service on Kubernetes.

    Attributes:
        namespace: their namespace.
        selector: their labels.
    """

    namespace: str
    selector: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ClusterInputs(Record):
    """Which cluster pods run in.

    Attributes:
        kubeconfig: path or content of the kubeconfig; default: the environment's.
        kube_context: context of the kubeconfig; default: its current one.
    """

    kubeconfig: str | None = None
    kube_context: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConfigMapInputs(ClusterInputs):
    """Which ConfigMap holds the model config file for pods.

    Attributes:
        config_map: ``namespace/name`` of the ConfigMap that holds the file for pods on Kubernetes.
    """

    config_map: str | None = prop(None, replaces=True)


@dataclass(frozen=True, kw_only=True)
class Outputs(Record):
    """Outputs of every resource.

    Attributes:
        created_by: id of the create that the state comes from; not in a state of release 0.1.0.
    """

    created_by: str | None = None
