"""The two providers of a stack, configured from the same settings: where calls go, and in whose name."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.component import PutBack
from components.other_packages import AlicloudProvider
from components.resources import TFServingProvider, later
from config.cloud import AlicloudSettings, Endpoints
from tfserving.contract import ProviderConfig

_PRODUCTS = ("aiworkspace", "bssopenapi", "cms", "cs", "ecs", "location", "oss", "ram", "sts", "vpc")
"""Products the alicloud provider may call in this project, by the names of its ``endpoints`` block."""


@dataclass(frozen=True, kw_only=True)
class Providers:
    """Explicit providers: nothing in a stack uses a default one."""

    alicloud: AlicloudProvider
    tfserving: TFServingProvider

    @property
    def all(self) -> list[pulumi.ProviderResource]:
        """For a component: its children take the provider of their package."""
        return [self.alicloud, self.tfserving]


def make_providers(
    settings: AlicloudSettings, endpoints: Endpoints, opts: pulumi.ResourceOptions, put_back: PutBack
) -> Providers:
    """Both providers. Without keys in the settings, each takes the standard Alibaba Cloud credentials chain."""

    def secret(value: str) -> pulumi.Output[str] | None:
        return pulumi.Output.secret(put_back(value)) if value else None

    return Providers(
        alicloud=AlicloudProvider(
            "alicloud",
            {
                "region": settings.region,
                "protocol": settings.protocol,
                "accountType": settings.account_type or None,
                "skipRegionValidation": settings.skip_region_validation,
                "profile": settings.profile or None,
                "accessKey": secret(settings.access_key),
                "secretKey": secret(settings.secret_key),
                "securityToken": secret(settings.security_token),
                "clientReadTimeout": settings.client_read_timeout,
                "clientConnectTimeout": settings.client_connect_timeout,
                "maxRetryTimeout": settings.max_retry_timeout,
                "endpoints": _alicloud_endpoints(endpoints),
            },
            opts,
        ),
        tfserving=TFServingProvider(
            "tfserving",
            ProviderConfig(
                region=settings.region,
                protocol=settings.protocol,
                oss_endpoint=endpoints.oss,
                eas_endpoint=endpoints.eas,
                profile=settings.profile,
                access_key=later(secret(settings.access_key) or ""),
                secret_key=later(secret(settings.secret_key) or ""),
                security_token=later(secret(settings.security_token) or ""),
            ),
            opts,
        ),
    )


def _alicloud_endpoints(endpoints: Endpoints) -> list[dict[str, str]] | None:
    """One block with every product on a local stack, so that no call leaves the machine; else what differs."""
    found = dict.fromkeys(_PRODUCTS, endpoints.all) if endpoints.all else {}
    if endpoints.oss:
        found["oss"] = endpoints.oss
    return [found] if found else None
