"""The passphrase secrets manager: what the CLI wrote is read, and the other way round."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sandbox.engine import secrets
from sandbox.engine.secrets import SANDBOX_PASSPHRASE, Crypter, SecretsError, crypter, new_salt

SALT = new_salt(SANDBOX_PASSPHRASE)


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    crypter.cache_clear()


def test_a_value_the_cli_encrypted_is_read() -> None:
    # From pkg/secrets/passphrase/manager_test.go of pulumi/pulumi: the salt for the passphrase "password".
    theirs = Crypter("password", "v1:fozI5u6B030=:v1:F+6ZduKKd8G0/V7L:PGMFeIzwobWRKmEAzUdaQHqC5mMRIQ==")
    assert theirs.decrypt(theirs.encrypt("x")) == "x"


def test_the_key_and_the_format_are_the_clis() -> None:
    ciphertext = crypter(SALT).encrypt("hush")
    version, nonce, data = ciphertext.split(":")
    key = hashlib.pbkdf2_hmac("sha256", SANDBOX_PASSPHRASE.encode(), base64.b64decode(SALT.split(":")[1]), 1_000_000)
    assert version == "v1"
    assert len(base64.b64decode(nonce)) == 12
    assert AESGCM(key).decrypt(base64.b64decode(nonce), base64.b64decode(data), None) == b"hush"


def test_an_unchanged_secret_keeps_its_ciphertext_and_equal_salts_share_a_key() -> None:
    first = crypter(SALT)
    ciphertext = first.encrypt("hush")
    assert crypter(SALT) is first
    assert first.encrypt("hush") == ciphertext
    other = Crypter(SANDBOX_PASSPHRASE, SALT)
    assert other.encrypt("hush") != ciphertext
    assert other.decrypt(ciphertext) == "hush"
    assert other.encrypt("hush") == ciphertext


def test_the_passphrase_of_the_environment_comes_before_the_sandboxs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "mine")
    assert secrets.passphrases()[0] == "mine"
    assert crypter(SALT).decrypt(Crypter(SANDBOX_PASSPHRASE, SALT).encrypt("x")) == "x", "the sandbox's is tried too"
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    file = tmp_path / "passphrase"
    file.write_text("from a file\n")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE_FILE", str(file))
    assert secrets.passphrases()[0] == "from a file"
    file.unlink()
    with pytest.raises(SecretsError, match="PULUMI_CONFIG_PASSPHRASE_FILE"):
        secrets.passphrases()


def test_a_wrong_passphrase_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    salt = new_salt("another")
    with pytest.raises(SecretsError, match="incorrect passphrase: set PULUMI_CONFIG_PASSPHRASE"):
        crypter(salt)


@pytest.mark.parametrize("salt", ["", "v2:a:v1:b:c", "v1:a", "awskms://x"])
def test_a_salt_of_another_kind_is_told(salt: str) -> None:
    with pytest.raises(SecretsError, match="was not made by the passphrase secrets manager"):
        crypter(salt)


def test_a_damaged_value_is_told() -> None:
    ciphertext = crypter(SALT).encrypt("hush")
    for damaged in (ciphertext[:-6] + "AAAA==", "v1:x", "", ciphertext.replace("v1:", "v1:A", 1)):
        with pytest.raises(SecretsError, match="cannot be decrypted"):
            crypter(SALT).decrypt(damaged)
