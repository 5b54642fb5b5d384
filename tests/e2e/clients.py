"""The official SDKs against the sandbox cloud of a checkout: what happens behind a stack's back."""

from __future__ import annotations

import alibabacloud_oss_v2 as oss
from alibabacloud_eas20210701.client import Client as EasClient
from alibabacloud_tea_openapi.models import Config

from tests.e2e.checkout import Checkout

BODY = {"signature_name": "serving_default", "instances": [[[[1.0]] * 28] * 28]}
"""A request that every example model answers."""


def eas(stack: Checkout) -> EasClient:
    """A client of PAI-EAS."""
    return EasClient(
        Config(
            access_key_id="sandbox",
            access_key_secret="sandbox",
            endpoint=f"127.0.0.1:{stack.port}",
            protocol="HTTP",
            region_id="cn-hangzhou",
        )
    )


def bucket_client(stack: Checkout) -> oss.Client:
    """A client of OSS."""
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("sandbox", "sandbox")
    config.region = "cn-hangzhou"
    config.endpoint = f"http://127.0.0.1:{stack.port}"
    config.use_path_style = True
    return oss.Client(config)
