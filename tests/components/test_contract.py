"""The typed resource classes say the same as the provider that implements them."""

from __future__ import annotations

from pathlib import Path

import pulumi
import pytest
import yaml
from pulumi._types import input_type_py_to_pulumi_names, resource_py_to_pulumi_names

from components import resources
from provider import server

ROOT = Path(__file__).resolve().parents[2]

CLASSES = [
    (resources.BucketContents, resources.BucketContentsArgs),
    (resources.PublishedModel, resources.PublishedModelArgs),
    (resources.ModelConfigFile, resources.ModelConfigFileArgs),
    (resources.EasService, resources.EasServiceArgs),
    (resources.ServedConfig, resources.ServedConfigArgs),
    (resources.ServedModel, resources.ServedModelArgs),
]

# Inputs the provider fills in itself, so that what is found has something to be compared with. No program sets them.
FILLED_IN = {"EasService": {"status"}, "ServedConfig": {"served", "file"}, "ServedModel": {"served"}}


@pytest.mark.parametrize(("resource", "args"), CLASSES, ids=[resource.__name__ for resource, _ in CLASSES])
def test_inputs_and_outputs_are_those_of_the_provider(resource: type[pulumi.CustomResource], args: type) -> None:
    implemented = server.RESOURCES[f"tfserving:index:{resource.__name__}"]
    declared = set(input_type_py_to_pulumi_names(args).values())
    assert declared == set(implemented.inputs) - FILLED_IN.get(resource.__name__, set())
    own = {
        name: found for name, found in resource_py_to_pulumi_names(resource).items() if name in resource.__annotations__
    }
    assert set(own.values()) <= set(implemented.inputs) | set(implemented.outputs)


def test_every_resource_of_the_provider_has_a_class() -> None:
    assert set(server.RESOURCES) == {f"tfserving:index:{resource.__name__}" for resource, _ in CLASSES}


def test_the_provider_takes_the_configuration_it_is_given() -> None:
    assert set(input_type_py_to_pulumi_names(resources.TFServingProviderArgs).values()) == set(server.CONFIG)


def test_the_version_is_the_same_everywhere() -> None:
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    (plugin,) = project["plugins"]["providers"]
    assert plugin == {"name": "tfserving", "path": "./provider", "version": resources.PROVIDER_VERSION}
    assert server.VERSION == resources.PROVIDER_VERSION
