"""``make up`` on a machine that has everything installed, and its slowest steps."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from bench.measure import Result, median, python, run, spread
from bench.world import checkout

_OPERATION = re.compile(r"^ \S+ +(\S+ \S+) (?:\w+) \((\d+\.\d)s\)$")
_SLOWEST = 6


def warm(repeat: int) -> Result:
    """After ``make down`` (models are exported, packages installed), and again with everything up."""
    result = Result("make-up", f"make up, warm; medians of {repeat}", ("case", "whole", "step", "time", "share"))
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        root = checkout(Path(path))
        env = {"PYTHONPATH": str(root)}
        down = python("-m", "local", "down")
        try:
            _up(root)  # exports the example models
            cases: dict[str, list[dict[str, float]]] = {"after make down": [], "nothing to do": []}
            for _ in range(repeat):
                run(down, root, env)
                cases["after make down"].append(_up(root))
                cases["nothing to do"].append(_up(root))
        finally:
            run(down, root, env)
    for case, runs in cases.items():
        steps = {name for each in runs for name in each if name != "whole"}
        whole = [each["whole"] for each in runs]
        times = {step: median([each.get(step, 0.0) for each in runs]) for step in steps}
        for index, step in enumerate(sorted(steps, key=lambda step: -times[step])[:_SLOWEST]):
            share = f"{times[step] / median(whole) * 100:.0f} %"
            result.row(*((case, spread(whole)) if not index else ("", "")), step, f"{times[step]:.2f} s", share)
    result.data = {"cases": cases}
    result.notes.append("operations on resources run side by side, within the step of the stack")
    return result


def _up(root: Path) -> dict[str, float]:
    """Seconds of the whole, of each step, and of each operation on a resource."""
    found: dict[str, float] = {}
    started = last = time.monotonic()
    step = ""
    lines: list[str] = []
    with subprocess.Popen(
        python("-m", "local", "up"),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            now = time.monotonic()
            if line.startswith("== "):
                if step:
                    found[step] = now - last
                step, last = line[3:].strip(), now
            elif match := _OPERATION.match(line.rstrip()):
                found[f"  {match[1]}"] = float(match[2])
    ended = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"make up failed:\n{''.join(lines)}")
    found[step] = ended - last
    found["whole"] = ended - started
    return found
