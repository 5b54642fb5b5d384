"""What the services that read a model config file really serve, and its rollout, as a resource."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from provider.asking import Answers, Fleet
from provider.cluster import Cluster
from provider.model_config_file import (
    CONFIG_MAP_INPUTS,
    config_map_failures,
    models_failures,
    owner_failures,
)
from provider.properties import UNKNOWN, Change, Properties, differences, has_unknown, plain
from provider.resource import Context, Diff, Failure, Found, Property, Resource, table
from provider.rollout.configs import in_force_by_state, pin_line, spelt_out
from provider.rollout.files import Files
from provider.rollout.run import Rollout, questions_of
from provider.rollout.wanted import Wanted, results_of, union, versions_of
from tfserving import model_config, pinning, rollout, wire
from tfserving.errors import RolloutError, ServiceUnreachableError
from tfserving.model_config import ModelServerConfig


class ServedConfig(Resource):
    """The rollout of one model config file to all services that read it."""

    token = "tfserving:index:ServedConfig"  # noqa: S105 (a type name)
    description = "What the services that read a model config file serve, rolled out in steps that fail no request."
    refresh_before_update = True
    inputs: ClassVar[Mapping[str, Property]] = {
        "bucket": Property("string", "bucket name", required=True),
        "key": Property("string", "object key of the file", required=True),
        "owner": Property("string", "<project>/<stack>", required=True),
        "models": Property("object", "wanted models: base path, platform, policy, labels", required=True),
        "published": Property("object", "version numbers in the bucket, by model", required=True),
        "services": Property(
            "object",
            "by service name: url, target, token or, on Kubernetes, pods (namespace, selector); reads, pollSeconds, "
            "reachable",
            required=True,
        ),
        **CONFIG_MAP_INPUTS,
        "waitSeconds": Property(
            "integer", "how long one step may take; default: 120, or longer for slow polling", compared=False
        ),
        "served": Property(
            "object",
            "by service and model: the versions and labels it is to answer for; always filled in. As an output, those "
            "it does answer for",
            compared=False,
        ),
        "file": Property(
            "object",
            "what the model config file is to say; always filled in. As an output, what it does say",
            compared=False,
        ),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "unproven": Property("array", "services that cannot be asked from here, so nothing is proven", required=True),
        "obsolete": Property("object", "by model: versions whose files are still to be removed", required=True),
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        inputs, failures = super().check(olds, {**news, "served": None, "file": None})
        if not failures and not has_unknown({name: inputs[name] for name in ("models", "published", "services")}):
            # Beside what is found they show a drift as what it is: from what is served to what is to be served.
            wanted = Wanted.read(inputs)
            inputs |= {"served": wanted.expected_by_service(), "file": model_config.to_dict(wanted.file)}
        return inputs, failures

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)
        yield from models_failures(inputs, "models")
        yield from config_map_failures(inputs)
        for name, service in (table(inputs, "services") if not has_unknown(inputs["services"]) else {}).items():
            if isinstance(service, dict) and service.get("pods"):
                if not service.get("pollSeconds"):
                    yield Failure(f"services.{name}.pollSeconds", "pods follow a ConfigMap only if they poll it")
                if not inputs.get("configMap"):
                    yield Failure("configMap", f"is needed for service {name}, which runs on Kubernetes")
        if not has_unknown(inputs["published"]):
            for model, versions in table(inputs, "published").items():
                if not isinstance(versions, list) or not all(wire.is_version(version) for version in versions):
                    reason = f"{versions!r} is not a list of version numbers, each from 0 to 2^63 - 1"
                    yield Failure(f"published.{model}", reason)
        wait = plain(inputs.get("waitSeconds"))
        if isinstance(wait, int) and wait < 1:
            yield Failure("waitSeconds", f"{wait} is not a time; at least 1")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if has_unknown(old_inputs) or not old_inputs.get("models"):
            return diff
        # What is found is compared with what the state says should be there: a change of the inputs shows as such.
        for path, change in _drift(Wanted.read(old_inputs), old_outputs):
            diff.changes[path] = (change, False)
        for model in table(old_outputs, "obsolete"):
            diff.changes["obsolete", model] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown({name: inputs.get(name) for name in ("models", "published")}):
            return inputs | {"served": UNKNOWN, "file": UNKNOWN, "unproven": [], "obsolete": {}}
        wanted = Wanted.read(inputs)
        model_config.render(wanted.file)  # raises what writing it would
        rollout.replacement(wanted.file, wanted.published)  # and what no server could start with
        before = Wanted.read(old_inputs) if old_inputs and old_outputs else None
        for line in model_config.changes(before.models if before else ModelServerConfig(), wanted.models):
            ctx.info(line)
        if before is not None and old_outputs is not None:
            on_disk = union(wanted.published, before.published, versions_of(table(old_outputs, "obsolete")))
            in_force = in_force_by_state(before, old_outputs, on_disk)
            if line := pin_line(wanted, before, old_outputs):
                ctx.info(line)
            steps = rollout.plan(in_force, spelt_out(wanted.file, wanted.published, on_disk), wanted.published, on_disk)
            now = {model.name: model.policy.select(on_disk.get(model.name, ())) for model in in_force.models}
            then = {name: model["versions"] for name, model in wanted.expected().items()}
            for line in pinning.unlabelled(now, then):
                ctx.info(line)
            for line in rollout.served_models_rollout_summary(steps):
                ctx.info(line)
        if names := wanted.unproven():
            ctx.warning(
                f"{', '.join(names)}: cannot be reached from this machine (reachable: false), so the rollout waits by "
                "time and proves nothing there"
            )
        return inputs | results_of(wanted, wanted.expected_by_service(), wanted.file, {})

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = Files(ctx, inputs, Wanted.read(inputs).services).uri
        return id_, Rollout(ctx, id_, inputs, {}, {}).run()

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise RolloutError(
                "ServedConfig is what services serve and cannot be imported. "
                "Fix: import or adopt the services, and let `pulumi up` make it"
            )
        wanted = Wanted.read(inputs)
        file = Files(ctx, inputs, wanted.services).find()
        fleet = Fleet(ctx, [service for service in wanted.services if service.reachable], Cluster.of(inputs))
        fleet.count_replicas()
        served: dict[str, Any] = {}
        silent: list[str] = []
        for name, answer in fleet.ask_patiently(fleet.services, questions_of(wanted.file, file)).items():
            if isinstance(answer, Answers):
                served[name] = answer.as_property()
                continue
            served[name] = {}
            status = fleet.status(name)
            if status == "Running":
                silent.append(f"service {name} is Running but cannot be asked what it serves: {answer}")
            else:
                ctx.info(f"service {name} is {status}, so it serves nothing")
        obsolete = versions_of(table(outputs, "obsolete"))
        read = outputs | inputs | results_of(wanted, served, file, obsolete)
        if silent:
            # Never 'no drift': what such a service serves counts as nothing, and the error is kept with the state. It
            # is not a plain error, because that would block the very update that repairs the service.
            ctx.record(id_, read, inputs)
            raise ServiceUnreachableError("\n".join(silent))
        return Found(inputs, read)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return Rollout(ctx, id_, news, old_inputs, old_outputs).run()

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: the file goes with its ModelConfigFile, and what is served goes with the services."""


def _drift(wanted: Wanted, outputs: Properties) -> Iterator[tuple[tuple[str, ...], Change]]:
    """Paths of what is found and is not as it should be: in what services serve, and in the file."""
    found = table(outputs, "served")
    for service, models in wanted.expected_by_service().items():
        served = found.get(service)
        if not served:
            if models:
                yield ("served", service), Change.ADD if served is None else Change.UPDATE
            continue
        for name in sorted({*models, *served}):
            if name not in served or name not in models:
                yield ("served", service, name), Change.DELETE if name in served else Change.ADD
                continue
            if models[name]["versions"] != served[name]["versions"]:
                yield ("served", service, name, "versions"), Change.UPDATE
            labels = differences(served[name]["labels"], models[name]["labels"], ("served", service, name, "labels"))
            for path, change in labels.items():
                yield tuple(map(str, path)), change
    file = table(outputs, "file")
    if not file:
        yield ("file",), Change.UPDATE
        return
    seen: dict[tuple[str, ...], Change] = {}
    for path, change in differences(file, model_config.to_dict(wanted.file), ("file",)).items():
        # A policy is one decision, however many of its numbers differ.
        of_policy = path[2:3] == ("policy",)
        seen.setdefault(tuple(map(str, path[:3] if of_policy else path)), Change.UPDATE if of_policy else change)
    yield from seen.items()
