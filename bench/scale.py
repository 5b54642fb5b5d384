"""A stack of many models: lines printed, size of the state, and the time of a rollout that moves three labels."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import local_stack
from bench.measure import Result, median, python, run, spread
from bench.world import checkout

_UPDATED = re.compile(r"ServedConfig served updated \((\d+\.\d)s\)")
_MOVED = 3


def moves(repeat: int, sizes: Sequence[int]) -> Result:
    """Moves label ``stable`` of three models back and forth, in stacks of several sizes, by the sandbox engine."""
    result = Result(
        "scale",
        f"{_MOVED} labels moved in a stack of many models, poll interval 2 s; medians of {repeat}",
        ("models", "lines of a preview", "lines of `up`", "state", "step"),
    )
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as path:
            root = checkout(Path(path))
            env = local_stack.environment(root)
            sandbox = python("-m", "sandbox")
            try:
                run([*sandbox, "models"], root, env)
                run(python("-m", "local", "cloud"), root, env)
                _fill(root, count)
                run([*sandbox, "up", "--stack", "local", "--yes"], root, env)
                _measure(result, root, count, repeat, [*sandbox])
            finally:
                run(python("-m", "local", "down"), root, env)
    return result


def _measure(result: Result, root: Path, count: int, repeat: int, sandbox: Sequence[str]) -> None:
    env = local_stack.environment(root)
    previews, ups, steps = [], [], []
    for turn in range(repeat):
        _move(root, 2 - turn % 2)
        previews.append(len(run([*sandbox, "preview", "--stack", "local"], root, env).text.splitlines()))
        text = run([*sandbox, "up", "--stack", "local", "--yes"], root, env).text
        ups.append(len(text.splitlines()))
        steps += [float(each) for each in _UPDATED.findall(text)]
    state = (root / ".sandbox" / "state" / "local.json").stat().st_size
    result.row(str(count), f"{median(previews):.0f}", f"{median(ups):.0f}", f"{state / 1e6:.2f} MB", spread(steps))
    result.data.setdefault("cases", []).append(
        {"models": count, "preview_lines": previews, "up_lines": ups, "state_bytes": state, "step_seconds": steps}
    )


def _fill(root: Path, count: int) -> None:
    """Models of two versions each, which are all one example model."""
    models = root / ".sandbox" / "models"
    for index in range(count):
        for version in (1, 2):
            shutil.copytree(models / "modelB" / str(version), models / f"m{index:04}" / str(version))

    def change(config: dict[str, Any]) -> None:
        entry = {"policy": {"specific": [1, 2]}, "labels": {"stable": 1, "canary": 2}}
        config["tf-serving:models"] = {f"m{index:04}": entry for index in range(count)}
        del config["tf-serving:services"]["multi_grpc"]

    local_stack.edit(root, change)


def _move(root: Path, version: int) -> None:
    def change(config: dict[str, Any]) -> None:
        models = config["tf-serving:models"]
        for name in sorted(models)[:: max(len(models) // _MOVED, 1)][:_MOVED]:
            models[name]["labels"]["stable"] = version

    local_stack.edit(root, change)
