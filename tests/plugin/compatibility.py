"""Changes of a package schema that break programs written against an older one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def breaking(old: Schema, new: Schema) -> list[str]:
    """What a program has to change that fits ``old``, by its place in the schema; empty: nothing.

    A widened input breaks nothing, and neither does one more output. What a program reads must keep its type: in Go
    and C# even a narrower one does not compile.
    """
    return sorted(_package(old, new))


def _package(old: Schema, new: Schema) -> Iterator[str]:
    for kind, inputs, outputs in (("resources", "inputProperties", "properties"), ("types", "properties", "")):
        for token, before in old.get(kind, {}).items():
            after = new.get(kind, {}).get(token)
            name = token.rpartition(":")[2]
            if after is None:
                yield f"{name}: gone"
                continue
            if bool(before.get("isComponent")) != bool(after.get("isComponent")):
                yield f"{name}: a component is no longer one, or a resource has become one"
            required = ("requiredInputs", "required") if outputs else ("required", "")
            yield from _inputs(name, _Part(before, inputs, required[0]), _Part(after, inputs, required[0]))
            if outputs:
                yield from _outputs(name, _Part(before, outputs, required[1]), _Part(after, outputs, required[1]))
    before, after = old.get("provider", {}), new.get("provider", {})
    parts = [_Part(each, "inputProperties", "requiredInputs") for each in (before, after)]
    yield from _inputs("Provider", *parts)


class _Part:
    """Properties of something, and which of them are required."""

    def __init__(self, of: Schema, properties: str, required: str) -> None:
        self.properties: Schema = of.get(properties, {})
        self.required = set(of.get(required, ()))


def _inputs(name: str, old: _Part, new: _Part) -> Iterator[str]:
    for key, before in old.properties.items():
        after = new.properties.get(key)
        if after is None:
            yield f"{name}.{key}: the input is gone"
            continue
        if not all(kind in _kinds(after) for kind in _kinds(before)) and _ANY not in _kinds(after):
            yield f"{name}.{key}: the input takes {_words(after)}, not {_words(before)}"
        if after.get("plain") and not before.get("plain"):
            yield f"{name}.{key}: the input takes no outputs any more"
        if after.get("willReplaceOnChanges") and not before.get("willReplaceOnChanges"):
            yield f"{name}.{key}: a change replaces the resource"
    for key in new.required - old.required:
        yield f"{name}.{key}: the input is required"


def _outputs(name: str, old: _Part, new: _Part) -> Iterator[str]:
    for key, before in old.properties.items():
        after = new.properties.get(key)
        if after is None:
            yield f"{name}.{key}: the output is gone"
        elif _kinds(before) != _kinds(after):
            yield f"{name}.{key}: the output is {_words(after)}, not {_words(before)}"
    for key in old.required - new.required:
        if key in new.properties:
            yield f"{name}.{key}: the output may be missing"


_ANY = "anything"


def _kinds(schema: Schema) -> list[str]:
    """The types of a property as texts."""
    if "oneOf" in schema:
        return sorted(kind for each in schema["oneOf"] for kind in _kinds(each))
    if "$ref" in schema:
        return [_ANY if schema["$ref"] == "pulumi.json#/Any" else schema["$ref"].rpartition(":")[2]]
    if schema.get("type") == "array":
        return [f"lists of {_words(schema['items'])}"]
    if schema.get("type") == "object":
        return [f"mappings to {_words(schema.get('additionalProperties', {'type': 'string'}))}"]
    return [str(schema.get("type"))]


def _words(schema: Schema) -> str:
    return " or ".join(_kinds(schema))
