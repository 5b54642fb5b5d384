"""Region, credentials and endpoints: where the APIs of Alibaba Cloud answer, and in whose name they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from config.reader import Reader
from config.stack_config import NAMESPACE, StackConfig
from tfserving.cloud_names import REGION
from tfserving.errors import Problem
from tfserving.options import keys, option, options
from tfserving.property_path import join_path

_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
_ENDPOINT = re.compile(rf"({_HOST})(:([0-9]{{1,5}}))?")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}")


@dataclass(frozen=True, kw_only=True)
class AlicloudSettings:
    """How to reach Alibaba Cloud, for both providers.

    Attributes:
        region: region id, such as ``cn-hangzhou``.
        protocol: ``HTTP`` only for loopback endpoints.
        account_type: ``International``: accounts of alibabacloud.com.
        skip_region_validation: accept a region the alicloud provider does not know.
        profile: profile of ``~/.aliyun/config.json``.
        access_key: access key id; goes with ``secret_key``.
        secret_key: access key secret; set with ``pulumi config set --secret``.
        security_token: token of temporary credentials; set as ``secret_key``.
        client_read_timeout: how long the alicloud provider waits for an answer.
        client_connect_timeout: how long the alicloud provider waits for a connection.
        max_retry_timeout: how long the alicloud provider tries again.
    """

    region: str
    protocol: str = option("HTTPS", written=Literal["HTTPS", "HTTP"])
    account_type: str = option("", written=Literal["", "Domestic", "International"], otherwise="asked for")
    skip_region_validation: bool = False
    profile: str = ""
    access_key: str = option("", secret=True, late="{}")
    secret_key: str = option("", secret=True, late="{}")
    security_token: str = option("", secret=True, late="{}")
    client_read_timeout: int | None = option(None, unit="milliseconds", least=1, otherwise="provider's")
    client_connect_timeout: int | None = option(None, unit="milliseconds", least=1, otherwise="provider's")
    max_retry_timeout: int | None = option(None, unit="seconds", least=1, otherwise="provider's")


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where the APIs answer; empty is the region's own endpoint.

    Attributes:
        all: ``host:port`` that answers every API: a local stack.
        oss: of OSS, such as the internal ``oss-cn-hangzhou-internal.aliyuncs.com``.
        eas: of the EAS API.
    """

    all: str = option("", configured=False)
    oss: str = option("", unit="`host[:port]`", otherwise="the region's")
    eas: str = option("", unit="`host[:port]`", otherwise="the region's")


def read_endpoints(stack: StackConfig) -> Endpoints:
    path = f"{NAMESPACE}:endpoint"
    reader = stack.reader(path)
    everything = _endpoint(stack, reader, stack.raw.get(path), path)
    if everything and ":" not in everything:
        reader.add(path, f"{everything!r} names no port", "host:port", f"write for example {everything}:7580")
    path = f"{NAMESPACE}:endpoints"
    reader = stack.reader(path)
    single = reader.mapping(stack.raw.get(path), path, keys(Endpoints))
    oss, eas = (_endpoint(stack, reader, single.get(name), join_path(path, name)) for name in ("oss", "eas"))
    return Endpoints(all=everything, oss=oss or everything, eas=eas or everything)


def _endpoint(stack: StackConfig, reader: Reader, value: Any, path: str) -> str:
    text = reader.text(value, path, allowed="host or host:port")
    match = _ENDPOINT.fullmatch(text)
    if not text or (match and (match[4] is None or 0 < int(match[4]) < 65536)):
        return text
    bare = text.partition("://")[2].rstrip("/") if "://" in text else ""
    fix = f"write {bare}; the scheme is alicloud:protocol" if bare else ""
    reader.add(path, f"{reader.show(text)} is not an endpoint", "host or host:port, port 1 to 65535", fix)
    return ""


def read_alicloud(stack: StackConfig, endpoints: Endpoints) -> AlicloudSettings:
    def get(name: str) -> tuple[Any, str, Reader]:
        path = f"alicloud:{name}"
        return stack.raw.get(path), path, stack.reader(path)

    value, path, reader = get("region")
    region = reader.text(value, path)
    if not region:
        # The alicloud provider would take cn-beijing.
        reader.add(path, "no region is set", "a region id such as cn-hangzhou", f"pulumi config set {path} cn-hangzhou")
    elif not REGION.fullmatch(region):
        reader.add(path, f"{region!r} is not a region id", "a region id such as cn-hangzhou")
    value, path, reader = get("protocol")
    protocol = reader.choice(value, path, ("HTTPS", "HTTP")) if value not in (None, "") else "HTTPS"
    _check_protocol(stack, protocol, endpoints, reader)
    value, path, reader = get("accountType")
    account_type = reader.choice(value, path, ("Domestic", "International")) if value not in (None, "") else ""
    value, path, reader = get("skipRegionValidation")
    skip = reader.boolean(value, path)
    credentials = {}
    for name in ("accessKey", "secretKey", "securityToken"):
        value, path, reader = get(name)
        reader.secret = True
        credentials[name] = reader.text(value, path)
    value, path, reader = get("profile")
    profile = reader.text(value, path)
    _check_credentials(stack, credentials, profile, endpoints)
    timeouts = {
        each.name: reader.optional_integer(value, path, least=each.least, unit=each.unit)
        for each in options(AlicloudSettings)
        if each.plain_type is int
        for value, path, reader in (get(each.key),)
    }
    return AlicloudSettings(
        region=region,
        protocol=protocol,
        account_type=account_type,
        skip_region_validation=skip,
        access_key=credentials["accessKey"],
        secret_key=credentials["secretKey"],
        security_token=credentials["securityToken"],
        profile=profile,
        **timeouts,
    )


def _check_protocol(stack: StackConfig, protocol: str, endpoints: Endpoints, reader: Reader) -> None:
    path = "alicloud:protocol"
    if endpoints.all and protocol != "HTTP":
        reader.add(
            path, f"{protocol} does not work with {NAMESPACE}:endpoint", "HTTP", f"pulumi config set {path} HTTP"
        )
    elif protocol == "HTTP" and not all(_is_loopback(host) for host in (endpoints.oss, endpoints.eas)):
        message = "HTTP would send keys and models in the clear"
        reader.add(path, message, "HTTPS, or HTTP to a loopback endpoint", "remove it, or set HTTPS")


def _check_credentials(stack: StackConfig, keys: Mapping[str, str], profile: str, endpoints: Endpoints) -> None:
    def refuse(name: str, message: str, fix: str) -> None:
        stack.problems.append(Problem(f"alicloud:{name}", message, "", fix))

    for name, other in (("accessKey", "secretKey"), ("secretKey", "accessKey")):
        if keys[name] and not keys[other]:
            refuse(
                other,
                f"{name} is set and {other} is not",
                "set both, or none to use the environment's credentials",
            )
    if keys["securityToken"] and not (keys["accessKey"] and keys["secretKey"]):
        refuse("securityToken", "a security token needs accessKey and secretKey beside it", "set all three, or none")
    if profile and keys["accessKey"]:
        refuse("profile", "both a profile and an access key are set", "keep one of them")
    if stack.secret_keys is None or endpoints.all:
        return
    for name in ("secretKey", "securityToken"):
        if keys[name] and f"alicloud:{name}" not in stack.secret_keys:
            refuse(name, "stands in the stack file in the clear", f"pulumi config set --secret alicloud:{name}")


def _is_loopback(endpoint: str) -> bool:
    return _LOOPBACK.fullmatch(endpoint.rpartition(":")[0] or endpoint) is not None
