"""When jobs of a cron scaler are due, and what they do to an autoscaler's bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox.cloud.eas import scalers
from sandbox.cloud.errors import ApiError


def names(body: dict[str, Any], since: datetime, seconds: float) -> list[str]:
    return [job["Name"] for job in scalers.due(scalers.cronscaler(body), since, since + timedelta(seconds=seconds))]


def job(name: str, schedule: str, size: int = 1, **more: str) -> dict[str, Any]:
    return {"Name": name, "Schedule": schedule, "TargetSize": size, **more}


def test_jobs_come_once_in_order_and_in_their_time_zone() -> None:
    body = {
        "ScaleJobs": [job("tokyo", "0 30 9 * * *", TimeZone="Asia/Tokyo"), job("utc", "30 29 0 * * *", TimeZone="UTC")]
    }
    begin = datetime(2026, 11, 30, 0, 29, 0, 300_000, tzinfo=UTC)
    assert names(body, begin, 120) == ["utc", "tokyo"]
    assert names(body, begin + timedelta(seconds=30), 120) == ["tokyo"]
    looks = [begin + timedelta(seconds=5 * n) for n in range(24)]
    assert [name for look in looks for name in names(body, look, 5)] == ["utc", "tokyo"]


def test_a_job_without_a_zone_is_of_shanghai_and_does_not_run_on_excluded_days() -> None:
    body = {"ScaleJobs": [job("a", "0 0 8 * * *")]}
    midnight = datetime(2026, 10, 1, 0, 0, tzinfo=UTC) - timedelta(seconds=1)
    assert names(body, midnight, 2) == ["a"]
    assert names({**body, "ExcludeDates": ["* * * 1 10 *"]}, midnight, 2) == []
    assert names({**body, "ExcludeDates": ["* * * 2 10 *"]}, midnight, 2) == ["a"]


def test_an_unknown_zone_and_a_double_name_are_refused() -> None:
    for jobs in (
        [job("a", "0 0 8 * * *", TimeZone="Mars/Olympus")],
        [job("a", "0 0 8 * * *"), job("a", "0 0 9 * * *")],
    ):
        with pytest.raises(ApiError):
            scalers.cronscaler({"ScaleJobs": jobs})


@pytest.mark.parametrize(
    ("bounds", "size", "current", "moved"),
    [
        ((1, 10), 5, 5, (1, 10)),
        ((1, 10), 5, 4, (5, 10)),
        ((1, 10), 11, 5, (11, 11)),
        ((5, 10), 4, 5, (4, 10)),
        ((1, 10), 5, 6, (1, 10)),
    ],
)
def test_bounds_follow_as_the_controller_of_the_cluster_moves_them(
    bounds: tuple[int, int], size: int, current: int, moved: tuple[int, int]
) -> None:
    found = scalers.with_size({"min": bounds[0], "max": bounds[1]}, size, current)
    assert found == {"min": moved[0], "max": moved[1]}
