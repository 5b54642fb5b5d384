"""A checkout of its own with a stack on a free port: what `make up` gives a person, without their machine."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib import error, request

import alibabacloud_oss_v2 as oss
import pytest
import yaml
from alibabacloud_eas20210701.client import Client as EasClient
from alibabacloud_tea_openapi.models import Config

from sandbox import keys
from tests.ports import free_port

PROJECT = Path(__file__).resolve().parents[2]
REGION = "cn-hangzhou"
BODY = {"signature_name": "serving_default", "instances": [[[[1.0]] * 28] * 28]}
"""A request that every example model answers."""

LEFT_OUT = {
    ".git",
    ".venv",
    ".sandbox",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    "node_modules",
}


@dataclass(frozen=True)
class Done:
    """A finished command: exit status, and everything it printed."""

    code: int
    text: str


@dataclass(frozen=True)
class Checkout:
    """A copy of the project that shares only the installed packages."""

    root: Path
    port: int

    @property
    def stack_file(self) -> Path:
        return self.root / "stacks" / "Pulumi.local.yaml"

    def run(self, *arguments: str, module: str = "sandbox", timeout: float = 300, env: Any = None) -> Done:
        """Runs ``python -m <module> ...`` in the checkout, as the Makefile does."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), **(env or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def succeed(self, *arguments: str, module: str = "sandbox", timeout: float = 300) -> str:
        done = self.run(*arguments, module=module, timeout=timeout)
        assert done.code == 0, done.text
        return done.text

    def config(self) -> dict[str, Any]:
        return yaml.safe_load(self.stack_file.read_text(encoding="utf-8"))

    def write(self, document: dict[str, Any]) -> None:
        self.stack_file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def set(self, value: Any, *path: str) -> None:
        """``pulumi config set --path``: changes one value of the stack file; None removes the key."""
        document = self.config()
        place = document["config"]
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        self.write(document)

    def outputs(self) -> dict[str, Any]:
        exported: dict[str, Any] = json.loads(self.succeed("outputs", "--json", "--show-secrets"))
        return exported

    def service(self, name: str) -> dict[str, Any]:
        return self.outputs()["services"][name]

    @property
    def access_key(self) -> keys.AccessKey:
        """What the checkout's cloud takes."""
        return keys.of_client(self.root)

    def eas(self) -> EasClient:
        """The EAS API, past the stack: what somebody does in the console."""
        return EasClient(
            Config(
                access_key_id=self.access_key.id,
                access_key_secret=self.access_key.secret,
                endpoint=f"127.0.0.1:{self.port}",
                protocol="HTTP",
                region_id=REGION,
            )
        )

    def service_json(self, name: str) -> dict[str, Any]:
        """A service's JSON as EAS stores it."""
        return json.loads(self.eas().describe_service(REGION, name).body.service_config)

    def oss(self) -> oss.Client:
        """The OSS API, past the stack."""
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(
            self.access_key.id, self.access_key.secret
        )
        config.region = REGION
        config.endpoint = f"http://127.0.0.1:{self.port}"
        config.use_path_style = True
        return oss.Client(config)

    def processes(self) -> dict[str, int]:
        """Model server processes of the services, by command line."""
        found = {}
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                working = os.readlink(directory / "cwd")
                environment = (directory / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "--rest_api_port" in line and (str(self.root) in working or str(self.root) in environment):
                found[line.strip()] = int(directory.name)
        return found


def post(url: str, token: str, body: Any) -> tuple[int, Any]:
    """POSTs JSON; returns status and the parsed answer, whatever the status."""
    asked = request.Request(url, data=json.dumps(body).encode(), method="POST", headers={"authorization": token})
    try:
        with request.build_opener(request.ProxyHandler({})).open(asked, timeout=30) as response:
            return response.status, json.loads(response.read())
    except error.HTTPError as refused:
        text = refused.read()
        try:
            return refused.code, json.loads(text)
        except ValueError:
            return refused.code, text.decode(errors="replace")


def example_models(factory: pytest.TempPathFactory) -> Path:
    """The example models, trained once for a whole test run however many processes it has."""
    base = factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "example-models"
    shared.mkdir(exist_ok=True)
    with open(shared / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [sys.executable, "-m", "sandbox", "models", "--out", str(shared / "out")], cwd=PROJECT, check=True
        )
    return shared / "out"


def copy_project(to: Path) -> Checkout:
    """Copies the project without anything a clone would not have."""
    shutil.copytree(PROJECT, to, ignore=lambda _, names: LEFT_OUT.intersection(names), symlinks=True)
    # The provider's launcher looks for the project's own virtualenv.
    (to / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    checkout = Checkout(to, free_port())
    text = checkout.stack_file.read_text(encoding="utf-8")
    # Whatever port is set there: a person may have changed it as the README says.
    text, settings = re.subn(r"\b127\.0\.0\.1:\d+", f"127.0.0.1:{checkout.port}", text)
    assert settings == 1, "the port of the local stack is one setting"
    checkout.stack_file.write_text(text, encoding="utf-8")
    return checkout
