"""Secrets are masked by where they stand, by what they look like, and by what is known; nothing else is."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.redact import Redactor
from tfserving.secret_texts import MASK, is_secret_name

SECRET_NAMES = (
    "token", "DB_PASSWORD", "DB_PWD", "pwd", "accessKeySecret", "api_key", "AK_SECRET", "dockerAuth", "Authorization",
    "privateKey", "SecurityToken", "passphrase", "encryptionsalt", "x-api-key", "ALIBABA_CLOUD_ACCESS_KEY_ID",
)  # fmt: skip
PLAIN_NAMES = (
    "image",
    "stable",
    "key",
    "basePath",
    "author",
    "replicas",
    "signature_name",
    "max_batch_size",
    "versions",
)

secrets = st.text("abcdefghijkmnpqrstuvwxyz23456789!#$%*._~", min_size=8, max_size=40).filter(
    lambda text: text.strip(".") == text and text not in "sandbox tf-serving-sandbox"
)
names = st.sampled_from(PLAIN_NAMES)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_what_stands_under_the_name_of_a_secret_is_masked(name: str) -> None:
    assert is_secret_name(name)
    assert Redactor().value({name: "hunter2"}) == {name: MASK}
    assert Redactor().value({"env": [{"name": name, "value": "hunter2"}]}) == {"env": [{"name": name, "value": MASK}]}


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_what_stands_under_another_name_is_shown(name: str) -> None:
    assert Redactor().value({name: "value-1"}) == {name: "value-1"}


@pytest.mark.parametrize(
    "text",
    [
        "modelB: label stable 1 -> 2",
        "modelC: + version 4 (5 files, 1.2 GB)",
        "eas-registry-vpc.cn-hangzhou.cr.aliyuncs.com/pai-eas/tensorflow-serving:2.14.1",
        "sha256:8f3faae23d2d180d05c57f84427a0ce0852f47980b42d25f22cceed8255110e6",
        "urn:pulumi:local::tf-serving::tf-serving:components:TensorFlowServing$tfserving:index:EasService::multi_http",
        "/usr/bin/tf_serving_entrypoint.sh --model_config_file=/models/model_config.pbtxt --rest_api_port=8501",
        "oss://examplebucket/models/tf_serving/",
        "service multi_http is Stopped, so it serves nothing",
    ],
)
def test_everyday_text_is_left_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("authorization=NjU0ZmRhNzU0Zg== sent", "NjU0ZmRhNzU0Zg"),
        ("postgres://admin:hunter2@db.internal/x", "hunter2"),
        ("--db-password=hunter2 --port=1", "hunter2"),
        ('{"level": "x"} password: "hunter 2, and more"', "hunter 2, and more"),
        ('said {\\"token\\": \\"hunter2\\"}', "hunter2"),
        ("key LTAI5tAbCdEfGhIjKlMnOpQr is disabled", "LTAI5tAbCdEfGhIjKlMnOpQr"),
        ("STS.NUabcdefghijklmnop123 expired", "STS.NUabcdefghijklmnop123"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("pul-0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("the token NjU0ZmRhNzU0ZGY0YmFjNmY2ZTQ5ZjQ1 is wrong", "NjU0ZmRhNzU0ZGY0YmFjNmY2ZTQ5ZjQ1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabcd\n-----END RSA PRIVATE KEY-----", "abcd"),
        ("eyJhbGciOiJSUzI1.eyJzdWIiOiIx.c2ln", "eyJzdWIiOiIx"),
    ],
)
def test_what_looks_like_a_secret_is_masked_in_any_text(text: str, secret: str) -> None:
    assert secret not in Redactor().text(text)
    assert MASK in Redactor().text(text)


@settings(deadline=None)
@given(secrets, st.sampled_from(SECRET_NAMES), st.lists(names, max_size=3), st.booleans())
def test_a_secret_is_masked_however_deep_it_lies_and_wherever_else_it_turns_up(
    secret: str, name: str, path: list[str], in_string: bool
) -> None:
    nested: Any = {name: {"inner": [secret]}} if len(path) % 2 else {name: secret}
    for key in path:
        nested = {key: json.dumps(nested) if in_string else [nested]}
    redactor = Redactor()
    redactor.learn(nested)
    shown = json.dumps(redactor.value(nested), ensure_ascii=False)
    assert secret not in shown
    for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode(), json.dumps(secret)):
        assert secret not in redactor.text(f"cannot be used: {form}, try another")
        assert form.strip('"=') not in redactor.text(f"cannot be used: {form}, try another")


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.sampled_from(("a", "b c", "1.2")),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)))  # fmt: skip
def test_values_without_secrets_stay_equal(value: Any) -> None:
    assert Redactor().value(value) == value


def test_pulumis_own_marks_are_masked_whatever_they_hold() -> None:
    marked = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:abc"}
    assert Redactor().value({"image": marked, "token": marked}) == {"image": MASK, "token": MASK}


@pytest.mark.parametrize("model", ["tokenizer", "secret_santa", "password-strength", "credentials"])
def test_a_model_that_is_called_like_a_secret_is_shown_with_its_labels(model: str) -> None:
    models = {model: {"policy": {"latest": 2}, "labels": {"token": 2}}}
    redactor = Redactor()
    redactor.learn({"models": models})
    assert redactor.value({"models": models}) == {"models": models}
    assert redactor.value({"served": {"s": models}}) == {"served": {"s": models}}
    assert redactor.text(f"{model}: label stable 1 -> 2") == f"{model}: label stable 1 -> 2"
    assert redactor.text("step 1 of 2, move: tokens=hunter2") == f"step 1 of 2, move: tokens={MASK}"


def test_credentials_of_the_environment_are_masked_and_those_of_the_sandbox_are_not() -> None:
    redactor = Redactor()
    redactor.learn_environment({"GITHUB_TOKEN": "a-very-plain-one", "AK_SECRET": "sandbox", "HOME": "/home/someone"})
    assert redactor.text("a-very-plain-one in /home/someone by sandbox") == f"{MASK} in /home/someone by sandbox"


def test_every_line_of_a_secret_that_has_several_is_masked() -> None:
    redactor = Redactor(["first line here\nsecond line here"])
    assert "second line here" not in redactor.text("it said: second line here")
