"""A service on PAI-EAS: made, replaced as a whole on every change, and waited for until its gateway answers.

Beyond the generic EAS resource of other tools: an update sends ``UpdateType=replace``, so a key that left the spec
leaves the service; what EAS adds to the stored JSON is no drift; address and token are outputs; ``Running`` is not
taken for ready; and a failure comes with the service's newest events and log lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from provider import clients, faults, moves
from provider.claims import STAMP, found_by, is_anothers, stays
from provider.eas.labels import OWNER_LABEL
from provider.eas.ownership import check_change, check_deletable, check_owner, preview_taking_over, warn_of_traffic
from provider.eas.readiness import ANSWER_SECONDS, ServiceStartError, ask, until_over
from provider.eas.spec import (
    address_in,
    comparable,
    declared_group,
    echo,
    full_spec,
    held_by,
    imported_inputs,
    is_autoscaled,
    marked,
    outputs_of,
    routing,
    secrets_of,
    without_our_labels,
)
from provider.eas.story import failure_story
from provider.group_calls import TRAFFIC_LABEL
from provider.properties import Change, differences
from provider.resource import (
    Context,
    Diff,
    Failure,
    Found,
    Resource,
)
from tfserving import eas_drift
from tfserving.contract import EAS_SERVICE
from tfserving.contract.serving import RUNNING, EasServiceInputs, EasServiceOutputs
from tfserving.errors import (
    CloudError,
)
from tfserving.property_values import UNKNOWN, Properties, Secret, has_unknown, plain
from tfserving.schedule import Cron, CronError

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

    contract = EAS_SERVICE
    refresh_before_update = True
    default_seconds = 1800.0

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
        yield from _cron_scaler_failures(plain(inputs.get("cronScaler")))

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff({**old_inputs, "spec": None}, old_outputs, {**news, "spec": None})
        before, wanted = EasServiceInputs.read(old_inputs), EasServiceInputs.read(news)
        changed = differences(comparable(before, wanted), comparable(wanted, wanted), ("spec",))
        diff.changes |= {path: (change, True) for path, change in changed.items()}
        found = EasServiceOutputs.read(old_outputs)
        if found.status and found.status not in (RUNNING, *_MOVING):
            diff.changes["status",] = (Change.UPDATE, False)
        if found.owner != before.owner:
            diff.changes["owner",] = (Change.UPDATE, False)
        if found.taken:
            diff.changes[STAMP,] = (Change.UPDATE, False)
        # The new service has another name, so both can exist: clients move over before the old one goes.
        diff.delete_before_replace = False
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        outputs: Properties = {"url": UNKNOWN, "target": UNKNOWN, "token": Secret(UNKNOWN), "serviceId": UNKNOWN}
        read = EasServiceInputs.read(inputs)
        if old_inputs is None and read.knows("name", "spec", "owner"):
            preview_taking_over(ctx, read)
        if old_inputs is not None and old_outputs is not None:
            before = EasServiceInputs.read(old_inputs)
            check_owner(read.name, EasServiceOutputs.read(old_outputs).owner, read, (before.owner,))
            check_change(ctx, read.name, declared_group(read))
            kept = ["serviceId"]
            kept += ["url", "target"] if routing(read) == routing(before) else []
            kept += ["token"] if read.spec.get("token") == before.spec.get("token") else []
            outputs |= {name: old_outputs[name] for name in kept if name in old_outputs}
        return echo(inputs) | outputs | {"status": RUNNING, "baseline": UNKNOWN}

    def replaced(self, ctx: Context, old_inputs: Properties, old_outputs: Properties) -> None:
        """Refuses to replace a service whose old one could not be deleted afterwards."""
        read = EasServiceInputs.read(old_inputs)
        check_deletable(read.name, EasServiceOutputs.read(old_outputs).owner, read)

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        read, api = EasServiceInputs.read(inputs), ctx.clients.eas
        name, owner = read.name, read.owner
        found = api.describe(name)
        if found is not None and found.status == "Deleting":
            self._wait_gone(ctx, name)
            found = None
        if found is not None:
            check_owner(name, found.labels.get(OWNER_LABEL, ""), read, ())
            ctx.info(f"service {name} exists already ({found.status}): it is taken over and updated")
            self._replace(ctx, name, read, found, keep_token=found.token)
            return name, self._finish(ctx, inputs, was=found, taken_over=True)
        for attempt in range(1, _CREATE_ATTEMPTS + 1):
            try:
                api.create(full_spec(read, ctx.stamp))
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
        typed = EasServiceInputs.read(inputs)
        warn_of_traffic(ctx, found, declared_group(typed))
        declared = full_spec(typed, ctx.stamp)
        # What an imported service has is EAS's own or was declared elsewhere: no difference until somebody changes it.
        known = EasServiceOutputs.read(outputs).baseline
        baseline = eas_drift.baseline(found.config, declared) if imported else known
        autoscaled = is_autoscaled(typed)
        read = dict(inputs)
        if eas_drift.drift(declared, found.config, baseline, autoscaled=autoscaled):
            actual = eas_drift.actual(declared, found.config, baseline, autoscaled=autoscaled)
            read["spec"] = marked(without_our_labels(actual, typed.spec), secrets_of(inputs["spec"], found.config))
        if typed.autoscaler:
            wanted = typed.autoscaler.write()
            current = ctx.clients.eas.autoscaler(id_)
            read["autoscaler"] = _found_autoscaler(wanted, current, moved=typed.cron_scaler is not None)
        if typed.cron_scaler:
            read["cronScaler"] = _found_cron_scaler(typed.cron_scaler.write(), ctx.clients.eas.cron_scaler(id_))
        held = found_by(held_by(found), ctx.stamp, imported=imported)
        return Found(read, outputs_of(inputs, found, baseline) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        found = ctx.clients.eas.describe(id_)
        if found is None or found.status == "Deleting":
            raise CloudError(f"service {id_} is gone: run `pulumi refresh`, then `pulumi up` makes it anew")
        former, read = EasServiceInputs.read(old_inputs), EasServiceInputs.read(news)
        check_owner(id_, found.labels.get(OWNER_LABEL, ""), read, (former.owner,))
        before, full = full_spec(former, ctx.stamp), full_spec(read, ctx.stamp)
        autoscaled, baseline = is_autoscaled(read), EasServiceOutputs.read(old_outputs).baseline
        changed = eas_drift.normalize(before) != eas_drift.normalize(full)
        changed = changed or is_anothers(held_by(found), ctx.stamp)
        if changed or eas_drift.drift(full, found.config, baseline, autoscaled=autoscaled):
            keep_token = "" if "token" in before else found.token
            replicas = found.total if autoscaled else 0
            self._wait_for_moves(ctx, id_, read, found.config, full)
            self._replace(ctx, id_, read, found, keep_token=keep_token, replicas=replicas)
        elif found.status in _BROKEN:
            ctx.info(f"service {id_} is {found.status}: restarting it")
            ctx.clients.eas.restart(id_)
        return self._finish(ctx, news, previous=before, was=found, former=former)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        api = ctx.clients.eas
        found = api.describe(id_)
        if found is None:
            return
        check_deletable(id_, found.labels.get(OWNER_LABEL, ""), EasServiceInputs.read(inputs))
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

    def _replace(
        self,
        ctx: Context,
        name: str,
        inputs: EasServiceInputs,
        found: clients.DescribedService,
        *,
        keep_token: str = "",
        replicas: int = 0,
    ) -> None:
        """Send the whole spec. A service in the middle of another change may refuse it: then wait and try again.

        Args:
            ctx: the operation.
            name: the service.
            inputs: what is declared.
            found: as it is. The group that it was made in stays, whether or not it gets requests of it, and so does
                what it says of the group's shares.
            keep_token: the token EAS made, sent along so that the service keeps it; clients have it.
            replicas: the number the autoscaler has chosen, kept; 0 is the spec's own.
        """
        spec = full_spec(inputs, ctx.stamp)
        if keep_token and "token" not in spec:
            spec["token"] = keep_token
        if found.group:
            spec["metadata"].setdefault("group", found.group)
        if TRAFFIC_LABEL in found.labels:
            spec["labels"][TRAFFIC_LABEL] = found.labels[TRAFFIC_LABEL]
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

    @staticmethod
    def _wait_for_moves(
        ctx: Context, name: str, news: EasServiceInputs, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> None:
        """Before it starts anew without models that move to other services of the stack, those serve them."""
        if news.other_services:
            elsewhere = moves.Elsewhere(owner=news.owner, models=news.other_services)
            moves.before_restart(ctx, name, elsewhere, news.probe.models, old, new)

    def _finish(
        self,
        ctx: Context,
        inputs: Properties,
        *,
        previous: Mapping[str, Any] | None = None,
        was: clients.DescribedService | None = None,
        former: EasServiceInputs | None = None,
        taken_over: bool = False,
    ) -> Properties:
        """Everything after the service JSON is written: the scalers and the waits; the final outputs.

        Args:
            previous: the service JSON declared before.
            was: the service before the write.
            former: what was declared before; ``None`` for a service that is new to the stack.
            taken_over: it was somebody else's, and may have scalers.
        """
        read, api = EasServiceInputs.read(inputs), ctx.clients.eas
        name, declared = read.name, full_spec(read, ctx.stamp)

        def record(found: clients.DescribedService | None) -> Properties:
            stored = eas_drift.baseline(found.config, declared, previous) if found else {}
            outputs = outputs_of(inputs, found, stored)
            ctx.record(name, outputs)
            return outputs

        record(None)
        record(api.describe(name))
        scaler = read.autoscaler.write() if read.autoscaler else {}
        jobs = read.cron_scaler.write() if read.cron_scaler else {}
        had_jobs = taken_over or (former is not None and former.cron_scaler is not None)
        if had_jobs and not jobs and api.cron_scaler(name) is not None:
            api.delete_cron_scaler(name)
        had_scaler = taken_over or (former is not None and former.autoscaler is not None)
        if had_scaler and not scaler and api.autoscaler(name) is not None:
            api.delete_autoscaler(name)
        found = self._wait_running(ctx, name, was)
        if scaler:
            current = api.autoscaler(name)
            # Jobs of the clock move the bounds; what was declared anew holds until the next one.
            moved = bool(jobs) and former is not None and former.autoscaler == read.autoscaler
            if _found_autoscaler(scaler, current, moved=moved) != scaler:
                api.set_autoscaler(name, scaler, exists=current is not None)
        if jobs:
            clock = api.cron_scaler(name)
            if _found_cron_scaler(jobs, clock) != jobs:
                api.set_cron_scaler(name, jobs, exists=clock is not None)
        outputs = record(found)
        if read.reachable:
            self._wait_answer(ctx, read, found)
        else:
            ctx.warning(f"service {name} is {found.status}; it cannot be reached from here, so nothing more was proven")
        return outputs

    def _wait_running(self, ctx: Context, name: str, was: clients.DescribedService | None) -> clients.DescribedService:
        """Wait until the service is Running, starting it where it is stopped.

        Args:
            was: the service before the write. A state it was in already may show for a while after the write.
        """
        api = ctx.clients.eas
        started = False
        running_since: float | None = None
        found: clients.DescribedService | None = None
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

    def _wait_answer(self, ctx: Context, inputs: EasServiceInputs, found: clients.DescribedService) -> None:
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

    def _wait_gone(self, ctx: Context, name: str) -> clients.DescribedService | None:
        found: clients.DescribedService | None = None
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


def _cron_scaler_failures(scaler: Any) -> Iterator[Failure]:
    if not isinstance(scaler, dict) or has_unknown(scaler) or not scaler:
        return
    jobs = scaler.get("scaleJobs") or []
    if not jobs:
        yield Failure("cronScaler.scaleJobs", "at least one job is needed")
    names = [job.get("name") for job in jobs]
    for index, job in enumerate(jobs):
        here = f"cronScaler.scaleJobs[{index}]"
        if job.get("name") in names[:index]:
            yield Failure(f"{here}.name", f"job {job['name']} is there twice")
        if not isinstance(job.get("targetSize"), int) or job["targetSize"] < 0:
            yield Failure(f"{here}.targetSize", "the size is a whole number of replicas")
        try:
            Cron.parse(str(job.get("schedule")))
        except CronError as error:
            yield Failure(f"{here}.schedule", f"{job.get('schedule')!r} is not a time of the schedule: {error}")
    for index, day in enumerate(scaler.get("excludeDates") or ()):
        try:
            Cron.parse(str(day))
        except CronError as error:
            yield Failure(f"cronScaler.excludeDates[{index}]", f"{day!r} is not a day: {error}")


def _found_autoscaler(
    wanted: Mapping[str, Any], found: Mapping[str, Any] | None, *, moved: bool = False
) -> dict[str, Any]:
    """The autoscaler as found, reduced to what is declared: the server fills in the rest.

    Args:
        moved: jobs of a cron scaler move its bounds (page "Scheduled auto scaling"), which are then as declared.
    """
    if found is None:
        return {}
    bounds = {key: wanted[key] for key in ("min", "max")} if moved else {}
    return {key: _like(value, found.get(key)) for key, value in wanted.items()} | bounds


def _found_cron_scaler(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cron scaler as found, its jobs in the order in which they are declared, those of others behind them.

    A time zone that EAS does not show is taken for the declared one: releases of its API before 2026 know none.
    """
    if found is None:
        return {}
    declared = {job["name"]: job for job in wanted["scaleJobs"]}
    there = {job.get("name"): job for job in found["scaleJobs"]}
    order = [*(name for name in declared if name in there), *(name for name in there if name not in declared)]
    jobs = [
        _like(declared[name], {**declared[name], **there[name]}) if name in declared else there[name] for name in order
    ]
    days = found.get("excludeDates", [])
    return {"scaleJobs": jobs, **({"excludeDates": days} if days or "excludeDates" in wanted else {})}


def _like(wanted: Any, found: Any) -> Any:
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return {key: _like(value, found.get(key)) for key, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [_like(one, other) for one, other in zip(wanted, found, strict=True)]
    return wanted if eas_drift.equivalent(wanted, found) else found
