"""The access key of a checkout's sandbox cloud: made once, kept in ``.sandbox/``, handed to engines and clients.

A page in a browser can reach a loopback port, but it cannot read this file, so it cannot sign a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ID_VARIABLE = "SANDBOX_ACCESS_KEY_ID"
SECRET_VARIABLE = "SANDBOX_ACCESS_KEY_SECRET"  # noqa: S105 - a name
"""Both set: this key is used, by the cloud and by what calls it, in place of the checkout's own."""
ACCOUNT_ID = "1000000000000000"
"""The only account of the sandbox cloud, whose key this is."""

FILE = Path(".sandbox") / "access-key.json"


@dataclass(frozen=True)
class AccessKey:
    """What signs requests.

    Attributes:
        id: sent with every request.
        secret: never sent.
    """

    id: str
    secret: str = field(repr=False)

    def variables(self) -> dict[str, str]:
        """The environment variables by which SDKs, this project's provider and the alicloud provider take the key.

        A session token left over from a real account would be sent along, so it is emptied.
        """
        return {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": self.id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": self.secret,
            "ALIBABA_CLOUD_SECURITY_TOKEN": "",
            "ALICLOUD_ACCESS_KEY": self.id,
            "ALICLOUD_SECRET_KEY": self.secret,
            "ALICLOUD_SECURITY_TOKEN": "",
        }


NO_KEY = AccessKey("sandbox", "sandbox")
"""What requests are signed with before a checkout has a key: a cloud of a test checks none."""


def of_cloud(root: Path, environment: Mapping[str, str] = os.environ) -> AccessKey:
    """The key a cloud of this checkout accepts. It is made where there is none yet.

    Raises:
        OSError: the file cannot be written.
    """
    if (chosen := given(environment)) is not None:
        return chosen
    path = root / FILE
    while (found := _read(path)) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        key = {"id": f"sandbox{secrets.token_hex(8)}", "secret": secrets.token_urlsafe(32)}
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(json.dumps(key) + "\n")
        try:
            with contextlib.suppress(FileExistsError):  # somebody else was first: then theirs is the key
                os.link(staged, path)
            if _read(path) is None:  # damaged
                staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)
    return found


def of_client(root: Path, environment: Mapping[str, str] = os.environ) -> AccessKey:
    """The key to sign with for the cloud of a checkout; :data:`NO_KEY` where none has been made.

    Args:
        root: the checkout, or a project inside one, such as an example.
        environment: may name a key itself.
    """
    found = (_read(place / FILE) for place in (root.absolute(), *root.absolute().parents))
    return given(environment) or next((key for key in found if key), NO_KEY)


def given(environment: Mapping[str, str] = os.environ) -> AccessKey | None:
    """The key that the environment names, if it does."""
    identifier, secret = environment.get(ID_VARIABLE, ""), environment.get(SECRET_VARIABLE, "")
    return AccessKey(identifier, secret) if identifier and secret else None


def _read(path: Path) -> AccessKey | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        key = AccessKey(found["id"], found["secret"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key.id, str) and isinstance(key.secret, str) and key.id and key.secret else None
