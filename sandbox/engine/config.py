"""``Pulumi.yaml`` and the stack file, read as the Pulumi CLI reads them, and what this engine refuses in them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sandbox import keys
from sandbox.engine import properties as props
from sandbox.engine import secrets
from tfserving import kubeconfig, stack_file
from tfserving.errors import ConfigError, Problem
from tfserving.kubeconfig import KubeconfigError

PACKAGES = {"alicloud", "tfserving"}
"""Packages that talk to Alibaba Cloud: without an endpoint setting they would talk to the real one."""
_REAL_KEY = re.compile(r"LTAI[A-Za-z0-9]{12,26}|STS\.[A-Za-z0-9]{10,}")
_LOOPBACK = re.compile(r"(https?://)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?(/\S*)?")


def _read(path: Path) -> dict[str, Any]:
    try:
        document = stack_file.load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ConfigError([Problem(str(path), reason)], path.name) from None
    if document is not None and not isinstance(document, dict):
        raise ConfigError([Problem(str(path), "is not a mapping")], path.name)
    return document or {}


@dataclass(frozen=True)
class Stack:
    """One stack of a project, ready to deploy.

    Attributes:
        root: the project directory, where ``Pulumi.yaml`` lies and programs and plugins run.
        config: full key (``namespace:name``) to text, structured values as JSON, as programs and providers get it.
        secret_keys: the keys whose value holds a secret.
        salt: ``encryptionsalt`` of the stack file, empty if it has none.
    """

    root: Path
    project: dict[str, Any]
    name: str
    config: dict[str, str]
    secret_keys: frozenset[str]
    salt: str

    @property
    def project_name(self) -> str:
        """The project's name, the default namespace of config keys."""
        return str(self.project["name"])

    @property
    def state_file(self) -> Path:
        """Where the engine keeps this stack's state."""
        return self.root / ".sandbox" / "state" / f"{self.name}.json"

    @cached_property
    def python(self) -> str:
        """The interpreter of the project's virtual environment (``runtime.options.virtualenv``), else our own."""
        import sys

        runtime = self.project.get("runtime")
        options = runtime.get("options") or {} if isinstance(runtime, dict) else {}
        python = self.root / str(options.get("virtualenv") or ".") / "bin" / "python"
        return str(python) if python.exists() else sys.executable

    def package_config(self, package: str) -> dict[str, tuple[str, bool]]:
        """Config of a provider's namespace: name to text and whether it is secret."""
        prefix = f"{package}:"
        return {
            k.removeprefix(prefix): (v, k in self.secret_keys) for k, v in self.config.items() if k.startswith(prefix)
        }

    @property
    def environment(self) -> dict[str, str]:
        """What programs and plugins get: none of this machine's cloud credentials, cloud endpoints and proxies."""
        dropped = re.compile(r"(ALIBABA_?CLOUD|ALICLOUD|ALIYUN|OSS|EAS|PULUMI)_.*|(HTTPS?|ALL)_PROXY", re.IGNORECASE)
        kept = {k: v for k, v in os.environ.items() if not dropped.fullmatch(k)}
        # The credentials chain ends here: it never reaches the files or the metadata service of this machine.
        key = keys.of_client(self.root).variables()
        return kept | key | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", "NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}


def load(root: Path, name: str) -> Stack:
    """Reads project and stack, applies defaults, checks types, decrypts, and refuses everything real.

    Raises:
        ConfigError: with every problem found.
        SecretsError: a ``secure`` value cannot be decrypted.
    """
    project = _read(root / "Pulumi.yaml")
    if not project.get("name"):
        raise ConfigError([Problem("Pulumi.yaml: name", "is missing")], "Pulumi.yaml")
    path = root / str(project.get("stackConfigDir") or "") / f"Pulumi.{name}.yaml"
    if not path.exists():
        known = sorted(p.name[7:-5] for p in path.parent.glob("Pulumi.*.yaml"))
        raise ConfigError([Problem(str(path), f"there is no stack {name!r}", allowed=", ".join(known))], "stack")
    document = _read(path)
    if document.get("environment") is not None:
        message = (
            "names environments of Pulumi ESC, which this engine does not open: the stack would lack what they hold"
        )
        fix = "deploy this stack with the Pulumi CLI, or write the values into config"
        raise ConfigError([Problem(f"{path}: environment", message, fix=fix)], f"stack {name}")
    salt = str(document.get("encryptionsalt") or "")
    problems = list(_other_secrets(document, path))
    config, secret_keys = _stack_config(document.get("config") or {}, str(project["name"]), salt, path, problems)
    _apply_project_config(project, name, config, secret_keys, problems)
    texts = {key: stack_file.as_text(value) for key, value in config.items()}
    stack = Stack(root, project, name, texts, frozenset(secret_keys), salt)
    problems += refusals(texts, "", any(key.split(":")[0] in {*PACKAGES, "tf-serving"} for key in texts))
    if problems:
        raise ConfigError(problems, f"stack {name}")
    return stack


def _other_secrets(document: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """Ways of keeping secrets that this engine does not have: it would encrypt the state in another way."""
    provider, salt = document.get("secretsprovider"), document.get("encryptionsalt")
    if provider not in (None, "", "default", "passphrase"):
        message = f"names {str(provider).partition('?')[0]!r}, which this engine does not ask"
        yield Problem(f"{path}: secretsprovider", message, "a passphrase, without this key", _OTHER_SECRETS)
    elif document.get("encryptedkey") is not None:
        message = "holds the key of a cloud's key service, which this engine does not ask"
        yield Problem(f"{path}: encryptedkey", message, "a passphrase, without this key", _OTHER_SECRETS)
    if salt is not None and not secrets.is_salt(salt):
        fix = "take it from version control again, or remove it if no value is secure"
        yield Problem(f"{path}: encryptionsalt", "is no salt of Pulumi's passphrase secrets manager", fix=fix)


def _stack_config(
    entries: dict[str, Any], project: str, salt: str, path: Path, problems: list[Problem]
) -> tuple[dict[str, Any], set[str]]:
    config: dict[str, Any] = {}
    secret_keys: set[str] = set()

    def decrypted(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            if list(value) == ["secure"] and isinstance(value["secure"], str):
                if not salt:
                    problems.append(Problem(f"{path}: {key}", "is secure, but the file has no encryptionsalt"))
                    return ""
                secret_keys.add(key)
                if not secrets.is_salt(salt):
                    return ""  # told already
                return secrets.crypter(salt).decrypt(value["secure"])
            return {str(k): decrypted(v, key) for k, v in value.items()}
        return [decrypted(v, key) for v in value] if isinstance(value, list) else value

    for name, value in entries.items():
        key = stack_file.full_key(str(name), project)
        if key is None:
            problems.append(Problem(f"{path}: {name}", "is not a config key", allowed="<namespace>:<name>"))
        elif key in config:
            message = f"is {key}, which is written twice: one would be lost"
            problems.append(Problem(f"{path}: {name}", message, fix="keep one"))
        else:
            config[key] = decrypted(value, key)
    return config, secret_keys


def _apply_project_config(
    project: dict[str, Any], stack: str, config: dict[str, Any], secret_keys: set[str], problems: list[Problem]
) -> None:
    """Defaults and types of the ``config:`` block in Pulumi.yaml (pkg/workspace/config.go)."""
    for name, declared in sorted((project.get("config") or {}).items()):
        rule = declared if isinstance(declared, dict) else {"default": declared}
        key = stack_file.full_key(str(name), str(project["name"])) or str(name)
        if key not in config:
            if (default := rule.get("default", rule.get("value"))) is not None:
                config[key] = default
            elif key == f"{project['name']}:{name.rpartition(':')[2]}":
                problems.append(Problem(key, f"stack {stack} is missing this value", fix="set it in the stack file"))
                continue
        if rule.get("secret") and key not in secret_keys and key in config:
            problems.append(Problem(key, "must be encrypted as it is a secret", fix="pulumi config set --secret"))
        if "type" in rule and key in config and not _fits(rule, config[key]):
            problems.append(Problem(key, f"must be of type {_type_name(rule)}"))


def _fits(rule: dict[str, Any], value: Any) -> bool:
    match rule.get("type"):
        case "string":
            return isinstance(value, str | int | float)
        case "integer":
            return not isinstance(value, bool) and re.fullmatch(r"[-+]?\d+(\.0*)?", str(value)) is not None
        case "boolean":
            return isinstance(value, bool) or value in ("true", "false")
        case "object":
            return isinstance(value, dict)
    return isinstance(value, list) and all(_fits(rule.get("items") or {}, item) for item in value)


def _type_name(rule: dict[str, Any]) -> str:
    return f"array<{_type_name(rule['items'])}>" if rule.get("items") else str(rule.get("type"))


def is_loopback(endpoint: str) -> bool:
    """Whether ``host``, ``host:port`` or a URL names this machine by a loopback address."""
    return _LOOPBACK.fullmatch(endpoint) is not None


def _addresses(name: str, value: Any) -> list[tuple[str, str]]:
    """Every address in a setting whose name says endpoint; structured values may be JSON text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, dict | list):
        return [(name, str(value))]
    children = value.items() if isinstance(value, dict) else enumerate(value)
    return [found for k, v in children for found in _addresses(f"{name}.{k}", v)]


def cluster_refusals(settings: Mapping[str, Any]) -> list[Problem]:
    """Why the Kubernetes provider may not be used with these settings: its cluster is not on this machine.

    Args:
        settings: of the provider, secrets in the clear; what is not known yet in a preview is not looked at.
    """
    given = settings.get("kubeconfig")
    if props.has_unknown(given):
        return []
    path = "kubernetes:kubeconfig"
    if not given:
        return [Problem(path, "is not set, which means the default cluster of this machine's user", fix=_FIX)]
    try:
        address = kubeconfig.api_server(str(given), str(settings.get("context") or ""))
    except (OSError, KubeconfigError) as error:
        return [Problem(path, f"cannot be used: {error}", fix="python -m sandbox kube start")]
    return [] if is_loopback(address) else [Problem(path, f"the cluster is {address}", fix=_FIX)]


_OTHER_SECRETS = (
    "deploy this stack with the Pulumi CLI, or change it with `pulumi stack change-secrets-provider passphrase`"
)
_FIX = "the sandbox engine deploys to loopback only; deploy this stack with the Pulumi CLI"


def refusals(settings: Mapping[str, Any], path: str, of_cloud: bool) -> list[Problem]:
    """Why nothing may be deployed with these settings: they mean something real.

    Args:
        settings: of a stack or of a provider, secrets in the clear.
        path: put before the names of settings.
        of_cloud: they are for Alibaba Cloud, where no endpoint means the real one.
    """
    named = [a for name, v in settings.items() if "endpoint" in name.lower() for a in _addresses(f"{path}{name}", v)]
    problems = [
        Problem(name, f"{address!r} is not a loopback address", fix=_FIX)
        for name, address in named
        if address and not is_loopback(address)
    ]
    problems += [
        Problem(f"{path}{name}", "holds what looks like a real Alibaba Cloud access key", fix="remove it")
        for name, value in settings.items()
        if any(_REAL_KEY.search(text) for text in props.walk(value) if isinstance(text, str))
    ]
    unset = [name for name, address in named if name.endswith("Endpoint") and not address]  # one product's
    if of_cloud and (unset or not any(address for _, address in named)):
        name = unset[0] if unset else f"{path or 'tf-serving:'}endpoint"
        problems.append(Problem(name, "is not set, which means the real cloud", fix=_FIX))
    return problems
