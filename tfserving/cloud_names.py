"""Names of Alibaba Cloud, by the rules of its APIs: regions and buckets."""

from __future__ import annotations

import re
from typing import Final

REGION: Final = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
"""A region id, such as ``cn-hangzhou``."""

_BUCKET: Final = r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"

BUCKET: Final = re.compile(_BUCKET)
"""A bucket: 3 to 63 lower-case letters, digits and hyphens. Source: PutBucket of the OSS API."""

OSS_URI: Final = re.compile(rf"oss://({_BUCKET})(/[^\x00-\x1f\x7f\\]*)?")
"""``oss://bucket`` or ``oss://bucket/key``."""
