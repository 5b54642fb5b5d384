"""The models of a stack without its services: what publishing adds to a preview. Tells how long its parts take."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

STARTED = time.monotonic()

import pulumi  # noqa: E402 (importing is one of the parts)

from components.model_repository import ModelRepository, RepositoryPlan, declared  # noqa: E402
from components.resources import TFServingProvider  # noqa: E402
from config import model_files, program, pulumi_config  # noqa: E402
from tfserving.contract import ProviderConfig  # noqa: E402
from tfserving.manifest import user_cache  # noqa: E402

IMPORTED = time.monotonic()
with program.plain_errors():
    with user_cache() as cache:
        settings = pulumi_config.load(Path(__file__).resolve().parent, pulumi.get_stack(), cache)
        CHECKED = time.monotonic()
        sources = model_files.sources(settings, cache)
    HASHED = time.monotonic()
    provider = TFServingProvider(
        "tfserving",
        ProviderConfig(
            region=settings.alicloud.region,
            protocol=settings.alicloud.protocol,
            oss_endpoint=settings.endpoints.oss,
            eas_endpoint=settings.endpoints.eas,
            access_key=settings.alicloud.access_key,
            secret_key=settings.alicloud.secret_key,
        ),
    )
    repository = ModelRepository(
        "models",
        RepositoryPlan(
            bucket=settings.bucket,
            root=settings.model_root,
            owner=f"{pulumi.get_project()}/{pulumi.get_stack()}",
            declaration=declared(settings, settings.alicloud.region),
            models=sources,
            rolled_out=frozenset(),
        ),
        pulumi.ResourceOptions(providers=[provider]),
    )
    pulumi.run(program.underway)


def tell(_: object) -> None:
    """Where the time went, for the benchmark that asked."""
    if file := os.environ.get("BENCH_PARTS"):
        ended = time.monotonic()
        parts = {
            "import": IMPORTED - STARTED,
            "read and check": CHECKED - IMPORTED,
            "digests": HASHED - CHECKED,
            "register": ended - HASHED,
            "model bytes read": cache.bytes_read,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        Path(file).write_text(json.dumps(parts), encoding="utf-8")


pulumi.Output.all(*(model.urn for model in repository.models.values())).apply(tell)
