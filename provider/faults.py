"""What a failed call means: whether it may pass, how long to wait, whom to blame, whether the cloud answered at all.

Pure but for :func:`watch` and :func:`watch_sessions`, which look at answers before an SDK does.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tfserving.errors import CloudError
from tfserving.hosts import is_loopback

MOST_WAIT_SECONDS = 30.0
"""A server that asks for more is asked again after this."""

NOT_THE_CLOUD = (
    "the answer is an HTML page, not one of Alibaba Cloud: a proxy or login page is in between. "
    "Fix: log in there, or set HTTPS_PROXY and NO_PROXY so that this machine reaches the endpoint"
)
_BUSY = re.compile(
    r"\b(being|is|are) (now )?(updat|chang|delet|scal|start|stopp|creat|restart|rolled)\w*"
    r"|in progress|try again|retry later",
    re.IGNORECASE,
)
_ELSEWHERE = r"must be addressed using the specified endpoint"
_HINTS = (
    (
        _ELSEWHERE,
        "the bucket is in another region than alicloud:region: a stack's bucket, sources and services are all in one. "
        "Fix: name that region, or another bucket",
    ),
    (
        r"RequestTimeTooSkewed|InvalidTimeStamp|Timestamp.*Expired|IllegalTimestamp",
        "the clock of this machine is wrong: set it (NTP)",
    ),
    (
        r"SecurityToken",
        "the temporary credentials have expired or are not valid: get new ones",
    ),
    (
        r"InvalidAccessKeyId|AccessKeyDisabled|InactiveAccessKey|InvalidAccessKey",
        "this access key does not exist or is disabled",
    ),
    (r"SignatureDoesNotMatch|IncompleteSignature", "the access key secret does not belong to the access key id"),
    (
        r"Arrear|UserDisable|InsufficientBalance|NotEnoughBalance|BalanceNotEnough|InDebt|Overdue|QuotaNotEnoughMoney",
        "the Alibaba Cloud account is in arrears or has no balance: settle it; no right is missing",
    ),
    (
        r"Quota|LimitExceed|ExceedLimit|TooManyBuckets|Exceeded\b.*limit",
        "a quota of the account is used up: free some of it, or raise it in the Quota Center; no right is missing",
    ),
    (
        r"NoStock|OutOfStock|ResourceInsufficient|InsufficientResource|NotEnoughResource",
        "there are no free machines of this kind now: try later, or another instance type; no right is missing",
    ),
    (r"SafetyLock", "the safety lock of the service is on: take it off in the EAS console; no right is missing"),
    (r"NotOpen|NotActivated|Unsubscribed|NotEnabled", "the product is not activated in this account"),
)


_POOL = re.compile(r"ConnectionPool\(host=[\\']+(?P<host>[^'\\]+)[\\']+, port=(?P<port>\d+)\)")
_REASONS = (
    ("Connection refused", "connection refused"),
    ("resolve", "the name cannot be resolved"),
    ("Name or service not known", "the name cannot be resolved"),
    ("timed out", "timed out"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
    ("Connection reset", "connection reset"),
    ("RemoteDisconnected", "connection closed without an answer"),
)


class NotTheCloudError(CloudError):
    """Something else answered in place of the API. The text never holds what it sent."""

    def __init__(self) -> None:
        super().__init__(NOT_THE_CLOUD)


class PassingError(CloudError):
    """A failure that may be over when the call is made again."""


class StillSilentError(CloudError):
    """Nobody answered a moment ago, so nobody was asked again."""


class Silence:
    """Hosts that did not answer however often a call was made.

    A preview asks about every model and service. Where their host is silent (an endpoint inside of a VPC, a cloud that
    is not started), one call is enough to learn it: for some seconds reads of that host fail at once. Writes do not:
    an upload has more patience than a read.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given_up: dict[tuple[str, int], tuple[float, str]] = {}

    def gave_up(self, text: str) -> None:
        """A call was made for the last time, and nobody answered.

        Args:
            text: what the libraries below the SDKs say; a text that names no host says nothing of one.
        """
        if found := _POOL.search(text):
            self._given_up[found["host"], int(found["port"])] = (self._clock(), text)

    def answered(self, url: str) -> None:
        """A host answered, whatever it said."""
        self._given_up.pop(_host_of(url), None)

    def check(self, method: str, url: str) -> None:
        """To be called before a request is sent.

        Raises:
            StillSilentError: it would be another read of a host that is silent.
        """
        given_up, text = self._given_up.get(_host_of(url), (-math.inf, ""))
        if method in ("GET", "HEAD") and self._clock() - given_up < _SILENT_SECONDS:
            raise StillSilentError(text)


_SILENT_SECONDS = 5.0

SILENCE = Silence()
"""Of this process."""


def _host_of(url: str) -> tuple[str, int]:
    found = urlsplit(url)
    return found.hostname or "", found.port or (443 if found.scheme == "https" else 80)


def may_pass(status: int, code: str, message: str) -> bool:
    """Whether an answer's error may be over soon: the server's trouble, throttling, another change under way."""
    if status >= 500 or status in (408, 429) or "Throttling" in code or "ServiceUnavailable" in code:
        return True
    return is_busy(status, code, message)


def is_refused_for_now(status: int, code: str) -> bool:
    """Whether a call was turned away before anything was done, so that even a creation may be sent again."""
    return status == 429 or "Throttling" in code


def is_elsewhere(error: CloudError) -> bool:
    """Whether OSS says that a bucket is in another region, which no later attempt changes."""
    return _ELSEWHERE in str(error)


def is_busy(status: int, code: str, message: str) -> bool:
    """Whether something cannot be changed because another change of it is under way."""
    return (status == 409 or "Conflict" in code) and _BUSY.search(message) is not None


def hint(status: int, code: str, message: str, right: str) -> str:
    """What to do about a refusal, in parentheses with a blank before; empty where the message says it all.

    Args:
        right: what is said of a refusal that has no other reason than a missing right.
    """
    for text in (code, message):  # what the code says goes before words of the message
        for pattern, advice in _HINTS:
            if re.search(pattern, text, re.IGNORECASE):
                return f" ({advice})"
    if status == 403 or "Forbidden" in code or "NoPermission" in code:
        return f" ({right})"
    return ""


def unreachable(text: str, local: str) -> str:
    """The one line that a text of the libraries below the SDKs stands for where nobody answers; else the text.

    Args:
        text: the text.
        local: what to ask a person where it is this machine that does not answer.
    """
    found = _POOL.search(text)
    if found is None:
        return text
    host, port = found["host"], found["port"]
    advice = f"; {local}" if is_loopback(host) else ""
    reason = next((reason for pattern, reason in _REASONS if pattern in text), "")
    return f"cannot reach {host}:{port}{f' ({reason})' if reason else ''}{advice}"


def retry_after(value: str | None) -> float:
    """Seconds a ``Retry-After`` header asks for, at most :data:`MOST_WAIT_SECONDS`; 0 without a usable one."""
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        parsed = email.utils.parsedate_tz(text)
        seconds = email.utils.mktime_tz(parsed) - time.time() if parsed else 0.0
    return min(max(seconds, 0.0), MOST_WAIT_SECONDS) if seconds == seconds else 0.0


def is_page(body: bytes | str) -> bool:
    """Whether an answer is an HTML page."""
    start = (body[:512].decode(errors="replace") if isinstance(body, bytes) else body[:512]).lstrip().lower()
    return start.startswith(("<!doctype html", "<html"))


def watch(session: Any) -> None:
    """Has a ``requests`` session look at every answer first.

    A page of something else with a status below 400 raises :class:`NotTheCloudError`, and a read of a host that has
    just been silent :class:`StillSilentError`, without asking. ``Retry-After`` is waited for; a missing ``Date``,
    without which the OSS SDK cannot read an error, is put in.
    """
    send = session.send

    def watched(request: Any, **options: Any) -> Any:
        SILENCE.check(request.method, request.url)
        response = send(request, **options)
        SILENCE.answered(request.url)
        _look(response)
        return response

    session.send = watched


def watch_sessions(core: Any) -> None:
    """Has every session of the OpenAPI SDKs watched, which make one per endpoint when it is first called.

    Args:
        core: ``darabonba.core.DaraCore``.
    """
    sessions = getattr(core, "_sessions", None)
    if type(sessions) is dict:
        core._sessions = _Watched(sessions)


class _Watched(dict[str, Any]):
    def __init__(self, sessions: dict[str, Any]) -> None:
        super().__init__()
        for key, session in sessions.items():
            self[key] = session

    def __setitem__(self, key: str, session: Any) -> None:
        watch(session)
        super().__setitem__(key, session)


def _look(response: Any) -> None:
    headers, status = response.headers, response.status_code
    headers.setdefault("Date", email.utils.formatdate(usegmt=True))
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    of_cloud = "x-oss-request-id" in headers or "x-acs-request-id" in headers
    if status < 400 and kind in ("text/html", "application/xhtml+xml") and not of_cloud:
        response.close()
        raise NotTheCloudError
    if status in (429, 503) and (seconds := retry_after(headers.get("Retry-After"))):
        time.sleep(seconds)


def oss_retryer(sdk: Any) -> Any:
    """How the OSS SDK repeats a request: seconds of 5xx are sat out, and a transfer that stands still is given up.

    Args:
        sdk: ``alibabacloud_oss_v2``.
    """

    class Retryer(sdk.retry.StandardRetryer):  # type: ignore[misc]  # the SDK is not typed for us
        def retry_delay(self, attempt: int, error: Exception) -> float:
            if isinstance(error, sdk.exceptions.ServiceError):
                return float(min(0.3 * 2**attempt, 5.0))
            if attempt >= _STALLS and "timed out" in str(error):
                raise CloudError(
                    "the transfer stood still until its time limit, twice. Fix: look at the network between this "
                    "machine and OSS, then run the update again: it goes on where this one stopped"
                )
            return float(min(0.2 * attempt, 1.0))

    return Retryer(max_attempts=_ATTEMPTS)


_ATTEMPTS = 6
_STALLS = 2
