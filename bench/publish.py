"""Publishing against the naive way, and publishing again after a kill."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import ROOT, Line, Result, median, python, run, spread
from bench.world import BUCKET, MODEL_ROOT, Cloud, cloud, names, own_cache, saved_model

VERSIONS = 30
MODELS = 10


@dataclass(frozen=True)
class Way:
    """What lies between the client and OSS.

    Attributes:
        name: of the result.
        text: in words.
        delay: seconds that bytes take one way.
        rate: bytes a second that one connection carries; 0 is as fast as it goes.
        share: how much of the whole is sent, so that a slow line ends before the day does.
    """

    name: str
    text: str
    delay: float = 0.0
    rate: float = 0.0
    share: float = 1.0


WAYS = (
    Way("publish", "loopback"),
    Way("publish-region", "a line as in one region: 1 ms one way, 100 MB/s per connection", 0.001, 100e6),
    Way("publish-far", "a poor line: 20 ms one way, 5 MB/s per connection", 0.02, 5e6, 0.1),
)


def against_naive(repeat: int, gigabytes: float) -> list[Result]:
    """30 versions in 120 files against sequential single PUTs, on loopback and over two kinds of line.

    Also against ``ossutil``, where it is on PATH, and against ``cp`` to another directory, which knows no line.
    """
    return [_compare(repeat, gigabytes * way.share, way) for way in WAYS]


def _compare(repeat: int, gigabytes: float, way: Way) -> Result:
    result = Result(
        way.name,
        f"publish {gigabytes:.1f} GB in {VERSIONS} versions, {VERSIONS * 4} files; {way.text}; medians of {repeat}",
        ("way", "time", "MB/s", "faster", "peak above idle"),
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        directory = Path(path)
        source = _models(directory, int(gigabytes * 1e9))
        found: dict[str, list[dict[str, Any]]] = {"naive": [], "ours": [], "ours, hashes known": []}
        others = [*(["ossutil"] if shutil.which("ossutil") else []), *(["cp"] if not way.rate else [])]
        commands: dict[str, list[float]] = {name: [] for name in others}
        with cloud(directory) as sandbox, Line(sandbox.port, delay=way.delay, rate=way.rate) as line:
            port = line.port if way.rate else sandbox.port
            for turn in range(repeat):
                for side, measured in found.items():
                    # A first publication has to hash the files as well; one after a preview has not.
                    cache = own_cache(directory / (f"cache-{turn}" if side == "ours" else "cache-known"))
                    if side == "ours, hashes known" and not turn:
                        _publish(sandbox.port, source, "ours", cache)
                        sandbox.empty(MODEL_ROOT)
                    measured.append(_publish(port, source, side.split(",")[0], cache))
                    _check(sandbox, side)
                    sandbox.empty(MODEL_ROOT)
                for name, taken in commands.items():
                    taken.append(_command(name, port, source, directory / f"{name}-{turn}"))
                    _check(sandbox, name)
                    sandbox.empty(MODEL_ROOT)
        seconds = {side: [each["seconds"] for each in measured] for side, measured in found.items()}
        for side, measured in found.items():
            faster = median(seconds["naive"]) / median(seconds[side])
            rate_seen = gigabytes * 1000 / median(seconds[side])
            memory = median([each["peak"] - each["idle"] for each in measured]) / 1e6
            result.row(side, spread(seconds[side]), f"{rate_seen:.0f}", f"{faster:.2f}x", f"{memory:.0f} MB")
        for name, taken in commands.items():
            rate_seen, faster = gigabytes * 1000 / median(taken), median(seconds["naive"]) / median(taken)
            result.row(name, spread(taken), f"{rate_seen:.0f}", f"{faster:.2f}x", "")
        result.data = {"gigabytes": gigabytes, "where": way.text, "measurements": found, "commands": commands}
    return result


def _command(name: str, port: int, source: Path, room: Path) -> float:
    """Seconds of a whole command with its defaults.

    Args:
        name: ``ossutil`` or ``cp``.
        port: where OSS answers.
        source: what it copies.
        room: a directory of its own, removed afterwards: where ``cp`` copies to, and for what ``ossutil`` remembers.
    """
    room.mkdir()
    command = ["cp", "-r", str(source), str(room)]
    if name == "ossutil":
        places = ["--checkpoint-dir", str(room / "parts"), "--output-dir", str(room / "reports")]
        who = ["--access-key-id", "sandbox", "--access-key-secret", "sandbox"]
        target = f"oss://{BUCKET}/{MODEL_ROOT}"
        command = ["ossutil", "cp", "-r", "-f", f"{source}/", target, "-e", f"http://127.0.0.1:{port}", *who, *places]
    taken = run(command, ROOT).seconds
    shutil.rmtree(room)
    return taken


def _publish(port: int, source: Path, way: str, cache: dict[str, str]) -> dict[str, Any]:
    command = python("-m", "bench.publisher", way, str(port), str(source))
    found: dict[str, Any] = json.loads(run(command, ROOT, cache).text.splitlines()[-1])
    return found


def _models(directory: Path, size: int) -> Path:
    """Models of real bytes: each version its own, so that nothing is the same twice."""
    source = directory / "models"
    block = random.Random(1).randbytes(1 << 20)  # noqa: S311 (content of test files)
    per_version = size // VERSIONS
    for model, versions in names(VERSIONS, MODELS).items():
        for version in versions:
            assets = source / model / str(version) / "assets"
            assets.mkdir(parents=True)
            (assets.parent / "saved_model.pb").write_bytes(saved_model())
            (assets / "words.txt").write_bytes(b"words")
            for shard in range(2):
                with open(assets / f"data-{shard}.bin", "wb") as file:
                    file.write(f"{model}/{version}/{shard}".encode())
                    while (left := per_version // 2 - file.tell()) > 0:
                        file.write(block[:left])
    return source


def _check(sandbox: Cloud, way: str) -> None:
    import alibabacloud_oss_v2 as oss

    request = oss.ListObjectsV2Request(bucket=BUCKET, prefix=MODEL_ROOT, max_keys=1000)
    found = sandbox.client.list_objects_v2(request).contents or ()
    keys = [item.key for item in found if not str(item.key).endswith("/")]  # ossutil makes objects of directories, too
    # A manifest each is what only ours has; cp leaves nothing here.
    expected = {"naive": VERSIONS * 4, "ossutil": VERSIONS * 4, "cp": 0}.get(way, VERSIONS * 5)
    if len(keys) != expected:
        raise RuntimeError(f"{way}: {len(keys)} objects instead of {expected}")


def resume(repeat: int, gigabytes: float) -> Result:
    """``kill -9`` when half is sent; how much the second run still sends."""
    result = Result(
        "resume",
        f"publish {gigabytes:.1f} GB in {VERSIONS} versions, kill -9 at half, publish again; medians of {repeat}",
        ("run", "sent", "of all bytes"),
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        directory = Path(path)
        source = _models(directory, int(gigabytes * 1e9))
        size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
        shares: dict[str, list[float]] = {"first, killed": [], "second": []}
        with cloud(directory) as sandbox:
            for turn in range(repeat):
                with Line(sandbox.port) as line:
                    _publish_and_kill(line, source, own_cache(directory / f"first-{turn}"), size / 2)
                    shares["first, killed"].append(line.sent / size)
                with Line(sandbox.port) as line:
                    # Another cache: as on another machine, nothing but what OSS holds tells where to go on.
                    _publish(line.port, source, "ours", own_cache(directory / f"second-{turn}"))
                    shares["second"].append(line.sent / size)
                _check(sandbox, "ours")
                sandbox.empty(MODEL_ROOT)
        for name, found in shares.items():
            result.row(name, f"{median(found) * size / 1e9:.2f} GB", f"{median(found) * 100:.1f} %")
        result.data = {"gigabytes": gigabytes, "share_sent": shares}
        result.notes.append("counted on the wire, headers included; the second run has no cache of the first one")
    return result


def _publish_and_kill(line: Line, source: Path, cache: dict[str, str], limit: float) -> None:
    process = subprocess.Popen(
        python("-m", "bench.publisher", "ours", str(line.port), str(source)),
        cwd=ROOT,
        env={**os.environ, **cache},
        stdout=subprocess.DEVNULL,
    )
    while line.sent < limit:
        if process.poll() is not None:
            raise RuntimeError("the first run ended before half was sent")
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
