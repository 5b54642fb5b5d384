"""Requests per second: a token bucket that holds one second's worth."""

from __future__ import annotations

import time


class RateLimit:
    """Limits of one service: ``metadata.rpc.rate_limit`` per instance and ``gateway_policy.rate_limit`` in all."""

    def __init__(self) -> None:
        self._per_instance = 0.0
        self._total = 0.0
        self._tokens = 0.0
        self._filled = time.monotonic()

    def set(self, per_instance: float, total: float) -> None:
        """Sets the limits in requests per second; 0 is none."""
        if (per_instance, total) != (self._per_instance, self._total):
            self._per_instance, self._total = per_instance, total
            self._tokens = max(per_instance, total, 1.0)

    def allows(self, instances: int) -> bool:
        """Counts one request; False if it is over the limit.

        Args:
            instances: how many are ready.
        """
        limits = [limit for limit in (self._per_instance * max(instances, 1), self._total) if limit]
        if not limits:
            return True
        rate, now = min(limits), time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled) * rate, max(rate, 1.0))
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
