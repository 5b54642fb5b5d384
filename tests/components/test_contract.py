"""The typed resource classes say the same as the provider that implements them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi._types import resource_py_to_pulumi_names

from components import resources
from provider import server
from tfserving.contract import CONTRACTS, VERSION
from tfserving.contract.schema import package_schema

ROOT = Path(__file__).resolve().parents[2]

CLASSES = resources._Resource.__subclasses__()


def test_every_contract_has_a_resource_of_the_provider_and_a_class() -> None:
    assert set(server.RESOURCES) == set(CONTRACTS)
    assert {each.contract.token for each in CLASSES} == set(CONTRACTS)
    assert all(each.__name__ == each.contract.name for each in CLASSES)


@pytest.mark.parametrize("resource", CLASSES, ids=lambda resource: resource.__name__)
def test_outputs_that_a_class_names_are_those_of_its_contract(resource: type[resources._Resource[Any]]) -> None:
    names = resource_py_to_pulumi_names(resource)
    own = {name: names[name] for name in resource.__annotations__ if name in names}
    assert set(own.values()) <= set(resource.contract.all_outputs)
    # Pulumi would translate nested keys of that name, too.
    assert all(name == on_the_wire for name, on_the_wire in own.items())


def test_the_version_is_the_same_everywhere() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    (plugin,) = project["plugins"]["providers"]
    assert plugin == {"name": "tfserving", "path": "./plugin", "version": VERSION}
    assert package_schema()["version"] == VERSION
