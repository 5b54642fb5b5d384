"""Whether a version is good enough, by what its servers counted. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tfserving.metrics import Counts

_SURE = 3.0
"""Standard deviations beyond which a difference is not chance: one time in a thousand."""

_NOTABLE = 0.1
"""A canary that is worse than stable by less than this part of the limit of errors is not worth a breach."""


@dataclass(frozen=True)
class Limits:
    """What a version has to keep to.

    Attributes:
        error_rate: greatest share of requests that fail, 0 to 1.
        p99: greatest 99th percentile of latency in seconds; None for any.
        requests: so many are needed to decide.
    """

    error_rate: float = 0.01
    p99: float | None = None
    requests: int = 500


Verdict = Literal["good", "breach", "undecided"]


@dataclass(frozen=True)
class Judgement:
    """What the counters say about a version.

    Attributes:
        verdict: ``undecided`` is never ``good``.
        reasons: why.
    """

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(canary: Counts, stable: Counts | None, limits: Limits) -> Judgement:
    """Judges what answers with the new version, by the limits and against what answers with the old one.

    A limit is broken where enough requests are over it, or where fewer are so many over it that it cannot be chance.
    Worse than stable is what is so beyond chance.
    """
    enough = canary.requests >= max(limits.requests, 1) or limits.requests == 0
    broken = []
    rate, n = canary.error_rate, canary.requests
    if (enough and rate > limits.error_rate) or lower_bound(canary.failed, n) > limits.error_rate:
        statuses = ", ".join(f"{count:.0f} {status}" for status, count in sorted(canary.errors.items()))
        broken.append(
            f"{canary.failed:.0f} of {n:.0f} requests failed ({rate:.2%}; limit {limits.error_rate:.2%}): {statuses}"
        )
    if limits.p99 is not None and canary.answered:
        p99, slow = canary.quantile(0.99) or 0.0, _slower(canary, limits.p99)
        if (enough and p99 > limits.p99) or lower_bound(slow, canary.answered) > 0.01:
            broken.append(f"p99 is {p99 * 1000:.1f} ms (limit {limits.p99 * 1000:g} ms)")
    if stable is not None and _worse(canary, stable) and rate - stable.error_rate > _NOTABLE * limits.error_rate:
        broken.append(f"{rate:.2%} of the requests failed, and {stable.error_rate:.2%} of those to the version before")
    if broken:
        return Judgement("breach", tuple(broken))
    if not enough:
        return Judgement("undecided", (f"{n:.0f} requests, and {limits.requests} are needed to decide",))
    return Judgement("good", (summary(canary),))


def summary(counts: Counts) -> str:
    """The numbers in one line."""
    p99 = counts.quantile(0.99)
    latency = "" if p99 is None else f", p99 {p99 * 1000:.1f} ms"
    return f"{counts.requests:.0f} requests, {counts.failed:.0f} failed ({counts.error_rate:.2%}){latency}"


def lower_bound(hits: float, of: float) -> float:
    """What the true share is at least, but for chance (Wilson's interval)."""
    if of <= 0:
        return 0.0
    share, z = min(hits / of, 1.0), _SURE
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - spread) / (1 + z * z / of))


def _slower(counts: Counts, limit: float) -> float:
    """Answers that certainly took longer."""
    within = [count for upper, count in sorted(counts.buckets.items()) if upper >= limit * 1e6]
    return counts.answered - (within[0] if within else counts.answered)


def _worse(canary: Counts, stable: Counts) -> bool:
    if not canary.requests or not stable.requests:
        return False
    together = (canary.failed + stable.failed) / (canary.requests + stable.requests)
    deviation = math.sqrt(together * (1 - together) * (1 / canary.requests + 1 / stable.requests))
    return deviation > 0 and (canary.error_rate - stable.error_rate) / deviation > _SURE
