"""The bodies of the autoscaler and cron scaler calls.

Source: the EAS OpenAPI 2021-07-01. The sandbox scales by ``qps`` only; jobs of the
clock run within a few seconds after their time.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from sandbox.cloud.eas.records import ServiceRecord
from sandbox.cloud.eas.service_json import invalid
from sandbox.cloud.errors import ApiError
from tfserving.schedule import Cron, CronError

MOST_REPLICAS = 1000
DEFAULT_ZONE = "Asia/Shanghai"
"""Of jobs that name none. What EAS takes is not documented."""


def autoscaler(body: Any) -> dict[str, Any]:
    """Checks the body of CreateServiceAutoScaler or UpdateServiceAutoScaler.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    least, most = body.get("min"), body.get("max")
    for name, value in (("min", least), ("max", most)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REPLICAS:
            raise invalid(f"{name} {value!r} is not a whole number of 0 to {MOST_REPLICAS}.")
    if most < max(least, 1):
        raise invalid(f"max {most} is less than min {least}, or less than 1.")
    strategies = body.get("scaleStrategies")
    if not isinstance(strategies, list) or not strategies:
        raise invalid("scaleStrategies must be a non-empty list.")
    for index, strategy in enumerate(strategies):
        metric = strategy.get("metricName") if isinstance(strategy, dict) else None
        threshold = strategy.get("threshold") if isinstance(strategy, dict) else None
        if not isinstance(metric, str) or not metric:
            raise invalid(f"scaleStrategies[{index}].metricName is required.")
        if not isinstance(threshold, int | float) or isinstance(threshold, bool) or threshold <= 0:
            raise invalid(f"scaleStrategies[{index}].threshold {threshold!r} is not a positive number.")
    behavior = body.get("behavior") or {}
    if not isinstance(behavior, dict):
        raise invalid("behavior must be an object.")
    return {"min": least, "max": most, "scaleStrategies": strategies, "behavior": behavior}


def describe_autoscaler(record: ServiceRecord) -> dict[str, Any]:
    """The answer of DescribeServiceAutoScaler.

    Raises:
        ApiError: 404, the service has none.
    """
    scaler = record.autoscaler
    if scaler is None:
        message = f"The autoscaler of service [{record.name}] is not found."
        raise ApiError(404, "InvalidAutoScaler.NotFound", message)
    return {
        "ServiceName": record.name,
        "MinReplica": scaler["min"],
        "MaxReplica": scaler["max"],
        "Behavior": scaler["behavior"],
        "ScaleStrategies": scaler["scaleStrategies"],
        "CurrentMetrics": [],
    }


def cronscaler(body: Any) -> dict[str, Any]:
    """Checks the body of CreateServiceCronScaler or UpdateServiceCronScaler.

    Raises:
        ApiError: 400 ``InvalidParameter``.
    """
    jobs = body.get("ScaleJobs")
    if not isinstance(jobs, list) or not jobs:
        raise invalid("ScaleJobs must be a non-empty list.")
    names = set()
    for index, job in enumerate(jobs):
        if not isinstance(job, dict) or not job.get("Name") or not isinstance(job.get("TargetSize"), int):
            raise invalid(f"ScaleJobs[{index}] needs Name, Schedule and TargetSize.")
        _valid(f"ScaleJobs[{index}].Schedule", job.get("Schedule"))
        if not 0 <= job["TargetSize"] <= MOST_REPLICAS:
            raise invalid(f"ScaleJobs[{index}].TargetSize {job['TargetSize']} is not a number of 0 to {MOST_REPLICAS}.")
        try:
            zoneinfo.ZoneInfo(str(job.get("TimeZone") or DEFAULT_ZONE))
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
            raise invalid(f"ScaleJobs[{index}].TimeZone {job['TimeZone']!r} is not known.") from error
        if job["Name"] in names:
            raise invalid(f"ScaleJobs[{index}].Name {job['Name']!r} is there twice.")
        names.add(job["Name"])
    days = body.get("ExcludeDates") or []
    for index, day in enumerate(days):
        _valid(f"ExcludeDates[{index}]", day)
    return {"ScaleJobs": jobs, "ExcludeDates": days}


def _valid(name: str, expression: Any) -> None:
    try:
        Cron.parse(str(expression or ""))
    except CronError as error:
        raise invalid(f"{name} is not a cron expression of six fields: {error}.") from error


def due(scaler: Mapping[str, Any], since: datetime, until: datetime) -> Iterator[Mapping[str, Any]]:
    """The jobs of a cron scaler whose time has come, in the order of their times.

    Args:
        scaler: as :func:`cronscaler` returns it.
        since: not this second, but those after it; aware.
        until: this second, too.
    """
    excluded = [Cron.parse(day) for day in scaler["ExcludeDates"]]
    moment = since.replace(microsecond=0)
    while (moment := moment + timedelta(seconds=1)) <= until:
        for job in scaler["ScaleJobs"]:
            there = moment.astimezone(zoneinfo.ZoneInfo(job.get("TimeZone") or DEFAULT_ZONE))
            if Cron.parse(job["Schedule"]).matches(there) and not any(_is_day(day, there) for day in excluded):
                yield job


def _is_day(cron: Cron, when: datetime) -> bool:
    parts = (when.day, when.month, when.isoweekday() % 7)
    return all(part in field for part, field in zip(parts, cron.fields[3:], strict=True))


def with_size(scaler: Mapping[str, Any] | None, size: int, current: int) -> dict[str, Any] | None:
    """An autoscaler after a job of the clock: its bounds follow (page "Scheduled auto scaling").

    In which way is not documented. This is what ``ScaleHPA`` of kubernetes-cronhpa-controller does.
    """
    if scaler is None:
        return None
    least, most = scaler["min"], max(scaler["max"], size)
    if size < least or current < size:
        least = size
    return {**scaler, "min": least, "max": most}


def describe_cronscaler(record: ServiceRecord) -> dict[str, Any]:
    """The answer of DescribeServiceCronScaler.

    Raises:
        ApiError: 404, the service has none.
    """
    if record.cronscaler is None:
        message = f"The cron scaler of service [{record.name}] is not found."
        raise ApiError(404, "InvalidCronScaler.NotFound", message)
    jobs = [{**job, "State": "Submitted", "Message": ""} for job in record.cronscaler["ScaleJobs"]]
    return {"ServiceName": record.name, "ExcludeDates": record.cronscaler["ExcludeDates"], "ScaleJobs": jobs}
