"""The no-op preview of a stack whose component the plugin makes, against one that the program makes itself.

Both stacks are deployed, each in a cloud of its own, with the same models and one service that serves all of them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.measure import ROOT, Result, environment, median, python, run, spread
from bench.world import Cloud, Project, cloud, names, own_cache, stack_config

_MODEL = "modelB"
"""The example model of which every version is a copy."""


def remote(repeat: int, sizes: Sequence[int], engines: Sequence[str]) -> Result:
    """No-op preview of ServingStack with N versions, three to a model: made by the plugin, and by the program."""
    result = Result(
        "remote-component",
        f"no-op preview of ServingStack made by the plugin, against the program itself, medians of {repeat}",
        ("engine", "versions", "in the program", "by the plugin", "ratio", "CPU ratio"),
    )
    for versions in sizes:
        wanted = names(versions, max(versions // 3, 1))
        with tempfile.TemporaryDirectory(prefix="bench-") as path, environment(**own_cache(Path(path))):
            models = _models(Path(path), wanted)
            for engine in engines:
                with _deployed(Path(path) / engine, engine, models, wanted) as (own, plugin):
                    runs = [(_preview(own, engine), _preview(plugin, engine)) for _ in range(repeat)]
                times = [[each.seconds for each in side] for side in zip(*runs, strict=True)]
                cpu = [median([each.cpu for each in side]) for side in zip(*runs, strict=True)]
                ratio = median(times[1]) / median(times[0])
                shown = (spread(times[0]), spread(times[1]), f"{ratio:.2f}", f"{cpu[1] / cpu[0]:.2f}")
                result.row(engine, str(versions), *shown)
                case = {"engine": engine, "versions": versions, "seconds": times, "ratio": ratio, "cpu_seconds": cpu}
                result.data.setdefault("cases", []).append(case)
    return result


def _preview(project: Project, engine: str) -> Any:
    return project.engine(engine, "preview", "--expect-no-changes")


def _models(directory: Path, wanted: Mapping[str, list[int]]) -> Path:
    """Models that a server can load."""
    examples, models = directory / "examples", directory / "models"
    run(python("-m", "sandbox", "models", "--out", str(examples), "--data", "generated"), ROOT)
    for model, numbers in wanted.items():
        for number in numbers:
            shutil.copytree(examples / _MODEL / "1", models / model / str(number))
    return models


@contextmanager
def _deployed(
    directory: Path, engine: str, models: Path, wanted: Mapping[str, list[int]]
) -> Iterator[tuple[Project, Project]]:
    """The stack made by its program, and made by the plugin; both are up, and previewed once, which fills caches."""
    with ExitStack() as running:
        projects = []
        for kind, program in (("own", "stack.py"), ("plugin", "remote_stack.py")):
            here = directory / kind
            here.mkdir(parents=True)
            sandbox: Cloud = running.enter_context(cloud(here))
            config = stack_config(sandbox.port, models, wanted)
            whole = config if kind == "own" else _of_provider(config, sandbox.port)
            project = Project(here / "project", program, whole)
            (project.root / "options.json").write_text(json.dumps(_options(config)), encoding="utf-8")
            project.up(engine)
            running.callback(project.engine, engine, "destroy", "--yes")
            _preview(project, engine)
            projects.append(project)
        yield projects[0], projects[1]


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """The stack config as arguments of the component."""
    found = {key.removeprefix("tf-serving:"): value for key, value in config.items() if key.startswith("tf-serving:")}
    return {**found, "alicloud": {key.removeprefix("alicloud:"): config[key] for key in config if "alicloud:" in key}}


def _of_provider(config: dict[str, Any], port: int) -> dict[str, Any]:
    """With config of the provider that makes the component, as a program of somebody's own has it."""
    endpoint = f"127.0.0.1:{port}"
    return {
        **config,
        "tfserving:region": config["alicloud:region"],
        "tfserving:protocol": "HTTP",
        "tfserving:ossEndpoint": endpoint,
        "tfserving:easEndpoint": endpoint,
        "tfserving:accessKey": "sandbox",
        "tfserving:secretKey": "sandbox",
    }
