"""This machine: Python, the Pulumi CLI, plugins, the state backend and the stack file."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from ops.doctor.stack import KEYS, NAMESPACE, StackConfig, read_yaml
from ops.finding import Finding
from provider.clients import one_line

LEAST_CLI = (3, 227)
"""The first Pulumi CLI with the exit statuses that the drift check relies on (7: changes found)."""

_PLUGIN_SECONDS = 30.0

_CLI_SECONDS = 60.0


def python_findings(project_dir: Path) -> Iterator[Finding]:
    project = tomllib.loads((project_dir / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = str(project["requires-python"])
    version = ".".join(map(str, sys.version_info[:3]))
    # ">=3.11,<3.14"; both bounds are of the form major.minor.
    least, below = (tuple(map(int, bound.split("."))) for bound in re.findall(r"\d+\.\d+", wanted))
    if least <= sys.version_info[:2] < below:
        yield Finding("ok", "Python", version)
    else:
        fix = f"install a Python {wanted}, remove .venv and run `pulumi install` or `make up`"
        yield Finding("error", "Python", f"{version}, but {wanted} is needed", fix)
    wrong = []
    for line in (project_dir / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("#")[0].partition(";")[0].strip().partition("==")
        if not pinned:
            continue
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        if found != pinned:
            wrong.append(f"{name} is {found}, pinned is {pinned}")
    fix = f"{sys.executable} -m pip install -r requirements.txt"
    yield Finding("error", "packages", "; ".join(wrong), fix) if wrong else Finding("ok", "packages", "as pinned")


def pulumi_findings(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    sdk = metadata.version("pulumi")
    executable = shutil.which("pulumi")
    if executable is None:
        fix = f"install Pulumi {sdk} or newer and put it on PATH"
        if stack.is_local:
            yield Finding("ok", "Pulumi CLI", "not on PATH; `make up` deploys this stack without it")
        else:
            yield Finding("error", "Pulumi CLI", "not on PATH", fix)
        return
    text = ask_cli("version", cwd=project_dir).strip().removeprefix("v")
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        yield Finding("error", "Pulumi CLI", f"{executable} does not say its version", "install it again")
        return
    version = (int(match[1]), int(match[2]))
    if version < LEAST_CLI:
        least = ".".join(map(str, LEAST_CLI))
        yield Finding("error", "Pulumi CLI", f"{text}, older than {least}", f"install Pulumi {sdk} or newer")
    elif version < tuple(map(int, sdk.split(".")[:2])):
        fix = f"install Pulumi {sdk}, the version of the Python SDK this project is tested with"
        yield Finding("warning", "Pulumi CLI", f"{text}, older than the Python SDK ({sdk})", fix)
    else:
        yield Finding("ok", "Pulumi CLI", text)
    yield _plugin("alicloud", project_dir)
    if stack.values.get(f"{NAMESPACE}:kubernetes") is not None:
        yield _plugin("kubernetes", project_dir)


def _plugin(name: str, project_dir: Path) -> Finding:
    subject, wanted = f"plugin {name}", metadata.version(f"pulumi-{name}")
    fix = f"pulumi plugin install resource {name} v{wanted}"
    try:
        plugins = json.loads(ask_cli("plugin", "ls", "--json", cwd=project_dir) or "[]")
        found = {str(each.get("version", "")) for each in plugins if each.get("name") == name}
    except (ValueError, AttributeError, TypeError):
        return Finding("warning", subject, "`pulumi plugin ls --json` gives no list", fix)
    if wanted in found:
        return Finding("ok", subject, wanted)
    return Finding(
        "warning", subject, f"{wanted} is not installed; the first run downloads it, where that is allowed", fix
    )


def own_plugin_findings(project_dir: Path) -> Iterator[Finding]:
    """Starts the provider as the engine does: it prints the port it listens on."""
    subject = "plugin tfserving"
    declared = (read_yaml(project_dir / "Pulumi.yaml").get("plugins") or {}).get("providers") or []
    path = next((each.get("path") for each in declared if each.get("name") == "tfserving"), None)
    if path is None:
        fix = "restore plugins.providers of Pulumi.yaml from version control"
        yield Finding("error", subject, "Pulumi.yaml does not name it", fix)
        return
    launcher = project_dir / str(path) / "pulumi-resource-tfserving"
    fix = "run `pulumi install` or `make up`; then it starts with " + os.path.relpath(launcher, project_dir)
    try:
        process = subprocess.Popen([launcher], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        yield Finding("error", subject, f"{launcher}: {error.strerror}", fix)
        return
    try:
        assert process.stdout is not None  # noqa: S101
        ready, _, _ = select.select([process.stdout], [], [], _PLUGIN_SECONDS)
        port = process.stdout.readline().strip() if ready else ""
    finally:
        process.kill()
        _, said = process.communicate()
    if port.isdigit():
        yield Finding("ok", subject, "starts")
    else:
        yield Finding("error", subject, f"does not start: {one_line(said) or 'no word of it'}", fix)


def state_findings(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    if shutil.which("pulumi") is None:
        if stack.is_local:
            directory = project_dir / ".sandbox"
            writable = os.access(directory if directory.exists() else project_dir, os.W_OK)
            text = f"sandbox engine, {directory / 'state'}"
            fix = f"make {directory} writable, or remove it"
            yield Finding("ok", "state", text) if writable else Finding("error", "state", f"{text}: not writable", fix)
        else:
            yield Finding("skipped", "state", "needs the Pulumi CLI", "see above")
        return
    try:
        whoami = json.loads(ask_cli("whoami", "--json", "--non-interactive", cwd=project_dir))
        url, user = without_userinfo(str(whoami["url"])), str(whoami.get("user") or "")
    except (ValueError, KeyError, TypeError):
        fix = "pulumi login (docs: Pulumi Cloud, an s3:// URL for OSS, or file://), or set PULUMI_BACKEND_URL"
        yield Finding("error", "state", "not logged in to a state backend", fix)
        return
    yield Finding("ok", "state", f"{url}" + (f" as {user}" if user else ""))
    try:
        names = {
            str(each["name"]).rpartition("/")[2]
            for each in json.loads(ask_cli("stack", "ls", "--json", cwd=project_dir))
        }
    except (ValueError, KeyError, TypeError):
        names = set()
    if stack.name not in names:
        fix = f"pulumi stack init {stack.name}"
        yield Finding("warning", "stack", f"{stack.name} is not in that backend yet", fix)
    if stack.passphrase and not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(os.environ):
        fix = "set PULUMI_CONFIG_PASSPHRASE_FILE to a file that holds it"
        if stack.is_local:
            fix = "use the export lines of `make cloud`"
        yield Finding("error", "stack secrets", "are encrypted with a passphrase, and none is set", fix)


def stack_file_findings(stack: StackConfig) -> Iterator[Finding]:
    if stack.region:
        yield Finding("ok", "region", f"{stack.region} ({stack.file.name})")
    else:
        fix = f"pulumi config set -s {stack.name} alicloud:region cn-hangzhou"
        yield Finding("error", "region", f"{stack.file.name} sets no alicloud:region", fix)
    plain = [key for key in KEYS if stack.text(f"alicloud:{key}")]
    if plain and not stack.is_local:
        fix = f"pulumi config set -s {stack.name} --secret alicloud:{plain[0]}, and have the key replaced"
        yield Finding("error", "stack file", f"alicloud:{plain[0]} is there in plain text", fix)


def ask_cli(*arguments: str, cwd: Path) -> str:
    """What ``pulumi`` prints; empty where it fails, hangs or is not there."""
    executable = shutil.which("pulumi")
    if executable is None:
        return ""
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run(
            [executable, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CLI_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def without_userinfo(url: str) -> str:
    """A URL without user, password and query: a backend's may hold keys."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else url
