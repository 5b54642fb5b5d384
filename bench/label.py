"""A label moves: from the write of the config file to the first answer by the new version, on a running local stack."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss

from bench import local_stack
from bench.measure import Result, median, python, run, spread
from bench.world import Cloud, checkout

POLL_SECONDS = (2, 10)
_MODEL, _LABEL = "modelB", "stable"
_KEY = "models/tf_serving/model_config.pbtxt"
_PAUSE_SECONDS = 0.02


def move(repeat: int) -> Result:
    """Moves label ``stable`` of ``modelB`` back and forth, for each poll interval."""
    result = Result(
        "label-move",
        f"label moved: config written to label served, medians of {repeat}",
        ("poll interval", "written to served", "of the interval", "whole `up`", "service restarts"),
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as path:
        root = checkout(Path(path))
        try:
            for poll in POLL_SECONDS:
                _poll_every(root, poll)
                run(python("-m", "local", "up"), root, local_stack.environment(root))
                _measure(result, root, poll, repeat)
        finally:
            run(python("-m", "local", "down"), root, local_stack.environment(root))
    result.notes.append("the server reads the file every poll interval: half of it is the expected wait")
    return result


def _measure(result: Result, root: Path, poll: int, repeat: int) -> None:
    service = local_stack.outputs(root)["services"]["multi_http"]
    before = _servers(root)
    moves: list[dict[str, float]] = []
    for turn in range(repeat):
        wanted = 2 if _label(root) == 1 else 1
        _set_label(root, wanted)
        moves.append(_move(root, service, wanted, turn))
    restarts = len(before - _servers(root))
    served = [each["served"] - each["written"] for each in moves]
    result.row(
        f"{poll} s",
        spread(served),
        f"{median(served) / poll * 100:.0f} %",
        spread([each["up"] for each in moves]),
        str(restarts),
    )
    result.data.setdefault("cases", []).append({"poll_seconds": poll, "moves": moves, "restarts": restarts})


def _move(root: Path, service: dict[str, Any], wanted: int, turn: int) -> dict[str, float]:
    """One ``up`` while two watchers look: one at the file in the bucket, one at what the label answers."""
    bucket = local_stack.config(root)["tf-serving:bucket"]["name"]
    client = Cloud(int(local_stack.config(root)["tf-serving:endpoint"].rpartition(":")[2])).client
    head = oss.HeadObjectRequest(bucket=bucket, key=_KEY)
    etag = client.head_object(head).etag
    times: dict[str, float] = {}
    done = threading.Event()

    def watch(name: str, happened: Any) -> None:
        while not done.is_set():
            if happened():
                times[name] = time.monotonic()
                return
            time.sleep(_PAUSE_SECONDS)

    watchers = [
        threading.Thread(target=watch, args=("written", lambda: client.head_object(head).etag != etag)),
        threading.Thread(target=watch, args=("served", lambda: _answering(service) == wanted)),
    ]
    for watcher in watchers:
        watcher.start()
    started = time.monotonic()
    try:
        run(python("-m", "sandbox", "up", "--stack", "local", "--yes"), root, local_stack.environment(root))
        times["up"] = time.monotonic() - started
        for watcher in watchers:
            watcher.join(60)
    finally:
        done.set()
    if "written" not in times or "served" not in times:
        raise RuntimeError(f"move {turn} of label {_LABEL} to version {wanted} was not seen")
    return times


def _answering(service: dict[str, Any]) -> int:
    """The version that a request by the label is answered by."""
    url = f"{service['url']}/v1/models/{_MODEL}/labels/{_LABEL}/metadata"
    request = urllib.request.Request(url, headers={"Authorization": service["token"]})  # noqa: S310 (loopback)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as response:
            return int(json.loads(response.read())["model_spec"]["version"])
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return 0


def _servers(root: Path) -> set[int]:
    """Processes of model servers that belong to the checkout."""
    found = set()
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                line = (directory / "cmdline").read_bytes().decode(errors="replace")
                place = os.readlink(directory / "cwd") + (directory / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "--rest_api_port" in line and str(root) in place + line:
                found.add(int(directory.name))
    if not found:
        raise RuntimeError("no model server is running")
    return found


def _label(root: Path) -> int:
    return int(local_stack.config(root)["tf-serving:models"][_MODEL]["labels"][_LABEL])


def _set_label(root: Path, version: int) -> None:
    local_stack.edit(root, lambda config: config["tf-serving:models"][_MODEL]["labels"].update({_LABEL: version}))


def _poll_every(root: Path, seconds: int) -> None:
    def change(config: dict[str, Any]) -> None:
        for service in config["tf-serving:services"].values():
            service["configPollSeconds"] = seconds

    local_stack.edit(root, change)
