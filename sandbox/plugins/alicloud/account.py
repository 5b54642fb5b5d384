"""The provider's settings, and its clients of the APIs."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Any

import alibabacloud_oss_v2 as oss

from sandbox.engine.properties import Properties
from sandbox.keys import NO_KEY, AccessKey
from sandbox.plugins.server import Provider
from tfserving.errors import TFServingError


class Account(Provider):
    """Settings as the real provider takes them: region, protocol, endpoints, accessKey, secretKey, securityToken."""

    name = "alicloud"

    def __init__(self) -> None:
        super().__init__()
        self._settings: Properties = {}
        self._client: oss.Client | None = None

    def configure(self, settings: Properties) -> None:
        """Takes the settings; the OSS endpoint must be among ``endpoints``, a list of objects, as JSON or as such.

        Raises:
            TFServingError: there is none for OSS.
        """
        self._settings = settings
        self._client = None
        self.__dict__.pop("cs", None)
        self.__dict__.pop("vpc", None)
        self.__dict__.pop("cms", None)
        if not self._endpoint("oss"):
            raise TFServingError("endpoints names no address for oss; the stand-in knows no regional endpoints")

    @property
    def _key(self) -> AccessKey:
        """The settings' access key, else the environment's, as the real provider has it."""
        given = str(self._settings.get("accessKey") or ""), str(self._settings.get("secretKey") or "")
        if all(given):
            return AccessKey(*given)
        identifier = os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_ID") or NO_KEY.id
        return AccessKey(identifier, os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET") or NO_KEY.secret)

    @property
    def oss(self) -> Any:
        """The OSS client."""
        if self._client is None:
            config = oss.config.load_default()
            scheme = str(self._settings.get("protocol") or "HTTPS").lower()
            config.endpoint = f"{scheme}://{self._endpoint('oss')}"
            config.region = self.region
            config.use_path_style = True  # an IP address has no subdomain for the bucket
            config.retry_max_attempts = 2
            config.credentials_provider = oss.credentials.StaticCredentialsProvider(
                self._key.id,
                self._key.secret,
                self._settings.get("securityToken") or None,
            )
            self._client = oss.Client(config)
        return self._client

    @property
    def region(self) -> str:
        """The region id."""
        return str(self._settings.get("region") or "cn-hangzhou")

    @cached_property
    def cs(self) -> Any:
        """The client of Container Service."""
        from alibabacloud_cs20151215.client import Client

        return Client(self._openapi("cs"))

    @cached_property
    def vpc(self) -> Any:
        """The client of VPC."""
        from alibabacloud_vpc20160428.client import Client

        return Client(self._openapi("vpc"))

    @cached_property
    def cms(self) -> Any:
        """A client of CloudMonitor, for which the sandbox needs no SDK of its own."""
        from alibabacloud_tea_openapi.client import Client

        return Client(self._openapi("cms"))

    def _openapi(self, product: str) -> Any:
        from alibabacloud_tea_openapi.models import Config

        endpoint = self._endpoint(product)
        if not endpoint:
            raise TFServingError(f"endpoints names no address for {product}; the stand-in knows no regional endpoints")
        return Config(
            access_key_id=self._key.id,
            access_key_secret=self._key.secret,
            region_id=self.region,
            endpoint=endpoint,
            protocol=str(self._settings.get("protocol") or "HTTPS").upper(),
        )

    def _endpoint(self, product: str) -> str:
        blocks = self._settings.get("endpoints") or []
        blocks = json.loads(blocks) if isinstance(blocks, str) else blocks
        return next((str(block[product]) for block in blocks if block.get(product)), "")
