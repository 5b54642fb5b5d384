"""The stack that the doctor looks at: what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ops import ram_policy
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
        """What the stack file says of each service."""
        found = self.values.get(f"{NAMESPACE}:services")
        described = found.items() if isinstance(found, dict) else ()
        return {str(name): entry if isinstance(entry, dict) else {} for name, entry in described}

    @property
    def ack_services(self) -> dict[str, dict[str, Any]]:
        """The services that run on Kubernetes."""
        return {name: entry for name, entry in self.services.items() if entry.get("target") == "ack"}

    @property
    def needs(self) -> ram_policy.Needs:
        """What the stack deploys."""
        bucket = self.values.get(f"{NAMESPACE}:bucket")
        options = bucket if isinstance(bucket, dict) else {"name": bucket}
        root = (self.text(f"{NAMESPACE}:modelRoot") or "models/tf_serving/").strip("/")
        models = self.values.get(f"{NAMESPACE}:models")
        entries = models.values() if isinstance(models, dict) else ()
        sources = {str(entry.get("source") or "") for entry in entries if isinstance(entry, dict)}
        return ram_policy.Needs(
            region=self.region or "*",
            bucket=str(options.get("name") or ""),
            existing_bucket=options.get("existing") is True,
            model_root=f"{root}/" if root else "",
            sources=sorted(
                f"{source.removeprefix('oss://').rstrip('/')}/" for source in sources if source.startswith("oss://")
            ),
            services={
                name: str(entry.get("resource") or "")
                for name, entry in self.services.items()
                if name not in self.ack_services
            },
        )


def load(stack: str, project_dir: Path = PROJECT_DIR) -> StackConfig:
    """Reads a stack file.

    Raises:
        DoctorError: there is none, or it is no YAML.
    """
    stack = short_name(stack)
    project = read_yaml(project_dir / "Pulumi.yaml")
    directory = project_dir / str(project.get("stackConfigDir") or "")
    file = directory / f"Pulumi.{stack}.yaml"
    if not file.is_file():
        known = sorted(
            path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in directory.glob("Pulumi.*.yaml")
        )
        raise DoctorError(f"there is no stack file {file}; stacks with one: {', '.join(known) or 'none'}")
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
