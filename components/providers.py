"""The two providers of a stack, configured from the same settings: where calls go, and in whose name."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_alicloud as alicloud

from components.resources import TFServingProvider, TFServingProviderArgs
from config.stack import AlicloudSettings, Endpoints

_PRODUCTS = ("aiworkspace", "bssopenapi", "cs", "ecs", "location", "oss", "ram", "sts", "vpc")
"""Products the alicloud provider may call in this project, by the names of its ``endpoints`` block."""


@dataclass(frozen=True, kw_only=True)
class Providers:
    """Explicit providers: nothing in a stack uses a default one."""

    alicloud: alicloud.Provider
    tfserving: TFServingProvider

    def options(self) -> pulumi.ResourceOptions:
        """For a component: its children take the provider of their package."""
        return pulumi.ResourceOptions(providers=[self.alicloud, self.tfserving])


def make_providers(settings: AlicloudSettings, endpoints: Endpoints) -> Providers:
    """Both providers. Without keys in the settings, each takes the standard Alibaba Cloud credentials chain."""
    return Providers(
        alicloud=alicloud.Provider(
            "alicloud",
            region=settings.region,
            protocol=settings.protocol,
            account_type=settings.account_type or None,
            skip_region_validation=settings.skip_region_validation,
            profile=settings.profile or None,
            access_key=_secret(settings.access_key),
            secret_key=_secret(settings.secret_key),
            security_token=_secret(settings.security_token),
            client_read_timeout=settings.client_read_timeout,
            client_connect_timeout=settings.client_connect_timeout,
            max_retry_timeout=settings.max_retry_timeout,
            endpoints=_alicloud_endpoints(endpoints),
        ),
        tfserving=TFServingProvider(
            "tfserving",
            TFServingProviderArgs(
                region=settings.region,
                protocol=settings.protocol,
                oss_endpoint=endpoints.oss,
                eas_endpoint=endpoints.eas,
                profile=settings.profile,
                access_key=_secret(settings.access_key) or "",
                secret_key=_secret(settings.secret_key) or "",
                security_token=_secret(settings.security_token) or "",
            ),
        ),
    )


def _secret(value: str) -> pulumi.Output[str] | None:
    return pulumi.Output.secret(value) if value else None


def _alicloud_endpoints(endpoints: Endpoints) -> list[alicloud.ProviderEndpointArgs] | None:
    """One block with every product on a local stack, so that no call leaves the machine; else what differs."""
    found = dict.fromkeys(_PRODUCTS, endpoints.all) if endpoints.all else {}
    if endpoints.oss:
        found["oss"] = endpoints.oss
    return [alicloud.ProviderEndpointArgs(**found)] if found else None
