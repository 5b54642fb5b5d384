"""``python -m sandbox preview|up|refresh|destroy|outputs``: deploys a stack to the sandbox cloud without Pulumi.

A stand-in for the Pulumi CLI on machines that have none, for loopback endpoints only. Exit status, as the CLI's
(pkg/cmd/pulumi/cmd/exit_codes.go): 0 done, 1 failed, 2 wrong usage, 7 changes where ``--expect-no-changes`` allows
none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.engine import properties as props
from sandbox.engine.config import Stack, load
from sandbox.engine.deployment import Deployment
from sandbox.engine.display import UNCHANGED, Display, digest, summary
from sandbox.engine.monitor import Monitor
from sandbox.engine.plugins import Plugins
from sandbox.engine.policies import PolicyPack
from sandbox.engine.state import Resource, Snapshot, lock
from sandbox.engine.urns import STACK_TYPE
from sandbox.holders import deployed
from tfserving.errors import ConfigError, Problem, TFServingError
from tfserving.property_values import SECRET, SIGNATURE

FAILED, UNEXPECTED_CHANGES = 1, 7
TITLES = {"up": ("Previewing update", "Updating"), "refresh": ("Previewing refresh", "Refreshing")}
TITLES |= {"preview": TITLES["up"], "destroy": ("Previewing destroy", "Destroying")}


def main(argv: Sequence[str]) -> int:
    """Runs one command. Mistakes and failures are reported on stderr, without a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        stack = load(Path(arguments.cwd).resolve(), arguments.stack)
        if deployed("pulumi", stack.name, stack.root) and not deployed("sandbox", stack.name, stack.root):
            raise ConfigError(
                [
                    Problem(
                        f"stack {stack.name}",
                        "is deployed by the Pulumi CLI; two engines cannot own one stack",
                        fix=f"use `pulumi {arguments.command} -s {stack.name}`, or destroy it there first",
                    )
                ],
                f"stack {stack.name}",
            )
        if arguments.command == "outputs":
            return _outputs(stack, arguments)
        if arguments.command == "export":
            return _export(stack, arguments)
        writing = arguments.command != "preview" and not arguments.preview_only
        with lock(stack.state_file) if writing else contextlib.nullcontext():
            return _Run(stack, arguments).run()
    except TFServingError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("preview", "up", "refresh", "destroy", "outputs", "export"):
        command = commands.add_parser(name)
        command.add_argument(
            "--stack",
            "-s",
            type=lambda text: text.rpartition("/")[2],
            default="local",
            help="stack name, or organization/project/stack (default: local)",
        )
        command.add_argument("--cwd", "-C", default=".", help="project directory (default: the current one)")
        command.add_argument("--json", "-j", action="store_true", help="print JSON, as the Pulumi CLI does")
        if name in ("outputs", "export"):
            command.add_argument("--show-secrets", action="store_true", help="print secret values")
            continue
        command.add_argument("--yes", "-y", action="store_true", help="do it without asking")
        command.add_argument("--expect-no-changes", action="store_true", help="exit 7 if there are changes")
        command.add_argument("--preview-only", action="store_true", help="change nothing")
        command.add_argument("--refresh", "-r", action="store_true", help="look first what is really there")
        command.add_argument(
            "--diff", action="store_true", help="show the properties of created and deleted resources too"
        )
        command.add_argument("--policy-pack", type=Path, metavar="DIR", help="hold resources to this policy pack")
        command.add_argument("--parallel", "-p", type=_positive, default=8, help="operations at a time (default: 8)")
    return parser


def _export(stack: Stack, arguments: argparse.Namespace) -> int:
    """The state in the CLI's form; secrets are masked, or in clear as ``--show-secrets`` has them there."""
    resources = Snapshot(stack.state_file, read_only=True).resources

    def shown(item: Any) -> Any:
        if not props.is_secret(item):
            return item
        text = json.dumps(item["value"]) if arguments.show_secrets else '"[secret]"'
        return {SIGNATURE: SECRET, "plaintext": text}

    print(json.dumps({"version": 3, "deployment": {"resources": props.rewrite(resources, shown)}}, indent=4))
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _outputs(stack: Stack, arguments: argparse.Namespace) -> int:
    resources = Snapshot(stack.state_file, read_only=True).resources
    outputs: dict[str, Any] = next((r.get("outputs", {}) for r in resources if r["type"] == STACK_TYPE), {})
    shown = props.plain(outputs) if arguments.show_secrets else props.masked(outputs)
    if arguments.json:
        print(json.dumps(shown, indent=2))
        return 0
    print(f"Current stack outputs ({len(shown)}):")
    width = max(map(len, ["OUTPUT", *shown]))
    for name, value in {"OUTPUT": "VALUE", **shown}.items():
        print(f"    {name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}")
    return 0


class _Run:
    """One command at work: a preview, and what it leads to."""

    def __init__(self, stack: Stack, arguments: argparse.Namespace) -> None:
        self._stack, self._arguments, self._command = stack, arguments, arguments.command
        self._display = Display(quiet=arguments.json)
        self._monitor = Monitor(stack, self._display, arguments.parallel)
        self._plugins = Plugins(stack, self._monitor.address)
        if arguments.policy_pack:
            self._monitor.policies = PolicyPack(arguments.policy_pack, stack)
        self._interrupts = 0
        self._digest: dict[str, Any] = {}

    def run(self) -> int:
        """Previews, asks, and carries out. Returns the exit status."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [signal.signal(number, self._interrupted) for number in numbers]
        try:
            status = self._run()
            if self._arguments.json:
                print(json.dumps(self._digest, indent=4))
            return status
        finally:
            for number, handler in zip(numbers, previous, strict=True):
                signal.signal(number, handler)
            self._monitor.close()
            self._plugins.close()
            self._display.closed.set()

    def _interrupted(self, number: int, frame: object) -> None:
        """First: running operations may end, nothing new starts. Second: everything ends now; the state is on disk."""
        self._interrupts += 1
        if self._interrupts > 1:
            self._monitor.kill()
            self._plugins.kill()
            os._exit(FAILED)
        print("^C: waiting for running operations; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
        if self._monitor.deployment:
            self._monitor.deployment.cancelled.set()
        threading.Thread(target=self._plugins.cancel, daemon=True).start()

    def _run(self) -> int:
        only = self._command == "preview" or self._arguments.preview_only
        if not only and not self._arguments.yes and not sys.stdin.isatty():
            raise TFServingError("--yes must be passed where there is no terminal to ask on")
        saved = Snapshot(self._stack.state_file, self._stack.salt, read_only=only)
        deployment, after = self._deploy(preview=True)
        changed = bool(set(summary(deployment)) - UNCHANGED)
        if deployment.failed:
            return self._failed(deployment)
        if changed and self._arguments.expect_no_changes:
            print("error: no changes were expected but changes were proposed", file=sys.stderr)
            return UNEXPECTED_CHANGES
        if _same(saved.resources, after):
            if saved.interrupted:
                saved.save()  # they have been told, and that is all there is to do about them
        elif not only and self._confirmed():
            deployment, _ = self._deploy(preview=False)
        return self._failed(deployment) if deployment.failed else 0

    def _failed(self, deployment: Deployment) -> int:
        print(f"error: {'preview' if deployment.preview else self._command} failed", file=sys.stderr)
        return FAILED

    def _confirmed(self) -> bool:
        question = f"Do you want to perform this {self._command}? [y/N] "
        return self._arguments.yes or input(question).strip().lower() in ("y", "yes")

    def _deploy(self, preview: bool) -> tuple[Deployment, list[Resource]]:
        stack, started = self._stack, time.monotonic()
        snapshot = Snapshot(stack.state_file, stack.salt, read_only=preview)
        deployment = Deployment(
            stack, snapshot, self._plugins, self._display,
            preview=preview, refresh=self._arguments.refresh, parallel=self._arguments.parallel,
        )  # fmt: skip
        self._monitor.deployment = deployment
        title = TITLES[self._command][not preview]
        self._display.begin(f"{title} ({stack.name})", live=not preview)
        known = {r["urn"] for r in snapshot.resources}
        for operation in snapshot.interrupted:
            if operation["type"] == "creating" and (urn := operation["resource"]["urn"]) not in known:
                self._display.message("warning", "an earlier run was interrupted while it was creating this", urn)
        if self._command == "refresh":
            deployment.refresh()
        elif self._command == "destroy":
            deployment.delete_rest(everything=True)
        else:
            succeeded = self._monitor.run_program(deployment)
            errors = any(severity == "error" for severity, _, _ in self._display.messages)
            if not succeeded and not errors:
                self._display.message("error", "the program ended without saying why; what it printed is above")
            if not succeeded or errors:
                deployment.failed.add(stack.name)
            if not deployment.failed and not deployment.cancelled.is_set():
                deployment.delete_rest()
        if deployment.cancelled.is_set():
            deployment.failed.add(stack.name)
            self._display.message("error", "cancelled")
        snapshot.save()
        duration = time.monotonic() - started
        config = {k: "[secret]" if k in stack.secret_keys else v for k, v in sorted(stack.config.items())}
        self._digest = digest(deployment, config, self._display.messages, duration)
        self._display.finish(deployment, snapshot.resources, duration, self._arguments.diff)
        return deployment, snapshot.resources


def _same(before: list[Resource], after: list[Resource]) -> bool:
    def by_name(resources: list[Resource]) -> list[Resource]:
        return sorted(resources, key=lambda r: (r["urn"], r.get("id", "")))

    return by_name(before) == by_name(after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
