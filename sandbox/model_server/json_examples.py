"""Classify and regress requests in JSON: features of ``tf.Example``.

Source: ``util/json_tensor.cc``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.model_server.json_request import decode_b64, format_error, is_b64, json_type
from sandbox.model_server.status import invalid_argument

_MAX_UINT64 = 2**64 - 1


def examples(document: Mapping[str, Any], target: Any) -> None:
    """Fills an ``Input`` with the examples, and the context, of a classify or regress request.

    Raises:
        StatusError: no list of examples, or features that do not make an ``Example``.
    """
    context = "context" in document
    if context:
        _fill_example(document["context"], target.example_list_with_context.context)
    if "examples" not in document:
        raise format_error(document, "When method is classify, key 'examples' is expected and was not found")
    items = document["examples"]
    if not isinstance(items, list):
        raise format_error(document, "Expecting 'examples' value to be an list/array")
    if not items:
        raise format_error(document, "'examples' value is an empty array")
    into = target.example_list_with_context.examples if context else target.example_list.examples
    for item in items:
        _fill_example(item, into.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {json_type(value)}")
    # Present even without a feature, as a context is.
    example.SetInParent()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add_to_feature(item, name, feature)


def _add_to_feature(value: Any, name: str, feature: Any) -> None:
    add: Callable[[], None]
    if isinstance(value, bool):
        kind, add = "int64", lambda: feature.int64_list.value.append(int(value))
    elif isinstance(value, str):
        kind, add = "bytes", lambda: feature.bytes_list.value.append(value.encode("utf-8", "surrogateescape"))
    elif is_b64(value):
        kind, add = "bytes", lambda: feature.bytes_list.value.append(decode_b64(value))
    elif isinstance(value, float) or (isinstance(value, int) and not -(2**63) <= value <= _MAX_UINT64):
        kind, add = "float", lambda: feature.float_list.value.append(value)
    elif isinstance(value, int):
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        kind, add = "int64", lambda: feature.int64_list.value.append(value)
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    existing = feature.WhichOneof("kind")
    if existing is not None and existing != f"{kind}_list":
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {existing.removesuffix('_list')}"
        )
    add()
