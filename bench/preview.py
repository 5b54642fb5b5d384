"""No-op previews: many versions against an empty program, and growth with the number of models."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import AccessWatch, Result, environment, median, spread
from bench.world import (
    DATA_FILE,
    Cloud,
    Project,
    cloud,
    names,
    own_cache,
    publish_beforehand,
    stack_config,
    write_version,
)

FILE_BYTES = 100_000_000


def no_op(repeat: int, sizes: Sequence[int], engines: Sequence[str]) -> Result:
    """Preview of an up-to-date stack with N versions, three to a model, against an empty program."""
    result = Result(
        "noop-preview",
        f"no-op preview against an empty program, medians of {repeat}; one file of 100 MB in each version",
        ("engine", "versions", "models", "empty program", "with models", "ratio", "CPU ratio", "model files read"),
    )
    for versions in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as path, environment(**own_cache(Path(path))):
            directory = Path(path)
            wanted = names(versions, max(versions // 3, 1))
            with cloud(directory) as sandbox:
                models = _prepare(directory, sandbox, wanted)
                watch = AccessWatch([found for found in models.rglob("*") if found.is_file()])
                watched = AccessWatch.works(directory)
                for engine in engines:
                    config = stack_config(sandbox.port, models, wanted)
                    project = Project(directory / f"{engine}-models", "models.py", config)
                    empty = Project(directory / f"{engine}-empty", "empty.py", config)
                    for each in (empty, project):
                        each.up(engine)
                        each.engine(engine, "preview", "--expect-no-changes")  # compiles, fills caches
                    times: dict[str, list[float]] = {"empty": [], "models": []}
                    cpu: dict[str, list[float]] = {"empty": [], "models": []}
                    read: list[int] = []
                    watch.arm()
                    for _ in range(repeat):
                        first = empty.engine(engine, "preview", "--expect-no-changes")
                        second = project.engine(engine, "preview", "--expect-no-changes")
                        times["empty"].append(first.seconds)
                        times["models"].append(second.seconds)
                        cpu["empty"].append(first.cpu)
                        cpu["models"].append(second.cpu)
                        read.append(second.read - first.read)
                    touched = watch.read()
                    ratio = median(times["models"]) / median(times["empty"])
                    cpu_ratio = median(cpu["models"]) / median(cpu["empty"])
                    shown = f"{len(touched)} of {len(watch.files)}" if watched else "not measured"
                    result.row(
                        engine,
                        str(versions),
                        str(len(wanted)),
                        spread(times["empty"]),
                        spread(times["models"]),
                        f"{ratio:.2f}",
                        f"{cpu_ratio:.2f}",
                        shown,
                    )
                    result.data.setdefault("cases", []).append(
                        {
                            "engine": engine,
                            "versions": versions,
                            "models": len(wanted),
                            "seconds": times,
                            "cpu_seconds": cpu,
                            "ratio": ratio,
                            "cpu_ratio": cpu_ratio,
                            "model_files_read": len(touched) if watched else None,
                            "model_bytes": versions * FILE_BYTES,
                            "bytes_read_beyond_empty": read,
                        }
                    )
    if "pulumi" not in engines:
        result.notes.append("measured without the Pulumi CLI")
    return result


def growth(repeat: int, sizes: Sequence[int], engines: Sequence[str]) -> Result:
    """Time and memory of a no-op preview as the number of models grows, and where the time goes."""
    result = Result(
        "growth",
        f"no-op preview by number of models, one version each, medians of {repeat}",
        ("engine", "models", "preview", "ms per model", "import", "check", "digests", "register", "peak MB"),
    )
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-") as path, environment(**own_cache(Path(path))):
            directory = Path(path)
            wanted = names(count, count)
            with cloud(directory) as sandbox:
                models = _prepare(directory, sandbox, wanted)
                for engine in engines:
                    config = stack_config(sandbox.port, models, wanted)
                    project = Project(directory / engine, "models.py", config)
                    project.up(engine)
                    _measure_growth(result, engine, count, project, repeat)
    return result


def _measure_growth(result: Result, engine: str, count: int, project: Project, repeat: int) -> None:
    file = project.root / "parts.json"
    project.engine(engine, "preview", "--expect-no-changes")
    seconds: list[float] = []
    parts: list[dict[str, Any]] = []
    peaks: list[Mapping[str, int]] = []
    for _ in range(repeat):
        env = {"BENCH_PARTS": str(file)}
        seconds.append(project.engine(engine, "preview", "--expect-no-changes", env=env).seconds)
        parts.append(json.loads(file.read_text(encoding="utf-8")))
        peaks.append(project.engine(engine, "preview", "--expect-no-changes", sample=True).peak)
    peak = {kind: median([found.get(kind, 0) for found in peaks]) for kind in ("program", "provider", "engine")}

    def part(name: str) -> float:
        return median([found[name] for found in parts])

    result.row(
        engine,
        str(count),
        spread(seconds),
        f"{median(seconds) / count * 1000:.1f}",
        *(f"{part(name):.2f} s" for name in ("import", "read and check", "digests", "register")),
        " ".join(f"{kind} {size / 1e6:.0f}" for kind, size in peak.items()),
    )
    result.data.setdefault("cases", []).append(
        {"engine": engine, "models": count, "seconds": seconds, "parts": parts, "peak_bytes": peaks}
    )


def _prepare(directory: Path, sandbox: Cloud, wanted: Mapping[str, list[int]]) -> Path:
    """Model files and what is published of them."""
    models = directory / "models"
    for model, versions in wanted.items():
        for version in versions:
            write_version(models / model / str(version), FILE_BYTES)
    publish_beforehand(sandbox, models, wanted, FILE_BYTES)
    assert (models / next(iter(wanted)) / "1" / DATA_FILE).stat().st_size == FILE_BYTES  # noqa: S101
    return models
