"""What a machine can look at in a first run on a real account. Every look reads, and nothing more.

Texts are for a report that is sent to others: no values of the service JSON but those a question is about, and no
account. Tokens are masked by whoever writes the report.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import grpc

from ops.doctor.stack import NAMESPACE, StackConfig
from ops.outputs import ExportedService
from provider.clients import Clients, DescribedService
from provider.oss import Bucket, oss_error
from tfserving.eas_spec import SCENARIO_LABEL
from tfserving.hosts import opener
from tfserving.protos import tf_serving_pb2 as pb

Verdict = Literal["as assumed", "different", "seen", "not seen"]
"""``seen``: nothing was assumed, or only a person can judge it. ``not seen``: there is nothing to look at."""

_SECONDS = 10.0
_LOG_LINES = 200
_EVENTS = 20


@dataclass(frozen=True)
class Seen:
    """What a look found.

    Attributes:
        verdict: whether it is as this project assumes.
        text: what there is to see.
    """

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class World:
    """A deployed stack, as far as looks need it.

    Attributes:
        stack: what the stack file says.
        clients: the cloud.
        described: the services on PAI-EAS that exist, by name.
        exported: what the stack exports of each.
    """

    stack: StackConfig
    clients: Clients
    described: Mapping[str, DescribedService]
    exported: Mapping[str, ExportedService]

    def asked(self, protocol: str) -> Iterator[tuple[ExportedService, str]]:
        """Exported services on PAI-EAS of one protocol, each with a model that it serves."""
        for name, service in self.exported.items():
            if name in self.described and service.protocol == protocol and service.models:
                yield service, next(iter(service.models))


NO_SERVICE: Final = Seen("not seen", "the stack has no such service")


def _json_echo(world: World) -> Seen:
    paths = {path for service in world.described.values() for path in _paths(service.config)}
    if not paths:
        return NO_SERVICE
    return Seen("seen", ", ".join(f"`{path}`" for path in sorted(paths)))


def _paths(value: Any, at: str = "") -> Iterator[str]:
    """The keys of a service JSON, down to what is no object; elements of a list look alike."""
    if isinstance(value, Mapping) and value and not at.endswith(("labels", "env[]")):
        for key, item in value.items():
            yield from _paths(item, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            yield from _paths(item, f"{at}[]")
    else:
        yield at


def _json_image(world: World) -> Seen:
    declared = {name: str(entry.get("image") or "") for name, entry in world.stack.services.items()}
    found = {}
    for name, service in world.described.items():
        containers = service.config.get("containers")
        first = containers[0] if isinstance(containers, list) and containers else {}
        found[name] = str(first.get("image") or "none") if isinstance(first, Mapping) else "none"
    if not found:
        return NO_SERVICE
    told = "; ".join(f"`{name}`: `{declared.get(name) or 'none given'}` is `{image}`" for name, image in found.items())
    return Seen("seen", told)


def _json_scenario_labels(world: World) -> Seen:
    told = {}
    for name, service in world.described.items():
        exported = world.exported.get(name)
        labelled = exported and any(served.get("labels") for served in exported.models.values())
        if service.labels.get(SCENARIO_LABEL) and labelled:
            told[name] = service.status
    if not told:
        return NO_SERVICE
    verdict: Verdict = "as assumed" if set(told.values()) == {"Running"} else "different"
    return Seen(verdict, ", ".join(f"`{name}`: {status}" for name, status in told.items()))


def _json_keepalive(world: World) -> Seen:
    told = {}
    for name, service in world.described.items():
        if "rpcKeepaliveMs" not in world.stack.services.get(name, {}):
            metadata = service.config.get("metadata")
            rpc = metadata.get("rpc") if isinstance(metadata, Mapping) else None
            told[name] = rpc.get("keepalive", "not there") if isinstance(rpc, Mapping) else "not there"
    if not told:
        return Seen("not seen", "every service of the stack sets `rpcKeepaliveMs`")
    return Seen("seen", ", ".join(f"`{name}`: {value}" for name, value in told.items()))


def _json_grace(world: World) -> Seen:
    paths = {
        path
        for service in world.described.values()
        for path in _paths(service.config)
        if "termination_grace_period" in path
    }
    if not paths:
        return Seen("not seen", "no service has the key")
    expected = "metadata.eas.termination_grace_period"
    return Seen("as assumed" if paths == {expected} else "different", ", ".join(sorted(f"`{path}`" for path in paths)))


def _json_autoscaler(world: World) -> Seen:
    told, inside = [], False
    for name, service in world.described.items():
        scaler = world.clients.eas.autoscaler(name)
        if scaler is not None:
            inside = inside or "autoscaler" in service.config
            told.append(f"`{name}`: the call returns `{', '.join(scaler)}`")
    if not told:
        return NO_SERVICE
    where = "the service JSON has `autoscaler`, too" if inside else "the service JSON has none"
    return Seen("different" if inside else "as assumed", "; ".join([*told, where]))


def _cron_zone(world: World) -> Seen:
    told, silent = [], False
    for name in world.described:
        scaler = world.clients.eas.cron_scaler(name)
        for job in scaler["scaleJobs"] if scaler else ():
            silent = silent or "timeZone" not in job
            told.append(f"`{name}`: job `{job.get('name')}` has {job.get('timeZone') or 'no time zone'}")
    if not told:
        return NO_SERVICE
    return Seen("different" if silent else "as assumed", "; ".join(told))


_URL = re.compile(r"https?://(\d+|<uid>)\.[a-z0-9-]+\.pai-eas\.aliyuncs\.com/api/predict/(?P<service>[^/]+)/?")
_HOST = re.compile(r"(?P<service>[a-z0-9-]+)\.(\d+|<uid>)\.[a-z0-9-]+\.pai-eas\.aliyuncs\.com:80")


def _address_url(world: World) -> Seen:
    return _addresses(world, "http", _URL, lambda name: name)


def _address_host(world: World) -> Seen:
    return _addresses(world, "grpc", _HOST, lambda name: name.replace("_", "-"))


def _addresses(world: World, protocol: str, form: re.Pattern[str], named: Callable[[str], str]) -> Seen:
    told, fits = [], True
    for service, _ in world.asked(protocol):
        match = form.fullmatch(service.address)
        fits = fits and match is not None and match["service"] == named(service.name)
        told.append(f"`{service.address}`")
    return Seen("as assumed" if fits else "different", ", ".join(told)) if told else NO_SERVICE


def _token_http(world: World) -> Seen:
    for service, model in world.asked("http"):
        url = f"{service.url}/v1/models/{quote(model, safe='')}"
        tried = {
            "as it is": _get(url, service.token),
            "`Bearer`": _get(url, f"Bearer {service.token}"),
            "none": _get(url, ""),
        }
        verdict: Verdict = "as assumed" if (tried["as it is"], tried["none"]) == ("200", "401") else "different"
        return Seen(verdict, ", ".join(f"{form}: {status}" for form, status in tried.items()))
    return NO_SERVICE


def _token_grpc(world: World) -> Seen:
    for service, model in world.asked("grpc"):
        tried = {
            "as it is": _status(service.target, model, service.token),
            "`Bearer`": _status(service.target, model, f"Bearer {service.token}"),
            "none": _status(service.target, model, ""),
        }
        taken = "OK" in (tried["as it is"], tried["`Bearer`"])
        verdict: Verdict = "as assumed" if taken and tried["none"] != "OK" else "different"
        return Seen(verdict, ", ".join(f"{form}: {code}" for form, code in tried.items()))
    return NO_SERVICE


def _address_metrics(world: World) -> Seen:
    for service, _ in world.asked("http"):
        if world.stack.services.get(service.name, {}).get("monitoring"):
            status = _get(f"{service.url}/monitoring/prometheus/metrics", service.token)
            return Seen("as assumed" if status == "200" else "different", f"GET answers {status}")
    return Seen("not seen", "no HTTP service of the stack has `monitoring`")


def _address_nothing(world: World) -> Seen:
    for service, _ in world.asked("http"):
        parts = urlsplit(service.url)
        status = _get(f"{parts.scheme}://{parts.netloc}/api/predict/no_such_service", service.token)
        return Seen("as assumed" if status in ("404", "503") else "different", f"GET answers {status}")
    return NO_SERVICE


def _get(url: str, authorization: str) -> str:
    """The status of a GET, or why there is none."""
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})  # noqa: S310  # the service's own
    try:
        with opener(url).open(request, timeout=_SECONDS) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return str(error.code)
    except (OSError, ValueError) as error:
        return f"no answer ({type(getattr(error, 'reason', error)).__name__})"


def _status(target: str, model: str, authorization: str) -> str:
    """The gRPC code of GetModelStatus with one form of the token."""
    with grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)]) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=pb.GetModelStatusResponse.FromString,
        )
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=model))
        try:
            call(request, timeout=_SECONDS, metadata=[("authorization", authorization)] if authorization else [])
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def _life_owner(world: World) -> Seen:
    if not world.described:
        return NO_SERVICE
    owner = {"pulumi-owner": f"{NAMESPACE}/{world.stack.name}"}
    found = {service.name for service in world.clients.eas.labelled(owner)}
    missed = sorted(world.described.keys() - found)
    if missed:
        return Seen("different", f"ListServices does not find {', '.join(f'`{name}`' for name in missed)}")
    return Seen("as assumed", f"ListServices finds all {len(world.described)} services")


def _life_log(world: World) -> Seen:
    told, server = [], False
    for name in world.described:
        lines = world.clients.eas.log_tail(name, _LOG_LINES)
        of_server = [line for line in lines if re.search(r"tensorflow_serving|servable|TensorFlow|model_server", line)]
        server = server or bool(of_server)
        told.append(f"`{name}`: {len(lines)} lines, {len(of_server)} of the server")
    return Seen("as assumed" if server else "different", ", ".join(told)) if told else NO_SERVICE


def _life_events(world: World) -> Seen:
    whole = re.compile(r"\S+.* \S+ \S+: \S")
    told, fits, any_at_all = [], True, False
    for name in world.described:
        lines = [str(each) for each in world.clients.eas.events(name, _EVENTS)]
        any_at_all = any_at_all or bool(lines)
        fits = fits and all(whole.match(line) and "None" not in line for line in lines)
        told.append(f"`{name}`: {len(lines)}")
    if not any_at_all:
        return NO_SERVICE if not told else Seen("not seen", "no service has an event any more")
    return Seen("as assumed" if fits else "different", f"events: {', '.join(told)}")


_RELEASE = re.compile(r"TensorFlow ModelServer: \S+|TensorFlow Library: \S+|unknown argument: \S+")


def _server_release(world: World) -> Seen:
    told = [
        f"`{name}`: {found[0]}"
        for name in world.described
        for line in world.clients.eas.log_tail(name, _LOG_LINES)
        if (found := _RELEASE.search(line))
    ]
    if not told:
        return Seen("not seen", "the newest lines of the logs do not say it: restart a service and run this again")
    verdict: Verdict = "different" if any("unknown argument" in line for line in told) else "seen"
    return Seen(verdict, ", ".join(dict.fromkeys(told)))


def _oss_region(world: World) -> Seen:
    import alibabacloud_oss_v2 as sdk

    bucket = world.stack.needs.bucket
    try:
        info = world.clients.oss.get_bucket_info(sdk.GetBucketInfoRequest(bucket=bucket)).bucket_info
    except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
        raise oss_error("the bucket", sdk, error) from None
    location = str(info.location or "none")
    rule = getattr(info, "sse_rule", None)
    told = {
        "location": location,
        "ACL": str(info.acl or "none"),
        "encryption": str(getattr(rule, "sse_algorithm", None) or "none"),
        "versioning": str(info.versioning or "none"),
        "public access blocked": str(getattr(info, "block_public_access", None)),
    }
    fits = location == f"oss-{world.stack.region}" and told["ACL"] == "private" and told["encryption"] != "none"
    return Seen("as assumed" if fits else "different", ", ".join(f"{name}: {value}" for name, value in told.items()))


def _oss_crc(world: World) -> Seen:
    needs = world.stack.needs
    bucket = Bucket(world.clients.oss, needs.bucket)
    for item in bucket.list(needs.model_root):
        head = bucket.head(item.key)
        if head is not None:
            return Seen("as assumed" if head.crc64 else "different", "it does" if head.crc64 else "it does not")
    return Seen("not seen", "the bucket holds nothing below the model root")


LOOKS: Final[Mapping[str, Callable[[World], Seen]]] = {
    "json-echo": _json_echo,
    "json-image": _json_image,
    "json-scenario-labels": _json_scenario_labels,
    "json-keepalive": _json_keepalive,
    "json-grace": _json_grace,
    "json-autoscaler": _json_autoscaler,
    "cron-zone": _cron_zone,
    "address-url": _address_url,
    "address-host": _address_host,
    "token-http": _token_http,
    "token-grpc": _token_grpc,
    "address-metrics": _address_metrics,
    "address-nothing": _address_nothing,
    "life-owner": _life_owner,
    "life-log": _life_log,
    "life-events": _life_events,
    "server-release": _server_release,
    "oss-region": _oss_region,
    "oss-crc": _oss_crc,
}
"""The questions that a machine looks at, by id."""
