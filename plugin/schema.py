"""The schema of the package: the resources by their contracts, the components by the options of the stack file.

Source of the format: ``pkg/codegen/schema`` in Pulumi's sources.

An option that takes no output of another resource is plain. None has a default here: generated SDKs would send it, and
what is given decides more than what is not (``serviceDefaults``, options that exclude each other). Descriptions say it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, is_dataclass
from typing import Any, get_args, get_origin

from components import public
from components.component import Argument, Component
from config.bucket import BucketSettings
from config.cloud import AlicloudSettings
from config.kubernetes import TARGETS, ClusterSettings, KubernetesSettings
from config.models import ModelOptions
from config.option_tables import default_words
from config.schema import ACK_SERVICE, EAS_SERVICE
from config.stack import StackOptions
from tfserving import eas_spec, flags, kubernetes
from tfserving.contract import PACKAGE
from tfserving.contract.schema import Builder, Schema, markdown, package_schema, sentence
from tfserving.model_sets import ModelChoice, PolicyOptions
from tfserving.options import Option, choices, is_mapping, is_union, options

_ANY: Schema = {"$ref": "pulumi.json#/Any"}
_VERSION: Schema = {"oneOf": [{"type": "integer", "plain": True}, {"type": "string", "plain": True}], "plain": True}
_SCALARS: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}

_VERSION_NUMBERS = {(ModelOptions, "labels"), (PolicyOptions, "specific"), (ModelChoice, "labels")}
"""Options that hold version numbers, which may be text: a number is rounded above 2^53 on its way."""

_LIST_OR_MAPPING = (
    "A list of numbers, those above 2^53 as text, or a mapping with the one key `from`. It has no type of its own, "
    "because Pulumi's SDK for Python refuses to send a list where a type allows an object, too."
)
"""An option that cannot have a type. What that SDK does: ``_get_list_element_type`` of ``pulumi/runtime/rpc.py``."""

_NAMES: Mapping[type, str] = {
    BucketSettings: "RepositoryBucket",
    ModelOptions: "RepositoryModel",
    PolicyOptions: "RepositoryPolicy",
    KubernetesSettings: "StackCluster",
    ClusterSettings: "StackClusterToMake",
    kubernetes.GpuNodePoolSpec: "StackNodePool",
    eas_spec.Probe: "HealthProbe",
    eas_spec.Autoscaler: "ServiceAutoscaler",
}
"""Names of types, where those of the classes would say less to people who only know the package, or are taken."""

_SERVICE = f"{PACKAGE}:index:StackService"

Options = Mapping[str, tuple[type, Option]]
"""Options by key, each with the class that declares it."""


def schema() -> Schema:
    """The schema of the package."""
    builder = _Components()
    components = {token: builder.component(public.load(token)) for token in public.COMPONENTS}
    return package_schema(builder, components)


def text() -> str:
    """The schema as the file that the plugin answers with."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


class _Components(Builder):
    """Collects the nested types of the components."""

    def __init__(self) -> None:
        super().__init__()
        self._classes: dict[str, type] = {}

    def reference(self, nested: type) -> str:
        """As the contracts' own, and never the name of an option's type."""
        token = super().reference(nested)
        self._is_of(token, nested)
        return token

    def component(self, cls: type[Component]) -> Schema:
        """One component."""
        found = {key: each for key, each in _options(cls.shape).items() if key not in cls.not_taken}
        inputs = {key: self._option(*each) for key, each in found.items()}
        inputs |= {each.key: self._argument(each) for each in cls.arguments}
        required = [key for key, each in found.items() if _required(*each)]
        outputs = cls.outputs.properties()
        return {
            "isComponent": True,
            "description": markdown(cls.description()),
            "inputProperties": inputs,
            "requiredInputs": sorted({*required, *(each.key for each in cls.arguments if each.required)}),
            "properties": self.properties(outputs.values()),
            "required": sorted(each.name for each in outputs.values() if each.required or each.default is not None),
        }

    def _argument(self, each: Argument) -> Schema:
        if isinstance(each.type, str):
            component: Schema = {"$ref": f"#/resources/{PACKAGE}:index:{each.type}"}
            found = {"type": "array", "items": component} if each.several else component
            return {**found, "description": each.description}
        return {**self._type(each.type, plain=not each.late), "description": f"{each.description.removesuffix('.')}."}

    def _option(self, cls: type, each: Option) -> Schema:
        plain = not _takes_outputs(each)
        if (cls, each.key) in {(StackOptions, "services"), (StackOptions, "serviceDefaults")}:
            found: Schema = {"$ref": f"#/types/{self._service()}"}
            if each.key == "services":
                found = {"type": "object", "additionalProperties": found}
        elif each.key == "models" and cls is not StackOptions:
            # The short form, a list of names, is left to stack files: an SDK has one type for a property.
            choice = {"$ref": f"#/types/{self._nested(ModelChoice)}", "plain": True}
            found = {"type": "object", "additionalProperties": choice, "plain": True}
        elif each.key == "batching":
            found = {"$ref": f"#/types/{self._batching()}", "plain": True}
        elif (cls, each.key) == (ModelOptions, "versions"):
            return {**_ANY, "plain": True, "description": f"{_described(each)} {_LIST_OR_MAPPING}"}
        elif (cls, each.key) in _VERSION_NUMBERS:
            outer: Schema = self._type(each.plain_type, plain=plain)
            found = {**outer, "additionalProperties" if is_mapping(each.plain_type) else "items": _VERSION}
        else:
            also = tuple(dict.fromkeys(type(value) for value in each.also))
            found = self._either((*also, each.plain_type), plain)
        return {**found, "description": _described(each), **({"secret": True} if each.secret else {})}

    def _either(self, hints: Iterable[Any], plain: bool) -> Schema:
        kinds: list[Schema] = []
        for hint in hints:
            for part in get_args(hint) if is_union(hint) and not choices(hint) else (hint,):
                found = self._type(part, plain=plain)
                found.pop("plain", None)
                if part is not type(None) and found not in kinds:
                    kinds.append(found)
        if {"type": "integer"} in kinds and {"type": "number"} in kinds:
            kinds.remove({"type": "integer"})
        # Pulumi's SDK for Python cannot send a list where something else may stand, too.
        kinds = [kind for kind in kinds if kind.get("type") == "array"] or kinds
        if plain:
            kinds = [{**kind, "plain": True} for kind in kinds]
        return dict(kinds[0]) if len(kinds) == 1 else {"oneOf": kinds, **({"plain": True} if plain else {})}

    def _type(self, hint: Any, *, plain: bool) -> Schema:
        if is_union(hint) and not choices(hint):
            return self._either((hint,), plain)
        found: Schema
        if hint in _SCALARS or choices(hint):
            found = {"type": _SCALARS.get(hint, "string")}
        elif is_mapping(hint):
            found = {"type": "object", "additionalProperties": self._type(get_args(hint)[1], plain=plain)}
        elif get_origin(hint) is tuple:
            found = {"type": "array", "items": self._type(get_args(hint)[0], plain=plain)}
        elif isinstance(hint, type) and is_dataclass(hint):
            found = {"$ref": f"#/types/{self._nested(hint)}"}
        else:
            found = dict(_ANY)
        return {**found, "plain": True} if plain else found

    def _nested(self, cls: type) -> str:
        """The token of a dataclass with options, which is then part of the schema."""
        token = f"{PACKAGE}:index:{_NAMES.get(cls, cls.__name__)}"
        self._is_of(token, cls)
        if token not in self.types:
            self.types[token] = {}  # a class may hold objects of its own
            self.types[token] = self._object(sentence(cls), _options((cls,)))
        return token

    def _is_of(self, token: str, cls: type) -> None:
        if self._classes.setdefault(token, cls) is not cls:
            raise ValueError(f"{token} would be both {cls} and {self._classes[token]}: name one of them in _NAMES")

    def _object(self, description: str, found: Options) -> Schema:
        return {
            "type": "object",
            "description": description,
            "properties": {key: self._option(*each) for key, each in found.items()},
            "required": sorted(key for key, each in found.items() if _required(*each)),
        }

    def _service(self) -> str:
        """The token of a service of a stack: on EAS or on Kubernetes, and what only one of them takes says so."""
        if _SERVICE in self.types:
            return _SERVICE
        self.types[_SERVICE] = {}
        on_eas, in_pods = _options(EAS_SERVICE), _options(ACK_SERVICE)
        listed = ", ".join(f"`{each}`" for each in TARGETS)
        properties: dict[str, Schema] = {
            "target": {
                "type": "string",
                "plain": True,
                "description": f"Where it runs, one of {listed}. Default: `{TARGETS[0]}`.",
            }
        }
        for key in dict.fromkeys((*on_eas, *in_pods)):
            both = [(name, found[key]) for name, found in (("EAS", on_eas), ("ACK", in_pods)) if key in found]
            described = [self._option(*each) for _, each in both]
            properties[key] = described[0]
            if len(both) == 1:
                properties[key]["description"] = f"Only on {both[0][0]}. {described[0]['description']}"
            elif described[0] != described[1]:
                properties[key] = self._merged(*described)
        self.types[_SERVICE] = {
            "type": "object",
            "description": "A service of a stack: TensorFlow Serving on PAI-EAS, or in pods of an ACK cluster.",
            "properties": properties,
            "required": [],
        }
        return _SERVICE

    def _batching(self) -> str:
        """The token of the parameters of batching, by the names of TensorFlow Serving's proto."""
        token = f"{PACKAGE}:index:BatchingParameters"
        properties: dict[str, Schema] = {}
        for name, each in flags.BATCHING_FIELDS.items():
            kind: Schema = {"type": _SCALARS.get(each.type, "array"), "plain": True}
            described = {"description": f"{each.sentence[:1].upper()}{each.sentence[1:]}."}
            items: Schema = {"items": {"type": "integer", "plain": True}} if each.type is list else {}
            properties[name] = {**kind, **items, **described}
        description = "`BatchingParameters` of TensorFlow Serving. What is left out keeps the server's default."
        self.types[token] = {"type": "object", "description": description, "properties": properties, "required": []}
        return token

    @staticmethod
    def _merged(on_eas: Schema, in_pods: Schema) -> Schema:
        """An option that is another one on EAS than on Kubernetes."""
        kinds: list[Schema] = []
        for each in (on_eas, in_pods):
            bare = {key: value for key, value in each.items() if key not in ("description", "plain", "secret")}
            kinds += [kind for kind in bare.get("oneOf", [bare]) if kind not in kinds]
        found = dict(kinds[0]) if len(kinds) == 1 else {"oneOf": kinds}
        said = on_eas["description"]
        if in_pods["description"] != said:
            said = f"On EAS: {said} On ACK: {in_pods['description']}"
        plain = on_eas.get("plain", False) and in_pods.get("plain", False)
        return {**found, "description": said, **({"plain": True} if plain else {})}


def _options(classes: Iterable[type]) -> Options:
    return {each.key: (cls, each) for cls in classes for each in options(cls)}


def _required(cls: type, each: Option) -> bool:
    # A component finds the region in the program, where it is not given one.
    return each.required and not each.otherwise and (cls, each.key) != (AlicloudSettings, "region")


def _takes_outputs(each: Option) -> bool:
    """Whether an output of another resource may stand in it, or somewhere below."""
    return bool(each.late) or _has_late(each.type) or each.key in ("services", "serviceDefaults")


def _has_late(hint: Any) -> bool:
    if isinstance(hint, type) and is_dataclass(hint):
        return any(_takes_outputs(each) for each in options(hint))
    return any(_has_late(part) for part in get_args(hint))


def _described(each: Option) -> str:
    """What an option is, with what the schema has no place for."""
    sentences = [each.markdown[:1].upper() + each.markdown[1:] if each.markdown else ""]
    if values := [name for name in choices(each.plain_type) if name]:
        sentences.append("One of " + ", ".join(f"`{value}`" for value in values))
    if _free(each.plain_type):
        sentences.append("The names in it and their values are those of the API, which this package does not list")
    if each.unit:
        sentences.append(f"Unit: {each.unit}")
    default = default_words(each)
    if (default not in ("none", "required") and each.default is not MISSING) or each.otherwise:
        sentences.append(f"Default: {default}")
    return " ".join(f"{each.removesuffix('.')}." for each in sentences if each)


def _free(hint: Any) -> bool:
    return hint is Any or any(_free(part) for part in get_args(hint))
