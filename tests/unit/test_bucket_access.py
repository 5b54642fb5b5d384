"""What makes a bucket public: ACL and policy, in every spelling OSS takes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserving.bucket_access import is_public, public_ways, without_public

READ: dict[str, Any] = {"Effect": "Allow", "Action": ["oss:GetObject"], "Resource": ["acs:oss:*:*:b/*"]}
EVERYBODY = READ | {"Principal": ["*"]}
SOMEBODY = READ | {"Principal": ["27737962156157xxxx"]}
DENY = EVERYBODY | {"Effect": "Deny"}


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "1", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        (EVERYBODY, True),
        (READ | {"Principal": "*"}, True),
        (READ | {"Principal": {"RAM": ["*"]}}, True),
        (READ | {"NotPrincipal": ["123"]}, True),
        (EVERYBODY | {"Effect": "allow"}, True),
        (SOMEBODY, False),
        (DENY, False),
        (READ, False),
        (EVERYBODY | {"Condition": {"IpAddress": {"acs:SourceIp": ["10.0.0.0/8"]}}}, False),
        (EVERYBODY | {"Condition": {"StringEquals": {"acs:SourceVpc": ["vpc-1"]}}}, False),
        (EVERYBODY | {"Condition": {"IpAddress": {"acs:SourceIp": ["0.0.0.0/0"]}}}, True),
        (EVERYBODY | {"Condition": {"IpAddress": {"acs:SourceIp": ["10.0.0.0/8", "::/0"]}}}, True),
        (EVERYBODY | {"Condition": {"NotIpAddress": {"acs:SourceIp": ["10.0.0.0/8"]}}}, True),
        (EVERYBODY | {"Condition": {"Bool": {"acs:SecureTransport": ["true"]}}}, True),
        (EVERYBODY | {"Condition": {"StringLike": {"oss:Prefix": ["a/*"]}}}, True),
    ],
)
def test_a_statement_is_public_when_everybody_may_and_no_address_is_asked_for(
    statement: dict[str, Any], public: bool
) -> None:
    assert is_public(statement) is public
    assert bool(public_ways("private", policy(SOMEBODY, statement))) is public


def test_each_way_is_named() -> None:
    both = policy(SOMEBODY, EVERYBODY, {"Effect": "Allow", "Principal": "*", "NotAction": "oss:DeleteBucket"})
    assert public_ways("public-read-write", both) == [
        "ACL public-read-write",
        "policy statement 2 allows oss:GetObject to everybody",
        "policy statement 3 allows everything but oss:DeleteBucket to everybody",
    ]
    assert public_ways("public-read", both, blocked=True) == []
    assert public_ways("", "") == []


@given(st.lists(st.sampled_from([EVERYBODY, SOMEBODY, DENY]), max_size=6))
def test_only_public_statements_are_taken_out(statements: list[dict[str, Any]]) -> None:
    left = without_public(policy(*statements))
    kept = [each for each in statements if each != EVERYBODY]
    assert (json.loads(left)["Statement"] if left else []) == kept
    assert public_ways("private", left) == []


@given(
    st.text()
    | st.recursive(st.none() | st.text() | st.integers(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)).map(
        json.dumps
    )
)
def test_whatever_a_policy_is_nothing_breaks(text: str) -> None:
    assert public_ways("private", text) == [] or "Statement" in text
