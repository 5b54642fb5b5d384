"""The Alibaba Cloud APIs the provider calls, through the official SDKs: credentials, endpoints, retries, clean errors.

Everything an SDK raises becomes a :class:`~tfserving.errors.CloudError` whose text names the call, the API's code, its
message and the request id, and never holds a token or key.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import quote

from provider import faults
from provider.group_calls import TRAFFIC_LABEL, GroupCalls
from tfserving import wire
from tfserving.errors import CloudError
from tfserving.hosts import is_loopback_endpoint

T = TypeVar("T")

CONNECT_SECONDS = 10
READ_SECONDS = 60
_ATTEMPTS = 4
_ANSWERED_ATTEMPTS = 6
"""Where there is an answer, seconds of trouble are sat out; nobody there hears of it sooner."""
_FIRST_PAUSE_SECONDS = 0.3
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

NO_CREDENTIALS = (
    "no Alibaba Cloud credentials were found: set alicloud:accessKey and alicloud:secretKey in the stack config, the "
    "environment variables ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or alicloud:profile to a "
    "profile of ~/.aliyun/config.json"
)


class NoCredentialsError(CloudError):
    """Nothing on this machine says in whose name to call.

    Args:
        what: the call, which the message begins with.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: {NO_CREDENTIALS}")


@dataclass(frozen=True)
class CloudSettings:
    """Where the APIs are and who calls them. Empty strings mean the default.

    Attributes:
        region: region id, e.g. ``cn-hangzhou``.
        eas_endpoint: ``host[:port]`` of the EAS API.
        oss_endpoint: ``host[:port]`` of OSS; an IP address is used path style.
        protocol: ``HTTPS``, or ``HTTP`` for a loopback endpoint.
        access_key: access key id; empty is the standard credentials chain.
        secret_key: access key secret.
        security_token: of temporary credentials.
        profile: a profile of ``~/.aliyun/config.json``.
    """

    region: str
    eas_endpoint: str = ""
    oss_endpoint: str = ""
    protocol: str = "HTTPS"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    security_token: str = field(default="", repr=False)
    profile: str = ""


IMPORTS = threading.RLock()
"""Held while an SDK is imported. Where two threads enter packages that import each other in a circle at different
places, Python gives one of them a module that is half there."""


class Clients:
    """The clients of one configured provider, made when first used: a preview without changes needs none of them."""

    def __init__(self, settings: CloudSettings, cancelled: threading.Event) -> None:
        self.settings = settings
        self._cancelled = cancelled
        endpoints = [endpoint for endpoint in (settings.eas_endpoint, settings.oss_endpoint) if endpoint]
        if len(endpoints) == 2 and all(map(is_loopback_endpoint, endpoints)):
            # The SDKs send even loopback requests to a proxy named in the environment.
            for name in _PROXY_VARIABLES:
                os.environ.pop(name, None)

    @cached_property
    def credentials(self) -> Any:
        """The credentials client of the SDKs: from the settings, the environment, a profile, or the standard chain."""
        from alibabacloud_credentials.client import Client
        from alibabacloud_credentials.models import Config
        from alibabacloud_credentials.provider import CLIProfileCredentialsProvider

        settings = self.settings
        access_key = settings.access_key or ("" if settings.profile else os.environ.get("ALICLOUD_ACCESS_KEY", ""))
        if access_key:
            # The variables of the alicloud provider; the SDKs' chain knows only ALIBABA_CLOUD_*.
            from_environment = not settings.access_key
            secret_key = os.environ.get("ALICLOUD_SECRET_KEY", "") if from_environment else settings.secret_key
            token = os.environ.get("ALICLOUD_SECURITY_TOKEN", "") if from_environment else settings.security_token
            return Client(
                Config(
                    type="sts" if token else "access_key",
                    access_key_id=access_key,
                    access_key_secret=secret_key,
                    security_token=token or None,
                )
            )
        if settings.profile:
            return Client(provider=CLIProfileCredentialsProvider(profile_name=settings.profile))
        return Client()

    @property
    def eas(self) -> EasApi:
        """The EAS API."""
        with IMPORTS:
            return self._eas

    @cached_property
    def _eas(self) -> EasApi:
        from alibabacloud_eas20210701.client import Client
        from alibabacloud_tea_openapi.models import Config
        from darabonba.core import DaraCore

        _silence_sdk_loggers()
        faults.watch_sessions(DaraCore)
        settings = self.settings
        client = Client(
            Config(
                credential=self.credentials,
                region_id=settings.region,
                endpoint=settings.eas_endpoint or f"pai-eas.{settings.region}.aliyuncs.com",
                protocol=settings.protocol,
                connect_timeout=CONNECT_SECONDS * 1000,
                read_timeout=READ_SECONDS * 1000,
            )
        )
        return EasApi(client, settings.region, self._cancelled)

    @property
    def oss(self) -> Any:
        """The OSS client of the official SDK (``alibabacloud_oss_v2.Client``)."""
        with IMPORTS:
            return self._oss

    @cached_property
    def _oss(self) -> Any:
        import alibabacloud_oss_v2 as oss
        import requests
        from alibabacloud_oss_v2.transport import RequestsHttpClient

        credentials = self.credentials

        class Provider(oss.credentials.CredentialsProvider):  # type: ignore[misc]  # the SDK is not typed for us
            def get_credentials(self) -> Any:
                current = credentials.get_credential()
                return oss.credentials.Credentials(
                    current.access_key_id, current.access_key_secret, current.security_token or None
                )

        settings = self.settings
        session = requests.Session()
        session.trust_env = not is_loopback_endpoint(settings.oss_endpoint)
        faults.watch(session)
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=64)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return oss.Client(
            oss.Config(
                region=settings.region,
                endpoint=settings.oss_endpoint or None,
                disable_ssl=settings.protocol.upper() == "HTTP",
                # The SDK's own check takes a processor several seconds a gigabyte, and one thread at a time. Instead,
                # what OSS says of every file and part is compared with our checksum.
                disable_upload_crc64_check=True,
                credentials_provider=Provider(),
                retryer=faults.oss_retryer(oss),
                http_client=RequestsHttpClient(
                    session=session, connect_timeout=CONNECT_SECONDS, readwrite_timeout=READ_SECONDS
                ),
            )
        )


def _silence_sdk_loggers() -> None:
    """The SDK's debug log prints request headers, the signature and the token among them, to stderr."""
    for name in ("darabonba-core", "alibabacloud-tea"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = False


@dataclass(frozen=True)
class DescribedService:
    """What the EAS API says about a service.

    Attributes:
        name: service name.
        id: service id (``eas-m-...``).
        status: ``Running``, ``Stopped``, ``Failed``, ``Updating`` ...
        message: why, where there is a reason.
        config: the stored service JSON, without the label of its group's shares; it may hold the token.
        token: access token.
        internet_endpoint: URL on the internet, or empty.
        intranet_endpoint: URL inside the VPC, or empty.
        labels: labels from the service's own list and from its JSON.
        total: replicas wanted.
        running: replicas running.
        pending: replicas not running yet.
        workspace_id: the PAI workspace, or empty.
        updated: time of the last change, as the API writes it.
        lock: safety lock: ``all`` forbids every change, ``dangerous`` to stop and to delete, ``none`` nothing.
        weight: traffic weight in its group; None where EAS does not say.
        traffic: ``grouping`` where requests come through a group, else ``standalone``.
        group: the service group it was made in, or empty.
    """

    name: str
    id: str
    status: str
    message: str
    config: dict[str, Any] = field(repr=False)
    token: str = field(repr=False)
    internet_endpoint: str
    intranet_endpoint: str
    labels: Mapping[str, str]
    total: int
    running: int
    pending: int
    workspace_id: str
    updated: str
    lock: str = ""
    weight: int | None = None
    traffic: str = ""
    group: str = ""


@dataclass(frozen=True)
class Event:
    """Something that happened to a service or a pod; as text one line.

    Attributes:
        at: when, in UTC, as the API writes it; empty where it does not say.
        type: ``Normal`` or ``Warning``.
        reason: one word.
        message: what happened.
    """

    at: str
    type: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.at} {self.type} {self.reason}: {self.message}".lstrip()


def _service(body: Any, name: str) -> DescribedService:
    """A service as DescribeService and ListServices return it."""
    try:
        # Pulumi has doubles only: a number they would round is compared, and kept, as text.
        config = json.loads(body.service_config or "{}", parse_int=lambda digits: wire.exact(int(digits)))
    except ValueError:
        config = {}
    config = config if isinstance(config, dict) else {}
    reason = "" if str(body.reason).lower() == str(body.status).lower() else body.reason
    labels = dict(config.get("labels") or {})
    if TRAFFIC_LABEL in labels:  # no part of what is declared of a service: its group's shares say it
        config["labels"] = {key: value for key, value in labels.items() if key != TRAFFIC_LABEL}
    labels |= {label.label_key: label.label_value or "" for label in body.labels or ()}
    return DescribedService(
        name=body.service_name or name,
        id=body.service_id or "",
        status=body.status or "",
        message=": ".join(dict.fromkeys(part for part in (reason, body.message) if part)),
        config=config,
        token=body.access_token or "",
        internet_endpoint=body.internet_endpoint or "",
        intranet_endpoint=body.intranet_endpoint or "",
        labels=labels,
        total=body.total_instance or 0,
        running=body.running_instance or 0,
        pending=body.pending_instance or 0,
        workspace_id=body.workspace_id or "",
        updated=body.update_time or "",
        lock=(body.safety_lock or "").lower(),
        weight=body.weight,
        traffic=(body.traffic_state or "").lower(),
        group=body.service_group or "",
    )


class EasApi(GroupCalls):
    """The calls of EAS 2021-07-01 that the provider makes.

    Calls that may be repeated are, a few times, after a network failure, a 5xx answer or throttling.
    """

    def __init__(self, client: Any, region: str, cancelled: threading.Event) -> None:
        from alibabacloud_eas20210701 import models
        from alibabacloud_tea_util.models import RuntimeOptions

        self._client = client
        self._models = models
        self._runtime = RuntimeOptions()
        self._region = region
        self._cancelled = cancelled

    def describe(self, name: str) -> DescribedService | None:
        """DescribeService; None where there is no such service.

        Raises:
            CloudError: the API refused or cannot be reached, as for every call here.
        """
        try:
            body = self._service_call("DescribeService", name, self._client.describe_service_with_options).body
        except CloudError as error:
            if is_not_found(error):
                return None
            raise
        return _service(body, name)

    def labelled(self, labels: Mapping[str, str]) -> list[DescribedService]:
        """ListServices: every service that has all of these labels."""
        return [service for service in self._list(label=dict(labels)) if labels.items() <= service.labels.items()]

    def members(self, group: str) -> list[DescribedService]:
        """ListServices: every service that was made in a group."""
        return [service for service in self._list(group_name=group) if service.group == group]

    def _list(self, **filters: Any) -> list[DescribedService]:
        found: list[DescribedService] = []
        seen = 0
        for page in itertools.count(1):
            request = self._models.ListServicesRequest(page_number=page, page_size=100, **filters)
            body = self._call(
                "ListServices",
                "",
                lambda request=request: self._client.list_services_with_options(
                    request, self._in_region(), self._runtime
                ),  # type: ignore[misc]
                repeat=True,
            ).body
            services = [_service(item, "") for item in body.services or ()]
            found += services
            seen += len(services)
            if not services or seen >= (body.total_count or 0):
                break
        return found

    def create(self, spec: Mapping[str, Any]) -> None:
        """CreateService. Not repeated: a first attempt may have made the service."""
        name = str(spec.get("metadata", {}).get("name", ""))
        workspace = spec.get("metadata", {}).get("workspace_id")
        request = self._models.CreateServiceRequest(
            body=dict(spec), labels=dict(spec.get("labels") or {}) or None, workspace_id=workspace
        )
        self._call(
            "CreateService",
            name,
            lambda: self._client.create_service_with_options(request, self._in_region(), self._runtime),
            repeat=False,
        )

    def replace(self, name: str, spec: Mapping[str, Any]) -> None:
        """UpdateService with ``UpdateType=replace``: keys that ``spec`` does not hold are removed."""
        request = self._models.UpdateServiceRequest(update_type="replace", body=dict(spec))
        self._service_call("UpdateService", name, self._client.update_service_with_options, request)

    def delete(self, name: str) -> None:
        """DeleteService."""
        self._service_call("DeleteService", name, self._client.delete_service_with_options)

    def start(self, name: str) -> None:
        """StartService."""
        self._service_call("StartService", name, self._client.start_service_with_options)

    def restart(self, name: str) -> None:
        """RestartService: replicas are replaced one after another as the service's rolling strategy says."""
        self._service_call("RestartService", name, self._client.restart_service_with_options)

    def events(self, name: str, count: int) -> list[Event]:
        """The newest events of a service, oldest first."""
        request = self._models.DescribeServiceEventRequest(page_num="1", page_size=str(count))
        call = self._client.describe_service_event_with_options
        found = self._service_call("DescribeServiceEvent", name, call, request).body.events or []
        told = [Event(f"{each.time}", f"{each.type}", f"{each.reason}", f"{each.message}") for each in found]
        return sorted(told, key=str)[-count:]

    def log_tail(self, name: str, count: int, since: str = "", keyword: str = "") -> list[str]:
        """The newest lines of a service's log, oldest first.

        Args:
            name: service name.
            count: how many lines at most.
            since: UTC, ``2006-01-02 15:04:05``: no older lines; empty for any.
            keyword: only lines that hold it; empty for all.
        """
        request = self._models.DescribeServiceLogRequest(
            page_num=1, page_size=count, start_time=since or None, keyword=keyword or None
        )
        call = self._client.describe_service_log_with_options
        return list(self._service_call("DescribeServiceLog", name, call, request).body.logs or [])[-count:]

    def autoscaler(self, name: str) -> dict[str, Any] | None:
        """The autoscaler in the form :meth:`set_autoscaler` takes, or None where there is none."""
        try:
            call = self._client.describe_service_auto_scaler_with_options
            body = self._service_call("DescribeServiceAutoScaler", name, call).body
        except CloudError as error:
            if is_not_found(error):
                return None
            raise
        if not body.max_replica:
            return None
        found: dict[str, Any] = {"min": body.min_replica or 0, "max": body.max_replica}
        found["scaleStrategies"] = [
            {
                key: value
                for key, value in (
                    ("metricName", strategy.metric_name),
                    ("threshold", strategy.threshold),
                    ("service", strategy.service),
                )
                if value is not None
            }
            for strategy in body.scale_strategies or ()
        ]
        if body.behavior:
            found["behavior"] = body.behavior
        return found

    def set_autoscaler(self, name: str, settings: Mapping[str, Any], *, exists: bool) -> None:
        """CreateServiceAutoScaler, or UpdateServiceAutoScaler where one ``exists``."""
        models = self._models
        if exists:
            request = models.UpdateServiceAutoScalerRequest().from_map(dict(settings))
            call = self._client.update_service_auto_scaler_with_options
            self._service_call("UpdateServiceAutoScaler", name, call, request)
        else:
            request = models.CreateServiceAutoScalerRequest().from_map(dict(settings))
            call = self._client.create_service_auto_scaler_with_options
            self._service_call("CreateServiceAutoScaler", name, call, request)

    def delete_autoscaler(self, name: str) -> None:
        """DeleteServiceAutoScaler."""
        call = self._client.delete_service_auto_scaler_with_options
        self._service_call("DeleteServiceAutoScaler", name, call)

    def cron_scaler(self, name: str) -> dict[str, Any] | None:
        """The cron scaler in the form :meth:`set_cron_scaler` takes, or None where there is none."""
        try:
            body = self._cron_call("DescribeServiceCronScaler", "GET", name)
        except CloudError as error:
            if is_not_found(error):
                return None
            raise
        jobs = body.get("ScaleJobs") or []
        if not jobs:
            return None
        keys = {"Name": "name", "Schedule": "schedule", "TargetSize": "targetSize", "TimeZone": "timeZone"}
        found = [
            {ours: job[theirs] for theirs, ours in keys.items() if job.get(theirs) not in (None, "")} for job in jobs
        ]
        days = list(body.get("ExcludeDates") or ())
        return {"scaleJobs": found, **({"excludeDates": days} if days else {})}

    def set_cron_scaler(self, name: str, settings: Mapping[str, Any], *, exists: bool) -> None:
        """CreateServiceCronScaler, or UpdateServiceCronScaler where one ``exists``."""
        jobs = [{key[0].upper() + key[1:]: value for key, value in job.items()} for job in settings["scaleJobs"]]
        body = {"ScaleJobs": jobs, "ExcludeDates": list(settings.get("excludeDates") or ())}
        if exists:
            self._cron_call("UpdateServiceCronScaler", "PUT", name, body)
        else:
            self._cron_call("CreateServiceCronScaler", "POST", name, body)

    def delete_cron_scaler(self, name: str) -> None:
        """DeleteServiceCronScaler."""
        self._cron_call("DeleteServiceCronScaler", "DELETE", name)

    def _cron_call(self, action: str, method: str, name: str, body: Mapping[str, Any] | None = None) -> Any:
        """A call about a cron scaler. The SDK's own methods drop time zones, which are newer than its models."""
        with IMPORTS:
            from alibabacloud_tea_openapi.models import OpenApiRequest, Params

        params = Params(
            action=action,
            version="2021-07-01",
            protocol="HTTPS",
            pathname=f"/api/v2/services/{quote(self._region, safe='')}/{quote(name, safe='')}/cronscaler",
            method=method,
            auth_type="AK",
            style="ROA",
            req_body_type="json",
            body_type="json",
        )

        def call() -> Any:
            return self._client.call_api(params, OpenApiRequest(headers={}, body=body), self._runtime)

        return self._call(action, name, call, repeat=True).get("body") or {}

    def _in_region(self) -> dict[str, str]:
        """Headers of calls without a region in their path: where one endpoint answers for all, it is to know which."""
        return {"x-acs-region-id": self._region}

    def _service_call(self, action: str, name: str, call: Callable[..., T], *request: Any) -> T:
        return self._call(action, name, lambda: call(self._region, name, *request, {}, self._runtime), repeat=True)

    def _call(self, action: str, name: str, call: Callable[[], T], *, repeat: bool) -> T:
        pause = _FIRST_PAUSE_SECONDS
        for attempt in itertools.count(1):
            try:
                return call()
            except Exception as error:  # the SDK raises its own exceptions and those of the libraries below it
                status = getattr(error, "status_code", None)
                answered = isinstance(status, int)
                last = attempt >= (_ANSWERED_ATTEMPTS if answered else _ATTEMPTS) or self._cancelled.is_set()
                once = not repeat and not (answered and faults.is_refused_for_now(int(status or 0), _code(error)))
                if last or once or not _may_pass(error):
                    raise _eas_error(action, name, error) from None
            self._cancelled.wait(pause)
            pause *= 2
        raise AssertionError("unreachable")


def is_not_found(error: CloudError) -> bool:
    """Whether the API says that what was asked for does not exist."""
    return "NotFound" in error.code or error.code == "404"


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return faults.may_pass(status, _code(error), str(getattr(error, "message", "") or ""))
    if _was(error, faults.NotTheCloudError, faults.StillSilentError):
        return False
    return "Credential" not in f"{type(error).__name__} {type(getattr(error, 'inner_exception', None)).__name__}"


def _code(error: Exception) -> str:
    return str(getattr(error, "code", "") or "")


def _was(error: Exception, *kinds: type[Exception]) -> bool:
    """Whether an error was one of ours before the SDK made its own of it."""
    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(seen, kinds):
            return True
        if seen is None:
            break
        inner = getattr(seen, "inner_exception", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__ or seen.__context__
    return False


def _eas_error(action: str, name: str, error: Exception) -> CloudError:
    what = f"EAS {action} {name}".rstrip()
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        inner = getattr(error, "inner_exception", None) or error
        if "Credential" in type(inner).__name__ or "InvalidCredentials" in str(getattr(inner, "code", "")):
            return NoCredentialsError(what)
        if _was(error, faults.NotTheCloudError):
            return CloudError(f"{what}: {faults.NOT_THE_CLOUD}")
        if not _was(error, faults.StillSilentError):
            faults.SILENCE.gave_up(str(inner))
        return faults.PassingError(f"{what}: no answer from the EAS API: {one_line(inner)}")
    code = _code(error)
    code = code if code not in ("", "None") else str(status)
    message = str(getattr(error, "message", "") or "").removeprefix(f"code: {status}, ")
    hint = faults.hint(status, code, message, f"the RAM identity needs eas:{action}")
    kind = faults.PassingError if faults.may_pass(status, code, message) else CloudError
    return kind(f"{what}: {code}: {message}{hint}", code)


def one_line(error: object, local: str = "is the sandbox cloud running? `make cloud`") -> str:
    """An error's text on one line, shortened: SDKs put whole stacks of wrapped errors into it.

    Args:
        error: the error.
        local: what to ask a person where it is this machine that does not answer.
    """
    line = faults.unreachable(" ".join(str(error).split()), local)
    return line if len(line) <= 400 else f"{line[:400]}..."
