"""``alicloud:cms/alarm:Alarm``, as the real provider handles it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from sandbox.engine.properties import Properties
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.common import misfits, sdk_call
from sandbox.plugins.server import InputError, ResourceType, State

_OPERATORS: Mapping[str, str] = {
    ">": "GreaterThanThreshold",
    ">=": "GreaterThanOrEqualToThreshold",
    "<": "LessThanThreshold",
    "<=": "LessThanOrEqualToThreshold",
}
_NAMES: Mapping[str, str] = {
    "name": "RuleName",
    "project": "Namespace",
    "metric": "MetricName",
    "metricDimensions": "Resources",
    "webhook": "Webhook",
    "effectiveInterval": "EffectiveInterval",
}
_DEFAULTS: Mapping[str, Any] = {
    "effectiveInterval": "00:00-23:59",
    "period": 300,
    "silenceTime": 86400,
    "enabled": True,
}


class Alarm(ResourceType):
    """An alarm rule of CloudMonitor."""

    known: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(_NAMES, str),
        "contactGroups": [str],
        "period": int,
        "silenceTime": int,
        "enabled": bool,
        "escalationsCritical": {
            "comparisonOperator": str,
            "statistics": str,
            "threshold": str,
            "times": int,
        },
    }
    replace_on: ClassVar[frozenset[str]] = frozenset({"project", "metric"})
    computed: ClassVar[tuple[str, ...]] = ("status",)

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know, and fills in the real one's defaults."""
        if failures := list(misfits(new, self.known, "")):
            raise InputError(*failures)
        return {**_DEFAULTS, **new}

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """PutResourceMetricRule with an id of its own."""
        id_ = uuid.uuid4().hex
        return id_, self._put(id_, inputs)

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """DescribeMetricRuleList; None where the rule is gone."""
        found = self._found(state.id)
        if found is None:
            return None
        return {key: found[key] for key in state.inputs if key in found}, {**state.outputs, **found}

    def update(self, state: State, inputs: Properties) -> Properties:
        """PutResourceMetricRule of the same id."""
        return self._put(state.id, inputs)

    def delete(self, state: State) -> None:
        """DeleteMetricRules."""
        self._call("DeleteMetricRules", {"Id.1": state.id})

    def _put(self, id_: str, inputs: Properties) -> Properties:
        critical = inputs["escalationsCritical"]
        request = {
            "RuleId": id_,
            **{theirs: inputs[ours] for ours, theirs in _NAMES.items() if inputs.get(ours)},
            "ContactGroups": ",".join(inputs["contactGroups"]),
            "Period": str(int(inputs["period"])),
            "SilenceTime": str(int(inputs["silenceTime"])),
            "Escalations.Critical.ComparisonOperator": _OPERATORS[critical["comparisonOperator"]],
            "Escalations.Critical.Statistics": critical["statistics"],
            "Escalations.Critical.Threshold": critical["threshold"],
            "Escalations.Critical.Times": str(int(critical["times"])),
        }
        self._call("PutResourceMetricRule", request)
        self._call("EnableMetricRules" if inputs["enabled"] else "DisableMetricRules", {"RuleId.1": id_})
        return {**inputs, **(self._found(id_) or {})}

    def _found(self, id_: str) -> Properties | None:
        alarms = self._call("DescribeMetricRuleList", {"RuleIds": id_})["Alarms"]["Alarm"]
        rule = next((each for each in alarms if each["RuleId"] == id_), None)
        if rule is None:
            return None
        critical = rule["Escalations"].get("Critical", {})
        back = {theirs: ours for ours, theirs in _OPERATORS.items()}
        return {
            **{ours: rule[theirs] for ours, theirs in _NAMES.items()},
            "contactGroups": rule["ContactGroups"].split(","),
            "period": int(rule["Period"]),
            "silenceTime": int(rule["SilenceTime"]),
            "enabled": rule["EnableState"],
            "status": rule["AlertState"],
            "escalationsCritical": {
                "comparisonOperator": back.get(critical.get("ComparisonOperator"), ""),
                "statistics": critical.get("Statistics", ""),
                "threshold": critical.get("Threshold", ""),
                "times": int(critical.get("Times") or 0),
            },
        }

    def _call(self, action: str, parameters: Mapping[str, str]) -> Any:
        from alibabacloud_tea_openapi.models import OpenApiRequest, Params
        from darabonba.runtime import RuntimeOptions

        params = Params(
            action=action,
            version="2019-01-01",
            protocol="HTTPS",
            pathname="/",
            method="POST",
            auth_type="AK",
            style="RPC",
            req_body_type="formData",
            body_type="json",
        )
        request = OpenApiRequest(body=dict(parameters))
        return sdk_call(f"call {action}", self._provider.cms.call_api, params, request, RuntimeOptions())["body"]
