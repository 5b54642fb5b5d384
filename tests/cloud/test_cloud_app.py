"""The frame of the sandbox cloud: which service a request goes to, unknown calls, the request log."""

from __future__ import annotations

import http.client
import json
import logging
from typing import Any

import pytest
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
from alibabacloud_tea_util.models import RuntimeOptions
from Tea.exceptions import TeaException

from sandbox.cloud import openapi


def get(cloud: Any, target: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=60)
    connection.request(method, target, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body) if body.startswith(b"{") else body


def call(cloud: Any, action: str, version: str, style: str, pathname: str = "/", method: str = "POST") -> Any:
    """What every current Alibaba Cloud SDK does underneath."""
    config = Config(
        access_key_id="sandbox-key",
        access_key_secret="sandbox-secret",
        endpoint=f"127.0.0.1:{cloud.port}",
        protocol="HTTP",
        region_id="cn-hangzhou",
    )
    params = Params(
        action=action,
        version=version,
        protocol="HTTP",
        pathname=pathname,
        method=method,
        auth_type="AK",
        style=style,
        req_body_type="json",
        body_type="json",
    )
    return Client(config).call_api(params, OpenApiRequest(), RuntimeOptions())["body"]


def test_the_health_check_says_whose_cloud_it_is(shared_cloud: Any) -> None:
    status, body = get(shared_cloud, "/-/health")
    assert status == 200
    assert (body["sandbox"], body["data"], body["port"]) == (True, str(shared_cloud.data), shared_cloud.port)
    assert body["root"]
    assert body["pid"] > 0


def test_the_caller_is_the_only_account_there_is(shared_cloud: Any) -> None:
    identity = call(shared_cloud, "GetCallerIdentity", "2015-04-01", "RPC")
    assert identity["AccountId"] == identity["UserId"]
    assert identity["Arn"].startswith("acs:ram::")
    assert "Code" not in identity


def test_the_location_service_points_back_at_the_cloud(shared_cloud: Any) -> None:
    target = "/?Action=DescribeEndpoints&Version=2015-06-12&ServiceCode=eas&Id=cn-hangzhou&Type=openAPI"
    status, body = get(shared_cloud, target)
    endpoint = body["Endpoints"]["Endpoint"][0]
    assert status == 200
    assert (endpoint["Endpoint"], endpoint["Type"]) == (f"127.0.0.1:{shared_cloud.port}", "openAPI")
    assert endpoint["ServiceCode"] == "eas"


def test_an_unknown_rpc_call_is_a_400_that_names_it_and_never_looks_like_not_found(shared_cloud: Any) -> None:
    with pytest.raises(TeaException) as error:
        call(shared_cloud, "CreateNatGateway", "2016-04-28", "RPC")
    assert error.value.code == "UnsupportedAction.CreateNatGateway"
    assert "CreateNatGateway (2016-04-28)" in error.value.message
    status, body = get(shared_cloud, "/?Action=CreateNatGateway&Version=2016-04-28")
    assert status == 400
    assert "NotFound" not in body["Code"]
    assert body["RequestId"]


def test_an_unknown_roa_call_is_named_by_its_path(shared_cloud: Any) -> None:
    status, body = get(shared_cloud, "/api/v1/widgets", "PUT", x_acs_version="2021-02-04")
    assert (status, body["Code"]) == (400, "UnsupportedAction.PUT.api.v1.widgets")


@pytest.mark.parametrize("action", ["Line\nbreak", "ü", "%"])
def test_a_strange_action_name_still_gets_a_code(shared_cloud: Any, action: str) -> None:
    from urllib.parse import quote

    status, body = get(shared_cloud, f"/?Action={quote(action)}&Version=1")
    assert status == 400
    assert body["Code"].startswith("UnsupportedAction")


def test_oss_requests_are_not_taken_for_api_calls(shared_cloud: Any) -> None:
    status, body = get(shared_cloud, "/some-bucket/api/v2/services", Authorization="OSS key:s")
    assert status == 404
    assert b"<Code>NoSuchBucket</Code>" in body


def test_the_request_log_names_calls_and_hides_secrets(shared_cloud: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sandbox.cloud"):
        get(
            shared_cloud,
            "/some-bucket/k?OSSAccessKeyId=akid&Expires=1&Signature=sig%2F1&security-token=sts&line=a%0Ab",
        )
        get(shared_cloud, "/?Action=Nothing&Version=1&AccessKeyId=akid&SecurityToken=sts&Signature=sig", "POST")
        get(shared_cloud, "/some-bucket/k", Authorization="OSS akid:sig", x_oss_security_token="sts")
    lines = [record.getMessage() for record in caplog.records if record.name == "sandbox.cloud"]
    assert len(lines) == 3
    assert "[Nothing] 400" in lines[1]
    assert "Expires=1" in lines[0]
    assert "line=a\\nb" in lines[0]
    for secret in ("akid", "sig", "sts"):
        assert not any(secret in line for line in lines)


def test_health_checks_do_not_fill_the_log(shared_cloud: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sandbox.cloud"):
        get(shared_cloud, "/-/health")
    assert not caplog.records


def test_a_failure_of_the_cloud_itself_is_a_500_without_a_traceback(
    shared_cloud: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("inner workings")

    monkeypatch.setattr("sandbox.cloud.account.request_id", broken)
    status, body = get(shared_cloud, "/?Action=GetCallerIdentity&Version=2015-04-01")
    assert (status, body["Code"]) == (500, "InternalError")
    assert "inner workings" not in json.dumps(body)
    assert any("inner workings" in (record.exc_text or "") for record in caplog.records)


def test_a_roa_signature_alone_marks_an_api_call() -> None:
    from aiohttp.test_utils import make_mocked_request

    request = make_mocked_request("GET", "/clusters", headers={"Authorization": "acs key:signature"})
    assert openapi.openapi_call(request) == openapi.OpenApiCall("", "", "GET /clusters")
