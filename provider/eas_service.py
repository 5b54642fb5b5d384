"""A service on PAI-EAS: made, replaced as a whole on every change, and waited for until its gateway answers.

Beyond the generic EAS resource of other tools: an update sends ``UpdateType=replace``, so a key that left the spec
leaves the service; what EAS adds to the stored JSON is no drift; address and token are outputs; ``Running`` is not
taken for ready; and a failure comes with the service's newest events and log lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from provider import clients, faults
from provider.claims import STAMP, TAKEN, found_by, is_anothers, stays
from provider.eas.labels import OWNER_LABEL
from provider.eas.ownership import check_deletable, check_lock, check_owner, preview_taking_over, warn_of_traffic
from provider.eas.readiness import ANSWER_SECONDS, ServiceStartError, ask, until_over
from provider.eas.spec import (
    RUNNING,
    address_in,
    comparable,
    echo,
    full_spec,
    held_by,
    imported_inputs,
    marked,
    outputs_of,
    routing,
    secrets_of,
    without_our_labels,
)
from provider.eas.story import failure_story
from provider.properties import UNKNOWN, Change, Properties, Secret, differences, has_unknown, plain
from provider.resource import (
    Context,
    Diff,
    Failure,
    Found,
    Property,
    Resource,
    flag,
    table,
    text,
)
from tfserving import eas_drift
from tfserving.errors import (
    CloudError,
)

_DELETE_SECONDS = 600.0
_CONFLICT_SECONDS = 180.0
_CREATE_ATTEMPTS = 4
_GRACE_SECONDS = 30.0
_NAME = re.compile(r"[a-z][a-z0-9_]{2,62}")
_PROTOCOLS = ("http", "grpc")


# Rolling through these, a service keeps answering as long as one replica runs.
_MOVING = frozenset({"Updating", "Scaling", "HotUpdate"})
_PASSING = _MOVING | {"Creating", "Waiting", "Pending", "Starting", "Stopping", "Deleting", "Cloning", "Committing"}
_BROKEN = frozenset({"Failed", "DeleteFailed"})


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
        found = differences(comparable(old_inputs, news), comparable(news, news), ("spec",))
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
            preview_taking_over(ctx, inputs)
        if old_inputs is not None and old_outputs is not None:
            check_owner(text(inputs, "name"), text(old_outputs, "owner"), inputs, (text(old_inputs, "owner"),))
            check_lock(ctx, text(inputs, "name"))
            kept = ["serviceId"]
            kept += ["url", "target"] if routing(inputs) == routing(old_inputs) else []
            kept += ["token"] if table(inputs, "spec").get("token") == table(old_inputs, "spec").get("token") else []
            outputs |= {name: old_outputs[name] for name in kept if name in old_outputs}
        return echo(inputs) | outputs | {"status": RUNNING, "baseline": UNKNOWN}

    def replaced(self, ctx: Context, old_inputs: Properties, old_outputs: Properties) -> None:
        """Refuses to replace a service whose old one could not be deleted afterwards."""
        check_deletable(text(old_inputs, "name"), text(old_outputs, "owner"), old_inputs)

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        name, owner, api = text(inputs, "name"), text(inputs, "owner"), ctx.clients.eas
        found = api.describe(name)
        if found is not None and found.status == "Deleting":
            self._wait_gone(ctx, name)
            found = None
        if found is not None:
            check_owner(name, found.labels.get(OWNER_LABEL, ""), inputs, ())
            ctx.info(f"service {name} exists already ({found.status}): it is taken over and updated")
            self._replace(ctx, name, inputs, keep_token=found.token)
            return name, self._finish(ctx, inputs, was=found, had_autoscaler=True)
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            try:
                api.create(full_spec(inputs, ctx.stamp))
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
            inputs = imported_inputs(found)
        warn_of_traffic(ctx, found)
        declared = full_spec(inputs, ctx.stamp)
        # What an imported service has is EAS's own or was declared elsewhere: no difference until somebody changes it.
        baseline = eas_drift.baseline(found.config, declared) if imported else table(outputs, "baseline")
        autoscaled = flag(inputs, "autoscaled") or bool(table(inputs, "autoscaler"))
        read = dict(inputs)
        if eas_drift.drift(declared, found.config, baseline, autoscaled=autoscaled):
            actual = eas_drift.actual(declared, found.config, baseline, autoscaled=autoscaled)
            read["spec"] = marked(without_our_labels(actual, inputs), secrets_of(inputs["spec"], found.config))
        if table(inputs, "autoscaler"):
            read["autoscaler"] = _found_autoscaler(table(inputs, "autoscaler"), ctx.clients.eas.autoscaler(id_))
        held = found_by(held_by(found), ctx.stamp, imported=imported)
        return Found(read, outputs_of(inputs, found, baseline) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        found = ctx.clients.eas.describe(id_)
        if found is None or found.status == "Deleting":
            raise CloudError(f"service {id_} is gone: run `pulumi refresh`, then `pulumi up` makes it anew")
        check_owner(id_, found.labels.get(OWNER_LABEL, ""), news, (text(old_inputs, "owner"),))
        before, full = full_spec(old_inputs, ctx.stamp), full_spec(news, ctx.stamp)
        autoscaled = flag(news, "autoscaled") or bool(table(news, "autoscaler"))
        changed = eas_drift.normalize(before) != eas_drift.normalize(full)
        changed = changed or is_anothers(held_by(found), ctx.stamp)
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
        check_deletable(id_, found.labels.get(OWNER_LABEL, ""), inputs)
        if is_anothers(held_by(found), ctx.stamp):
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
        spec = full_spec(inputs, ctx.stamp)
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
        declared = full_spec(inputs, ctx.stamp)

        def record(found: clients.EasService | None) -> Properties:
            stored = eas_drift.baseline(found.config, declared, previous) if found else {}
            outputs = outputs_of(inputs, found, stored)
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
        for gone in until_over(ctx, ctx.seconds or self.default_seconds):
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
        address = address_in(inputs, found)
        if not (address.url or address.target):
            raise ServiceStartError(f"service {name} is Running but has no endpoint")
        problem = ""
        gone = 0.0
        for gone in until_over(ctx, ANSWER_SECONDS):
            problem = ask(inputs, address, found.token, gone)
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
        for _ in until_over(ctx, _DELETE_SECONDS):
            found = ctx.clients.eas.describe(name)
            if found is None:
                return None
            if found.status == "DeleteFailed":
                raise ServiceStartError(failure_story(ctx, found, f"service {name} cannot be deleted"))
            ctx.status(f"service {name} is {found.status}")
        what = f"service {name} is still there after its deletion"
        raise ServiceStartError(failure_story(ctx, found, what))


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
