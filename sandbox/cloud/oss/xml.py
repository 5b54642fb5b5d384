"""XML documents of the OSS API: written from nested Python values, read into elements."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import quote
from xml.etree import ElementTree

from sandbox.cloud.oss import errors

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Iterable[Mapping[str, Value] | str] | None"
"""A text, a child per name, or (for a list) one element per entry; None leaves the element out."""


def document(root: str, children: Mapping[str, Value]) -> bytes:
    """A document with an XML declaration."""
    return serialise(element(root, children))


def document_text(root: str, content: str) -> bytes:
    """A document that is one element with a text."""
    node = ElementTree.Element(root)
    node.text = content
    return serialise(node)


def element(name: str, children: Mapping[str, Value]) -> ElementTree.Element:
    """One element."""
    node = ElementTree.Element(name)
    _fill(node, children)
    return node


def serialise(node: ElementTree.Element) -> bytes:
    """A document with an XML declaration."""
    body: bytes = ElementTree.tostring(node, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body


def _fill(parent: ElementTree.Element, children: Mapping[str, Value]) -> None:
    for name, value in children.items():
        if value is None:
            continue
        entries = [value] if isinstance(value, str | int | Mapping) else list(value)
        for entry in entries:
            child = ElementTree.SubElement(parent, name)
            if isinstance(entry, Mapping):
                _fill(child, entry)
            else:
                child.text = text(entry)


def text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(body: bytes, root: str) -> ElementTree.Element:
    """Reads a request document. Namespaces are dropped.

    Raises:
        OssError: ``MalformedXML`` if it is not XML, has another root, or declares entities.
    """
    if b"<!" in body:  # OSS documents have no DTD; entity expansion could fill the memory
        raise errors.malformed_xml()
    try:
        parsed = ElementTree.fromstring(body)  # noqa: S314 - no DTD, see above
    except (ElementTree.ParseError, ValueError, LookupError):
        raise errors.malformed_xml() from None
    for node in parsed.iter():
        node.tag = node.tag.rpartition("}")[2]
    if parsed.tag != root:
        raise errors.malformed_xml()
    return parsed


def timestamp(moment: float) -> str:
    """``2026-01-02T03:04:05.678Z``, the form of every date in OSS documents."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


def encoded(name: str, encoding: str) -> str:
    """A key as it appears in a listing with ``encoding-type=url`` (or without)."""
    return quote(name, safe="/-_.~") if encoding == "url" else name
