"""The policy pack ``tf-serving``: ``pulumi preview --policy-pack policy``."""

from __future__ import annotations

from pulumi_policy import EnforcementLevel, PolicyPack
from rules import POLICIES

PolicyPack("tf-serving", POLICIES, EnforcementLevel.MANDATORY)
