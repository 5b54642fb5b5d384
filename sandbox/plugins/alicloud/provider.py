"""The provider's settings and its resource types."""

from __future__ import annotations

import json
from typing import Any

import alibabacloud_oss_v2 as oss

from sandbox.engine.properties import Properties
from sandbox.plugins.alicloud.bucket import Bucket
from sandbox.plugins.alicloud.bucket_object import BucketObject
from sandbox.plugins.server import Provider
from tfserving.errors import TFServingError


class Alicloud(Provider):
    """Settings as the real provider takes them: region, protocol, endpoints, accessKey, secretKey, securityToken."""

    name = "alicloud"

    def __init__(self) -> None:
        super().__init__()
        self._settings: Properties = {}
        self._client: oss.Client | None = None
        self.types = {
            "alicloud:oss/bucket:Bucket": Bucket(self),
            "alicloud:oss/bucketObject:BucketObject": BucketObject(self),
        }

    def configure(self, settings: Properties) -> None:
        """Takes the settings; the OSS endpoint must be among ``endpoints``, a list of objects, as JSON or as such."""
        self._settings = settings
        self._client = None
        if not self._endpoint():
            raise TFServingError("endpoints names no address for oss; the stand-in knows no regional endpoints")

    @property
    def oss(self) -> Any:
        """The OSS client."""
        if self._client is None:
            config = oss.config.load_default()
            scheme = str(self._settings.get("protocol") or "HTTPS").lower()
            config.endpoint = f"{scheme}://{self._endpoint()}"
            config.region = str(self._settings.get("region") or "cn-hangzhou")
            config.use_path_style = True  # an IP address has no subdomain for the bucket
            config.retry_max_attempts = 2
            config.credentials_provider = oss.credentials.StaticCredentialsProvider(
                str(self._settings.get("accessKey") or "sandbox"),
                str(self._settings.get("secretKey") or "sandbox"),
                self._settings.get("securityToken") or None,
            )
            self._client = oss.Client(config)
        return self._client

    def _endpoint(self) -> str:
        blocks = self._settings.get("endpoints") or []
        blocks = json.loads(blocks) if isinstance(blocks, str) else blocks
        return next((str(block["oss"]) for block in blocks if block.get("oss")), "")
