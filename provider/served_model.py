"""What a service of one model really serves: nothing is written for it, so nothing is rolled out, but it is proven.

Such a service takes up a new version by itself, as soon as its files are in the bucket. That it has, on every replica,
is what this resource waits for, and what it looks at again for drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from provider.asking import MOUNT_CACHE_SECONDS, Answers, Fleet, Service
from provider.cluster import CLUSTER_INPUTS, Cluster
from provider.properties import UNKNOWN, Change, Properties, differences, has_unknown, plain
from provider.resource import Context, Diff, Failure, Found, Property, Resource, flag, table, text
from tfserving import pinning, wire
from tfserving.errors import RolloutError, ServiceUnreachableError

STEP_SECONDS = 120.0
"""How long a new version may take until it is served, the time an OSS mount may hide it included."""


class ServedModel(Resource):
    """The versions that a service of one model answers for."""

    token = "tfserving:index:ServedModel"  # noqa: S105 (a type name)
    description = "What a service of one model serves, proven on every replica."
    refresh_before_update = True
    inputs: ClassVar[Mapping[str, Property]] = {
        "service": Property(
            "object",
            "the service: name; url, target, token or, on Kubernetes, pods (namespace, selector); reachable",
            required=True,
        ),
        "model": Property("string", "the model's name in requests", required=True),
        "versions": Property(
            "array", "numbers, as text, of the versions that are to be AVAILABLE, and no other", required=True
        ),
        **CLUSTER_INPUTS,
        "waitSeconds": Property("integer", "how long that may take; default: 120", compared=False),
        "served": Property(
            "object",
            "by model: the versions that are to answer; always filled in. As an output, those that do",
            compared=False,
        ),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "unproven": Property("boolean", "the service cannot be asked from here, so nothing is proven", required=True),
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def check(self, olds: Properties, news: Properties) -> tuple[Properties, list[Failure]]:
        inputs, failures = super().check(olds, {**news, "served": None})
        if not failures and not has_unknown({name: inputs[name] for name in ("model", "versions")}):
            inputs |= {"served": _expected(inputs)}
        return inputs, failures

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        versions = plain(inputs["versions"])
        if isinstance(versions, list) and not has_unknown(versions) and not all(map(wire.is_version, versions)):
            yield Failure("versions", f"{versions!r} is not a list of version numbers, each from 0 to 2^63 - 1")
        wait = plain(inputs.get("waitSeconds"))
        if isinstance(wait, int) and wait < 1:
            yield Failure("waitSeconds", f"{wait} is not a time; at least 1")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if not has_unknown(old_inputs.get("served")):
            drift = differences(table(old_outputs, "served"), table(old_inputs, "served"), ("served",))
            for path, change in drift.items():
                # Which versions are served is one fact, however many of them differ.
                short = tuple(map(str, path[:3]))
                diff.changes[short] = (Change.UPDATE if len(path) > 3 else change, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown({name: inputs[name] for name in ("model", "versions")}):
            return inputs | {"served": UNKNOWN, "unproven": False}
        name = text(table(inputs, "service"), "name")
        before, after = (plain(found.get("versions")) if found else None for found in (old_inputs, inputs))
        if before and before != after:
            ctx.info(f"{name}: {text(inputs, 'model')} serves {_listed(before)} -> {_listed(after)}")
            model, *versions = (
                text(inputs, "model"),
                *([int(each) for each in found] for found in (before, after or [])),
            )
            for line in pinning.unlabelled({model: versions[0]}, {model: versions[1]}):
                ctx.info(f"{name}: {line}")
        if not _reachable(inputs):
            ctx.warning(f"{name}: cannot be reached from this machine (reachable: false), so nothing is proven there")
        return inputs | {"served": _expected(inputs), "unproven": not _reachable(inputs)}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = f"{text(table(inputs, 'service'), 'name')}/{text(inputs, 'model')}"
        return id_, self._prove(ctx, id_, inputs, {})

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._prove(ctx, id_, news, table(old_outputs, "served"))

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise RolloutError(
                "ServedModel is what a service serves and cannot be imported. "
                "Fix: import or adopt the service, and let `pulumi up` make it"
            )
        if not _reachable(inputs):
            return Found(inputs, outputs | inputs)
        service, model = _service(inputs), text(inputs, "model")
        fleet = Fleet(ctx, [service], Cluster.of(inputs))
        fleet.count_replicas()
        answer = fleet.ask_patiently((service,), {model: ()})[service.name]
        if isinstance(answer, Answers):
            return Found(inputs, outputs | inputs | {"served": answer.as_property(), "unproven": False})
        read = outputs | inputs | {"served": {}, "unproven": False}
        status = fleet.status(service.name)
        if status != "Running":
            ctx.info(f"service {service.name} is {status}, so it serves nothing")
            return Found(inputs, read)
        # Never 'no drift', and no plain error either: that would block the update that repairs the service.
        ctx.record(id_, read, inputs)
        raise ServiceUnreachableError(f"service {service.name} is Running but cannot be asked what it serves: {answer}")

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: what is served goes with the service."""

    def _prove(self, ctx: Context, id_: str, inputs: Properties, served: Mapping[str, Any]) -> Properties:
        """Wait until every replica serves exactly the declared versions; the outputs.

        Raises:
            RolloutError: a version cannot be loaded, or not in time.
        """
        service, model = _service(inputs), text(inputs, "model")
        if not service.reachable:
            ctx.warning(f"nothing was proven for {service.name}: not reachable from this machine")
            return inputs | {"served": _expected(inputs), "unproven": True}
        versions = [int(version) for version in plain(inputs["versions"])]
        seconds = float(plain(inputs.get("waitSeconds")) or ctx.seconds or STEP_SECONDS)
        ctx.record(id_, inputs | {"served": served, "unproven": False})
        fleet = Fleet(ctx, [service], Cluster.of(inputs))
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
                return inputs | {"served": answer.as_property(), "unproven": False}
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


def _service(inputs: Properties) -> Service:
    found = table(inputs, "service")
    return Service.from_property(str(found.get("name", "")), found)


def _reachable(inputs: Properties) -> bool:
    return flag(table(inputs, "service"), "reachable", default=True)


def _expected(inputs: Properties) -> dict[str, Any]:
    """In the form of :meth:`provider.asking.Answers.as_property`."""
    versions = [int(version) for version in plain(inputs["versions"])]
    return {text(inputs, "model"): {"versions": versions, "labels": {}}} if versions else {}


def _listed(versions: Any) -> str:
    return ", ".join(map(str, versions)) or "nothing"
