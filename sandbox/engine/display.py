"""What a person sees of a run: progress lines while it works, then the CLI's tree, diagnostics, outputs and summary."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

from sandbox.engine import properties as props
from sandbox.engine.deployment import STACK_TYPE, Deployment, Observer, Step
from sandbox.engine.state import Resource

SYMBOLS = {"create": "+", "update": "~", "delete": "-", "replace": "+-", "read": ">", "refresh": "~", "same": " "}
SYMBOLS |= {"create-replacement": "++", "delete-replaced": "--"}
STEMS = {"create": "creat", "update": "updat", "delete": "delet", "replace": "replac", "refresh": "refresh"}
STEMS |= {"create-replacement": "creat", "delete-replaced": "delet"}
LOGICAL = ("create", "update", "replace", "delete", "read")
UNCHANGED = {"same", "read", "refresh"}
TICK = 10.0
"""Seconds without news of an operation after which its progress line is repeated."""


def verb(op: str, ending: str) -> str:
    """``created``, ``creating``, ``to create``."""
    if ending == "to":
        return f"to {op}"
    return f"{STEMS.get(op, op)}{ending}" if op != "read" else {"ed": "read", "ing": "reading"}[ending]


def label(urn: str) -> tuple[str, str]:
    """Type, shortened as the CLI does, and name."""
    _, _, kind, name = urn.split("::", 3)
    return re.sub(r":(\w+)/\w+:", r":\1:", kind.rpartition("$")[2]), name


class Display(Observer):
    """Collects a run's events and prints them, unless ``quiet`` (for JSON)."""

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._live = quiet, False
        self._lock = threading.Lock()
        self.messages: list[tuple[str, str, str]] = []
        self._running: dict[str, list[Any]] = {}
        self._failed: set[str] = set()
        threading.Thread(target=self._tick, daemon=True).start()

    def print(self, text: str = "") -> None:
        """A line for a person."""
        if not self._quiet:
            print(text, flush=True)

    def begin(self, title: str, live: bool) -> None:
        """Starts a run; ``live``: operations are announced as they happen."""
        self.messages, self._live, self._failed = [], live, set()
        self.print(f"{title}:")

    def started(self, step: Step) -> None:
        """Announces an operation."""
        if step.op not in ("same", "replace"):
            with self._lock:
                self._running[step.urn] = [step, time.monotonic(), time.monotonic(), ""]
            if self._live and step.op != "refresh":
                self._line(step, verb(step.op, "ing"))

    def finished(self, step: Step, seconds: float, failed: bool) -> None:
        """Announces its end."""
        with self._lock:
            self._running.pop(step.urn, None)
        if failed:
            self._failed.add(step.urn)
        if self._live and step.op not in ("same", "replace"):
            self._line(step, f"{verb(step.op, 'ing')} failed" if failed else f"{verb(step.op, 'ed')} ({seconds:.1f}s)")

    def message(self, severity: str, text: str, urn: str = "", ephemeral: bool = False) -> None:
        """Keeps a message for the diagnostics; shows at once what a running operation is doing."""
        text = text.strip()
        if ephemeral:
            with self._lock:
                entry = self._running.get(urn)
                if entry is None or entry[3] == text or severity == "debug":
                    return
                entry[2:] = [time.monotonic(), text]
            self._line(entry[0], f"{verb(entry[0].op, 'ing')} ({time.monotonic() - entry[1]:.0f}s) {text}")
        elif severity != "debug" and text:
            self.messages.append((severity, urn, text))

    def _line(self, step: Step, text: str) -> None:
        self.print(f" {SYMBOLS[step.op]:2} {' '.join(label(step.urn))} {text}")

    def _tick(self) -> None:
        while True:
            time.sleep(1)
            with self._lock:
                late = [e for e in self._running.values() if time.monotonic() - e[2] >= TICK]
                for entry in late:
                    entry[2] = time.monotonic()
            for step, start, _, status in late:
                self._line(step, f"{verb(step.op, 'ing')} ({time.monotonic() - start:.0f}s) {status}".rstrip())

    def finish(self, deployment: Deployment, resources: list[Resource], seconds: float, everything: bool) -> None:
        """Prints the tree and all that follows; ``everything``: the properties of creates and deletes as well."""
        steps = {step.urn: step for step in deployment.steps if step.op in (*LOGICAL, "same")}
        shown = {s.urn: s for s in deployment.steps if s.op == "delete-replaced"} | steps
        self._tree(shown, resources, "to" if deployment.preview else "ed")
        for step in shown.values():
            if step.op in ("update", "replace") or (everything and step.op in ("create", "delete")):
                self._changes(step)
        self._diagnostics()
        if deployment.outputs:
            self.print("\nOutputs:")
            self.print(render(props.masked(deployment.outputs), "    "))
        counts = summary(deployment)
        changed = {op: n for op, n in counts.items() if op not in UNCHANGED}
        ending = "to" if deployment.preview else "ed"
        self.print("\nResources:")
        for op, count in changed.items():
            self.print(f"    {SYMBOLS[op]} {count} {verb(op, ending)}")
        rest = f"{counts['same']} unchanged" if counts.get("same") else ""
        total = f"{sum(changed.values())} changes" if len(changed) > 1 else ""
        self.print(f"    {'. '.join(filter(None, (total, rest)))}" if total or rest else "")
        self.print(f"Duration: {max(1, round(seconds))}s\n")

    def _tree(self, steps: dict[str, Step], resources: list[Resource], ending: str) -> None:
        parents = {r["urn"]: r.get("parent", "") for r in resources}
        parents |= {urn: (s.new or s.old or {}).get("parent", "") for urn, s in steps.items()}
        noted = {urn for _, urn, _ in self.messages}
        shown: dict[str, None] = {}
        for urn in [urn for urn, s in steps.items() if s.op not in UNCHANGED or urn in noted or urn in self._failed]:
            while urn:
                shown[urn] = None
                urn = parents.get(urn, "")
        order = [urn for urn in parents if urn in shown]
        roots = sorted((u for u in order if parents[u] not in shown), key=lambda u: STACK_TYPE not in u)
        rows: list[tuple[str, ...]] = [("", "Type", "Name", "Plan" if ending == "to" else "Status", "Info")]

        def add(urn: str, lead: str, stem: str) -> None:
            kind, name = label(urn)
            step = steps.get(urn)
            op = step.op if step else "same"
            done = (
                ""
                if op in UNCHANGED
                else op
                if ending == "to"
                else f"{verb(op, 'ing')} failed"
                if urn in self._failed
                else verb(op, ending)
            )
            paths = [f"{p[0]}{k}" for k, p in changes(step).items()] if step and op in ("update", "replace") else []
            info = [f"[diff: {','.join(sorted(set(paths)))}]"] if paths else []
            for severity, plural in (("error", "errors"), ("warning", "warnings"), ("info", "messages")):
                if count := sum(1 for s, u, _ in self.messages if u == urn and s == severity):
                    info.append(f"{count} {plural if count > 1 else plural[:-1]}")
            rows.append((SYMBOLS[op], lead + kind, name, done, "; ".join(info)))
            children = [u for u in order if parents[u] == urn]
            for i, child in enumerate(children):
                last = i == len(children) - 1
                add(child, stem + ("└─ " if last else "├─ "), stem + ("   " if last else "│  "))

        for root in roots:
            add(root, "", "")
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        for sym, *columns in rows:
            self.print(
                f" {sym:<2} " + "  ".join(f"{c:<{w}}" for c, w in zip(columns, widths[1:], strict=True)).rstrip()
            )

    def _changes(self, step: Step) -> None:
        found = changes(step)
        if not found:
            return
        kind, name = label(step.urn)
        self.print(f"\n {SYMBOLS[step.op]} {kind} ({name})")
        for path, (symbol, old, new) in found.items():
            text = {"+": compact(new), "-": compact(old)}.get(symbol, f"{compact(old)} => {compact(new)}")
            self.print(f"     {symbol} {path}: {text}")

    def _diagnostics(self) -> None:
        if self.messages:
            self.print("\nDiagnostics:")
        for urn in dict.fromkeys(urn for _, urn, _ in self.messages):
            kind, name = label(urn) if urn else ("engine", "")
            self.print(f"  {kind} ({name}):" if name else f"  {kind}:")
            for severity, _, text in (m for m in self.messages if m[1] == urn):
                text = f"{severity}: {text}" if severity != "info" else text
                self.print("\n".join(f"    {line}" for line in text.splitlines()))


def summary(deployment: Deployment) -> dict[str, int]:
    """Operations by kind, as the CLI counts them: a replacement is one."""
    ops = [step.op for step in deployment.steps]
    return {op: ops.count(op) for op in ("create", "update", "replace", "delete", "read", "same") if op in ops}


def changes(step: Step) -> dict[str, tuple[str, Any, Any]]:
    """Property path to symbol, old and new value (masked), of what a step changes."""
    old, new = step.old or {}, step.new or {}
    if not step.diff.detailed:
        step.diff.detailed = {p: (kind, True) for p, kind in props.difference(_visible(old), _visible(new)).items()}
    found = {}
    for path, (kind, of_inputs) in sorted(step.diff.detailed.items()):
        steps = props.parse_path(path)
        before = props.lookup(old.get("inputs" if of_inputs else "outputs"), steps)
        after = props.lookup(new.get("inputs"), steps)
        symbol = {"add": "+", "delete": "-"}.get(kind.removesuffix("-replace"), "~")
        found[path] = (symbol, props.masked(before), props.masked(after))
    return found


def _visible(resource: Resource) -> Any:
    return {k: v for k, v in resource.get("inputs", {}).items() if not k.startswith("__")}


def compact(value: Any) -> str:
    """A value on one line; unknown ones as the CLI shows them."""
    text = json.dumps(value, ensure_ascii=False)
    for unknown in props.UNKNOWNS:
        text = text.replace(f'"{unknown}"', "output<string>")
    text = text.replace('"[secret]"', "[secret]")
    return text if len(text) <= 160 else f"{text[:157]}..."


def render(values: dict[str, Any], indent: str) -> str:
    """Outputs, one per line, nested ones indented."""
    width = max((len(key) for key in values), default=0)
    lines = []
    for key, value in sorted(values.items()):
        text = (
            f"{{\n{render(value, indent + '    ')}\n{indent}}}" if isinstance(value, dict) and value else compact(value)
        )
        lines.append(f"{indent}{key:<{width}}: {text}")
    return "\n".join(lines)


def digest(deployment: Deployment, config: dict[str, str], messages: list[tuple[str, str, str]], seconds: float) -> Any:
    """A run as ``pulumi preview --json`` prints it (PreviewDigest of pkg/display/json.go)."""
    steps = []
    for step in deployment.steps:
        states = {"oldState": step.old, "newState": None if step.op.startswith("delete") else step.new}
        detailed = {path: {"kind": kind, "inputDiff": own} for path, (kind, own) in step.diff.detailed.items()}
        entry = {
            "op": step.op, "urn": step.urn, "provider": (step.new or step.old or {}).get("provider"),
            **{name: props.masked(state) for name, state in states.items() if state},
            "diffReasons": step.diff.keys, "replaceReasons": step.diff.replace,
        }  # fmt: skip
        steps.append({k: v for k, v in entry.items() if v} | {"detailedDiff": detailed or None})
    diagnostics = [
        {"urn": urn, "message": f"{severity}: {text}", "severity": severity} if urn
        else {"message": f"{severity}: {text}", "severity": severity} for severity, urn, text in messages
    ]  # fmt: skip
    return {
        "config": config, "steps": steps, "diagnostics": diagnostics, "duration": round(seconds * 1e9),
        "changeSummary": summary(deployment),
    }  # fmt: skip
