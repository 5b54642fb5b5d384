"""The configuration of the provider."""

from __future__ import annotations

from dataclasses import dataclass

from tfserving.contract.records import Record, prop


@dataclass(frozen=True, kw_only=True)
class ProviderConfig(Record):
    """Configuration of the ``tfserving`` provider.

    Attributes:
        region: region of the bucket and the services, such as ``cn-hangzhou``.
        eas_endpoint: ``host[:port]`` of the EAS API; empty is the region's own.
        oss_endpoint: ``host[:port]`` of OSS; empty is the region's own.
        protocol: HTTPS, or HTTP for a loopback endpoint.
        access_key: access key id; empty is the standard credentials chain.
        secret_key: access key secret.
        security_token: token of temporary credentials.
        profile: a profile of ``~/.aliyun/config.json``.
    """

    region: str = prop(replaces=True)
    eas_endpoint: str = ""
    oss_endpoint: str = ""
    protocol: str = "HTTPS"
    access_key: str = prop("", secret=True)
    secret_key: str = prop("", secret=True)
    security_token: str = prop("", secret=True)
    profile: str = ""
