"""The package schema: made from the declared options, complete, and such that generated SDKs fit what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from components import public
from plugin import schema
from plugin.package import SCHEMA

NOW: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
COMPONENTS = {token: each for token, each in NOW["resources"].items() if each.get("isComponent")}

FREE_FORM = {"EasService.spec", "EasService.baseline", "ClusterObject.spec", "extraConfig", "kubelet", "logging"}
"""Parts that belong to an API of somebody else."""

LIST_OR_MAPPING = "RepositoryModel.versions"
"""What no type of the schema says so that every SDK can send it."""


def _within(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
        for key, each in value.items():
            yield from _within(each, f"{path}/{key}")
    elif isinstance(value, list):
        for each in value:
            yield from _within(each, path)


def test_the_file_is_what_the_declarations_say() -> None:
    assert schema.text() == SCHEMA.read_text(encoding="utf-8"), "run `make schema`"


def test_every_component_is_there() -> None:
    assert set(COMPONENTS) == set(public.COMPONENTS)
    assert {token for token in NOW["resources"] if token not in COMPONENTS} >= {"tfserving:index:EasService"}


def test_every_reference_leads_to_something() -> None:
    for path, value in _within(NOW):
        reference = value.get("$ref", "")
        if reference.startswith("#/"):
            kind, token = reference.removeprefix("#/").split("/", 1)
            assert token in NOW[kind], path
        elif reference:
            assert reference == "pulumi.json#/Any", path


def test_only_what_is_of_another_api_has_no_types() -> None:
    for path, value in _within(NOW):
        if value.get("$ref") == "pulumi.json#/Any":
            owner = (
                path.split(":index:")[1].replace("/inputProperties/", ".").replace("/properties/", ".").split("/")[0]
            )
            assert owner == LIST_OR_MAPPING or owner in FREE_FORM or owner.partition(".")[2] in FREE_FORM, path


def test_everything_is_described() -> None:
    for kind in ("resources", "types"):
        for token, each in NOW[kind].items():
            assert each.get("description"), token
            for part in ("inputProperties", "properties"):
                for key, value in each.get(part, {}).items():
                    assert value.get("description", "").endswith("."), f"{token}.{key}"


def test_inputs_of_components_have_no_defaults_that_an_sdk_would_send() -> None:
    for token, each in COMPONENTS.items():
        assert not [key for key, value in each["inputProperties"].items() if "default" in value], token


def test_a_secret_that_is_given_can_be_an_output() -> None:
    for path, value in _within(NOW):
        assert not (value.get("secret") and value.get("plain")), path


def test_what_takes_outputs_is_not_plain_and_what_decides_is() -> None:
    service = NOW["resources"]["tfserving:index:TensorFlowServing"]["inputProperties"]
    assert [key for key in ("gateway", "image", "env", "vpc", "token") if service[key].get("plain")] == []
    assert [key for key in ("replicas", "grpc", "configPollSeconds", "flags") if not service[key].get("plain")] == []


def test_version_numbers_are_numbers_or_texts() -> None:
    model = NOW["types"]["tfserving:index:RepositoryModel"]["properties"]
    assert {kind["type"] for kind in model["labels"]["additionalProperties"]["oneOf"]} == {"integer", "string"}
