"""What the services that read a model config file really serve, and its rollout, as a resource."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from provider.asking import Answers, Fleet
from provider.cluster import ClusterApi
from provider.gates import refuse
from provider.model_config_file import config_map_failures, owner_failures
from provider.properties import Change, differences
from provider.resource import Context, Diff, Failure, Found, Resource
from provider.rollout.files import Files
from provider.rollout.heard import Heard
from provider.rollout.run import Rollout, questions_of, services_of
from tfserving import model_config, rollout, served, wire, wording
from tfserving.contract import SERVED_CONFIG
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs
from tfserving.errors import CloudError, RolloutError, ServiceUnreachableError
from tfserving.gates import spec
from tfserving.model_config import ModelServerConfig
from tfserving.property_values import UNKNOWN, Properties, has_unknown, plain
from tfserving.served import Served, Wanted, versions_of


class ServedConfig(Resource):
    """The rollout of one model config file to all services that read it."""

    contract = SERVED_CONFIG
    refresh_before_update = True

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        inputs, failures = super().check(olds, {**news, "served": None, "file": None})
        if not failures and (read := ServedConfigInputs.read(inputs)).knows("models", "published", "services"):
            # Beside what is found they show a drift as what it is: from what is served to what is to be served.
            wanted = Wanted.of(read)
            filled_in = replace(read, served=wanted.expected_by_service(), file=wanted.file).write()
            inputs |= {name: filled_in[name] for name in ("served", "file")}
        return inputs, failures

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)
        yield from config_map_failures(inputs)
        read = ServedConfigInputs.read(inputs)
        for name, service in read.services.items() if read.knows("services") else ():
            if service.pods and not service.poll_seconds:
                yield Failure(f"services.{name}.pollSeconds", "pods follow a ConfigMap only if they poll it")
            if service.pods and "configMap" not in inputs:
                yield Failure("configMap", f"is needed for service {name}, which runs on Kubernetes")
        if read.knows("published"):
            for model, versions in plain(inputs["published"]).items():
                if not isinstance(versions, list) or not all(wire.is_version(version) for version in versions):
                    reason = f"{versions!r} is not a list of version numbers, each from 0 to 2^63 - 1"
                    yield Failure(f"published.{model}", reason)
        yield from gate_failures(read)
        if read.wait_seconds is not None and read.knows("wait_seconds") and read.wait_seconds < 1:
            yield Failure("waitSeconds", f"{read.wait_seconds} is not a time; at least 1")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if has_unknown(old_inputs) or not old_inputs.get("models"):
            return diff
        found = ServedConfigOutputs.read(old_outputs)
        # What is found is compared with what the state says should be there: a change of the inputs shows as such.
        for path, change in _drift(Wanted.of(ServedConfigInputs.read(old_inputs)), found):
            diff.changes[path] = (change, False)
        for model in found.obsolete:
            diff.changes["obsolete", model] = (Change.DELETE, False)
        if found.return_to is not None:
            # The last update ended at a gate, or before it: what was to be proven is not.
            diff.changes[("returnTo",)] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        read = ServedConfigInputs.read(inputs)
        if not read.knows("models", "published"):
            return inputs | {"served": UNKNOWN, "file": UNKNOWN, "unproven": [], "obsolete": {}}
        wanted = Wanted.of(read)
        model_config.render(wanted.file)  # raises what writing it would
        rollout.replacement(wanted.file, wanted.published)  # and what no server could start with
        before = ServedConfigInputs.read(old_inputs) if old_inputs and old_outputs else None
        there = _found_file(ctx, read, wanted) if before is None else None
        planned = served.plan(read, before, ServedConfigOutputs.read(old_outputs or {}), there)
        for line in (*planned.changes, *filter(None, [planned.pin]), *planned.unlabelled, *planned.step_lines):
            ctx.info(line)
        reports: Properties = {}
        if planned.gates is not None:
            for line in planned.gates.notes:
                ctx.info(line)
            refuse(ctx, planned.gates.gates, planned.gates.which.candidates)
            reports = {
                "gateReports": UNKNOWN if planned.gates.which.candidates else (old_outputs or {}).get("gateReports")
            }
        if names := wanted.unproven():
            ctx.warning(
                f"{', '.join(names)}: cannot be reached from this machine (reachable: false), so the rollout waits by "
                "time and proves nothing there"
            )
        results = wanted.results(wanted.expected_by_service(), wanted.file, {})
        back = served.previous(read, before, ServedConfigOutputs.read(old_outputs or {}))
        properties = inputs | replace(results, previous=back or None).write()
        return properties | {name: value for name, value in reports.items() if value is not None}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        read = ServedConfigInputs.read(inputs)
        id_ = Files(ctx, read, services_of(Wanted.of(read))).uri
        return id_, Rollout(ctx, id_, inputs, {}, {}).run()

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise RolloutError(
                "ServedConfig is what services serve and cannot be imported. "
                "Fix: import or adopt the services, and let `pulumi up` make it"
            )
        read = ServedConfigInputs.read(inputs)
        wanted = Wanted.of(read)
        services = services_of(wanted)
        file = Files(ctx, read, services).find()
        fleet = Fleet(ctx, [service for service in services if service.reachable], ClusterApi.of(read))
        fleet.count_replicas()
        serve: dict[str, Served] = {}
        heard: dict[str, Answers] = {}
        unasked: dict[str, str] = {}
        for name, answer in fleet.ask_patiently(fleet.services, questions_of(wanted.file, file)).items():
            serve[name] = answer.served() if isinstance(answer, Answers) else {}
            if isinstance(answer, Answers):
                heard[name] = answer
            else:
                status = fleet.status(name)
                if status == "Running":
                    unasked[name] = str(answer)
                else:
                    ctx.info(f"service {name} is {status}, so it serves nothing")
        Heard(heard).keep(ctx)
        obsolete = versions_of(ServedConfigOutputs.read(outputs).obsolete)
        kept = {name: value for name, value in outputs.items() if name != "unasked"}
        found = kept | inputs | wanted.results(serve, file, obsolete, unasked).write()
        if unasked:
            # Never 'no drift': what such a service serves counts as nothing, and the error is kept with the state. It
            # is not a plain error, because that would block the very update that repairs the service.
            ctx.record(id_, found, inputs)
            raise ServiceUnreachableError("\n".join(wording.unasked(*each) for each in unasked.items()))
        return Found(inputs, found)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return Rollout(ctx, id_, news, old_inputs, old_outputs).run()

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: the file goes with its ModelConfigFile, and what is served goes with the services."""


def _found_file(ctx: Context, inputs: ServedConfigInputs, wanted: Wanted) -> ModelServerConfig | None:
    """The file that a first rollout begins with: of services that are taken over. None where there is none to read."""
    if not inputs.knows("bucket", "key", "owner", "config_map", "kubeconfig", "kube_context"):
        return None
    try:
        return Files(ctx, inputs, services_of(wanted)).find()
    except CloudError as error:
        ctx.debug(f"whether there is a model config file already is not known: {error}")
        return None


def gate_failures(inputs: ServedConfigInputs) -> Iterable[Failure]:
    """What is wrong with gates: what they demand, and services on which nothing could be tried."""
    if not inputs.gates or not inputs.knows("gates", "services"):
        return
    for name, model_gate in inputs.gates.items():
        for key, message, allowed in spec.problems(model_gate.gate):
            yield Failure(f"gates.{name}.gate.{key}", f"{message}. Allowed: {allowed}")
    readers = {name: each for name, each in inputs.services.items() if each.reads}
    for name, each in readers.items():
        if not each.reachable:
            yield Failure(
                "gates", f"service {name} cannot be reached (reachable: false), so nothing can be tried there"
            )
    if readers and not any(each.poll_seconds > 0 for each in readers.values()):
        yield Failure("gates", "no service polls the file, so labels would move before anything could be tried")


def _drift(wanted: Wanted, found: ServedConfigOutputs) -> Iterator[tuple[tuple[str, ...], Change]]:
    """Paths of what is found and is not as it should be: in what services serve, and in the file."""
    for service, models in wanted.expected_by_service().items():
        serves = found.served.get(service)
        if not serves:
            if models:
                yield ("served", service), Change.ADD if serves is None else Change.UPDATE
            continue
        for name in sorted({*models, *serves}):
            if name not in serves or name not in models:
                yield ("served", service, name), Change.DELETE if name in serves else Change.ADD
                continue
            if models[name].versions != serves[name].versions:
                yield ("served", service, name, "versions"), Change.UPDATE
            labels = differences(serves[name].labels, models[name].labels, ("served", service, name, "labels"))
            for path, change in labels.items():
                yield tuple(map(str, path)), change
    if not found.file.models:
        yield ("file",), Change.UPDATE
        return
    seen: dict[tuple[str, ...], Change] = {}
    file, should = model_config.to_dict(found.file), model_config.to_dict(wanted.file)
    for path, change in differences(file, should, ("file",)).items():
        # A policy is one decision, however many of its numbers differ.
        of_policy = path[2:3] == ("policy",)
        seen.setdefault(tuple(map(str, path[:3] if of_policy else path)), Change.UPDATE if of_policy else change)
    yield from seen.items()
