"""The bodies of the autoscaler and cron scaler calls.

Source: the EAS OpenAPI 2021-07-01. The sandbox scales by ``qps`` only, and it records cron jobs without running them.
"""

from __future__ import annotations

from typing import Any

from sandbox.cloud.eas.records import ServiceRecord
from sandbox.cloud.eas.service_json import invalid
from sandbox.cloud.errors import ApiError

MOST_REPLICAS = 1000


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
        if len(str(job.get("Schedule", "")).split()) != 6:
            raise invalid(f"ScaleJobs[{index}].Schedule is not a cron expression of six fields.")
        if job["Name"] in names:
            raise invalid(f"ScaleJobs[{index}].Name {job['Name']!r} is there twice.")
        names.add(job["Name"])
    return {"ScaleJobs": jobs, "ExcludeDates": body.get("ExcludeDates") or []}


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
