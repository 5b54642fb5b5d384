"""What a page in a browser, and what a client without the key, can do to a sandbox cloud: nothing."""

from __future__ import annotations

import asyncio
import base64
import datetime
import hashlib
import hmac
import http.client
import json
import stat
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest
from aiohttp import web
from alibabacloud_eas20210701 import models
from alibabacloud_eas20210701.client import Client as EasClient
from alibabacloud_oss_v2 import exceptions
from alibabacloud_tea_openapi.models import Config
from Tea.exceptions import TeaException

from sandbox import browser, keys
from sandbox.cloud import health
from sandbox.cloud.app import create_app, make_runner
from sandbox.cloud.eas import grpc_gateway
from tests.cloud.conftest import RunningCloud
from tests.ports import free_port

KEY = keys.AccessKey("sandbox0123", "only-this-checkout-knows")
BUCKET = "guarded-bucket"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """A cloud with a key, as `python -m sandbox cloud start` runs it."""
    loop, port = asyncio.new_event_loop(), free_port()
    data = tmp_path_factory.mktemp("guarded")
    app = create_app(data, port, access_key=KEY)
    runner = make_runner(app)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def up() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    asyncio.run_coroutine_threadsafe(up(), loop).result(30)
    running = RunningCloud(data, port, app)
    client_of(running).put_bucket(oss.PutBucketRequest(bucket=BUCKET))
    client_of(running).put_object(oss.PutObjectRequest(bucket=BUCKET, key="a b/ü+~.txt", body=b"text"))
    try:
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client_of(cloud: RunningCloud, key: keys.AccessKey = KEY, **options: Any) -> oss.Client:
    provider = oss.credentials.StaticCredentialsProvider(key.id, key.secret)
    return cloud.client(credentials_provider=provider, **options)


def eas_of(cloud: RunningCloud, key: keys.AccessKey = KEY) -> EasClient:
    endpoint = f"127.0.0.1:{cloud.port}"
    config = Config(access_key_id=key.id, access_key_secret=key.secret, endpoint=endpoint, protocol="HTTP")
    config.region_id = "cn-hangzhou"
    return EasClient(config)


def send(
    cloud: RunningCloud, method: str, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=30)
    try:
        connection.putrequest(method, target, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


# ---- signatures


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("path_style", [True, False])
def test_the_official_client_is_understood_in_every_way_of_signing(
    cloud: RunningCloud, version: str, path_style: bool
) -> None:
    client = client_of(cloud, signature_version=version, use_path_style=path_style)
    key = "a b/ü+~.txt"
    assert client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=key)).body.content == b"text"
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key="x", body=b"1", metadata={"a": "b"}, content_type="a/b"))
    found = client.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET, prefix="a b/", encoding_type="url"))
    assert len(found.contents or []) == 1
    client.get_bucket_acl(oss.GetBucketAclRequest(bucket=BUCKET))
    client.get_bucket_info(oss.GetBucketInfoRequest(bucket=BUCKET))
    client.list_object_versions(oss.ListObjectVersionsRequest(bucket=BUCKET))
    client.list_buckets(oss.ListBucketsRequest())
    client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=[oss.DeleteObject(key="none")])
    )
    begun = client.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(bucket=BUCKET, key="m"))
    client.abort_multipart_upload(oss.AbortMultipartUploadRequest(bucket=BUCKET, key="m", upload_id=begun.upload_id))
    url = client.presign(oss.GetObjectRequest(bucket=BUCKET, key=key)).url or ""
    parts = urllib.parse.urlsplit(url)
    host = {"Host": parts.netloc}
    assert send(cloud, "GET", f"{parts.path}?{parts.query}", host) == (200, "text")
    wrong = parts.query[:-3] + ("AAA" if not parts.query.endswith("AAA") else "BBB")
    for target in (f"{parts.path}?{wrong}", f"{parts.path}x?{parts.query}"):
        status, text = send(cloud, "GET", target, host)
        assert status == 403
        assert "SignatureDoesNotMatch" in text
    assert send(cloud, "PUT", f"{parts.path}?{parts.query}", host, b"changed")[0] == 403


@pytest.mark.parametrize("age", [0, 3600])
def test_the_first_sdk_for_go_signs_the_date_as_it_stands_in_the_date_header(cloud: RunningCloud, age: int) -> None:
    """As the alicloud provider does. It sends no ``x-oss-date``; the form is that of the SDK's ``auth.go``."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
    date = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    scope = f"{moment:%Y%m%d}/cn-hangzhou/oss/aliyun_v4_request"
    query = f"max-keys=1&prefix={BUCKET}"
    canonical = f"GET\n/\n{query}\nx-oss-content-sha256:UNSIGNED-PAYLOAD\n\n\nUNSIGNED-PAYLOAD"
    text = f"OSS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = f"aliyun_v4{KEY.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.new(secret, part.encode(), "sha256").digest()
    signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
    headers = {
        "Date": date,
        "X-Oss-Content-Sha256": "UNSIGNED-PAYLOAD",
        "Authorization": f"OSS4-HMAC-SHA256 Credential={KEY.id}/{scope},Signature={signature}",
    }
    status, answer = send(cloud, "GET", f"/?{query}", headers)
    assert (status, "RequestTimeTooSkewed" in answer) == ((403, True) if age else (200, False))
    assert send(cloud, "GET", f"/?{query}x", headers)[0] == 403


def test_a_presigned_url_ends_when_it_says(cloud: RunningCloud) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    for version in ("v1", "v4"):
        client = client_of(cloud, signature_version=version)
        presigned = client.presign(oss.GetObjectRequest(bucket=BUCKET, key="a b/ü+~.txt"), expiration=past)
        status, text = send(cloud, "GET", (presigned.url or "").partition(str(cloud.port))[2])
        assert status == 403
        assert "expired" in text


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize(
    ("key", "code"),
    [
        (keys.AccessKey(KEY.id, "guess"), "SignatureDoesNotMatch"),
        (keys.NO_KEY, "InvalidAccessKeyId"),
        (keys.AccessKey("LTAI5tReal", KEY.secret), "InvalidAccessKeyId"),
    ],
)
def test_another_key_is_refused_with_the_codes_of_the_real_ones(
    cloud: RunningCloud, version: str, key: keys.AccessKey, code: str
) -> None:
    with pytest.raises(exceptions.OperationError) as refused:
        client_of(cloud, key, signature_version=version).list_buckets(oss.ListBucketsRequest())
    assert code in str(refused.value)
    with pytest.raises(TeaException) as failed:
        eas_of(cloud, key).list_services(models.ListServicesRequest())
    assert failed.value.code == code


def test_eas_calls_of_the_official_client_are_verified_body_included(cloud: RunningCloud) -> None:
    client = eas_of(cloud)
    assert client.list_services(models.ListServicesRequest(filter="a b&c=ü", label={"k": "v"})).body.services == []
    with pytest.raises(TeaException) as failed:  # it was signed rightly, and is no service
        client.create_service(models.CreateServiceRequest(body={"metadata": {"name": "ü"}}))
    assert failed.value.code not in ("SignatureDoesNotMatch", "InvalidAccessKeyId")


def rpc(parameters: dict[str, str], method: str = "GET", secret: str = KEY.secret) -> str:
    """A query as the Go provider's RPC client signs it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    common = {"AccessKeyId": KEY.id, "SignatureMethod": "HMAC-SHA1", "SignatureNonce": "n", "Timestamp": now}
    pairs = sorted({**common, **parameters}.items())
    query = urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote, safe="~")
    text = f"{method}&%2F&{urllib.parse.quote(query, safe='~')}"
    digest = hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()
    return f"{query}&{urllib.parse.urlencode({'Signature': base64.b64encode(digest).decode()})}"


CALLER = {"Action": "GetCallerIdentity", "Version": "2015-04-01"}


def test_rpc_calls_are_verified_in_the_query_and_in_a_form(cloud: RunningCloud) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert send(cloud, "GET", f"/?{rpc(CALLER)}")[0] == 200
    assert send(cloud, "POST", "/?Action=GetCallerIdentity", form, rpc(CALLER, "POST").encode())[0] == 200
    for query in (rpc(CALLER, secret="guess"), rpc(CALLER) + "&More=1"):
        status, text = send(cloud, "GET", f"/?{query}")
        assert (status, json.loads(text)["Code"]) == (403, "SignatureDoesNotMatch")
    status, text = send(cloud, "GET", f"/?{rpc({**CALLER, 'Timestamp': '2020-01-01T00:00:00Z'})}")
    assert (status, json.loads(text)["Code"]) == (403, "RequestTimeTooSkewed")
    assert send(cloud, "GET", "/?Action=GetCallerIdentity&Version=2015-04-01")[0] == 400


def test_roa_calls_signed_the_older_way_are_verified(cloud: RunningCloud) -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    for secret, status in ((KEY.secret, 200), ("guess", 403)):
        text = f"GET\napplication/json\n\n\n{date}\nx-acs-version:2021-07-01\n/api/v2/services?Filter=a b&PageSize=5"
        signature = base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()).decode()
        headers = {"Accept": "application/json", "Date": date, "x-acs-version": "2021-07-01"}
        headers["Authorization"] = f"acs {KEY.id}:{signature}"
        assert send(cloud, "GET", "/api/v2/services?PageSize=5&Filter=a%20b", headers)[0] == status


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("POST", "/api/v2/services", {"x-acs-version": "2021-07-01", "Content-Type": "text/plain"}),
        ("POST", "/api/v2/services?Action=CreateService&Version=2021-07-01", {"Content-Type": "text/plain"}),
        ("GET", "/clusters", {"x-acs-version": "2015-12-15"}),
        ("POST", "/?Action=CreateVpc&Version=2016-04-28", {}),
        ("PUT", f"/{BUCKET}/stolen", {}),
        ("PUT", f"/{BUCKET}/stolen?OSSAccessKeyId=x&Expires=9999999999&Signature=x", {}),
        ("GET", f"/{BUCKET}?OSSAccessKeyId={KEY.id}&Expires=9999999999&Signature=x", {}),
    ],
)
def test_what_is_not_signed_is_refused(cloud: RunningCloud, method: str, target: str, headers: dict[str, str]) -> None:
    status, _ = send(cloud, method, target, headers, b"{}")
    assert status in (400, 403)


# ---- browsers

TARGETS = (
    ("GET", "/"),
    ("GET", f"/{BUCKET}/k"),
    ("POST", "/api/v2/services"),
    ("POST", "/api/predict/some_service/v1/models/m:predict"),
    ("POST", "/?Action=GetCallerIdentity&Version=2015-04-01"),
    ("OPTIONS", f"/{BUCKET}/k"),
)
FOREIGN: tuple[dict[str, str], ...] = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Referer": "https://evil.example/page"},
    {"Referer": "http://127.0.0.1.evil.example/"},
    {"Host": "evil.example"},
    {"Host": "127.0.0.1.evil.example:7580"},
    {"Host": "10.0.0.1"},
    {"Host": "rebound.example:80", "Origin": "http://rebound.example:80", "Sec-Fetch-Site": "same-origin"},
    {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "https://evil.example"},
)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(("method", "target"), TARGETS)
def test_a_page_of_another_site_is_refused_everywhere(
    cloud: RunningCloud, method: str, target: str, headers: dict[str, str]
) -> None:
    sent = {"Content-Type": "text/plain", **headers}
    status, text = send(cloud, method, target, sent, b"{}" if method == "POST" else None)
    assert status == 403
    assert "Forbidden.Browser" in text


def test_a_signed_request_is_refused_too_when_a_page_sends_it(cloud: RunningCloud) -> None:
    url = client_of(cloud).presign(oss.GetObjectRequest(bucket=BUCKET, key="a b/ü+~.txt")).url or ""
    target = url.partition(str(cloud.port))[2]
    assert send(cloud, "GET", target)[0] == 200
    assert send(cloud, "GET", target, {"Sec-Fetch-Site": "none"})[0] == 200  # a person pasted it
    assert send(cloud, "GET", target, {"Sec-Fetch-Site": "cross-site"})[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]:7580", "bucket.127.0.0.1:7580", "b.localhost"])
def test_addresses_of_this_machine_are_taken(host: str) -> None:
    assert browser.refusal({}, host) == ""


@pytest.mark.parametrize("host", ["", "x", "[", "127.0.0.1@evil", "bucket.oss-cn-hangzhou.aliyuncs.com", "0x7f.1"])
def test_other_addresses_are_not(host: str) -> None:
    assert browser.refusal({}, host) != ""


def test_the_console_opens(cloud: RunningCloud) -> None:
    assert send(cloud, "GET", "/-/console/", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"})[0] == 200
    origin = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert send(cloud, "GET", "/-/console/api/overview", origin)[0] in (403, 404)


def test_metadata_of_a_browser_is_refused_by_the_grpc_gateway_in_the_same_way() -> None:
    assert grpc_gateway.browser.refusal({"origin": "https://evil.example"}, "127.0.0.1:1") != ""
    assert grpc_gateway.browser.refusal({"sec-fetch-site": "cross-site"}, "127.0.0.1:1") != ""


# ---- the key


def test_the_health_check_tells_nothing_without_the_key(cloud: RunningCloud) -> None:
    assert send(cloud, "GET", health.PATH) == (204, "")
    assert send(cloud, "GET", health.PATH, health.proof(keys.NO_KEY)) == (204, "")
    old = health.proof(KEY)
    name, value = next(iter(old.items()))
    moment, _, digest = value.partition(":")
    assert send(cloud, "GET", health.PATH, {name: f"{int(moment) - 1}:{digest}"}) == (204, "")
    status, text = send(cloud, "GET", health.PATH, old)
    assert (status, json.loads(text)["port"]) == (200, cloud.port)


def test_a_checkouts_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    assert keys.of_client(tmp_path, {}) == keys.NO_KEY
    found: list[keys.AccessKey] = []
    threads = [threading.Thread(target=lambda: found.append(keys.of_cloud(tmp_path, {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert keys.of_client(tmp_path, {}) == found[0]
    assert stat.S_IMODE((tmp_path / keys.FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in (tmp_path / ".sandbox").iterdir()) == ["access-key.json"]
    assert found[0].secret not in repr(found[0])
    (tmp_path / keys.FILE).write_text("{", encoding="ascii")
    assert keys.of_cloud(tmp_path, {}) != found[0]
    given = {keys.ID_VARIABLE: "mine", keys.SECRET_VARIABLE: "mine too"}
    assert keys.of_cloud(tmp_path, given) == keys.of_client(tmp_path, given) == keys.AccessKey("mine", "mine too")
