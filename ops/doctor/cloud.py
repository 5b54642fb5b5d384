"""The cloud: endpoints, credentials, identity and rights."""

from __future__ import annotations

import email.utils
import json
import os
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from ops import ram_policy
from ops.doctor.machine import ask_cli
from ops.doctor.masked import Masked
from ops.doctor.stack import KEYS, NAMESPACE, DoctorError, StackConfig
from ops.engine import PROJECT_DIR
from ops.finding import Finding
from provider.clients import NO_CREDENTIALS, Clients, CloudSettings, one_line
from provider.oss import Bucket, oss_error
from tfserving.errors import CloudError
from tfserving.hosts import opener

MOST_SKEW_SECONDS = 900
"""Alibaba Cloud refuses requests that are signed with a time further off than this."""

_SANDBOX = "the sandbox cloud of this checkout"

_SECONDS = 5.0


def endpoint_finding(stack: StackConfig, product: str) -> Finding:
    """Whether a product's API answers, whatever it says."""
    host = stack.host(product)
    scheme = "http" if stack.protocol == "HTTP" else "https"
    subject = "sandbox cloud" if stack.is_local else f"endpoint {product}"
    path = "/-/health" if stack.is_local else "/"
    url = f"{scheme}://{host}{path}"
    started = time.monotonic()
    try:
        with opener(url).open(url, timeout=_SECONDS) as answer:
            date = answer.headers.get("Date", "")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date", "")
        error.close()
    except (OSError, ValueError) as error:
        return Finding("error", subject, f"{host}: {one_line(getattr(error, 'reason', error))}", way_to(stack, host))
    milliseconds = (time.monotonic() - started) * 1000
    skew = _skew(date)
    if skew > MOST_SKEW_SECONDS:
        text = f"{host} answers, but the clock of this machine is {skew / 60:.0f} minutes off"
        return Finding("error", subject, text, "set the clock (NTP): signatures are refused beyond 15 minutes")
    return Finding("ok", subject, f"{host} answers ({milliseconds:.0f} ms)")


def way_to(stack: StackConfig, host: str) -> str:
    if stack.is_local:
        return "start it with `make up` or `make cloud`"
    if "-internal." in host or "-vpc." in host:
        return "this endpoint is for machines in that region's VPCs; take tf-serving:endpoints out of the stack file"
    return f"is alicloud:region right? Else let this machine reach {host}, port 443 (firewall, DNS, HTTPS_PROXY)"


def _skew(date: str) -> float:
    """Seconds between this machine's clock and a Date header; 0 without one."""
    try:
        return abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


class EncryptedError(DoctorError):
    """The credentials of a stack are encrypted and cannot be read here."""

    fix = "install the Pulumi CLI, log in, and set the passphrase if the stack has one"


def clients_of(stack: StackConfig, project_dir: Path = PROJECT_DIR) -> Clients:
    """The clients of a stack's cloud, with its credentials.

    Raises:
        EncryptedError: they are encrypted and the Pulumi CLI does not read them.
    """
    keys = {key: stack.text(f"alicloud:{key}") for key in KEYS}
    if any(f"alicloud:{key}" in stack.encrypted for key in KEYS):
        try:
            shown = json.loads(ask_cli("config", "--json", "--show-secrets", "--stack", stack.name, cwd=project_dir))
            keys |= {key: str((shown.get(f"alicloud:{key}") or {}).get("value") or "") for key in KEYS}
        except (ValueError, AttributeError):
            message = (
                f"the credentials in {stack.file.name} are encrypted and cannot be read. Fix: {EncryptedError.fix}"
            )
            raise EncryptedError(message) from None
    if stack.is_local and not keys["accessKey"] and not stack.text("alicloud:profile"):
        keys |= _sandbox_key(project_dir)
    return Clients(
        CloudSettings(
            region=stack.region,
            eas_endpoint=stack.host("eas"),
            oss_endpoint=stack.host("oss"),
            protocol=stack.protocol,
            access_key=keys["accessKey"],
            secret_key=keys["secretKey"],
            security_token=keys["securityToken"],
            profile=stack.text("alicloud:profile"),
        ),
        threading.Event(),
    )


def access_findings(stack: StackConfig, project_dir: Path) -> Iterator[Finding]:
    """Whose credentials these are, and what they may do."""
    try:
        clients = clients_of(stack, project_dir)
    except EncryptedError as error:
        yield Finding("skipped", "credentials", f"are encrypted in {stack.file.name} and cannot be read", error.fix)
        return
    try:
        found = clients.credentials.get_credential()
        if not found.access_key_id:
            raise ValueError("no access key")
    except Exception:  # of the SDK, of the files and of the services it looks at
        yield Finding("error", "credentials", "none were found", NO_CREDENTIALS.partition(": ")[2])
        return
    kind = "temporary" if found.security_token else "an access key"
    of_sandbox = stack.is_local and clients.settings.access_key == _sandbox_key(project_dir).get("accessKey")
    source = _SANDBOX if of_sandbox else _source(stack, clients.settings.access_key, str(found.provider_name or ""))
    masked = Masked((found.access_key_id, found.access_key_secret, found.security_token))
    for finding in (
        Finding("ok", "credentials", f"from {source} ({kind})"),
        *_identity(stack, clients),
        *_permissions(stack, clients),
    ):
        yield masked(finding)


def _sandbox_key(project_dir: Path) -> dict[str, str]:
    """The access key that the sandbox cloud of a checkout has made for itself; empty where there is none."""
    try:
        found = json.loads((project_dir / ".sandbox" / "access-key.json").read_text(encoding="utf-8"))
        return {"accessKey": str(found["id"]), "secretKey": str(found["secret"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _source(stack: StackConfig, access_key: str, chain: str) -> str:
    if access_key:
        return f"the stack config ({stack.file.name})"
    profile = stack.text("alicloud:profile")
    if profile:
        return f"profile {profile} of ~/.aliyun/config.json"
    if os.environ.get("ALICLOUD_ACCESS_KEY"):
        return "ALICLOUD_ACCESS_KEY"
    return f"the standard chain: {chain.removeprefix('default/') or 'unknown'}"


_IDENTITY_FIXES = (
    ("InvalidAccessKeyId", "the access key does not exist or is disabled: make a new one in the RAM console"),
    ("SignatureDoesNotMatch", "the secret does not belong to the access key: set both again"),
    ("SecurityToken", "the temporary credentials are over or incomplete: get new ones"),
)


def _identity(stack: StackConfig, clients: Clients) -> Iterator[Finding]:
    """Who calls. STS needs no right for it."""
    from alibabacloud_tea_openapi.client import Client
    from alibabacloud_tea_openapi.models import Config, OpenApiRequest, Params
    from alibabacloud_tea_util.models import RuntimeOptions

    config = Config(
        credential=clients.credentials,
        region_id=stack.region,
        endpoint=stack.host("sts"),
        protocol=stack.protocol,
        connect_timeout=int(_SECONDS * 1000),
        read_timeout=int(_SECONDS * 1000),
    )
    params = Params(
        action="GetCallerIdentity",
        version="2015-04-01",
        protocol=stack.protocol,
        pathname="/",
        method="POST",
        auth_type="AK",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
    try:
        body = Client(config).call_api(params, OpenApiRequest(), RuntimeOptions())["body"]
    except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
        # Only the code: messages about signatures quote what was signed.
        code = str(getattr(error, "code", "") or type(error).__name__)
        fix = next(
            (text for start, text in _IDENTITY_FIXES if start in code), "run it again; if it stays, look the code up"
        )
        yield Finding("error", "identity", f"STS GetCallerIdentity: {code}", fix)
        return
    arn, kind = str(body.get("Arn", "")), str(body.get("IdentityType", ""))
    text = f"{arn} ({kind}), account {body.get('AccountId', '')}"
    if kind == "Account" and not stack.is_local:
        command = f".venv/bin/python -m ops doctor --stack {stack.name} --ram-policy"
        fix = f"use a RAM user or role with the policy of `{command}`"
        yield Finding("warning", "identity", f"{text}: the root account may do everything", fix)
    else:
        yield Finding("ok", "identity", text)


def _permissions(stack: StackConfig, clients: Clients) -> Iterator[Finding]:
    """The rights that can be tried without changing anything. What writes is only listed, by ``--ram-policy``."""
    fix = f"attach the policy of `.venv/bin/python -m ops doctor --stack {stack.name} --ram-policy`"
    needs = stack.needs
    if needs.services:
        yield _eas(stack, clients, needs, fix)
    if not needs.bucket:
        fix = f"pulumi config set -s {stack.name} {NAMESPACE}:bucket <name>"
        yield Finding("error", "bucket", f"{stack.file.name} names none", fix)
        return
    yield _bucket(stack, clients, needs, fix)
    for source in needs.sources:
        yield _source_of_models(clients, source, fix)
    if not stack.is_local:
        yield Finding("skipped", "rights to write", "are not tried, as that would change something", fix)


def _eas(stack: StackConfig, clients: Clients, needs: ram_policy.Needs, fix: str) -> Finding:
    try:
        clients.eas.labelled({"pulumi-owner": f"{NAMESPACE}/{stack.name}"})
        found = [name for name in needs.services if clients.eas.describe(name) is not None]
    except CloudError as error:
        return Finding("error", "rights on EAS", f"{error}", fix)
    return Finding("ok", "rights on EAS", f"may read; {len(found)} of {len(needs.services)} services are there")


def _source_of_models(clients: Clients, source: str, fix: str) -> Finding:
    """Whether models can be read at another place, ``bucket/path/``: one file of it is asked for."""
    name, _, prefix = source.partition("/")
    bucket, subject = Bucket(clients.oss, name), f"rights on oss://{source}"
    try:
        first = next(bucket.list(prefix), None)
        if first is None:
            return Finding("warning", subject, "nothing is there", "is the path right? else put the versions there")
        bucket.head(first.key)
    except CloudError as error:
        if error.code == "NoSuchBucket":
            return Finding("error", subject, f"bucket {name} does not exist", "correct its name")
        return Finding("error", subject, str(error), fix)
    return Finding("ok", subject, "may be listed and read")


def _bucket(stack: StackConfig, clients: Clients, needs: ram_policy.Needs, fix: str) -> Finding:
    import alibabacloud_oss_v2 as sdk

    subject = "rights on OSS"
    try:
        info = clients.oss.get_bucket_info(sdk.GetBucketInfoRequest(bucket=needs.bucket)).bucket_info
        clients.oss.list_objects_v2(sdk.ListObjectsV2Request(bucket=needs.bucket, prefix=needs.model_root, max_keys=1))
    except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
        found = oss_error(f"bucket {needs.bucket}", sdk, error)
        if found.code != "NoSuchBucket":
            if not found.code:
                fix = "run it again; if it stays, is tf-serving:endpoints right?"
            elif not needs.existing_bucket and found.code == "AccessDenied":
                fix = f"{fix}; if the name is taken by another account, choose another one"
            return Finding("error", subject, str(found), fix)
        if needs.existing_bucket:
            make = f"make it in {stack.region}, correct the name, or take `existing: true` out"
            return Finding("error", subject, f"bucket {needs.bucket} does not exist", make)
        return Finding("ok", subject, f"bucket {needs.bucket} is not there yet; `pulumi up` makes it")
    location = str(info.location or "").removeprefix("oss-")
    if location and location != stack.region:
        move = "EAS mounts buckets of its own region only: take a bucket there, or change alicloud:region"
        return Finding("error", subject, f"bucket {needs.bucket} is in {location}, not in {stack.region}", move)
    return Finding("ok", subject, f"may read bucket {needs.bucket}")
