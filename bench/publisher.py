"""One side of the publishing benchmarks, in a process of its own: ``python -m bench.publisher SIDE PORT SOURCE``.

``ours`` publishes every model below ``SOURCE`` as the provider does. ``naive`` sends the same files one after another
with PutObject of the same SDK, set up as its documentation shows. Both print seconds and memory as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alibabacloud_oss_v2 as oss

from bench.world import BUCKET, MODEL_ROOT, OWNER, REGION, sdk_client
from provider.clients import Clients, CloudSettings
from provider.published_model import PublishedModel
from provider.resource import Context
from tfserving import manifest, saved_model


def main(side: str, port: str, source: Path) -> None:
    """Publishes, and prints what it took."""
    endpoint = f"127.0.0.1:{port}"
    clients = Clients(CloudSettings(REGION, endpoint, endpoint, "HTTP", "sandbox", "sandbox"), threading.Event())
    client = sdk_client(int(port)) if side == "naive" else clients.oss
    client.is_bucket_exist(BUCKET)  # connected, credentials and modules loaded: an idle process
    idle = _peak()
    models = sorted(source.iterdir())
    started = time.monotonic()
    if side == "naive":
        for model in models:
            for path in manifest.list_files(model):
                request = oss.PutObjectRequest(bucket=BUCKET, key=f"{MODEL_ROOT}{model.name}/{path}")
                client.put_object_from_file(request, str(model / path))
    else:
        _ours(clients, models)
    print(json.dumps({"seconds": time.monotonic() - started, "idle": idle, "peak": _peak()}))


def _ours(clients: Clients, models: Iterable[Path]) -> None:
    def publish(model: Path) -> None:
        with manifest.user_cache() as cache:
            digests = {
                str(version.number): manifest.build(version.path, cache).digest
                for version in saved_model.versions(model)
            }
        inputs = {
            "name": model.name,
            "bucket": BUCKET,
            "prefix": f"{MODEL_ROOT}{model.name}/",
            "owner": OWNER,
            "source": str(model),
            "versions": digests,
        }
        context = Context("", Path("/"), clients, lambda *_, **__: None, threading.Event())
        PublishedModel().create(context, inputs)

    with ThreadPoolExecutor(8) as engine:  # resources that do not depend on each other, as an engine creates them
        list(engine.map(publish, models))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
