"""``python -m bench [NAME ...]``: runs the benchmarks, prints a table of each and writes its numbers as JSON.

Every comparison runs both sides in the same run, in turns. The numbers are medians; other work on the machine makes
them larger, ratios less so. The Pulumi CLI is measured where it is on PATH.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import label, local_up, preview, publish, remote, scale, traffic, world
from bench.measure import ROOT, Result

BENCHMARKS: dict[str, Callable[[argparse.Namespace], list[Result]]] = {
    "preview": lambda options: [preview.no_op(options.repeat, options.sizes or (30, 300, 1000), options.engines)],
    "remote": lambda options: [remote.remote(options.repeat, options.sizes or (30,), options.engines)],
    "publish": lambda options: publish.against_naive(options.repeat, options.gigabytes),
    "resume": lambda options: [publish.resume(options.repeat, options.gigabytes)],
    "label": lambda options: [label.move(options.repeat)],
    "scale": lambda options: [scale.moves(options.repeat, options.sizes or (3, 300))],
    "traffic": lambda options: [traffic.shares(options.requests), traffic.changes()],
    "up": lambda options: [local_up.warm(options.repeat)],
    "growth": lambda options: [preview.growth(options.repeat, options.sizes or (10, 100, 1000), options.engines)],
}


def main(argv: Sequence[str]) -> int:
    """Runs the benchmarks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="measurements of each side (default: 3)")
    parser.add_argument("--requests", type=int, default=10_000, help="requests of each protocol that are counted")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of what is published (default: 3)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[], help="versions or models, instead of the usual ones"
    )
    parser.add_argument("--engines", nargs="+", choices=world.engines(), default=world.engines(), help="which engines")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="where the JSON files go")
    options = parser.parse_args(list(argv))
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # with it, every process compiles every module again
    for name in options.names or BENCHMARKS:
        started = time.monotonic()
        for result in BENCHMARKS[name](options):
            file = result.write(options.out)
            print(f"\n{result.table()}\n   {file}, {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
