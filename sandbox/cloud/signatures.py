"""Signatures of requests: OSS V1 and V4 in headers and URLs, OpenAPI RPC and ROA (HMAC-SHA1) and ACS3-HMAC-SHA256.

Sources: OSS "Include signatures in the Authorization header" and "... in URLs"; OpenAPI "Request syntax and signature
method" V2 (RPC, ROA) and V3. SDKs differ in which query parameters they count as sub-resources and in how they encode
them, so a signature is compared with every form in use; none can be made without the secret.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import itertools
import re
import time
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, unquote, unquote_to_bytes

from aiohttp import web

from sandbox.cloud.errors import ApiError
from sandbox.keys import AccessKey

MOST_SKEW_SECONDS = 15 * 60

_COMPACT = "%Y%m%dT%H%M%SZ"

_V4_HEADER = re.compile(
    r"OSS4-HMAC-SHA256\s+Credential=([^/,\s]+)/(\S*?)\s*(?:,\s*AdditionalHeaders=([^,\s]*))?\s*,\s*Signature=([0-9a-f]+)"
)
_V1_HEADER = re.compile(r"OSS\s+([^:\s]+):(\S+)")
_ACS3_HEADER = re.compile(
    r"ACS3-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]*),\s*Signature=([0-9a-f]+)"
)
_ROA_HEADER = re.compile(r"acs\s+([^:\s]+):(\S+)")
_V1_ALWAYS = frozenset(
    {
        *("acl", "append", "bucketInfo", "continuation-token", "delete", "location", "objectMeta", "partNumber"),
        *("position", "resourceGroup", "restore", "security-token", "sequential", "stat", "symlink", "tagging"),
        *("uploadId", "uploads", "versionId", "versioning", "versions"),
        *("response-cache-control", "response-content-disposition", "response-content-encoding"),
        *("response-content-language", "response-content-type", "response-expires"),
    }
)
"""Sub-resources every SDK signs; of others (``lifecycle``, ``encryption``, ``policy``) each knows some."""
_V1_NEVER = frozenset({"OSSAccessKeyId", "Expires", "Signature"})
_MOST_DOUBTFUL = 8


class NotSigned(ApiError):
    """The signature of a request is missing, wrong, out of date, or by a key that is not known."""


def check_oss(request: web.Request, bucket: str, key: str, access_key: AccessKey) -> None:
    """Checks a request to OSS that says it is signed.

    Args:
        bucket: decoded; empty for the service.
        key: decoded; empty for the bucket.

    Raises:
        NotSigned: 403 ``InvalidAccessKeyId``, ``SignatureDoesNotMatch`` or ``RequestTimeTooSkewed``.
    """
    header = request.headers.get("Authorization", "")
    query = request.query
    resource = f"/{bucket}/{key}" if bucket else "/"
    if match := _V4_HEADER.fullmatch(header.strip()):
        _known(match[1], access_key)
        # The first SDK for Go, which the alicloud provider uses, signs the date as it stands in the header Date.
        moment = request.headers.get("x-oss-date", "") or request.headers.get("Date", "")
        _timely(_moment(moment, _COMPACT, moment))
        _v4(request, resource, match[2], moment, (match[3] or "").split(";"), match[4], access_key)
    elif match := _V1_HEADER.fullmatch(header.strip()):
        _known(match[1], access_key)
        date = request.headers.get("x-oss-date", "") or request.headers.get("Date", "")
        _timely(_moment(date, _COMPACT, date))
        _v1(request, resource, date, match[2], access_key)
    elif header:
        raise _mismatch()
    elif "x-oss-credential" in query:
        identifier, _, scope = query["x-oss-credential"].partition("/")
        _known(identifier, access_key)
        names = query.get("x-oss-additional-headers", "").split(";")
        given = query.get("x-oss-signature", "")
        _v4(request, resource, scope, query.get("x-oss-date", ""), names, given, access_key)
    else:
        _known(query.get("OSSAccessKeyId", ""), access_key)
        _v1(request, resource, query.get("Expires", ""), query.get("Signature", ""), access_key)


async def check_openapi(request: web.Request, access_key: AccessKey) -> None:
    """Checks a call of any other product.

    Raises:
        NotSigned: 400 or 403.
    """
    header = request.headers.get("Authorization", "").strip()
    if match := _ACS3_HEADER.fullmatch(header):
        _known(match[1], access_key)
        _timely(_moment(request.headers.get("x-acs-date", ""), "%Y-%m-%dT%H:%M:%SZ"))
        digest = request.headers.get("x-acs-content-sha256", "")
        if digest != hashlib.sha256(await request.read()).hexdigest():
            raise _mismatch()
        _acs3(request, match[2].split(";"), match[3], digest, access_key)
    elif match := _ROA_HEADER.fullmatch(header):
        _known(match[1], access_key)
        _roa(request, match[2], access_key)
    elif header:
        raise _mismatch()
    else:
        form = {}
        if request.content_type == "application/x-www-form-urlencoded":
            await request.read()
            form = {name: str(value) for name, value in (await request.post()).items()}
        parameters = {**form, **request.query}
        if not parameters.get("Signature"):
            raise NotSigned(400, "MissingParameter.Signature", "The request is not signed.")
        _known(parameters.get("AccessKeyId", ""), access_key)
        _timely(_moment(parameters.get("Timestamp", ""), "%Y-%m-%dT%H:%M:%SZ"))
        _rpc(request.method, parameters, access_key)


# ---- the five kinds ------------------------------------------------------------------------------------------------


def _v1(request: web.Request, resource: str, date: str, given: str, access_key: AccessKey) -> None:
    headers = "".join(f"{n}:{v}\n" for n, v in _headers(request, lambda name: name.startswith("x-oss-")))
    begin = [request.method, request.headers.get("Content-MD5", ""), request.headers.get("Content-Type", ""), date]
    pairs = sorted((unquote(name), unquote(value)) for name, value in _pairs(request) if name not in _V1_NEVER)
    signed = [pair for pair in pairs if pair[0] in _V1_ALWAYS]
    doubtful = [pair for pair in pairs if pair[0] not in _V1_ALWAYS][:_MOST_DOUBTFUL]

    def forms() -> Iterator[str]:
        for count in range(len(doubtful), -1, -1):
            for chosen in itertools.combinations(doubtful, count):
                query = "&".join(f"{n}={v}" if v else n for n, v in sorted([*signed, *chosen]))
                yield "\n".join([*begin, headers + resource + (f"?{query}" if query else "")])

    _compare(given, (_base64(access_key.secret, text, "sha1") for text in forms()))


def _v4(
    request: web.Request,
    resource: str,
    scope: str,
    moment: str,
    additional: Sequence[str],
    given: str,
    access_key: AccessKey,
) -> None:
    names = sorted({name.strip().lower() for name in additional} - {""})
    default = ("content-type", "content-md5")
    signed = _headers(request, lambda name: name.startswith("x-oss-") or name in default or name in names)
    headers = "".join(f"{name}:{value}\n" for name, value in signed)
    payload = request.headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD")
    pairs = [(name, value) for name, value in _pairs(request) if name != "x-oss-signature"]
    secret = f"aliyun_v4{access_key.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.new(secret, part.encode(), "sha256").digest()

    def signatures() -> Iterator[str]:
        encoded = [(_encoded(name), _encoded(value)) for name, value in pairs]
        for form in (pairs, encoded):
            query = "&".join(f"{n}={v}" if v else n for n, v in sorted(form))
            canonical = [request.method, quote(resource, safe="/~"), query, headers, ";".join(names), payload]
            text = ["OSS4-HMAC-SHA256", moment, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()]
            yield hmac.new(secret, "\n".join(text).encode(), "sha256").hexdigest()

    day = time.strftime("%Y%m%d", time.gmtime(_moment(moment, _COMPACT, moment)))
    if len(scope.split("/")) != 4 or scope.split("/")[0] != day:
        raise _mismatch()
    _compare(given, signatures())


def _acs3(request: web.Request, names: Sequence[str], given: str, digest: str, access_key: AccessKey) -> None:
    wanted = {name.strip().lower() for name in names}
    headers = "".join(f"{name}:{value}\n" for name, value in _headers(request, wanted.__contains__))
    pairs = [(unquote(name), _encoded(value)) for name, value in _pairs(request)]
    query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
    quoted = "&".join(f"{quote(name, safe='~')}={value}" for name, value in sorted(pairs))

    def signatures() -> Iterator[str]:
        for path, parameters in itertools.product(_paths(request), dict.fromkeys((query, quoted))):
            canonical = "\n".join([request.method, path, parameters, headers, ";".join(names), digest])
            text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
            yield hmac.new(access_key.secret.encode(), text.encode(), "sha256").hexdigest()

    if "host" not in wanted and "x-acs-date" not in wanted:
        raise _mismatch()
    _compare(given, signatures())


def _roa(request: web.Request, given: str, access_key: AccessKey) -> None:
    begin = [request.method, *(request.headers.get(n, "") for n in ("Accept", "Content-MD5", "Content-Type", "Date"))]
    headers = "".join(f"{n}:{v}\n" for n, v in _headers(request, lambda name: name.startswith("x-acs-")))
    raw = sorted(_pairs(request))
    decoded = sorted((unquote(name), unquote(value)) for name, value in raw)

    def forms() -> Iterator[str]:
        for path, pairs in itertools.product(_paths(request), (decoded, raw)):
            for bare in (True, False):
                query = "&".join(n if bare and not v else f"{n}={v}" for n, v in pairs)
                yield "\n".join([*begin, headers + path + (f"?{query}" if query else "")])

    _compare(given, (_base64(access_key.secret, text, "sha1") for text in forms()))


def _rpc(method: str, parameters: Mapping[str, str], access_key: AccessKey) -> None:
    pairs = sorted((name, value) for name, value in parameters.items() if name != "Signature")
    query = "&".join(f"{_encoded_text(name)}={_encoded_text(value)}" for name, value in pairs)
    text = f"{method}&%2F&{_encoded_text(query)}"
    digest = "sha256" if parameters.get("SignatureMethod", "").upper() == "HMAC-SHA256" else "sha1"
    _compare(parameters["Signature"], [_base64(f"{access_key.secret}&", text, digest)])


# ---- what they share -----------------------------------------------------------------------------------------------


def _known(identifier: str, access_key: AccessKey) -> None:
    if not hmac.compare_digest(identifier.encode(errors="surrogateescape"), access_key.id.encode()):
        message = (
            "The Access Key Id you provided does not exist in our records. The sandbox cloud takes the key of its own"
            " checkout only: see the lines that `make cloud` prints."
        )
        raise NotSigned(403, "InvalidAccessKeyId", message)


def _compare(given: str, signatures: Iterable[str]) -> None:
    text = given.encode(errors="surrogateescape")
    if not any(hmac.compare_digest(text, each.encode()) for each in signatures):
        raise _mismatch()


def _mismatch() -> NotSigned:
    message = (
        "The request signature we calculated does not match the signature you provided. Check your key and secret."
    )
    return NotSigned(403, "SignatureDoesNotMatch", message)


def _moment(text: str, form: str, http_date: str = "") -> float:
    """Seconds since 1970 of a date in the given form, or of an HTTP date; 0 for neither."""
    try:
        return timegm(time.strptime(text, form))
    except ValueError:
        parsed = email.utils.parsedate_tz(http_date)
        return email.utils.mktime_tz(parsed) if parsed else 0.0


def _timely(moment: float) -> None:
    if abs(time.time() - moment) > MOST_SKEW_SECONDS:
        message = "The difference between the request time and the current time is too large."
        raise NotSigned(403, "RequestTimeTooSkewed", message)


def _headers(request: web.Request, wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
    names = sorted({name.lower() for name in request.headers})
    return [(name, ",".join(value.strip() for value in request.headers.getall(name))) for name in names if wanted(name)]


def _pairs(request: web.Request) -> list[tuple[str, str]]:
    """Names and values of the query, as they were sent."""
    parts = (part.partition("=") for part in request.rel_url.raw_query_string.split("&") if part)
    return [(name, value) for name, _, value in parts]


def _paths(request: web.Request) -> list[str]:
    raw = request.rel_url.raw_path or "/"
    return list(dict.fromkeys((raw, unquote(raw), quote(unquote(raw), safe="/~"))))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", "%20")), safe="~")


def _encoded_text(text: str) -> str:
    return quote(text, safe="~")


def _base64(secret: str, text: str, digest: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), digest).digest()).decode()
