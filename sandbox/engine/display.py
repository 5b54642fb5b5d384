"""What a person sees of a run: progress lines while it works, then the CLI's tree, diagnostics, outputs and summary."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from sandbox.engine import properties as props
from sandbox.engine.deployment import Deployment, Observer, Step
from sandbox.engine.state import Resource
from sandbox.engine.urns import STACK_TYPE
from tfserving import command_line
from tfserving.property_path import parse_path
from tfserving.property_values import UNKNOWNS

SYMBOLS = {"create": "+", "update": "~", "delete": "-", "replace": "+-", "read": ">", "refresh": "~", "same": " "}
SYMBOLS |= {"create-replacement": "++", "delete-replaced": "--"}
STEMS = {"create": "creat", "update": "updat", "delete": "delet", "replace": "replac", "refresh": "refresh"}
STEMS |= {"create-replacement": "creat", "delete-replaced": "delet"}
UNCHANGED = {"same", "read", "refresh"}
_PATHS = 12
QUIET_SECONDS = 10.0
"""An operation that says nothing for so long has its progress line repeated."""


def verb(op: str, ending: str) -> str:
    """``created``, ``creating``, ``to create``."""
    if op == "read" or ending == "to":
        return {"to": f"to {op}", "ing": "reading", "ed": "read"}[ending]
    return f"{STEMS[op]}{ending}"


def label(urn: str) -> str:
    """Type, shortened as the CLI does, and name."""
    _, _, kind, name = urn.split("::", 3)
    return re.sub(r":([^:/]+)/[^:]+:", r":\1:", kind.rpartition("$")[2]) + f" {name}"


@dataclass
class _Running:
    step: Step
    start: float
    shown: float
    status: str = ""

    @property
    def text(self) -> str:
        return f"{verb(self.step.op, 'ing')} ({time.monotonic() - self.start:.0f}s) {self.status}".rstrip()


class Display(Observer):
    """Collects a run's events and prints them, unless ``quiet`` (for JSON).

    Attributes:
        messages: severity, URN and text of every message of the current run.
        closed: set it when nothing more is to be shown.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._live = quiet, False
        self._lock = threading.RLock()
        self._running: dict[str, _Running] = {}
        self._failed: set[str] = set()
        self.messages: list[tuple[str, str, str]] = []
        self.closed = threading.Event()
        threading.Thread(target=self._tick, daemon=True).start()

    def print(self, text: str = "") -> None:
        """A line for a person."""
        if not self._quiet:
            with self._lock:
                try:
                    sys.stdout.write(f"{text}\n")
                    sys.stdout.flush()
                except BrokenPipeError:  # nobody reads any more, which is no reason to stop half-way
                    command_line.discard_output()

    def begin(self, title: str, live: bool) -> None:
        """Starts a run; ``live``: operations are announced as they happen."""
        self.messages, self._live, self._failed = [], live, set()
        self.print(f"{title}:")

    def started(self, step: Step) -> None:
        """Announces an operation of a provider."""
        if (step.new or step.old or {}).get("provider") and step.op not in ("same", "replace"):
            with self._lock:
                self._running[step.urn] = _Running(step, time.monotonic(), time.monotonic())
            if self._live and step.op != "refresh":
                self._line(step, verb(step.op, "ing"))

    def finished(self, step: Step, seconds: float, failed: bool) -> None:
        """Announces its end."""
        with self._lock:
            running = self._running.pop(step.urn, None)
            self._failed |= {step.urn} if failed else set()
        if self._live and running and step.op != "same":
            self._line(step, f"{verb(step.op, 'ing')} failed" if failed else f"{verb(step.op, 'ed')} ({seconds:.1f}s)")

    def message(self, severity: str, text: str, urn: str = "", ephemeral: bool = False) -> None:
        """Keeps a message for the diagnostics; shows at once what a running operation is doing."""
        text = text.strip()
        if severity == "debug" or not text:
            return
        if not ephemeral:
            self.messages.append((severity, urn, text))
            return
        with self._lock:
            running = self._running.get(urn)
            if running and running.status != text:
                running.status, running.shown = text, time.monotonic()
                self._line(running.step, running.text)

    def _line(self, step: Step, text: str) -> None:
        self.print(f" {SYMBOLS[step.op]:2} {label(step.urn)} {text}")

    def _tick(self) -> None:
        while not self.closed.wait(1):
            with self._lock:
                for running in self._running.values():
                    if time.monotonic() - running.shown >= QUIET_SECONDS:
                        running.shown = time.monotonic()
                        self._line(running.step, running.text)

    def finish(self, deployment: Deployment, resources: list[Resource], seconds: float, everything: bool) -> None:
        """Prints the tree and all that follows; ``everything``: the properties of creates and deletes as well."""
        ending = "to" if deployment.preview else "ed"
        steps = {s.urn: s for s in deployment.steps if s.op == "delete-replaced"}
        steps |= {s.urn: s for s in deployment.steps if s.op not in ("delete-replaced", "create-replacement")}
        self._tree(steps, resources, ending)
        for step in steps.values():
            shown = ("update", "replace", "create", "delete") if everything else ("update", "replace")
            if step.op in shown and (found := changes(step)):
                self.print(
                    "\n".join([f"\n {SYMBOLS[step.op]} {label(step.urn)}", *map("     {}".format, found.values())])
                )
        if self.messages:
            self.print("\nDiagnostics:")
        for urn in dict.fromkeys(urn for _, urn, _ in self.messages):
            self.print("  {} ({}):".format(*label(urn).split(" ", 1)) if urn else "  engine:")
            for severity, _, text in (m for m in self.messages if m[1] == urn):
                text = f"{severity}: {text}" if severity != "info" else text
                self.print("\n".join(f"    {line}" for line in text.splitlines()))
        if deployment.outputs:
            self.print(f"\nOutputs:\n{render(props.masked(deployment.outputs), '    ')}")
        counts = summary(deployment)
        changed = {op: n for op, n in counts.items() if op not in UNCHANGED}
        lines = [f"{SYMBOLS[op]} {count} {verb(op, ending)}" for op, count in changed.items()]
        total = [f"{sum(changed.values())} changes"] if len(changed) > 1 else []
        lines.append(". ".join([*total, *([f"{counts['same']} unchanged"] if "same" in counts else [])]))
        self.print("\n    ".join(["\nResources:", *filter(None, lines)]))
        self.print(f"\nDuration: {max(1, round(seconds))}s\n")

    def _tree(self, steps: dict[str, Step], resources: list[Resource], ending: str) -> None:
        parents = {r["urn"]: r.get("parent", "") for r in resources}
        parents |= {urn: (step.new or step.old or {}).get("parent", "") for urn, step in steps.items()}
        noted = {urn for _, urn, _ in self.messages} | self._failed
        shown: set[str] = set()
        for urn in (urn for urn in parents if urn in noted or (urn in steps and steps[urn].op not in UNCHANGED)):
            while urn:
                shown.add(urn)
                urn = parents.get(urn, "")
        rows = [("", "Type", "Name", "Plan" if ending == "to" else "Status", "Info")] if shown else []

        def add(urn: str, lead: str, below: str) -> None:
            kind, name = label(urn).split(" ", 1)
            step = steps.get(urn) or Step("same", urn)
            failed = f"{verb(step.op, 'ing')} failed" if urn in self._failed and step.op != "same" else ""
            status = "" if step.op in UNCHANGED else step.op if ending == "to" else verb(step.op, ending)
            rows.append((SYMBOLS[step.op], lead + kind, name, failed or status, self._info(step)))
            children = [child for child in parents if child in shown and parents[child] == urn]
            for i, child in enumerate(children, 1):
                last = i == len(children)
                add(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))

        for root in sorted(
            (u for u in parents if u in shown and parents[u] not in shown), key=lambda u: STACK_TYPE not in u
        ):
            add(root, "", "")
        widths = [max(len(row[i]) for row in rows) for i in range(1, 5)] if rows else []
        for symbol, *columns in rows:
            cells = "  ".join(f"{cell:<{width}}" for cell, width in zip(columns, widths, strict=True))
            self.print(f" {symbol:<2} {cells}".rstrip())

    def _info(self, step: Step) -> str:
        paths = sorted({line.split(": ")[0].replace(" ", "") for line in changes(step).values()})
        more = [f"and {len(paths) - _PATHS} more"] if len(paths) > _PATHS else []
        info = [f"[diff: {','.join([*paths[:_PATHS], *more])}]"] if paths and step.op in ("update", "replace") else []
        for severity, name in (("error", "error"), ("warning", "warning"), ("info", "message")):
            if count := sum(1 for s, urn, _ in self.messages if (s, urn) == (severity, step.urn)):
                info.append(f"{count} {name}{'s' * (count > 1)}")
        return "; ".join(info)


def summary(deployment: Deployment) -> dict[str, int]:
    """Operations by kind, as the CLI counts them: a replacement is one."""
    ops = [step.op for step in deployment.steps]
    return {op: ops.count(op) for op in ("create", "update", "replace", "delete", "read", "same") if op in ops}


def changes(step: Step) -> dict[str, str]:
    """What a step changes: property path to ``~ path: old => new``, secrets masked."""
    old, new = step.old or {}, step.new or {}
    detailed = step.diff.detailed or {
        path: (kind, True) for path, kind in props.difference(old.get("inputs", {}), new.get("inputs", {})).items()
    }
    found = {}
    for path, (kind, of_inputs) in sorted(detailed.items()):
        steps = parse_path(path)
        before = compact(props.masked(props.lookup(old.get("inputs" if of_inputs else "outputs"), steps)))
        after = compact(props.masked(props.lookup(new.get("inputs"), steps)))
        symbol = {"add": "+", "delete": "-"}.get(kind.removesuffix("-replace"), "~")
        value = {"+": after, "-": before, "~": f"{before} => {after}"}[symbol]
        found[path] = f"{symbol} {path}: {value}"
    return found


def compact(value: Any) -> str:
    """A value on one line, at most 160 characters; unknown ones as the CLI shows them."""
    text = json.dumps(value, ensure_ascii=False).replace('"[secret]"', "[secret]")
    text = re.sub("|".join(f'"{unknown}"' for unknown in UNKNOWNS), "output<string>", text)
    return text if len(text) <= 160 else f"{text[:157]}..."


def render(values: dict[str, Any], indent: str) -> str:
    """Outputs, one per line; what does not fit on a line is nested."""
    width = max((len(key) for key in values), default=0)
    lines = []
    for key, value in sorted(values.items()):
        text = compact(value)
        if isinstance(value, dict) and len(text) > 80:
            text = f"{{\n{render(value, indent + '    ')}\n{indent}}}"
        lines.append(f"{indent}{key:<{width}}: {text}")
    return "\n".join(lines)


def digest(deployment: Deployment, config: dict[str, str], messages: list[tuple[str, str, str]], seconds: float) -> Any:
    """A run as ``pulumi preview --json`` prints it (PreviewDigest of pkg/display/json.go).

    Left out is what the CLI leaves out (shouldShow of pkg/backend/display/display.go): resources that stay the same,
    but for the stack itself, and the two halves of a replacement.
    """
    steps = []
    for step in deployment.steps:
        old, new = step.old or {}, step.new or {}
        if step.op == "same" and new.get("type") != STACK_TYPE and old.get("protect") == new.get("protect"):
            continue
        if step.op in ("create-replacement", "delete-replaced"):
            continue
        detailed = {path: {"kind": kind, "inputDiff": own} for path, (kind, own) in step.diff.detailed.items()}
        entry = {
            "op": step.op, "urn": step.urn, "provider": (new or old).get("provider"),
            "oldState": props.masked(step.old), "newState": props.masked({} if step.op == "delete" else new),
            "diffReasons": step.diff.keys, "replaceReasons": step.diff.replace,
        }  # fmt: skip
        steps.append({k: v for k, v in entry.items() if v} | {"detailedDiff": detailed or None})
    diagnostics = [
        ({"urn": urn} if urn else {})
        | {"message": f"{'' if severity == 'info' else f'{severity}: '}{text}\n", "severity": severity}
        for severity, urn, text in messages
    ]
    return {
        "config": config, "steps": steps, "diagnostics": diagnostics, "duration": round(seconds * 1e9),
        "changeSummary": summary(deployment),
    }  # fmt: skip
