"""CloudMonitor 2019-01-01 (RPC): as much of it as alarm rules need. They are kept, and nothing is measured.

Sources: the API reference (PutResourceMetricRule, DescribeMetricRuleList and their kin) and
``terraform-provider-alicloud``, ``alicloud_cms_alarm`` (which fields it sends and reads, and that a rule that is gone
is an empty list).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.cloud.errors import ApiError, request_id
from sandbox.cloud.openapi import openapi_call

VERSION = "2019-01-01"
LEVELS = ("Critical", "Warn", "Info")
_PERIOD = 60
_FIELDS = ("Statistics", "ComparisonOperator", "Threshold", "Times")
_OPERATORS = frozenset(
    {
        "GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold", "LessThanOrEqualToThreshold",
        "NotEqualToThreshold", "EqualToThreshold", "GreaterThanYesterday", "LessThanYesterday", "GreaterThanLastWeek",
        "LessThanLastWeek", "GreaterThanLastPeriod", "LessThanLastPeriod",
    }
)  # fmt: skip

Record = dict[str, Any]


class AlarmProduct:
    """Alarm rules.

    Args:
        path: the file that they are kept in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rules: dict[str, Record] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._calls: dict[str, Callable[[Mapping[str, str]], Record]] = {
            "PutResourceMetricRule": self._put,
            "DescribeMetricRuleList": self._describe,
            "EnableMetricRules": lambda given: self._switch(given, True),
            "DisableMetricRules": lambda given: self._switch(given, False),
            "DeleteMetricRules": self._delete,
            "DescribeMetricRuleTargets": self._targets,
        }

    def matches(self, request: web.Request) -> bool:
        """Calls of this product that are offered; others are refused by name further on."""
        call = openapi_call(request)
        return call is not None and call.version == VERSION and call.action in self._calls

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Raises:
        ApiError: the call is refused.
        """
        call = openapi_call(request)
        form = await request.post()
        parameters = {**{key: str(value) for key, value in form.items()}, **request.query}
        answer = self._calls[call.action if call else ""](parameters)
        return web.json_response({"Code": "200", "Success": True, **answer, "RequestId": request_id()})

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    # ---- calls -----------------------------------------------------------------------------------------------------

    def _put(self, given: Mapping[str, str]) -> Record:
        for name in ("RuleId", "RuleName", "Namespace", "MetricName", "ContactGroups", "Resources"):
            if not given.get(name):
                raise _invalid(f"{name} is required.")
        period, silence = int(given.get("Period") or 300), int(given.get("SilenceTime") or 86400)
        if period % _PERIOD or period <= 0:
            raise _invalid(f"Period {period} is not a multiple of {_PERIOD}.")
        resources = json.loads(given["Resources"])
        if not isinstance(resources, list) or not all(isinstance(each, dict) and each for each in resources):
            raise _invalid("Resources is not a list of dimensions.")
        escalations = {level: _escalation(level, given) for level in LEVELS}
        if not any(escalations.values()):
            raise _invalid("A rule needs a threshold of at least one level.")
        before = self._rules.get(given["RuleId"], {})
        rule = {
            **{name: given[name] for name in ("RuleId", "RuleName", "Namespace", "MetricName", "ContactGroups")},
            "Resources": given["Resources"],
            "Period": str(period),
            "SilenceTime": silence,
            "EffectiveInterval": given.get("EffectiveInterval") or "00:00-23:59",
            "Webhook": given.get("Webhook", ""),
            # An empty level would come back from the provider as one whose every value is `<nil>`.
            "Escalations": {level: each for level, each in escalations.items() if each},
            "EnableState": before.get("EnableState", True),
            "AlertState": "INSUFFICIENT_DATA",
            "Labels": {"Labels": _labels(given)},
        }
        self._rules[given["RuleId"]] = rule
        self._save()
        return {}

    def _describe(self, given: Mapping[str, str]) -> Record:
        wanted = [each for each in given.get("RuleIds", "").split(",") if each]
        found = [rule for id_, rule in self._rules.items() if not wanted or id_ in wanted]
        return {"Alarms": {"Alarm": found}, "Total": str(len(found))}

    def _switch(self, given: Mapping[str, str], on: bool) -> Record:
        for id_ in _listed(given, "RuleId"):
            if id_ not in self._rules:
                raise ApiError(404, "ResourceNotFound", f"The rule {id_} does not exist.")
            self._rules[id_]["EnableState"] = on
        self._save()
        return {}

    def _delete(self, given: Mapping[str, str]) -> Record:
        for id_ in _listed(given, "Id"):
            self._rules.pop(id_, None)
        self._save()
        return {}

    def _targets(self, given: Mapping[str, str]) -> Record:
        return {"Targets": {"Target": []}}

    def _save(self) -> None:
        staged = self._path.with_suffix(".new")
        staged.write_text(json.dumps(self._rules), encoding="utf-8")
        os.chmod(staged, 0o600)
        staged.replace(self._path)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "ParameterInvalid", message)


def _escalation(level: str, given: Mapping[str, str]) -> Record | None:
    found = {name: given.get(f"Escalations.{level}.{name}", "") for name in _FIELDS}
    if not any(found.values()):
        return None
    if found["ComparisonOperator"] not in _OPERATORS:
        raise _invalid(f"Escalations.{level}.ComparisonOperator {found['ComparisonOperator']!r} is not known.")
    try:
        float(found["Threshold"])
        times = int(found["Times"])
    except ValueError:
        raise _invalid(f"Escalations.{level}: Threshold and Times are numbers.") from None
    if times < 1:
        raise _invalid(f"Escalations.{level}.Times {times} is less than 1.")
    return {**found, "Times": times}


def _listed(given: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in given.items() if re.fullmatch(rf"{name}\.\d+", key)]


def _labels(given: Mapping[str, str]) -> list[Record]:
    keys = sorted({match[1] for key in given if (match := re.fullmatch(r"Labels\.(\d+)\.Key", key))}, key=int)
    return [{"Key": given[f"Labels.{at}.Key"], "Value": given.get(f"Labels.{at}.Value", "")} for at in keys]
