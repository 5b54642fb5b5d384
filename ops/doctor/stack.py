"""The stack that the doctor looks at: what its file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config import other_mounts, service_defaults
from config.bucket import DEFAULT_MODEL_ROOT
from config.kubernetes import ACK_SERVICE_KEYS
from config.services import KEYS as SERVICE_KEYS
from ops import nearest, ram_policy, stack_names
from ops.engine import PROJECT_DIR, short_name
from provider.clients import one_line
from tfserving import stack_file
from tfserving.errors import TFServingError
from tfserving.hosts import is_loopback_endpoint

NAMESPACE = "tf-serving"

KEYS = ("accessKey", "secretKey", "securityToken")


class DoctorError(TFServingError):
    """There is nothing to examine: no such project or stack."""


@dataclass(frozen=True)
class StackConfig:
    """What the stack file says, as far as the doctor needs it. Encrypted values are not there.

    Attributes:
        name: stack name.
        file: the stack file.
        values: by full key.
        encrypted: keys with an encrypted value.
        passphrase: the stack's secrets are encrypted with a passphrase.
    """

    name: str
    file: Path
    values: Mapping[str, Any] = field(repr=False)
    encrypted: frozenset[str]
    passphrase: bool

    def text(self, key: str) -> str:
        """A value that is one word; empty where there is none."""
        value = self.values.get(key)
        return "" if value is None or isinstance(value, dict | list) else str(value).strip()

    @property
    def endpoint(self) -> str:
        """``host:port`` of a sandbox cloud; empty on Alibaba Cloud."""
        return self.text(f"{NAMESPACE}:endpoint")

    @property
    def is_local(self) -> bool:
        """Whether everything is deployed to this machine."""
        return bool(self.endpoint) and is_loopback_endpoint(self.endpoint)

    @property
    def region(self) -> str:
        return self.text("alicloud:region")

    @property
    def protocol(self) -> str:
        return (self.text("alicloud:protocol") or "HTTPS").upper()

    def host(self, product: str) -> str:
        """``host[:port]`` of a product's API."""
        given = self.values.get(f"{NAMESPACE}:endpoints")
        own = str(given.get(product) or "") if isinstance(given, dict) else ""
        regional = {
            "oss": f"oss-{self.region}.aliyuncs.com",
            "eas": f"pai-eas.{self.region}.aliyuncs.com",
            "sts": f"sts.{self.region}.aliyuncs.com",
        }
        return own or self.endpoint or regional[product]

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        """What the stack file says of each service, with the defaults that fit it."""
        found, defaults = (self.values.get(f"{NAMESPACE}:{key}") for key in ("services", "serviceDefaults"))
        described = {str(name): each for name, each in found.items()} if isinstance(found, dict) else {}
        entries = {name: each if isinstance(each, dict) else {} for name, each in described.items()}
        if not isinstance(defaults, dict):
            return entries
        return {
            name: service_defaults.merge(
                each, defaults, ACK_SERVICE_KEYS if each.get("target") == "ack" else SERVICE_KEYS
            )
            for name, each in entries.items()
        }

    @property
    def ack_services(self) -> dict[str, dict[str, Any]]:
        """The services that run on Kubernetes."""
        return {name: entry for name, entry in self.services.items() if entry.get("target") == "ack"}

    @property
    def needs(self) -> ram_policy.Needs:
        """What the stack deploys."""
        bucket = self.values.get(f"{NAMESPACE}:bucket")
        options = bucket if isinstance(bucket, dict) else {"name": bucket}
        key = f"{NAMESPACE}:modelRoot"
        root = (self.text(key) if key in self.values else DEFAULT_MODEL_ROOT).strip("/")
        models = self.values.get(f"{NAMESPACE}:models")
        entries = [each for each in models.values() if isinstance(each, dict)] if isinstance(models, dict) else []
        sources = {str(entry.get("source") or "") for entry in entries}
        places = {f"{source.removeprefix('oss://').rstrip('/')}/" for source in sources if source.startswith("oss://")}
        places |= self._mounted([str(entry.get("path") or "").rstrip("/") for entry in entries])
        return ram_policy.Needs(
            region=self.region or "*",
            bucket=str(options.get("name") or ""),
            existing_bucket=options.get("existing") is True,
            model_root=f"{root}/" if root else "",
            sources=sorted(places),
            shares_traffic=bool(self.values.get(f"{NAMESPACE}:traffic")),
            has_alarms=bool(self.values.get(f"{NAMESPACE}:alerts"))
            or any(entry.get("alerts") for entry in self.services.values()),
            services={
                name: str(entry.get("resource") or "")
                for name, entry in self.services.items()
                if name not in self.ack_services
            },
        )

    def _mounted(self, paths: Iterable[str]) -> set[str]:
        """Directories of models on other mounts of buckets, ``bucket/path/``."""
        found = set()
        for path in (each for each in paths if each.startswith("/")):
            for entry in self.services.values():
                extra = entry.get("extraConfig")
                mount = other_mounts.mount_of(extra.get("storage") if isinstance(extra, dict) else None, path)
                if mount is not None and (place := other_mounts.place_in(*mount, path)) is not None:
                    found.add("/".join(place))
        return found


def load(stack: str, project_dir: Path = PROJECT_DIR) -> StackConfig:
    """Reads a stack file.

    Raises:
        DoctorError: there is none, or it is no YAML.
    """
    stack = short_name(stack)
    directory = stack_names.directory(read_yaml(project_dir / "Pulumi.yaml"), project_dir)
    file = directory / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        raise DoctorError(f"there is no stack file {file}; {nearest.choices(stack, stack_names.with_file(directory))}")
    document = read_yaml(file)
    config = document.get("config")
    values: dict[str, Any] = {}
    encrypted = set()
    for key, value in (config if isinstance(config, dict) else {}).items():
        full = str(key) if ":" in str(key) else f"{NAMESPACE}:{key}"
        if isinstance(value, dict) and list(value) == ["secure"]:
            encrypted.add(full)
        else:
            values[full] = value
    return StackConfig(stack, file, values, frozenset(encrypted), bool(document.get("encryptionsalt")))


def read_yaml(file: Path) -> dict[str, Any]:
    try:
        document = stack_file.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DoctorError(f"{file} cannot be read: {one_line(error)}") from None
    return document if isinstance(document, dict) else {}
