"""Secrets as the Pulumi CLI's passphrase manager keeps them, so that either tool reads what the other wrote.

A salt line is ``v1:<salt>:v1:<nonce>:<ciphertext of "pulumi">``, a ciphertext ``v1:<nonce>:<data>`` (all base64).
The key is PBKDF2-SHA256 of the passphrase, 1,000,000 rounds; the cipher AES-256-GCM (pkg/secrets/passphrase).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tfserving.errors import TFServingError

SANDBOX_PASSPHRASE = "tf-serving-sandbox"  # noqa: S105 - known to everybody on purpose
"""Used where no passphrase is set. It protects nothing: the sandbox cloud holds no real data and no real key."""
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_SALT = re.compile(rf"v1:{_BASE64}:v1:{_BASE64}:{_BASE64}")


class SecretsError(TFServingError):
    """A value cannot be decrypted: wrong passphrase or damaged ciphertext."""


class Crypter:
    """Encrypts and decrypts with one derived key. A plaintext seen before keeps its ciphertext.

    Attributes:
        salt: the salt line the key was derived from.
    """

    def __init__(self, passphrase: str, salt: str) -> None:
        self.salt = salt
        self._cipher = _cipher(passphrase, b64decode(salt.split(":")[1]))
        self._known: dict[str, str] = {}
        self.decrypt(salt.split(":", 2)[2])

    def encrypt(self, text: str) -> str:
        """The ciphertext of ``text``, the same one as long as this object lives."""
        if text not in self._known:
            self._known[text] = _seal(self._cipher, text)
        return self._known[text]

    def decrypt(self, ciphertext: str) -> str:
        """The plaintext. Raises SecretsError for a wrong passphrase or a damaged value."""
        try:
            _, nonce, data = ciphertext.split(":")
            text = self._cipher.decrypt(b64decode(nonce), b64decode(data), None).decode()
        except (InvalidTag, ValueError):
            raise SecretsError("a secret cannot be decrypted: incorrect passphrase or damaged value") from None
        self._known[text] = ciphertext
        return text


def _cipher(passphrase: str, salt: bytes) -> AESGCM:
    return AESGCM(hashlib.pbkdf2_hmac("sha256", passphrase.encode(), salt, 1_000_000))


def _seal(cipher: AESGCM, text: str) -> str:
    nonce = os.urandom(12)
    return f"v1:{b64encode(nonce).decode()}:{b64encode(cipher.encrypt(nonce, text.encode(), None)).decode()}"


def new_salt(passphrase: str | None = None) -> str:
    """A fresh salt line, as ``encryptionsalt`` in a stack file. Default: the first passphrase of this environment."""
    raw = os.urandom(8)
    cipher = _cipher(passphrases()[0] if passphrase is None else passphrase, raw)
    return f"v1:{b64encode(raw).decode()}:{_seal(cipher, 'pulumi')}"


def passphrases() -> list[str]:
    """The passphrases to try: PULUMI_CONFIG_PASSPHRASE, PULUMI_CONFIG_PASSPHRASE_FILE, the sandbox's own.

    Raises:
        SecretsError: the file cannot be read.
    """
    found = [os.environ[name] for name in ("PULUMI_CONFIG_PASSPHRASE",) if name in os.environ]
    if file := os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        try:
            found.append(Path(file).read_text(encoding="utf-8").strip())
        except OSError as error:
            raise SecretsError(f"PULUMI_CONFIG_PASSPHRASE_FILE: {error}") from None
    return [*found, SANDBOX_PASSPHRASE]


def is_salt(salt: object) -> bool:
    """Whether ``encryptionsalt`` of a stack file has the form of a salt line."""
    return isinstance(salt, str) and _SALT.fullmatch(salt) is not None


def any_crypter(*salts: str) -> Crypter:
    """The crypter of the first of these salt lines that a passphrase of this environment fits, else of a fresh one.

    The Pulumi CLI gives every stack file a salt at ``pulumi stack init``. Where no value in it is secure, it can be
    deployed without that passphrase: only this engine reads the state.
    """
    for salt in filter(None, salts):
        try:
            return crypter(salt)
        except SecretsError:
            continue
    return crypter(new_salt())


@functools.cache
def crypter(salt: str) -> Crypter:
    """The crypter of a salt line, with the first passphrase that fits. Cached: deriving a key takes 0.2 to 1 s.

    Raises:
        SecretsError: no passphrase fits, or this is no salt line of the passphrase manager.
    """
    if not is_salt(salt):
        raise SecretsError(f"encryptionsalt {salt!r} was not made by the passphrase secrets manager")
    for passphrase in passphrases():
        try:
            return Crypter(passphrase, salt)
        except SecretsError:
            continue
    raise SecretsError("incorrect passphrase: set PULUMI_CONFIG_PASSPHRASE to the one this stack was made with")
