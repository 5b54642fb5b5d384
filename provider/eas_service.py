"""A service on PAI-EAS: made, replaced as a whole on every change, and waited for until its gateway answers.

Beyond the generic EAS resource of other tools: an update sends ``UpdateType=replace``, so a key that left the spec
leaves the service; what EAS adds to the stored JSON is no drift; address and token are outputs; ``Running`` is not
taken for ready; and a failure comes with the service's newest events and log lines.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib import error as urllib_error
from urllib import request as urllib_request
from urllib.parse import urlsplit

from provider import clients, faults
from provider.claims import STAMP, TAKEN, found_by, is_anothers, stays
from provider.resource import (
    Context,
    Diff,
    Failure,
    Found,
    OperationTimeoutError,
    Property,
    Resource,
    flag,
    table,
    text,
)
from provider.values import UNKNOWN, Change, Properties, Secret, differences, has_unknown, plain
from tfserving import client, eas_drift
from tfserving.errors import (
    CloudError,
    OwnershipError,
    ServiceError,
    ServiceNotFoundError,
    ServiceUnreachableError,
    TFServingError,
)
from tfserving.hosts import opener

MANAGED_BY = {"managed-by": "pulumi"}
"""Label of every service this provider makes."""

OWNER_LABEL = "pulumi-owner"
CREATED_LABEL = "pulumi-created-by"
"""Says which create holds a service."""

"""Label with the stack a service belongs to, ``<project>/<stack>``."""

CONFIG_FILE_FLAG = "--model_config_file="
"""In the start command of a service that reads a model config file."""

ANSWER_SECONDS = 180.0
"""How long a Running service may take until its gateway answers; two minutes are seen on EAS."""

_DELETE_SECONDS = 600.0
_CONFLICT_SECONDS = 180.0
_CREATE_ATTEMPTS = 4
_EMPTY_404_SECONDS = 120.0
_GRACE_SECONDS = 30.0
_EVENTS = 8
_LOG_LINES = 20
_LOG_LINES_READ = 200
_TROUBLE_LINES = 8
_TROUBLE = re.compile(r"error|fail|cannot|could not|invalid|refus|not found|unable", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z0-9_]{2,62}")
_PROTOCOLS = ("http", "grpc")

RUNNING = "Running"

# Rolling through these, a service keeps answering as long as one replica runs.
_MOVING = frozenset({"Updating", "Scaling", "HotUpdate"})
_PASSING = _MOVING | {"Creating", "Waiting", "Pending", "Starting", "Stopping", "Deleting", "Cloning", "Committing"}
_BROKEN = frozenset({"Failed", "DeleteFailed"})


class SafetyLockError(CloudError):
    """A service may not be changed until somebody takes its safety lock off."""


class ServiceStartError(TFServingError):
    """A service did not become ready. The message holds its newest events and log lines."""


@dataclass(frozen=True)
class _Address:
    """Where a service is reached: a URL for HTTP, a target for gRPC."""

    url: str
    target: str


class EasService(Resource):
    """One service on PAI-EAS."""

    token = "tfserving:index:EasService"  # noqa: S105 (a type name)
    description = "A service on PAI-EAS, waited for until its gateway answers."
    refresh_before_update = True
    default_seconds = 1800.0
    inputs: ClassVar[Mapping[str, Property]] = {
        "name": Property("string", "service name; a change replaces the service", required=True, replaces=True),
        "spec": Property("object", "the service JSON, nested, as EAS takes it", required=True),
        "owner": Property("string", "<project>/<stack>: who may change the service", required=True),
        "probe": Property(
            "object",
            "what must answer: protocol (http or grpc), models (names), and path for servers that are not TF Serving",
            default={"protocol": "http", "models": []},
            compared=False,
        ),
        "adopt": Property("boolean", "take over a service that is not ours", default=False, compared=False),
        "reachable": Property(
            "boolean", "whether the machine that runs Pulumi reaches the service", default=True, compared=False
        ),
        "autoscaled": Property("boolean", "the autoscaler owns the number of replicas", default=False, compared=False),
        "autoscaler": Property("object", "min, max, scaleStrategies and behavior, as EAS's autoscaler API takes them"),
        "status": Property("string", "the state to be in: Running", default=RUNNING, compared=False),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "url": Property("string", "base URL of an HTTP service, without a final slash; empty for gRPC", required=True),
        "target": Property("string", "host:port of a gRPC service; empty for HTTP", required=True),
        "token": Property("string", "access token", required=True, secret=True),
        "serviceId": Property("string", "id given by EAS", required=True),
        "baseline": Property(
            "object", "the service JSON as stored right after our write, without secrets", required=True
        ),
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        name = inputs["name"]
        if name is not UNKNOWN and not _NAME.fullmatch(str(plain(name))):
            yield Failure(
                "name",
                f"{plain(name)!r} is not a service name: 3 to 63 lower-case letters, digits and _, a letter first",
            )
        owner = inputs["owner"]
        if owner is not UNKNOWN and not re.fullmatch(r"[^\s/:]+/[^\s/:]+", str(plain(owner))):
            yield Failure("owner", f"{plain(owner)!r} is not <project>/<stack>")
        spec = plain(inputs["spec"])
        if isinstance(spec, dict):
            metadata = spec.get("metadata")
            named = metadata.get("name", name) if isinstance(metadata, dict) else name
            if UNKNOWN not in (named, name) and named != plain(name):
                yield Failure("spec.metadata.name", f"{named!r} is not the service's name {plain(name)!r}")
            if "autoscaler" in spec and plain(inputs.get("autoscaler")):
                yield Failure(
                    "spec.autoscaler", "the autoscaler is given twice; the property autoscaler is the one to keep"
                )
        if plain(inputs["status"]) not in (RUNNING, UNKNOWN):
            yield Failure("status", f"{plain(inputs['status'])!r} cannot be asked for; allowed: {RUNNING}")
        yield from _probe_failures(plain(inputs["probe"]))
        yield from _autoscaler_failures(plain(inputs.get("autoscaler")))

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff({**old_inputs, "spec": None}, old_outputs, {**news, "spec": None})
        found = differences(_comparable(old_inputs, news), _comparable(news, news), ("spec",))
        diff.changes |= {path: (change, True) for path, change in found.items()}
        status = text(old_outputs, "status")
        if status and status not in (RUNNING, *_MOVING):
            diff.changes["status",] = (Change.UPDATE, False)
        if text(old_outputs, "owner") != text(old_inputs, "owner"):
            diff.changes["owner",] = (Change.UPDATE, False)
        if flag(old_outputs, TAKEN):
            diff.changes[STAMP,] = (Change.UPDATE, False)
        # The new service has another name, so both can exist: clients move over before the old one goes.
        diff.delete_before_replace = False
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        outputs: Properties = {"url": UNKNOWN, "target": UNKNOWN, "token": Secret(UNKNOWN), "serviceId": UNKNOWN}
        if old_inputs is None and not has_unknown({name: inputs[name] for name in ("name", "spec", "owner")}):
            _preview_taking_over(ctx, inputs)
        if old_inputs is not None and old_outputs is not None:
            _check_owner(text(inputs, "name"), text(old_outputs, "owner"), inputs, (text(old_inputs, "owner"),))
            _check_lock(ctx, text(inputs, "name"))
            kept = ["serviceId"]
            kept += ["url", "target"] if _routing(inputs) == _routing(old_inputs) else []
            kept += ["token"] if table(inputs, "spec").get("token") == table(old_inputs, "spec").get("token") else []
            outputs |= {name: old_outputs[name] for name in kept if name in old_outputs}
        return _echo(inputs) | outputs | {"status": RUNNING, "baseline": UNKNOWN}

    def replaced(self, ctx: Context, old_inputs: Properties, old_outputs: Properties) -> None:
        """Refuses to replace a service whose old one could not be deleted afterwards."""
        _check_deletable(text(old_inputs, "name"), text(old_outputs, "owner"), old_inputs)

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        name, owner, api = text(inputs, "name"), text(inputs, "owner"), ctx.clients.eas
        found = api.describe(name)
        if found is not None and found.status == "Deleting":
            self._wait_gone(ctx, name)
            found = None
        if found is not None:
            _check_owner(name, found.labels.get(OWNER_LABEL, ""), inputs, ())
            ctx.info(f"service {name} exists already ({found.status}): it is taken over and updated")
            self._replace(ctx, name, inputs, keep_token=found.token)
            return name, self._finish(ctx, inputs, was=found, had_autoscaler=True)
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            try:
                api.create(_full_spec(inputs, ctx.stamp))
            except CloudError as error:
                # An answer that got lost may stand for a service that was made.
                made = api.describe(name)
                if made is not None and made.labels.get(OWNER_LABEL) == owner:
                    break
                if attempt == _CREATE_ATTEMPTS or made is not None or not isinstance(error, faults.PassingError):
                    raise error from None
                ctx.sleep(attempt)
            else:
                break
        return name, self._finish(ctx, inputs)

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        found = ctx.clients.eas.describe(id_)
        if found is None or found.status == "Deleting":
            return None
        imported = inputs is None
        if inputs is None:
            inputs = _imported(found)
        _warn_of_traffic(ctx, found)
        declared = _full_spec(inputs, ctx.stamp)
        # What an imported service has is EAS's own or was declared elsewhere: no difference until somebody changes it.
        baseline = eas_drift.baseline(found.config, declared) if imported else table(outputs, "baseline")
        autoscaled = flag(inputs, "autoscaled") or bool(table(inputs, "autoscaler"))
        read = dict(inputs)
        if eas_drift.drift(declared, found.config, baseline, autoscaled=autoscaled):
            actual = eas_drift.actual(declared, found.config, baseline, autoscaled=autoscaled)
            read["spec"] = _marked(_without_our_labels(actual, inputs), _secrets_of(inputs["spec"], found.config))
        if table(inputs, "autoscaler"):
            read["autoscaler"] = _found_autoscaler(table(inputs, "autoscaler"), ctx.clients.eas.autoscaler(id_))
        held = found_by(_held_by(found), ctx.stamp, imported=imported)
        return Found(read, _outputs(inputs, found, baseline) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        found = ctx.clients.eas.describe(id_)
        if found is None or found.status == "Deleting":
            raise CloudError(f"service {id_} is gone: run `pulumi refresh`, then `pulumi up` makes it anew")
        _check_owner(id_, found.labels.get(OWNER_LABEL, ""), news, (text(old_inputs, "owner"),))
        before, full = _full_spec(old_inputs, ctx.stamp), _full_spec(news, ctx.stamp)
        autoscaled = flag(news, "autoscaled") or bool(table(news, "autoscaler"))
        changed = eas_drift.normalize(before) != eas_drift.normalize(full)
        changed = changed or is_anothers(_held_by(found), ctx.stamp)
        if changed or eas_drift.drift(full, found.config, table(old_outputs, "baseline"), autoscaled=autoscaled):
            keep_token = "" if "token" in before else found.token
            self._replace(ctx, id_, news, keep_token=keep_token, replicas=found.total if autoscaled else 0)
        elif found.status in _BROKEN:
            ctx.info(f"service {id_} is {found.status}: restarting it")
            ctx.clients.eas.restart(id_)
        had_autoscaler = bool(table(old_inputs, "autoscaler"))
        return self._finish(ctx, news, previous=before, was=found, had_autoscaler=had_autoscaler)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        api = ctx.clients.eas
        found = api.describe(id_)
        if found is None:
            return
        _check_deletable(id_, found.labels.get(OWNER_LABEL, ""), inputs)
        if is_anothers(_held_by(found), ctx.stamp):
            ctx.info(stays(f"service {id_}"))
            return
        if found.status != "Deleting":
            try:
                api.delete(id_)
            except CloudError as error:
                if not clients.is_not_found(error):
                    raise
        self._wait_gone(ctx, id_)

    # ---- steps -----------------------------------------------------------------------------------------------------

    def _replace(self, ctx: Context, name: str, inputs: Properties, *, keep_token: str = "", replicas: int = 0) -> None:
        """Send the whole spec. A service in the middle of another change may refuse it: then wait and try again.

        Args:
            keep_token: the token EAS made, sent along so that the service keeps it; clients have it.
            replicas: the number the autoscaler has chosen, kept; 0 is the spec's own.
        """
        spec = _full_spec(inputs, ctx.stamp)
        if keep_token and "token" not in spec:
            spec["token"] = keep_token
        if replicas:
            spec["metadata"]["instance"] = replicas
        api = ctx.clients.eas
        for _ in ctx.poll(_CONFLICT_SECONDS):
            ctx.status(f"updating service {name}")
            try:
                api.replace(name, spec)
            except CloudError as error:
                refused = error
                now = api.describe(name)
                if now is None or (now.status not in _PASSING and not isinstance(error, faults.PassingError)):
                    raise
                ctx.status(f"service {name} is {now.status}: waiting to update it")
            else:
                return
        raise refused

    def _finish(
        self,
        ctx: Context,
        inputs: Properties,
        *,
        previous: Mapping[str, Any] | None = None,
        was: clients.EasService | None = None,
        had_autoscaler: bool = False,
    ) -> Properties:
        """Everything after the service JSON is written: the autoscaler and the waits; the final outputs.

        Args:
            previous: the service JSON declared before.
            was: the service before the write.
            had_autoscaler: whether there may be an autoscaler that is no longer declared.
        """
        name, api = text(inputs, "name"), ctx.clients.eas
        declared = _full_spec(inputs, ctx.stamp)

        def record(found: clients.EasService | None) -> Properties:
            stored = eas_drift.baseline(found.config, declared, previous) if found else {}
            outputs = _outputs(inputs, found, stored)
            ctx.record(name, outputs)
            return outputs

        record(None)
        record(api.describe(name))
        scaler = table(inputs, "autoscaler")
        if had_autoscaler and not scaler and api.autoscaler(name) is not None:
            api.delete_autoscaler(name)
        found = self._wait_running(ctx, name, was)
        if scaler:
            current = api.autoscaler(name)
            if _found_autoscaler(scaler, current) != scaler:
                api.set_autoscaler(name, scaler, exists=current is not None)
        outputs = record(found)
        if flag(inputs, "reachable", default=True):
            self._wait_answer(ctx, inputs, found)
        else:
            ctx.warning(f"service {name} is {found.status}; it cannot be reached from here, so nothing more was proven")
        return outputs

    def _wait_running(self, ctx: Context, name: str, was: clients.EasService | None) -> clients.EasService:
        """Wait until the service is Running, starting it where it is stopped.

        Args:
            was: the service before the write. A state it was in already may show for a while after the write.
        """
        api = ctx.clients.eas
        started = False
        running_since: float | None = None
        found: clients.EasService | None = None
        gone = 0.0
        for gone in _until_over(ctx, ctx.seconds or self.default_seconds):
            found = api.describe(name)
            if found is None:
                if gone > _GRACE_SECONDS:
                    raise ServiceStartError(f"service {name} is gone")
                continue  # right after its creation a service may not be listed yet
            if found.status == RUNNING:
                running_since = gone if running_since is None else running_since
                if not found.pending and found.running >= found.total:
                    return found
                if found.running and gone - running_since > ANSWER_SECONDS:
                    ctx.warning(f"service {name} is Running with {found.running} of {found.total} replicas")
                    return found
            if found.status == "Stopped" and not started:
                ctx.status(f"starting service {name}")
                api.start(name)
                started = True
                continue
            if found.status in _BROKEN and (was is None or was.status != found.status or gone > _GRACE_SECONDS):
                raise ServiceStartError(failure_story(ctx, found, f"service {name} is {found.status}"))
            detail = f": {found.message}" if found.message else ""
            ctx.status(f"service {name} is {found.status} ({found.running} of {found.total} replicas){detail}")
        seen = found.status if found else "missing"
        raise ServiceStartError(
            failure_story(ctx, found, f"service {name} is still {seen} and not Running after {gone:.0f} s")
        )

    def _wait_answer(self, ctx: Context, inputs: Properties, found: clients.EasService) -> None:
        name = found.name
        address = _address(inputs, found)
        if not (address.url or address.target):
            raise ServiceStartError(f"service {name} is Running but has no endpoint")
        problem = ""
        gone = 0.0
        for gone in _until_over(ctx, ANSWER_SECONDS):
            problem = _ask(inputs, address, found.token, gone)
            if not problem:
                return
            ctx.status(f"waiting for service {name} to answer: {problem}")
        now = ctx.clients.eas.describe(name)
        story = failure_story(ctx, now, f"service {name} is Running but does not answer after {gone:.0f} s: {problem}")
        raise ServiceStartError(
            f"{story}\nFix: if this machine cannot reach the service (VPC only), set reachable: false on it"
        )

    def _wait_gone(self, ctx: Context, name: str) -> clients.EasService | None:
        found: clients.EasService | None = None
        for _ in _until_over(ctx, _DELETE_SECONDS):
            found = ctx.clients.eas.describe(name)
            if found is None:
                return None
            if found.status == "DeleteFailed":
                raise ServiceStartError(failure_story(ctx, found, f"service {name} cannot be deleted"))
            ctx.status(f"service {name} is {found.status}")
        what = f"service {name} is still there after its deletion"
        raise ServiceStartError(failure_story(ctx, found, what))


def _until_over(ctx: Context, seconds: float) -> Iterator[float]:
    """:meth:`Context.poll` that ends where the operation's time is over, so that the caller says what it waited for."""
    turns = ctx.poll(seconds)
    while True:
        try:
            gone = next(turns)
        except (StopIteration, OperationTimeoutError):
            return
        yield gone


def failure_story(ctx: Context, found: clients.EasService | None, what: str) -> str:
    """A failure with what EAS knows about it: the state's reason, newest events and log lines, without secrets."""
    if found is None:
        return what
    lines = [f"{what}: {found.message}" if found.message else what]
    api = ctx.clients.eas
    for title, ask, count in (("events", api.events, _EVENTS), ("log lines", api.log_tail, _LOG_LINES)):
        try:
            newest = [line.rstrip() for line in ask(found.name, count) if line.strip()]
        except CloudError as error:
            newest = [f"not available: {error}"]
        if newest:
            lines += [f"newest {title} of {found.name}:", *(f"  {line}" for line in newest)]
    return without_secrets("\n".join(lines), found)


def trouble_lines(ctx: Context, service: str, about: Iterable[str]) -> list[str]:
    """The newest log lines of a service that tell of trouble with something by name, without secrets."""
    try:
        found = ctx.clients.eas.describe(service)
        tail = ctx.clients.eas.log_tail(service, _LOG_LINES_READ) if found else []
    except CloudError:
        return []
    return [without_secrets(line, found) for line in about_trouble(tail, about)] if found else []


def about_trouble(tail: Iterable[str], about: Iterable[str]) -> list[str]:
    """The newest of some log lines that tell of trouble with something by name."""
    names = tuple(about)
    lines = [line.strip() for line in tail if _TROUBLE.search(line) and any(name in line for name in names)]
    return lines[-_TROUBLE_LINES:]


def without_secrets(shown: str, found: clients.EasService) -> str:
    """``shown`` with the token and every other secret of a service covered."""
    for secret in _secrets_of({}, found.config) | {found.token}:
        if len(secret) >= 4:
            shown = shown.replace(secret, eas_drift.SECRET)
    return shown


# ---- properties ----------------------------------------------------------------------------------------------------


def _echo(inputs: Properties) -> Properties:
    return {name: inputs[name] for name in ("name", "owner", "reachable") if name in inputs}


def _outputs(inputs: Properties, found: clients.EasService | None, baseline: Mapping[str, Any]) -> Properties:
    """The outputs for a service as it was found."""
    address = _address(inputs, found) if found else _Address("", "")
    owner = found.labels.get(OWNER_LABEL, "") if found else ""
    if not owner and OWNER_LABEL not in (baseline.get("labels") or {}):
        owner = text(inputs, "owner")  # EAS does not show the label, so its absence says nothing
    return _echo(inputs) | {
        "url": address.url,
        "target": address.target,
        "token": Secret(found.token if found else ""),
        "serviceId": found.id if found else "",
        "status": found.status if found else "Creating",
        "owner": owner,
        "baseline": dict(baseline),
    }


def _address(inputs: Properties, found: clients.EasService) -> _Address:
    return _Address(*address_of(found, grpc=table(inputs, "probe").get("protocol") == "grpc"))


def address_of(found: clients.EasService, *, grpc: bool) -> tuple[str, str]:
    """Base URL and ``host:port`` of a service: the one its protocol needs, the other one empty."""
    endpoint = (found.internet_endpoint or found.intranet_endpoint).rstrip("/")
    if not endpoint:
        return "", ""
    if "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    if not grpc:
        return endpoint, ""
    parts = urlsplit(endpoint)
    return "", f"{parts.hostname}:{parts.port or 80}"


def _full_spec(inputs: Properties, stamp: str) -> dict[str, Any]:
    """The service JSON that is sent: the declared one with the name and our labels in it."""
    spec: dict[str, Any] = copy.deepcopy(table(inputs, "spec"))
    metadata = spec.setdefault("metadata", {})
    metadata["name"] = text(inputs, "name")
    spec["labels"] = {**(spec.get("labels") or {}), **MANAGED_BY, OWNER_LABEL: text(inputs, "owner")}
    if stamp:
        spec["labels"][CREATED_LABEL] = stamp
    return spec


def _held_by(found: clients.EasService) -> str:
    """The create that holds a service (:mod:`provider.claims`); empty where the service does not say."""
    return found.labels.get(CREATED_LABEL, "")


def _without_our_labels(spec: dict[str, Any], inputs: Properties) -> dict[str, Any]:
    declared = table(inputs, "spec").get("labels") or {}
    ours = {*MANAGED_BY, OWNER_LABEL, CREATED_LABEL} - set(declared)
    labels = {key: value for key, value in (spec.get("labels") or {}).items() if key not in ours}
    rest = {key: value for key, value in spec.items() if key != "labels"}
    return rest | ({"labels": labels} if labels else {})


def _comparable(inputs: Properties, news: Properties) -> dict[str, Any]:
    """The spec in the form in which two are compared; the replica count left out where an autoscaler owns it."""
    spec = plain(inputs.get("spec"))
    if not isinstance(spec, dict):
        return {}
    spec = eas_drift.normalize(spec)
    if flag(news, "autoscaled") or table(news, "autoscaler"):
        metadata = {key: value for key, value in (spec.get("metadata") or {}).items() if key != "instance"}
        spec = {**spec, "metadata": metadata}
    metadata = dict(spec.get("metadata") or {})
    metadata.pop("name", None)  # the property name says it
    return {**spec, "metadata": metadata}


def _secrets_of(declared: Any, config: Mapping[str, Any]) -> set[str]:
    """Every secret text in a declared spec (by its mark) and in a stored service JSON (by what its key means)."""
    found = set(_marked_texts(declared))
    masked = eas_drift.baseline(config, {})
    pending: list[tuple[Any, Any]] = [(eas_drift.normalize(config), masked)]
    while pending:
        real, shown = pending.pop()
        if isinstance(real, dict) and isinstance(shown, dict):
            pending += [(real[key], shown.get(key)) for key in real]
        elif isinstance(real, list) and isinstance(shown, list):
            pending += list(zip(real, shown, strict=False))
        elif shown in (eas_drift.SECRET, eas_drift.OTHER_SECRET) and real != shown:
            found.add(str(real))
    return found


def _marked_texts(value: Any) -> Iterator[str]:
    match value:
        case Secret():
            yield from _texts(value.value)
        case Mapping():
            for item in value.values():
                yield from _marked_texts(item)
        case list() | tuple():
            for item in value:
                yield from _marked_texts(item)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for item in value.values():
                yield from _texts(item)
        case list() | tuple():
            for item in value:
                yield from _texts(item)


def _marked(value: Any, secrets: set[str]) -> Any:
    """``value`` with every text that is one of ``secrets`` marked as such."""
    match value:
        case Mapping():
            return {key: _marked(item, secrets) for key, item in value.items()}
        case list() | tuple():
            return [_marked(item, secrets) for item in value]
        case str() if value and value in secrets:
            return Secret(value)
        case _:
            return value


def _imported(found: clients.EasService) -> Properties:
    """Inputs for a service that is imported: its stored JSON, with secrets marked.

    Without the token, which would be in the code that the import prints: undeclared it stays as it is, and it is an
    output all the same.
    """
    spec = _without_our_labels({key: value for key, value in found.config.items() if key != "token"}, {})
    grpc = bool((spec.get("metadata") or {}).get("enable_grpc"))
    return {
        "name": found.name,
        "spec": _marked(eas_drift.normalize(spec), _secrets_of({}, found.config)),
        "owner": found.labels.get(OWNER_LABEL, ""),
        "probe": {"protocol": "grpc" if grpc else "http", "models": []},
        "adopt": False,
        "reachable": True,
        "autoscaled": False,
        "status": RUNNING,
    }


def _routing(inputs: Properties) -> tuple[Any, ...]:
    """What a service's address depends on."""
    spec = table(inputs, "spec")
    grpc = (spec.get("metadata") or {}).get("enable_grpc")
    return table(inputs, "probe").get("protocol"), grpc, spec.get("networking"), text(inputs, "name")


def _check_owner(name: str, owner: str, inputs: Properties, also: tuple[str, ...]) -> None:
    """Refuse a service of somebody else, unless it is to be adopted."""
    if owner == text(inputs, "owner") or owner in also or flag(inputs, "adopt"):
        return
    if not owner and also:
        return  # ours by the state; only its label was removed
    whose = f"belongs to {owner}" if owner else "was not made by this project"
    raise OwnershipError(
        f"service {name} exists already and {whose}. "
        "Fix: choose another name, or set adopt: true on the service to take it over"
    )


def _check_lock(ctx: Context, name: str) -> None:
    """Refuse in the preview what EAS will refuse: a change of a service with the safety lock ``all``.

    Raises:
        SafetyLockError: it has.
    """
    try:
        found = ctx.clients.eas.describe(name)
    except CloudError:
        return  # the update will say it
    if found is not None and found.lock == "all":
        raise SafetyLockError(
            f"service {name} has the safety lock 'all', set beside this stack: EAS refuses every change of it. "
            "Fix: take the lock off in the EAS console, then run the update again"
        )


def _warn_of_traffic(ctx: Context, found: clients.EasService) -> None:
    """A group sends a service with the weight 0 nothing, and nothing else of it shows that."""
    if found.traffic == "grouping" and found.weight == 0:
        ctx.warning(
            f"service {found.name} gets no request through its group: its traffic weight is 0, set beside this stack, "
            "which leaves it alone. Fix: give it a weight in the EAS console"
        )


def _check_deletable(name: str, owner: str, inputs: Properties) -> None:
    """Refuse to delete a service that another stack has taken over."""
    if owner and owner != text(inputs, "owner"):
        raise OwnershipError(
            f"service {name} belongs to {owner} now, so it is not deleted. "
            "Fix: take it out of this stack's state with `pulumi state delete`"
        )


def _preview_taking_over(ctx: Context, inputs: Properties) -> None:
    """Before a create: say what it would change of a service that exists already.

    Raises:
        OwnershipError: it is somebody else's, and not to be adopted.
        CloudError: there are no credentials.
    """
    name = text(inputs, "name")
    try:
        found = ctx.clients.eas.describe(name)
    except clients.NoCredentialsError:
        raise
    except CloudError as error:
        # A first preview has nothing else to ask the cloud, and is of use without it.
        ctx.info(f"it is not known yet whether service {name} exists already: {error}")
        return
    if found is None or found.status == "Deleting":
        return
    _check_owner(name, found.labels.get(OWNER_LABEL, ""), inputs, ())
    autoscaled = flag(inputs, "autoscaled") or bool(table(inputs, "autoscaler"))
    changes = eas_drift.drift(_full_spec(inputs, _held_by(found)), found.config, {}, autoscaled=autoscaled)
    ctx.info(f"service {name} exists already ({found.status}): it is taken over, which changes")
    for path, (wanted, there) in changes.items():
        if wanted is None and path in eas_drift.KEPT:
            continue
        if wanted is None:
            ctx.info(f"  {path}: {_shown(there)} is not declared: it goes, unless EAS adds it by itself")
        else:
            ctx.info(f"  {path}: {_shown(there)} -> {_shown(wanted)}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _probe_failures(probe: Any) -> Iterator[Failure]:
    if not isinstance(probe, dict) or has_unknown(probe):
        return
    if probe.get("protocol", "http") not in _PROTOCOLS:
        yield Failure("probe.protocol", f"{probe['protocol']!r} is not one of {', '.join(_PROTOCOLS)}")
    models = probe.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        yield Failure("probe.models", "must be a list of model names")
    path = probe.get("path", "/")
    if not isinstance(path, str) or not path.startswith("/"):
        yield Failure("probe.path", f"{path!r} is not an absolute path")
    for key in probe:
        if key not in ("protocol", "models", "path"):
            yield Failure(f"probe.{key}", "unknown property; known: protocol, models, path")


def _autoscaler_failures(scaler: Any) -> Iterator[Failure]:
    if not isinstance(scaler, dict) or has_unknown(scaler) or not scaler:
        return
    least, most = scaler.get("min"), scaler.get("max")
    if not isinstance(least, int) or not isinstance(most, int):
        yield Failure("autoscaler", "min and max are whole numbers of replicas")
    elif not 0 <= least <= most or most < 1:
        yield Failure("autoscaler.max", f"min {least} and max {most} are no range of replicas")
    if not scaler.get("scaleStrategies"):
        yield Failure("autoscaler.scaleStrategies", "at least one metric with a threshold is needed")


def _found_autoscaler(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The autoscaler as found, reduced to what is declared: the server fills in the rest."""
    return {} if found is None else {key: _like(value, found.get(key)) for key, value in wanted.items()}


def _like(wanted: Any, found: Any) -> Any:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {key: _like(value, found.get(key)) for key, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [_like(one, other) for one, other in zip(wanted, found, strict=True)]
    return wanted if eas_drift.equivalent(wanted, found) else found


# ---- readiness -----------------------------------------------------------------------------------------------------


def _ask(inputs: Properties, address: _Address, token: str, gone: float) -> str:
    """Ask a service once whether it is ready: empty where it is, else why not.

    With models in the probe, TensorFlow Serving must answer for each of them with an AVAILABLE version; a service that
    reads a config file need not serve a model yet that the rollout adds later. Without models any server will do.
    """
    probe = table(inputs, "probe")
    if probe.get("path"):
        return _ask_path(address.url, str(probe["path"]), token)
    models = list(probe.get("models") or ())
    if not models:
        return _ask_anything(address, token, gone)
    reads_config = CONFIG_FILE_FLAG in str(table(inputs, "spec").get("containers"))
    try:
        with client.connect(url=address.url or None, target=address.target or None, token=token) as service:
            for model in models:
                try:
                    states = service.status(model)
                except ServiceNotFoundError as error:
                    if reads_config:
                        continue
                    return f"it does not serve {model}: {error}"
                if not any(state.state == "AVAILABLE" for state in states):
                    shown = ", ".join(
                        f"{state.version} {state.state} {state.error_message}".strip() for state in states
                    )
                    return f"no version of {model} is AVAILABLE: {shown or 'none'}"
    except ServiceError as error:
        return str(error)
    return ""


def _ask_anything(address: _Address, token: str, gone: float) -> str:
    if address.target:
        try:
            with client.connect(target=address.target, token=token) as service:
                service.status("readiness")
        except ServiceUnreachableError as error:
            return str(error)
        except ServiceError:
            return ""  # any answer of a gRPC server will do
        return ""
    status, body = _get(address.url, "/", token)
    if status in (0, 401, 403, 502, 503, 504):
        return body or f"HTTP {status}"
    if status == 404 and not body and gone < _EMPTY_404_SECONDS:
        return "HTTP 404 without a body, as from a gateway that does not know the service yet"
    return ""


def _ask_path(url: str, path: str, token: str) -> str:
    status, body = _get(url, path, token)
    return "" if 200 <= status < 300 else f"{path}: {f'HTTP {status} ' if status else ''}{body}".rstrip()


def _get(url: str, path: str, token: str) -> tuple[int, str]:
    """Status and the beginning of the body of a GET; status 0 with the reason where there was no answer."""
    request = urllib_request.Request(f"{url}{path}", headers={"Authorization": token} if token else {})  # noqa: S310
    try:
        with opener(url).open(request, timeout=10) as response:
            return response.status, response.read(200).decode(errors="replace")
    except urllib_error.HTTPError as error:
        with error:
            return error.code, error.read(200).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, f"no answer: {getattr(error, 'reason', None) or error}"
