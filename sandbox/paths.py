"""Where the sandbox's code is, where it keeps things, and the one address its cloud listens on.

Everything private lies in ``.sandbox/`` of the project, so two checkouts never meet as long as their ports differ.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

import tfserving
from tfserving import stack_file
from tfserving.errors import ConfigError, Problem

CODE = Path(__file__).resolve().parent
"""The package ``sandbox``."""
KNOWLEDGE = Path(tfserving.__file__).resolve().parent
"""The package ``tfserving``, which the sandbox imports."""
PYTHONPATH = os.pathsep.join(dict.fromkeys((str(CODE.parent), str(KNOWLEDGE.parent))))
"""Where programs that run in another directory find both."""


def project(code: Path = CODE, directory: Path | None = None) -> Path:
    """The project directory: the checkout that ``sandbox/`` lies in; for a sandbox that is installed, the nearest
    directory upwards that holds ``Pulumi.yaml``, or the working directory where there is none.

    Args:
        code: the package ``sandbox``.
        directory: where the search begins; None: the working directory.
    """
    if (code.parent / "Pulumi.yaml").is_file():
        return code.parent
    directory = Path.cwd() if directory is None else directory
    return next((place for place in (directory, *directory.parents) if (place / "Pulumi.yaml").is_file()), directory)


ROOT = project()

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7580
ENDPOINT_SETTING = "tf-serving:endpoint"
LOCAL_STACK_FILE = Path("stacks") / "Pulumi.local.yaml"

SANDBOX = ROOT / ".sandbox"
CLOUD_DATA = SANDBOX / "cloud"
"""Objects, services and mounts of the sandbox cloud. Its log and its pid file lie beside it."""
CLUSTER_DATA = SANDBOX / "kube" / "cluster"
"""The Kubernetes cluster, its kubeconfig among it."""
MODELS = SANDBOX / "models"
"""Exported example models, ``<model>/<version>/``."""
ENGINE_STATE = SANDBOX / "state"
PULUMI_BACKEND = SANDBOX / "pulumi"
"""File backend of the Pulumi CLI for the local stack."""


@dataclass(frozen=True)
class Endpoint:
    """A loopback address.

    Attributes:
        host: always ``127.0.0.1``.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def cloud_endpoint(root: Path = ROOT) -> Endpoint:
    """The address of the sandbox cloud: ``tf-serving:endpoint`` in ``stacks/Pulumi.local.yaml``, or the default.

    Raises:
        ConfigError: the file is not YAML, or the setting is not ``127.0.0.1:<port>``.
    """
    file = root / LOCAL_STACK_FILE
    try:
        document = stack_file.load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Endpoint(LOOPBACK, DEFAULT_PORT)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Problem(str(file), f"cannot be read: {' '.join(str(error).split())}")]) from None
    config = document.get("config") if isinstance(document, dict) else None
    value = config.get(ENDPOINT_SETTING) if isinstance(config, dict) else None
    if value is None:
        return Endpoint(LOOPBACK, DEFAULT_PORT)
    return parse_endpoint(value, f"{file}: {ENDPOINT_SETTING}")


def parse_endpoint(value: object, path: str) -> Endpoint:
    """Reads ``host:port``. The sandbox cloud has no real access control, so any other host than loopback is refused.

    Raises:
        ConfigError: not ``127.0.0.1:<port>``.
    """
    host, colon, port = str(value).strip().rpartition(":")
    if colon and host in (LOOPBACK, "localhost") and port.isascii() and port.isdigit() and 0 < int(port) < 65536:
        return Endpoint(LOOPBACK, int(port))
    problem = Problem(
        path,
        f"{value!r} is not an address the sandbox cloud can listen on",
        allowed=f"{LOOPBACK}:<port>, port 1 to 65535",
        fix=f"write for example {LOOPBACK}:{DEFAULT_PORT}",
    )
    raise ConfigError([problem])
