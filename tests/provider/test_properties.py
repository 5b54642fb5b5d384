"""Property values on the wire and what differs between them."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2
from pulumi.runtime import rpc

from provider.properties import Change, PropertyError, decode, differences, encode
from tfserving.property_path import format_path
from tfserving.property_values import UNKNOWN, Secret, has_unknown, plain


def test_every_kind_of_value_survives_the_wire() -> None:
    properties = {
        "text": "a",
        "number": 3,
        "fraction": 0.5,
        "yes": True,
        "nothing": None,
        "list": [1, "b", [False]],
        "object": {"deep": {"er": Secret({"token": "t"})}},
        "secret": Secret("s"),
        "unknown": UNKNOWN,
        "unknown secret": Secret(UNKNOWN),
    }
    assert decode(encode(properties)) == properties


def test_whole_numbers_come_back_as_integers() -> None:
    decoded = decode(struct_pb2.Struct(fields={"n": struct_pb2.Value(number_value=2.0)}))
    assert decoded == {"n": 2}
    assert isinstance(decoded["n"], int)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 1, 10**400])
def test_an_integer_that_a_double_would_change_is_sent_as_text(number: int) -> None:
    assert decode(encode({"n": [number]})) == {"n": [str(number)]}


@pytest.mark.parametrize("number", [2**53, -(2**53), 0, 1])
def test_an_integer_that_a_double_holds_is_sent_as_a_number(number: int) -> None:
    assert decode(encode({"n": number})) == {"n": number}


def test_a_secret_of_the_python_sdk_is_read_as_a_secret() -> None:
    struct = struct_pb2.Struct()
    struct.update({"token": {rpc._special_sig_key: rpc._special_secret_sig, "value": "abc"}})
    assert decode(struct) == {"token": Secret("abc")}


def test_an_unknown_of_the_python_sdk_is_read_as_unknown() -> None:
    struct = struct_pb2.Struct()
    struct.update({"url": rpc.UNKNOWN})
    assert decode(struct) == {"url": UNKNOWN}


def test_what_we_mark_secret_is_a_secret_to_the_python_sdk() -> None:
    encoded = encode({"token": Secret("abc")})
    assert rpc.is_rpc_secret(rpc.deserialize_properties(encoded)["token"])


def test_an_output_value_is_read_with_its_secrecy() -> None:
    struct = struct_pb2.Struct()
    signature = {rpc._special_sig_key: rpc._special_output_value_sig}
    struct.update(
        {"a": {**signature, "value": "x", "secret": True}, "b": {**signature}, "c": {**signature, "value": 1}}
    )
    assert decode(struct) == {"a": Secret("x"), "b": UNKNOWN, "c": 1}


def test_a_reference_to_a_resource_is_read_as_its_id() -> None:
    struct = struct_pb2.Struct()
    signature = {rpc._special_sig_key: rpc._special_resource_sig, "urn": "urn:x"}
    struct.update({"known": {**signature, "id": "i-1"}, "new": {**signature, "id": ""}, "component": signature})
    assert decode(struct) == {"known": "i-1", "new": UNKNOWN, "component": "urn:x"}


def test_an_asset_is_refused() -> None:
    struct = struct_pb2.Struct()
    struct.update({"file": {rpc._special_sig_key: rpc._special_asset_sig, "path": "x"}})
    with pytest.raises(PropertyError, match="assets"):
        decode(struct)


def test_a_secret_does_not_show_itself() -> None:
    assert "hunter2" not in repr({"token": Secret("hunter2")})


def test_secrets_are_taken_off_at_any_depth() -> None:
    assert plain({"a": [Secret({"b": Secret("c")})]}) == {"a": [{"b": "c"}]}


def test_an_unknown_is_found_at_any_depth() -> None:
    assert has_unknown({"a": [{"b": Secret(UNKNOWN)}]})
    assert not has_unknown({"a": [{"b": Secret("known")}]})


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("spec", "containers", 0, "image"), "spec.containers[0].image"),
        (("versions", "1"), 'versions["1"]'),
        (("metadata", "eas.termination_grace_period"), 'metadata["eas.termination_grace_period"]'),
        (("a", 'quoted "key"'), 'a["quoted \\"key\\""]'),
    ],
)
def test_a_property_path_is_written_as_the_engine_reads_it(parts: tuple[str | int, ...], path: str) -> None:
    assert format_path(parts) == path


def test_differences_name_the_deepest_value_and_how_it_changed() -> None:
    old = {"a": {"same": 1, "changed": 1, "gone": 1}, "list": [1, 2, 3], "type": 1}
    new = {"a": {"same": 1, "changed": 2, "new": 1}, "list": [1, 5], "type": True}
    assert differences(old, new) == {
        ("a", "changed"): Change.UPDATE,
        ("a", "gone"): Change.DELETE,
        ("a", "new"): Change.ADD,
        ("list", 1): Change.UPDATE,
        ("list", 2): Change.DELETE,
        ("type",): Change.UPDATE,
    }


def test_a_missing_value_and_none_are_the_same() -> None:
    assert differences({"a": None}, {}) == {}


def test_secrecy_alone_is_no_difference() -> None:
    assert differences({"token": "t"}, {"token": Secret("t")}) == {}
    assert differences({"token": Secret("t")}, {"token": Secret("u")}) == {("token",): Change.UPDATE}


def test_an_unknown_new_value_is_a_change() -> None:
    assert differences({"url": "u"}, {"url": UNKNOWN}) == {("url",): Change.UPDATE}
