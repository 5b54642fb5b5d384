"""``python -m local up|down|cloud``: the whole local stack in one go.

Export the example models, start the sandbox cloud, deploy stack ``local``, ask it for two predictions and show what is
there. Each part is a command of its own as well; this runs them in order and stops at the first that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pulumi.automation import PulumiCommand

from ops import outputs, predict, predict_answer
from ops.tables import DITTO, Cell, Report, Table
from sandbox import keys, paths
from sandbox.cloud import console
from sandbox.engine.secrets import SANDBOX_PASSPHRASE
from sandbox.holders import Engine, deployed
from tfserving.client import connect
from tfserving.errors import TFServingError

STACK = "local"
PULUMI_VERSION = metadata.version("pulumi")
"""The CLI that is installed where there is none: the release of the SDK, which is pinned."""


class LocalError(TFServingError):
    """A step of the local stack failed. What it printed says why."""


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Args:
        argv: ``up``, ``down`` or ``cloud``, and its options.

    Returns:
        0 when done.

    Raises:
        TFServingError: a step failed.
    """
    command, *arguments = argv
    parser = argparse.ArgumentParser(prog=f"python -m local {command}")
    if command != "cloud":
        parser.add_argument("--engine", choices=("sandbox", "pulumi"), default="sandbox", help="what deploys")
    options = parser.parse_args(arguments)
    match command:
        case "up":
            _up(options.engine)
        case "down":
            _down(options.engine)
        case _:
            _cloud()
    return 0


def _up(engine: Engine) -> None:
    started = time.monotonic()
    other: Engine = "pulumi" if engine == "sandbox" else "sandbox"
    if _deployed(other):
        raise LocalError(
            f"stack {STACK} is deployed by the {_ENGINES[other]}; two engines cannot own one stack. "
            f"Run `make down ENGINE={other}` first"
        )
    pulumi = _pulumi() if engine == "pulumi" else ""
    _step("example models")
    _sandbox("models")
    _step("sandbox cloud")
    _sandbox("cloud", "start")
    _step(f"stack {STACK}, by the {_ENGINES[engine]}")
    if engine == "pulumi":
        _remove_dead_locks()
        _run([pulumi, "stack", "select", "--create", STACK], _cli_env())
        _run([pulumi, "up", "--yes", "--stack", STACK], _cli_env())
    else:
        _sandbox("up", "--stack", STACK, "--yes")
    _step("predictions")
    services = _services(engine)
    _predictions(services)
    _step("services")
    _show(services)
    print(f"\nconsole: {_console()}")
    print(_next_commands(services, engine))
    print(f"\nready in {time.monotonic() - started:.0f} s")


def _down(engine: Engine) -> None:
    if _deployed("pulumi") and engine == "sandbox":
        engine = "pulumi"
    if _deployed(engine):
        _step(f"stack {STACK}: destroy, by the {_ENGINES[engine]}")
        # What is to be destroyed is in the cloud, so the cloud has to run.
        _sandbox("cloud", "start")
        if engine == "pulumi":
            _remove_dead_locks()
            _run([_pulumi(), "destroy", "--yes", "--stack", STACK], _cli_env())
            shutil.rmtree(paths.PULUMI_BACKEND, ignore_errors=True)
        else:
            _sandbox("destroy", "--stack", STACK, "--yes")
            (paths.ENGINE_STATE / f"{STACK}.json").unlink(missing_ok=True)
    _step("sandbox cloud")
    _sandbox("cloud", "stop")


def _cloud() -> None:
    _sandbox("models")
    _sandbox("cloud", "start")
    print(f"console: {_console()}")
    print("\nFor the Pulumi CLI, in this shell:\n")
    print("\n".join(_export_lines()))
    print(f"\nThen: pulumi stack select --create {STACK}; pulumi preview|up|refresh|destroy -s {STACK}")


def _console() -> str:
    return console.url(paths.cloud_endpoint().port)


_ENGINES: Mapping[Engine, str] = {"sandbox": "sandbox engine", "pulumi": "Pulumi CLI"}


def _deployed(engine: Engine) -> bool:
    return deployed(engine, STACK)


def _services(engine: Engine) -> dict[str, outputs.ExportedService]:
    if engine == "pulumi":
        os.environ.update(_cli_env())
    return outputs.services(STACK, engine, paths.ROOT)


def _predictions(services: Mapping[str, outputs.ExportedService]) -> None:
    """One request per protocol, to the first service of each."""
    for protocol in ("http", "grpc"):
        service = next((each for each in services.values() if each.protocol == protocol), None)
        if service is None or not service.models:
            continue
        request = predict.Request(next(iter(service.models)))
        answer = predict.ask(service, request)
        print(predict_answer.describe(service, request, answer, predict_answer.FASHION_MNIST))


def _show(services: Mapping[str, outputs.ExportedService]) -> None:
    """Services with what each serves at this moment, as it says itself."""
    rows: list[tuple[Cell, ...]] = []
    for service in services.values():
        with connect(url=service.url or None, target=service.target or None, token=service.token) as client:
            address: tuple[Cell, Cell] = (service.name, service.address)
            for model, wanted in service.models.items():
                versions = sorted(each.version for each in client.status(model) if each.state == "AVAILABLE")
                labels = {label: client.labelled_version(model, label) for label in wanted.get("labels") or {}}
                rows.append(
                    (
                        *address,
                        model,
                        " ".join(map(str, versions)),
                        " ".join(f"{label}={version}" for label, version in labels.items()),
                    )
                )
                address = (DITTO, DITTO)
    Report([Table(("SERVICE", "URL OR TARGET", "MODEL", "VERSIONS", "LABELS"), rows)]).draw()


def _next_commands(services: Mapping[str, outputs.ExportedService], engine: Engine) -> str:
    python = (
        os.path.relpath(sys.executable, paths.ROOT) if Path(sys.executable).is_relative_to(paths.ROOT) else "python"
    )
    lines = ["", "try next:"]
    if engine == "pulumi":  # what asks the CLI for the outputs needs to know which backend and passphrase are meant
        lines += [f"  {line}" for line in _export_lines()]
    labelled = next(
        (
            (service, model, sorted(facts["labels"])[0])
            for service in services.values()
            for model, facts in service.models.items()
            if facts.get("labels")
        ),
        None,
    )
    if labelled:
        service, model, label = labelled
        lines.append(f"  {python} -m ops predict {service.name} {model} --label {label}")
        up = "make up ENGINE=pulumi" if engine == "pulumi" else "make up"
        lines.append(f"  edit tf-serving:models.{model}.labels in {paths.LOCAL_STACK_FILE}, then {up}")
    if engine == "pulumi":
        lines.append(f"  pulumi stack output services --show-secrets -s {STACK}")
    else:
        lines.append(f"  {python} -m sandbox outputs --show-secrets")
    lines.append("  make down")
    return "\n".join(lines)


def _step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def _sandbox(*arguments: str) -> None:
    _run([sys.executable, "-m", "sandbox", *arguments])


def _run(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Runs a step with its output on the terminal.

    Raises:
        LocalError: it failed.
    """
    sys.stdout.flush()
    code = subprocess.run(command, cwd=paths.ROOT, env=env, check=False).returncode
    if code:
        shown = shlex.join(["python" if part == sys.executable else part for part in command])
        raise LocalError(
            f"`{shown}` failed (exit status {code}); see above. Running `make up` again continues from here"
        )


def _cli_settings() -> dict[str, str]:
    """What the Pulumi CLI needs to know for a stack in the sandbox cloud, which has been started.

    The directory of its file backend has to be there. Some APIs it asks over HTTPS, whatever the settings say.
    """
    from sandbox.cloud.listener import trust_bundle  # only here: a server's packages, which most commands do not need

    paths.PULUMI_BACKEND.mkdir(parents=True, exist_ok=True)
    return {
        "SSL_CERT_FILE": str(trust_bundle(paths.CLOUD_DATA)),
        "PULUMI_BACKEND_URL": f"file://{paths.PULUMI_BACKEND}",
        "PULUMI_CONFIG_PASSPHRASE": SANDBOX_PASSPHRASE,
        **keys.of_cloud(paths.ROOT).variables(),
    }


def _remove_dead_locks() -> None:
    """Removes the locks of CLI runs that were killed on this machine: a person would have to know `pulumi cancel`."""
    for lock in paths.PULUMI_BACKEND.glob(f".pulumi/locks/**/{STACK}/*.json"):
        try:
            holder = json.loads(lock.read_text(encoding="utf-8"))
            alive = holder["hostname"] != socket.gethostname() or _runs(int(holder["pid"]))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # the CLI says what is wrong with it
        if not alive:
            lock.unlink(missing_ok=True)
            print(f"an earlier run of the Pulumi CLI (process {holder['pid']}) was killed; its lock is removed")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _export_lines() -> list[str]:
    return [f"export {name}={shlex.quote(value)}" for name, value in _cli_settings().items()]


def _cli_env() -> dict[str, str]:
    return {**os.environ, **_cli_settings(), "PULUMI_SKIP_UPDATE_CHECK": "true"}


def _pulumi() -> str:
    """The Pulumi CLI: on PATH, or installed below ``.sandbox``.

    Raises:
        LocalError: there is none, and it cannot be downloaded from here.
    """
    found = shutil.which("pulumi")
    if found:
        return found
    root = paths.SANDBOX / "pulumi-cli"
    print(f"The Pulumi CLI is not on PATH; installing version {PULUMI_VERSION} into {root}", flush=True)
    try:
        command = PulumiCommand.install(root=str(root)).command
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise LocalError(
            f"the Pulumi CLI is not on PATH and cannot be downloaded from here ({error}). Install Pulumi "
            f"{PULUMI_VERSION} by your usual way, or run `make up` without ENGINE=pulumi: that needs no CLI"
        ) from None
    # Its language host and plugins are looked up on PATH.
    os.environ["PATH"] = f"{Path(command).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return command
