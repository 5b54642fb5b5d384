"""The package's Pulumi schema, made from the contracts: what SDKs in every language are generated from.

Source of the format: ``pkg/codegen/schema`` in Pulumi's sources.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from tfserving.contract import CONTRACTS, PACKAGE, VERSION, Contract, ProviderConfig
from tfserving.contract.kinds import VERSION_SENTENCE
from tfserving.contract.records import Property, Record

Schema = dict[str, Any]

DESCRIPTION = "TensorFlow Serving on Alibaba Cloud PAI-EAS: published models, services, and what they serve."

LANGUAGES: Schema = {
    "python": {"packageName": "pulumi_tfserving", "respectSchemaVersion": True, "pyproject": {"enabled": True}},
    "nodejs": {"packageName": "@tf-serving/pulumi", "respectSchemaVersion": True},
    "go": {"generateResourceContainerTypes": True, "respectSchemaVersion": True},
    "csharp": {"rootNamespace": "TfServing", "respectSchemaVersion": True},
    "java": {},
}
"""Names of the generated SDKs."""


class Builder:
    """Collects the nested types that the resources of a schema name."""

    def __init__(self) -> None:
        self.types: dict[str, Schema] = {}

    def reference(self, nested: type) -> str:
        """The token of a nested type, a record or a choice, which is then part of the schema."""
        token = f"{PACKAGE}:index:{nested.__name__}"
        if issubclass(nested, StrEnum):
            values = [{"name": each.name.title(), "value": str(each)} for each in nested]
            self.types[token] = {"type": "string", "description": sentence(nested), "enum": values}
        elif issubclass(nested, Record):
            declared = nested.properties()
            self.types[token] = {
                "type": "object",
                "description": sentence(nested),
                "properties": self.properties(declared.values()),
                "required": _required(declared.values()),
            }
        return token

    def properties(self, declared: Iterable[Property]) -> dict[str, Schema]:
        """Properties as the schema describes them."""
        return {each.name: self._property(each) for each in declared}

    def resource(self, contract: Contract) -> Schema:
        """One resource."""
        given = [each for each in contract.inputs.properties().values() if each.given]
        outputs = {**contract.inputs.properties(), **contract.all_outputs}
        # An input that is not echoed is no output for certain; its type is known all the same.
        certain = [each for name, each in contract.all_outputs.items() if each.required or each.default is not None]
        return {
            "description": contract.description,
            "inputProperties": self.properties(given),
            "requiredInputs": _required(given),
            "properties": self.properties(outputs.values()),
            "required": sorted(each.name for each in certain),
        }

    def _property(self, each: Property) -> Schema:
        described = each.kind.schema(self.reference)
        sentences = [markdown(each.description[:1].upper() + each.description[1:])]
        if any(set(path) <= {"*"} for path in each.kind.integers()):
            sentences.append(VERSION_SENTENCE)
        described["description"] = ". ".join(sentences) + "."
        if isinstance(each.default, str | int | float):
            described["default"] = each.default
        if each.replaces:
            described["willReplaceOnChanges"] = True
        if each.secret:
            described["secret"] = True
        return described


def package_schema(builder: Builder | None = None, components: Mapping[str, Schema] | None = None) -> Schema:
    """The schema of the package.

    Args:
        builder: has collected the types of the components.
        components: the components, by type; the resources follow from their contracts.
    """
    builder = builder or Builder()
    config = ProviderConfig.properties().values()
    resources = {token: builder.resource(each) for token, each in CONTRACTS.items()}
    return {
        "name": PACKAGE,
        "displayName": "TF Serving",
        "version": VERSION,
        "description": DESCRIPTION,
        "keywords": ["pulumi", "tensorflow-serving", "alicloud", "category/cloud"],
        "config": {"variables": builder.properties(config)},
        "provider": {
            "description": sentence(ProviderConfig),
            "inputProperties": builder.properties(config),
            "requiredInputs": _required(config),
        },
        "resources": {**resources, **(components or {})},
        "types": dict(sorted(builder.types.items())),
        "language": LANGUAGES,
    }


def _required(declared: Iterable[Property]) -> list[str]:
    return [each.name for each in declared if each.required]


def sentence(cls: type) -> str:
    """What a class is: the first paragraph of its docstring, as Markdown."""
    return markdown(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " "))


def markdown(text: str) -> str:
    """A docstring's text as Markdown."""
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")
