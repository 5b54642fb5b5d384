"""Options are read off dataclasses: names become keys, docstrings sentences, annotations types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from typing import Literal

import pytest

from tfserving import eas_spec, kubernetes
from tfserving.options import choices, is_mapping, keys, option, options


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example.

    Attributes:
        name: follows from the stack.
        poll_seconds: how often
            it looks; 0 is never.
        kind: ``a`` or: ``b``.
        checks: looked at.
        size: size of it.
    """

    name: str = option(configured=False)
    poll_seconds: int = 5
    kind: Literal["a"] | Literal["b"] | None = None
    checks: Mapping[str, str] = option(factory=dict, key="healthCheck")
    size: int = option(unit="MB", least=1)
    untold: tuple[str, ...] = field(default_factory=tuple)


def test_a_field_is_an_option_unless_it_follows_from_the_rest_of_the_stack() -> None:
    assert keys(Example) == ("pollSeconds", "kind", "healthCheck", "size", "untold")


def test_sentences_units_limits_and_defaults_are_those_of_the_class() -> None:
    found = {each.key: each for each in options(Example)}
    assert found["pollSeconds"].sentence == "how often it looks; 0 is never."
    assert found["kind"].sentence == "``a`` or: ``b``."
    assert found["untold"].sentence == ""
    assert (found["pollSeconds"].unit, found["size"].unit, found["kind"].unit) == ("seconds", "MB", "")
    assert (found["size"].least, found["size"].default, found["size"].required) == (1, MISSING, True)
    assert (found["healthCheck"].default, found["healthCheck"].required) == ({}, False)


def test_types_are_resolved() -> None:
    found = {each.key: each.plain_type for each in options(Example)}
    assert choices(found["kind"]) == ("a", "b")
    assert is_mapping(found["healthCheck"])
    assert not is_mapping(found["untold"])
    assert choices(found["pollSeconds"]) == ()


@pytest.mark.parametrize(
    "cls",
    [
        eas_spec.ServiceSpec,
        eas_spec.InstanceType,
        eas_spec.Vpc,
        eas_spec.Autoscaler,
        eas_spec.RollingStrategy,
        eas_spec.Probe,
        eas_spec.HealthChecks,
        kubernetes.KubernetesServingSpec,
        kubernetes.ModelVolume,
        kubernetes.PodAutoscaler,
        kubernetes.LoadBalancer,
        kubernetes.GrpcIngress,
        kubernetes.GpuNodePoolSpec,
        kubernetes.Scaling,
        kubernetes.Spot,
        kubernetes.DataDisk,
    ],
)
def test_every_option_of_the_project_has_a_sentence(cls: type) -> None:
    assert [each.key for each in options(cls) if not each.sentence] == []
