"""What holds for all tests: those that take longest begin first, no property fails for being slow, and what
``make test`` runs once more."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# On a busy machine the time of one example says nothing.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

TESTS = Path(__file__).parent

LONGEST_FIRST = (
    "e2e/test_rollouts.py",
    "e2e/test_bucket_versions.py",
    "e2e/test_pins.py",
    "e2e/test_ack_local.py",
    "e2e/test_local_stack.py",
    "e2e/test_deployments.py",
    "provider/test_services.py",
    "docs/test_commands.py",
    "docs/test_tutorial.py",
    "e2e/test_version_numbers.py",
    "e2e/test_operations.py",
    "kube/test_pods.py",
    "e2e/test_buckets.py",
    "kube/test_serving_objects.py",
    "live/test_pulumi_cli.py",
    "live/test_replacement.py",
    "live/test_monitoring.py",
    "engine/test_steps.py",
    "cloud/test_cloud_cli.py",
    "engine/test_alicloud_bucket.py",
    "engine/test_alicloud_cluster.py",
    "engine/test_runs.py",
    "model_server/test_lifecycle.py",
    "policy/test_policies.py",
    "e2e/test_previews.py",
    "provider/test_publishing.py",
    "model_server/test_examples.py",
    "cloud/eas/test_eas_real_server.py",
    "cloud/console/test_console_page.py",
    "cloud/console/test_console_groups.py",
    "kube/test_console.py",
    "cloud/console/test_console_many.py",
    "kube/test_cluster.py",
    "kube/test_parts.py",
    "ops/test_doctor.py",
    "ops/test_workflows.py",
    "unit/test_rollout.py",
    "cloud/eas/test_eas_rollouts.py",
)
"""Files of about half a minute and more, by the durations that `make test` prints; the others follow as they are.

``make test`` hands whole files to its workers in this order. pytest-xdist's own order is by the number of tests in a
file: the end-to-end tests, which are few and long, would come last."""

_PLACE = {TESTS / name: place for place, name in enumerate(LONGEST_FIRST)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rerun-slow", action="store_true", help="run a slow test that fails once more, and tell so (CONTRIBUTING.md)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _PLACE.get(item.path, len(_PLACE)))
    if config.getoption("--rerun-slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.flaky(reruns=1))
