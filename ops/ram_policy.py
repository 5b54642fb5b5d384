"""The least RAM policy with which a stack can be deployed.

Sources: "RAM authorization" pages of EAS and OSS (actions and resource names); the calls themselves are those of
``provider/clients.py`` and ``provider/group_calls.py``, ``provider/oss.py`` and, for the bucket, of pulumi-alicloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EAS_ACTIONS = (
    "CreateService", "DeleteService", "DescribeService", "DescribeServiceEvent", "DescribeServiceLog",
    "RestartService", "StartService", "UpdateService",
    "CreateServiceAutoScaler", "DeleteServiceAutoScaler", "DescribeServiceAutoScaler", "UpdateServiceAutoScaler",
    "CreateServiceCronScaler", "DeleteServiceCronScaler", "DescribeServiceCronScaler", "UpdateServiceCronScaler",
)  # fmt: skip
"""Calls about one service."""

TRAFFIC_ACTIONS = (
    "CreateServiceMirror", "DeleteServiceMirror", "DescribeServiceMirror", "ReleaseService", "UpdateServiceLabel",
    "UpdateServiceMirror",
)  # fmt: skip
"""Calls about one service in a group."""

GROUP_ACTIONS = ("DescribeGroup", "UpdateGroup")
"""Calls about groups, which no policy can tell apart."""

ALARM_ACTIONS = (
    "DeleteMetricRules", "DescribeMetricRuleList", "DescribeMetricRuleTargets", "DisableMetricRules",
    "EnableMetricRules", "PutMetricRuleTargets", "PutResourceMetricRule",
)  # fmt: skip
"""Calls of pulumi-alicloud about alarms, which no policy can tell apart."""

OBJECT_ACTIONS = (
    "AbortMultipartUpload", "DeleteObject", "GetObject", "GetObjectAcl", "ListParts", "PutObject", "PutObjectAcl",
)  # fmt: skip
"""Calls about objects below the model root. A copy is a GetObject and a PutObject; pulumi-alicloud also sets ACLs."""

OWN_BUCKET_ACTIONS = (
    "DeleteBucket", "DeleteBucketPolicy", "GetBucket*", "PutBucket", "PutBucketAcl", "PutBucketEncryption",
    "PutBucketLifecycle", "PutBucketPolicy", "PutBucketTagging", "PutBucketVersioning",
)  # fmt: skip
"""For a bucket that the stack makes: pulumi-alicloud reads every setting of it; what makes it public is taken away."""

EMPTYING_ACTIONS = (
    "AbortMultipartUpload", "DeleteObject", "DeleteObjectVersion", "GetObjectVersion", "ListObjectVersions",
)  # fmt: skip
"""A bucket with old versions in it is emptied before it is deleted."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a stack deploys, as far as rights depend on it.

    Attributes:
        region: region id.
        bucket: bucket name.
        existing_bucket: the stack makes no bucket.
        model_root: key prefix of the model directories, empty or ending in a slash.
        sources: places in OSS beside the model root that models are read from, ``bucket/path/``: what is copied, and
            directories on other mounts.
        shares_traffic: the stack shares the requests of service groups.
        has_alarms: services on EAS have alerts.
        services: resource groups of the EAS services by service name, empty for public resources.
    """

    region: str
    bucket: str
    existing_bucket: bool
    model_root: str
    sources: Sequence[str]
    services: Mapping[str, str]
    shares_traffic: bool = False
    has_alarms: bool = False


def policy(needs: Needs) -> dict[str, Any]:
    """The policy document. ``*`` stands for the account: a policy only ever grants what is in its own.

    ListServices names no service, and ListBuckets no bucket: both are how a stack finds out what is there.
    """
    bucket = f"acs:oss:*:*:{needs.bucket}"
    eas = f"acs:eas:{needs.region}:*:"
    services = [f"{eas}service/{name}" for name in sorted(needs.services)]
    services += [f"{eas}resource/{group}/service/{name}" for name, group in sorted(needs.services.items()) if group]
    statements = [
        _allow("eas", EAS_ACTIONS, services),
        _allow("eas", ("ListServices",), [f"{eas}service/*"] if needs.services else []),
        _allow("eas", TRAFFIC_ACTIONS, services if needs.shares_traffic else []),
        _allow("eas", GROUP_ACTIONS, [f"{eas}*"] if needs.shares_traffic else []),
        _allow("cms", ALARM_ACTIONS, ["*"] if needs.has_alarms else []),
        _allow("oss", OBJECT_ACTIONS, [f"{bucket}/{needs.model_root}*"]),
        _allow("oss", ("GetBucketInfo", "ListMultipartUploads", "ListObjects"), [bucket]),
    ]
    for source in needs.sources:
        statements += [
            _allow("oss", ("GetObject",), [f"acs:oss:*:*:{source}*"]),
            _allow("oss", ("ListObjects",), [f"acs:oss:*:*:{source.partition('/')[0]}"]),
        ]
    if not needs.existing_bucket:
        statements += [_allow("oss", OWN_BUCKET_ACTIONS, [bucket]), _allow("oss", ("ListBuckets",), ["acs:oss:*:*:*"])]
        statements.append(_allow("oss", EMPTYING_ACTIONS, [bucket, f"{bucket}/*"]))
    return {"Version": "1", "Statement": [statement for statement in statements if statement["Resource"]]}


def _allow(product: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": [f"{product}:{action}" for action in actions],
        "Resource": list(resources),
    }
