"""What a service of one model really serves: nothing is written for it, so nothing is rolled out, but it is proven.

Such a service takes up a new version by itself, as soon as its files are in the bucket. That it has, on every replica,
is what this resource waits for, and what it looks at again for drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provider.asking import MOUNT_CACHE_SECONDS, Answers, AskedService, Fleet
from provider.cluster import ClusterApi
from provider.gates import GateFailedError, Trials, failure, refuse
from provider.properties import Change, differences
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving import wire, wording
from tfserving.contract import SERVED_MODEL
from tfserving.contract.parts import ServedVersions
from tfserving.contract.serving import ServedModelInputs, ServedModelOutputs
from tfserving.errors import RolloutError, ServiceUnreachableError
from tfserving.gates import plan, report, spec
from tfserving.gates.plan import GatePlan
from tfserving.gates.which import Candidate
from tfserving.property_values import UNKNOWN, Properties, has_unknown, plain
from tfserving.served import Served

STEP_SECONDS = 120.0
"""How long a new version may take until it is served, the time an OSS mount may hide it included."""


class ServedModel(Resource):
    """The versions that a service of one model answers for."""

    contract = SERVED_MODEL
    refresh_before_update = True

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        inputs, failures = super().check(olds, {**news, "served": None})
        read = ServedModelInputs.read(inputs)
        if not failures and read.knows("model", "versions"):
            inputs |= {"served": _outputs(_expected(read))["served"]}
        return inputs, failures

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        versions = plain(inputs["versions"])
        if isinstance(versions, list) and not has_unknown(versions) and not all(map(wire.is_version, versions)):
            yield Failure("versions", f"{versions!r} is not a list of version numbers, each from 0 to 2^63 - 1")
        read = ServedModelInputs.read(inputs)
        if read.gate is not None and read.knows("gate", "service"):
            for key, message, allowed in spec.problems(read.gate.gate):
                yield Failure(f"gate.gate.{key}", f"{message}. Allowed: {allowed}")
            for key in spec.comparing(read.gate.gate):
                yield Failure(f"gate.gate.{key}", spec.ALONE)
            if not read.service.reachable:
                yield Failure("gate", "the service cannot be reached (reachable: false), so nothing can be tried there")
        if read.wait_seconds is not None and read.knows("wait_seconds") and read.wait_seconds < 1:
            yield Failure("waitSeconds", f"{read.wait_seconds} is not a time; at least 1")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if not has_unknown(old_inputs.get("served")):
            found, should = ServedModelOutputs.read(old_outputs).served, ServedModelInputs.read(old_inputs).served or {}
            drift = differences(_outputs(found)["served"], _outputs(should)["served"], ("served",))
            for path, change in drift.items():
                # Which versions are served is one fact, however many of them differ.
                short = tuple(map(str, path[:3]))
                diff.changes[short] = (Change.UPDATE if len(path) > 3 else change, False)
        if ServedModelOutputs.read(old_outputs).return_to is not None:
            # The last update ended at its gate, or before it: what was to be proven is not.
            diff.changes[("returnTo",)] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        read = ServedModelInputs.read(inputs)
        if not read.knows("model", "versions"):
            return inputs | {"served": UNKNOWN, "unproven": False}
        name = read.service.name
        before = ServedModelInputs.read(old_inputs).versions if old_inputs else ()
        for line in wording.served_model_changes(read.model, before, read.versions):
            ctx.info(f"{name}: {line}")
        gates = plan.of_one_model(
            read, ServedModelInputs.read(old_inputs or {}), ServedModelOutputs.read(old_outputs or {})
        )
        for line in gates.lines:
            ctx.info(f"{name}: {line}")
        refuse(ctx, gates.gates, gates.which.candidates)
        if not read.service.reachable:
            ctx.warning(f"{name}: cannot be reached from this machine (reachable: false), so nothing is proven there")
        results = inputs | _outputs(_expected(read), unproven=not read.service.reachable)
        if gates.which.candidates:
            results["gateReports"] = UNKNOWN
        return results

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        read = ServedModelInputs.read(inputs)
        id_ = f"{read.service.name}/{read.model}"
        return id_, self._prove(ctx, id_, inputs, {}, {})

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._prove(ctx, id_, news, old_inputs, old_outputs)

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise RolloutError(
                "ServedModel is what a service serves and cannot be imported. "
                "Fix: import or adopt the service, and let `pulumi up` make it"
            )
        read = ServedModelInputs.read(inputs)
        if not read.service.reachable:
            return Found(inputs, outputs | inputs)
        service, model = AskedService.of(read.service.name, read.service), read.model
        fleet = Fleet(ctx, [service], ClusterApi.of(read))
        fleet.count_replicas()
        kept = {name: value for name, value in outputs.items() if name != "unasked"} | inputs
        answer = fleet.ask_patiently((service,), {model: ()})[service.name]
        if isinstance(answer, Answers):
            return Found(inputs, kept | _outputs(answer.served()))
        status = fleet.status(service.name)
        if status != "Running":
            ctx.info(f"service {service.name} is {status}, so it serves nothing")
            return Found(inputs, kept | _outputs({}))
        # Never 'no drift', and no plain error either: that would block the update that repairs the service.
        ctx.record(id_, kept | _outputs({}, unasked=str(answer)), inputs)
        raise ServiceUnreachableError(wording.unasked(service.name, str(answer)))

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: what is served goes with the service."""

    def _prove(
        self, ctx: Context, id_: str, inputs: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> Properties:
        """Wait until every replica serves exactly the declared versions, and try new ones; the outputs.

        Raises:
            RolloutError: a version cannot be loaded, or not in time, or does not pass its gate.
        """
        read, found = ServedModelInputs.read(inputs), ServedModelOutputs.read(old_outputs)
        before = ServedModelInputs.read(old_inputs)
        gates = plan.of_one_model(read, before, found)
        refuse(ctx, gates.gates, gates.which.candidates)
        kept = ServedModelOutputs(
            served=found.served,
            unproven=False,
            gate_reports=found.gate_reports,
            return_to=plan.versions_before(before, found) if gates.which.candidates else None,
        )
        service, model = AskedService.of(read.service.name, read.service), read.model
        if not service.reachable:
            ctx.warning(f"nothing was proven for {service.name}: not reachable from this machine")
            return inputs | _outputs(_expected(read), unproven=True)
        versions = list(read.versions)
        seconds = float(read.wait_seconds or ctx.seconds or STEP_SECONDS)
        ctx.record(id_, inputs | kept.write())
        fleet = Fleet(ctx, [service], ClusterApi.of(read))
        stale: set[int] | None = None
        problem = ""
        for gone in ctx.poll(seconds, longest=2):
            fleet.count_replicas()
            answer = fleet.ask((service,), {model: ()})[service.name]
            if not isinstance(answer, Answers):
                problem = str(answer)
                continue
            failed = {version for version in versions if answer.failed(model, (version,))}
            # A failure of an earlier time shows until the server tries again, which it does once it sees new files.
            stale = failed if stale is None else stale & failed
            if failed - stale or (failed and gone >= min(MOUNT_CACHE_SECONDS, seconds / 2)):
                version = min(failed - stale or failed)
                raise _failed(fleet, service.name, model, version, answer)
            if list(answer.anywhere(model)) == versions == list(answer.available(model)):
                kept = replace(kept, served=answer.served())
                return inputs | self._try(ctx, id_, inputs, gates, kept, Trials(ctx, fleet, gates.gates, [service]))
            problem = _pending(answer, model, versions)
            ctx.status(f"{service.name}: {problem}")
        raise RolloutError(
            "\n".join(
                [
                    f"service {service.name}: not done after {seconds:g} s: {problem}",
                    *(f"  {line}" for line in fleet.story(service.name)),
                    *(f"  log: {line}" for line in fleet.trouble(service.name, (model,))),
                    "What was served before is still served. Fix: run the update again to go on waiting; allow more "
                    "time with tf-serving:rolloutSeconds",
                ]
            )
        )

    @staticmethod
    def _try(
        ctx: Context, id_: str, inputs: Properties, gates: GatePlan, kept: ServedModelOutputs, trials: Trials
    ) -> Properties:
        """Try the versions that answer now and did not before; the outputs.

        Raises:
            GateFailedError: one does not reach what its gate demands.
        """
        for candidate in gates.which.candidates:
            found = trials.run(candidate)
            kept = replace(kept, gate_reports=report.with_report(kept.gate_reports or {}, found))
            if not found.passed:
                ctx.record(id_, inputs | kept.write())
                raise GateFailedError(f"{failure(found)}\n{_way_back(candidate)}")
        return replace(kept, return_to=None).write()


def _way_back(candidate: Candidate) -> str:
    before = "" if candidate.old is None else f"; the service then serves version {candidate.old} again"
    return (
        f"A service of one model takes up its highest version by itself: version {candidate.version} answers already. "
        f"The way back: take version {candidate.version} away (from its source, or from `versions` of the model) and "
        f"run the update again{before}. The way on: publish a version that passes under a higher number"
    )


def _failed(fleet: Fleet, service: str, model: str, version: int, answer: Answers) -> RolloutError:
    lines = [f"service {service}: version {version} of {model} cannot be loaded: it is {answer.state(model, version)}"]
    lines += [f"  log: {line}" for line in fleet.trouble(service, (model,))]
    lines.append(
        "What was served before is still served. Fix: publish a version that loads under a new number, or take version "
        f"{version} away; then run the update again"
    )
    return RolloutError("\n".join(lines))


def _pending(answer: Answers, model: str, versions: list[int]) -> str:
    for version in versions:
        if version not in answer.available(model):
            return f"version {version} of {model} is {answer.state(model, version)}"
    left = [version for version in answer.anywhere(model) if version not in versions]
    return f"version {left[0]} of {model} is still {answer.state(model, left[0])}" if left else "replicas disagree"


def _expected(inputs: ServedModelInputs) -> Served:
    return {inputs.model: ServedVersions(versions=inputs.versions)} if inputs.versions else {}


def _outputs(served: Served, *, unproven: bool = False, unasked: str | None = None) -> Properties:
    return ServedModelOutputs(served=served, unproven=unproven, unasked=unasked).write()
