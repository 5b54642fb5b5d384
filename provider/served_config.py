"""What the services that read a model config file really serve, and its rollout from one config to the next.

Planned by :mod:`tfserving.rollout`, executed and proven here, so that no request fails on the way.

A step is one write of the file; then every service that polls the file is asked until each replica serves what the
step says (see :mod:`provider.serving` for what that proves). Services that read the file only at start are restarted
after the last write.

A version that the server cannot load stops the rollout at once. The file is then written back as it was before the
step: the labels have not moved, so every request is still answered, a replica that restarts finds a config it can start
with, and the next ``up`` loads the version anew. A step that merely takes too long leaves its file: the server goes on
loading and the next ``up`` continues from what is served by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn

from provider.cluster import Cluster
from provider.eas_service import failure_story
from provider.model_config_file import (
    CONFIG_MAP_INPUTS,
    ConfigObject,
    StoredConfig,
    config_map_failures,
    in_bucket,
    in_config_map,
    models_failures,
    owner_failures,
)
from provider.oss import Bucket
from provider.publication.layout import remove_version
from provider.resource import Context, Diff, Failure, Found, Property, Resource, table, text
from provider.restarts import RESTART_SECONDS, restart
from provider.serving import MOUNT_CACHE_SECONDS, Answers, Fleet, Service
from provider.values import UNKNOWN, Change, Properties, differences, has_unknown, plain
from tfserving import model_config, pinning, rollout, server_log, wire
from tfserving.errors import RolloutError, ServiceError, ServiceUnreachableError
from tfserving.model_config import Model, ModelServerConfig
from tfserving.rollout import Step

STEP_SECONDS = 120.0
"""Least time a step may take before it counts as stuck."""

_READ_TRIES = 3
_SETTLE_SECONDS = 15.0
_LOG_SECONDS = 4.0

Versions = dict[str, set[int]]
_Failed = tuple[str, str, int]
"""Service, model, version."""


class VersionFailedError(RolloutError):
    """The server says that it cannot load a version.

    Attributes:
        service: the service that says so.
        model: the model.
        version: the version.
    """

    def __init__(self, message: str, service: str, model: str, version: int) -> None:
        super().__init__(message)
        self.service, self.model, self.version = service, model, version


@dataclass(frozen=True)
class _Wanted:
    """The inputs, read.

    Attributes:
        models: as declared.
        file: as written: ``latest`` is spelt out for models with labels (:func:`tfserving.rollout.pin_labelled`).
        published: version numbers by model.
        services: those that read the file.
    """

    models: ModelServerConfig
    file: ModelServerConfig
    published: Versions
    services: tuple[Service, ...]

    @classmethod
    def read(cls, inputs: Properties) -> _Wanted:
        models = model_config.from_dict(table(inputs, "models"))
        published = _versions(table(inputs, "published"))
        services = tuple(
            Service.from_property(name, value)
            for name, value in sorted(table(inputs, "services").items())
            if isinstance(value, dict) and value.get("reads", True)
        )
        return cls(models, rollout.pin_labelled(models, published), published, services)

    def expected(self) -> dict[str, Any]:
        """What a service serves when it serves this, in the form of :meth:`provider.serving.Answers.as_property`."""
        return {
            model.name: {
                "versions": list(model.policy.select(self.published.get(model.name, ()))),
                "labels": dict(model.labels),
            }
            for model in self.file.models
        }

    def expected_by_service(self) -> dict[str, Any]:
        """:meth:`expected` for every service that can be asked."""
        expected = self.expected()
        return {service.name: expected for service in self.services if service.reachable}

    def unproven(self) -> list[str]:
        """Services that cannot be asked."""
        return [service.name for service in self.services if not service.reachable]


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
            wanted = _Wanted.read(inputs)
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
        for path, change in _drift(_Wanted.read(old_inputs), old_outputs):
            diff.changes[path] = (change, False)
        for model in table(old_outputs, "obsolete"):
            diff.changes["obsolete", model] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown({name: inputs.get(name) for name in ("models", "published")}):
            return inputs | {"served": UNKNOWN, "file": UNKNOWN, "unproven": [], "obsolete": {}}
        wanted = _Wanted.read(inputs)
        model_config.render(wanted.file)  # raises what writing it would
        rollout.replacement(wanted.file, wanted.published)  # and what no server could start with
        before = _Wanted.read(old_inputs) if old_inputs and old_outputs else None
        for line in model_config.changes(before.models if before else ModelServerConfig(), wanted.models):
            ctx.info(line)
        if before is not None and old_outputs is not None:
            on_disk = _union(wanted.published, before.published, _versions(table(old_outputs, "obsolete")))
            in_force = _in_force_by_state(before, old_outputs, on_disk)
            if line := _pin_line(wanted, before, old_outputs):
                ctx.info(line)
            steps = rollout.plan(
                in_force, _spelt_out(wanted.file, wanted.published, on_disk), wanted.published, on_disk
            )
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
        return inputs | _results(wanted, wanted.expected_by_service(), wanted.file, {})

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = _Files(ctx, inputs, _Wanted.read(inputs).services).uri
        return id_, _Rollout(ctx, id_, inputs, {}, {}).run()

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        if inputs is None:
            raise RolloutError(
                "ServedConfig is what services serve and cannot be imported. "
                "Fix: import or adopt the services, and let `pulumi up` make it"
            )
        wanted = _Wanted.read(inputs)
        file = _Files(ctx, inputs, wanted.services).find()
        fleet = Fleet(ctx, [service for service in wanted.services if service.reachable], Cluster.of(inputs))
        fleet.count_replicas()
        served: dict[str, Any] = {}
        silent: list[str] = []
        for name, answer in _ask_patiently(ctx, fleet, fleet.services, _questions(wanted.file, file)).items():
            if isinstance(answer, Answers):
                served[name] = answer.as_property()
                continue
            served[name] = {}
            status = fleet.status(name)
            if status == "Running":
                silent.append(f"service {name} is Running but cannot be asked what it serves: {answer}")
            else:
                ctx.info(f"service {name} is {status}, so it serves nothing")
        obsolete = _versions(table(outputs, "obsolete"))
        read = outputs | inputs | _results(wanted, served, file, obsolete)
        if silent:
            # Never 'no drift': what such a service serves counts as nothing, and the error is kept with the state. It
            # is not a plain error, because that would block the very update that repairs the service.
            ctx.record(id_, read, inputs)
            raise ServiceUnreachableError("\n".join(silent))
        return Found(inputs, read)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return _Rollout(ctx, id_, news, old_inputs, old_outputs).run()

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: the file goes with its ModelConfigFile, and what is served goes with the services."""


class _Rollout:
    """One create or update."""

    def __init__(
        self, ctx: Context, id_: str, inputs: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> None:
        self._ctx = ctx
        self._id = id_
        self._inputs = inputs
        self._wanted = _Wanted.read(inputs)
        self._before = _Wanted.read(old_inputs).file if old_inputs.get("models") else None
        self._bucket = Bucket(ctx.clients.oss, text(inputs, "bucket"))
        self._file = _Files(ctx, inputs, self._wanted.services)
        self._fleet = Fleet(ctx, self._wanted.services, Cluster.of(inputs))
        self._asked = tuple(service for service in self._fleet.polling if service.reachable)
        self._blind = tuple(service for service in self._wanted.services if not service.reachable)
        kept = _union(_versions(table(old_inputs, "published")), _versions(table(old_outputs, "obsolete")))
        self._obsolete: Versions = {
            name: versions - self._wanted.published[name]
            for name, versions in kept.items()
            if name in self._wanted.published and versions - self._wanted.published[name]
        }
        self._on_disk = _union(self._wanted.published, kept)
        self._served: dict[str, Any] = table(old_outputs, "served")
        self._stored: ModelServerConfig | None = None  # what the file says, as far as this run knows
        self._behind: set[str] = set()  # services that may go on with the policies of an earlier file

    def run(self) -> Properties:
        """Bring every service to the wanted config; the outputs.

        Raises:
            RolloutError: a step failed; the message says where things stand.
        """
        original = self._stored = self._file.read()
        starting = {service.name for service in self._fleet.restarting}
        self._behind = starting if self._policies_changed() else starting & self._file.restarts
        self._fleet.count_replicas()
        # Files go only once no service serves them, and a policy goes by the files: it is spelt out until then.
        target = _spelt_out(self._wanted.file, self._wanted.published, self._on_disk)
        if self._fleet.polling or not self._fleet.restarting:
            self._roll(target)
        self._write_at_once(target)
        for service in self._fleet.restarting:
            self._restart(service, original)
        self._remove_obsolete()
        self._write_at_once(self._wanted.file)
        self._prove()
        if self._blind:
            names = ", ".join(service.name for service in self._blind)
            self._ctx.warning(f"nothing was proven for {names}: not reachable from this machine, waited by time only")
        return self._outputs()

    def _outputs(self) -> Properties:
        return self._inputs | _results(self._wanted, self._served, self._stored, self._obsolete)

    def _write(self, config: ModelServerConfig) -> None:
        """Write the file; from here on a failure keeps what exists."""
        self._ctx.record(self._id, self._outputs())
        self._file.write(config, frozenset(self._behind))
        self._stored = config
        self._ctx.record(self._id, self._outputs())

    # ---- services that poll the file -------------------------------------------------------------------------------

    def _roll(self, target: ModelServerConfig) -> None:
        in_force = self._in_force()
        if self._asked and in_force is not None and in_force != self._stored:
            self._hold(in_force)
        steps = rollout.plan(in_force, target, self._wanted.published, self._on_disk)
        for number, step in enumerate(steps, start=1):
            title = f"step {number} of {len(steps)}, {step.kind}"
            self._ctx.info(f"{title}: {'; '.join(step.summary)}")
            self._fleet.count_replicas()
            try:
                if step.needs_available:
                    self._wait(Step(step.kind, step.config, wait_available=step.needs_available), title)
                # A file that already says this gives the server no reason to try a failed version again.
                failed_before = set() if step.config == self._stored else self._failed_versions(step)
                self._write(step.config)
                self._wait(step, title, failed_before)
            except VersionFailedError as error:
                self._fall_back(error, in_force)
            self._wait_blind(title)
            in_force = step.config

    def _in_force(self) -> ModelServerConfig | None:
        """The config polling services follow now: the file's, once they are seen to; else what they really serve."""
        if not self._asked:
            return self._stored or self._file.first
        basis = self._stored or self._before or self._wanted.file
        patience = max(2 * service.poll_seconds for service in self._asked) + _SETTLE_SECONDS
        answers: dict[str, Answers] = {}
        for _ in self._ctx.poll(patience, longest=2):
            answers = self._ask_before(basis)
            lagging = [name for name, answer in answers.items() if not self._follows(answer, basis)]
            if self._stored is not None and not lagging:
                return self._stored
            failed = (
                answer.failed(model.name, model.policy.select(self._disk(model.name)))
                for answer in answers.values()
                for model in basis.models
            )
            if self._stored is None or any(failed):
                break  # waiting changes nothing
            self._ctx.status(f"waiting until {', '.join(lagging)} serves what the model config file says")
        self._ctx.info("not every service serves what the model config file says: continuing from what is served")
        return _combined(basis, answers, self._on_disk)

    def _ask_before(self, config: ModelServerConfig) -> dict[str, Answers]:
        answers: dict[str, Answers] = {}
        questions = _questions(config, self._wanted.file)
        for name, answer in _ask_patiently(self._ctx, self._fleet, self._asked, questions).items():
            if not isinstance(answer, Answers):
                raise RolloutError(f"nothing was changed, because {self._fleet.unanswered(name, answer)}")
            answers[name] = answer
        return answers

    def _follows(self, answer: Answers, config: ModelServerConfig) -> bool:
        """Whether a service has taken up ``config``: nothing else is served any more, and the rest at least loads."""
        if any(config.get(name) is None and answer.anywhere(name) for name in answer.states):
            return False
        for model in config.models:
            should = set(model.policy.select(self._disk(model.name)))
            there = set(answer.anywhere(model.name))
            if not should <= there or (model.policy.kind != "all" and there - should):
                return False
            available = answer.available(model.name)
            for label, version in model.labels.items():
                if answer.label(model.name, label) != version and (version in available or version not in should):
                    return False
        return True

    def _hold(self, config: ModelServerConfig) -> None:
        """Write down what is served, and see that it stays: a file that says something else may yet be taken up."""
        self._ctx.info("the model config file is brought into line with what is served")
        self._write(config)
        seconds = self._step_seconds()
        settled = min(max(2 * service.poll_seconds for service in self._asked), seconds / 2)
        pending: dict[str, str] = {}
        for gone in self._ctx.poll(seconds, longest=2):
            pending = {
                name: str(answer) if isinstance(answer, ServiceError) else "does not serve what it served before"
                for name, answer in self._fleet.ask(self._asked, _questions(config, None)).items()
                if not isinstance(answer, Answers) or not self._follows(answer, config)
            }
            if not pending and gone >= settled:
                return
        self._too_late("bringing the file into line", seconds, pending, config.names)

    def _disk(self, model: str) -> set[int]:
        return self._on_disk.get(model, set())

    def _failed_versions(self, step: Step) -> set[_Failed]:
        """Versions the server gave up earlier and has not been told to try again yet: still END when a step begins."""
        found: set[_Failed] = set()
        models: dict[str, tuple[str, ...]] = dict.fromkeys(step.wait_available, ())
        for name, answer in self._fleet.ask(self._asked, models).items():
            if isinstance(answer, Answers):
                found |= {
                    (name, model, version)
                    for model, versions in step.wait_available.items()
                    for version in versions
                    if answer.failed(model, (version,))
                }
        return found

    def _wait(self, step: Step, title: str, failed_before: set[_Failed] | None = None) -> None:
        """Wait until every replica of every service that can be asked has done what the step says.

        Args:
            failed_before: versions whose old failure still shows until the service reads the file again.

        Raises:
            VersionFailedError: a version the step needs cannot be loaded.
            RolloutError: not done in time.
        """
        if not self._asked:
            return
        stale = set(failed_before or ())
        seconds = self._step_seconds()
        rereads = min(max(2 * service.poll_seconds for service in self._asked) + MOUNT_CACHE_SECONDS, seconds / 2)
        questions: dict[str, set[str]] = {
            model: {*step.wait_labels.get(model, ()), *step.wait_labels_gone.get(model, ())}
            for model in (*step.wait_available, *step.wait_labels, *step.wait_labels_gone, *step.wait_gone)
        }
        pending: dict[str, str] = {}
        looked = 0.0
        old_lines = self._log_lines(step) if step.wait_available else set()
        for gone in self._ctx.poll(seconds, longest=2):
            pending = {}
            if gone - looked >= _LOG_SECONDS and step.wait_available:
                looked = gone
                self._look_into_logs(step, old_lines)
            for name, answer in self._fleet.ask(self._asked, questions).items():
                if isinstance(answer, Answers):
                    reason = self._pending(step, name, answer, stale if gone < rereads else set())
                else:
                    reason = str(answer)
                if reason:
                    pending[name] = reason
            if not pending:
                return
            self._ctx.status(f"{title}: {_first(pending)}")
        self._too_late(title, seconds, pending, questions)

    def _log_lines(self, step: Step) -> set[str]:
        """What logs have said before: of another time, or of replicas that are gone."""
        return {line for service in self._asked for line in self._fleet.trouble(service.name, step.wait_available)}

    def _look_into_logs(self, step: Step, old_lines: set[str]) -> None:
        """End the wait where a log says that a version will never load: its state tells only after the last retry."""
        answers = self._fleet.ask(self._asked, dict.fromkeys(step.wait_available, ()))
        for service, answer in answers.items():
            missing = [
                (model, version)
                for model, versions in step.wait_available.items()
                for version in versions
                if isinstance(answer, Answers) and version not in answer.available(model)
            ]
            found = self._fleet.trouble(service, {model for model, _ in missing}) if missing else []
            lines = [line for line in found if line not in old_lines]
            for model, version in missing:
                reason = server_log.lasting_failure(lines, model, version)
                if reason:
                    message = f"service {service}: version {version} of {model} cannot be loaded: {reason}"
                    raise VersionFailedError(message, service, model, version)

    def _pending(self, step: Step, service: str, answer: Answers, stale: set[_Failed]) -> str:
        """What a service has not done yet; empty when all is done."""
        for model, versions in step.wait_available.items():
            for version in versions:
                failure = answer.failed(model, (version,))
                if failure is None:
                    stale.discard((service, model, version))
                elif (service, model, version) not in stale:
                    raise VersionFailedError(
                        f"service {service}: version {version} of {model} cannot be loaded: it is {failure.state} with "
                        f"{failure.error_code}: {failure.error_message}",
                        service,
                        model,
                        version,
                    )
                if version not in answer.available(model):
                    return f"version {version} of {model} is {answer.state(model, version)}"
        for model, labels in step.wait_labels.items():
            for label, version in labels.items():
                found = answer.label(model, label)
                if found != version:
                    shown = "no single version" if found is None else f"version {found}"
                    return f"label {label} of {model} is answered by {shown}, not {version}"
        for model, names in step.wait_labels_gone.items():
            for label in names:
                if any(found is not None for found in answer.labels[model].get(label, ())):
                    return f"label {label} of {model} is still answered"
        for model, versions in step.wait_gone.items():
            left = [version for version in answer.anywhere(model) if not versions or version in versions]
            if left:
                return f"version {left[0]} of {model} is still {answer.state(model, left[0])}"
        return ""

    def _step_seconds(self) -> float:
        chosen = plain(self._inputs.get("waitSeconds")) or self._ctx.seconds
        slowest = max((service.poll_seconds for service in self._wanted.services), default=0.0)
        return float(chosen) if chosen else max(STEP_SECONDS, 3 * slowest + MOUNT_CACHE_SECONDS)

    def _too_late(self, title: str, seconds: float, pending: Mapping[str, str], models: Iterable[str]) -> NoReturn:
        lines = [f"{title}: not done after {seconds:g} s"]
        for name, reason in pending.items():
            lines.append(f"  service {name}: {reason}")
            lines += [f"    {line}" for line in self._fleet.story(name)]
            lines += [f"    log: {line}" for line in self._fleet.trouble(name, models)]
        lines.append(
            "What was served before is still served, and the file stays as this step wrote it. "
            "Fix: run the update again to continue; allow more time with tf-serving:rolloutSeconds"
        )
        raise RolloutError("\n".join(lines))

    def _fall_back(self, error: VersionFailedError, in_force: ModelServerConfig | None) -> NoReturn:
        """Write the file back as it was before the step that failed, without the version that cannot be loaded."""
        lines = [str(error)]
        lines += [f"  log: {line}" for line in self._fleet.trouble(error.service, (error.model,))]
        safe = _without(in_force, error.model, error.version) if in_force else None
        if safe is not None and safe != self._stored:
            self._write(safe)
            lines.append("The model config file says again what it said before this step. No label has moved.")
        lines.append(
            f"Fix: publish a version of {error.model} that loads under a new number, or stop serving version "
            f"{error.version}; then run the update again"
        )
        raise RolloutError("\n".join(lines)) from None

    def _wait_blind(self, title: str) -> None:
        """Wait by time for services that cannot be asked."""
        polling = [service for service in self._blind if service.poll_seconds > 0]
        if not polling:
            return
        names = ", ".join(service.name for service in polling)
        seconds = float(
            plain(self._inputs.get("waitSeconds"))
            or max(2 * service.poll_seconds for service in polling) + MOUNT_CACHE_SECONDS
        )
        self._ctx.info(f"{title}: {names} cannot be asked; waiting {seconds:g} s, nothing is proven")
        self._ctx.sleep(seconds)

    # ---- services that read the file at start ----------------------------------------------------------------------

    def _write_at_once(self, config: ModelServerConfig) -> None:
        """Write the file where no step had to."""
        if self._stored == config and self._file.restarts == self._behind:
            return
        rollout.replacement(config, self._wanted.published)  # refuses what no server could start with
        self._write(config)

    def _restart(self, service: Service, original: ModelServerConfig | None) -> None:
        """Restart a service that reads the file only at start, unless it serves the wanted config already.

        By another policy it may serve the same only until files of a version come or go.
        """
        expected = self._wanted.expected()
        if service.name in self._behind:
            pass
        elif service.reachable:
            if self._serves(service) == expected:
                return
        elif original == self._wanted.file:
            return
        self._ctx.info(f"restarting service {service.name}: it reads the model config file only when it starts")
        self._ctx.record(self._id, self._outputs())
        serves: Any = None
        for found, is_back in restart(self._ctx, service.name, self._ctx.seconds or RESTART_SECONDS):
            if found is not None and found.status == "Failed":
                what = f"service {service.name} did not start with the new model config file"
                self._restart_failed(failure_story(self._ctx, found, what), original)
            if is_back:
                self._fleet.count_replicas()
                serves = self._serves(service) if service.reachable else expected
                if serves == expected:
                    self._behind.discard(service.name)
                    return
            self._ctx.status(f"service {service.name} is {found.status if found else 'gone'}")
        self._restart_failed(f"service {service.name} was restarted but serves {serves}, not {expected}", original)

    def _policies_changed(self) -> bool:
        """Whether a model comes under, or leaves, a policy that goes by the files."""
        before = {model.name: model.policy for model in self._before.models} if self._before else {}
        changes = ((before.get(model.name, model.policy), model.policy) for model in self._wanted.file.models)
        return any(old != new and {old.kind, new.kind} != {"specific"} for old, new in changes)

    def _serves(self, service: Service) -> Any:
        answer = self._fleet.ask((service,), _questions(self._wanted.file, None))[service.name]
        return answer.as_property() if isinstance(answer, Answers) else str(answer)

    def _restart_failed(self, message: str, original: ModelServerConfig | None) -> NoReturn:
        if original is not None and original != self._stored:
            self._write(original)
            message += "\nThe model config file says again what it said before, so a replica that restarts comes up."
        raise RolloutError(message)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _remove_obsolete(self) -> None:
        """Remove the files of versions that are published no longer and, by now, not needed by any service."""
        for name in sorted(self._obsolete):
            model = self._wanted.models.get(name)
            if model is not None:
                self._ctx.record(self._id, self._outputs())
                prefix = _prefix(text(self._inputs, "key"), model)
                for version in sorted(self._obsolete[name]):
                    if files := remove_version(self._bucket, prefix, version, text(self._inputs, "owner")):
                        self._ctx.info(f"{name}: version {version} removed from the bucket ({files} files)")
                    else:
                        self._ctx.info(f"{name}: version {version} stays in the bucket: not published by this stack")
            del self._obsolete[name]

    def _prove(self) -> None:
        """See that every service serves exactly what is wanted, and remember what it serves."""
        expected = self._wanted.expected()
        step = Step(
            "narrow",
            self._wanted.file,
            wait_available={name: tuple(model["versions"]) for name, model in expected.items()},
            wait_labels={name: model["labels"] for name, model in expected.items() if model["labels"]},
        )
        try:
            self._wait(step, "final check")
        except VersionFailedError as error:
            self._fall_back(error, self._wanted.file)
        removed = {
            name: tuple(sorted(versions - set(expected[name]["versions"])))
            for name, versions in self._on_disk.items()
            if name in expected and versions - set(expected[name]["versions"])
        }
        try:
            self._wait(Step("narrow", self._wanted.file, wait_gone=removed), "final check")
        except RolloutError as error:
            # Under the policy all the server goes by the directory, and an OSS mount may still show a removed one.
            self._ctx.warning(str(error))
        reachable = [service for service in self._wanted.services if service.reachable]
        questions = _questions(self._wanted.file, None)
        self._served = {}
        for name, answer in _ask_patiently(self._ctx, self._fleet, reachable, questions).items():
            if not isinstance(answer, Answers):
                self._ctx.record(self._id, self._outputs())
                raise RolloutError(self._fleet.unanswered(name, answer))
            self._served[name] = answer.as_property()
            for model, found in self._served[name].items():
                strange = set(found["versions"]) - set(expected[model]["versions"])
                if strange:
                    self._ctx.warning(
                        f"service {name} serves version {', '.join(map(str, sorted(strange)))} of {model}, which this "
                        "stack has not published: remove it from the bucket, or publish it with the stack"
                    )


# ---- helpers -------------------------------------------------------------------------------------------------------


class _Files:
    """The model config file in every place where services read it: in the bucket, in a ConfigMap, or in both.

    Between two writes a run may be killed. Files that do not say the same count as none: the rollout then goes on from
    what services really serve, and writes both.
    """

    def __init__(self, ctx: Context, inputs: Properties, services: Iterable[Service]) -> None:
        where = {service.pods is not None for service in services}
        self._objects: list[ConfigObject] = []
        if False in where or not where:
            self._objects.append(in_bucket(ctx, inputs))
        if True in where:
            self._objects.append(in_config_map(inputs))
        self.first: ModelServerConfig | None = None  # what one of the files says, once they were read
        self.restarts: frozenset[str] = frozenset()  # services that the files say are still to be restarted

    @property
    def uri(self) -> str:
        return self._objects[0].uri

    def find(self) -> ModelServerConfig | None:
        """What the files say, whoever manages them."""
        return self._same(found.find() for found in self._objects)

    def read(self) -> ModelServerConfig | None:
        """What the files say, if this stack manages them; raises OwnershipError where it does not."""
        return self._same(found.read() for found in self._objects)

    def write(self, config: ModelServerConfig, restarts: frozenset[str]) -> None:
        """Replace the files, one after the other; they name the services that are still to be restarted."""
        self.restarts = restarts
        for found in self._objects:
            found.write(config, restarts=restarts)

    def _same(self, found: Iterable[StoredConfig | None]) -> ModelServerConfig | None:
        stored = list(found)
        self.restarts = frozenset().union(*(each.restarts for each in stored if each))
        parsed = [found.parse() if found else None for found in stored]
        self.first = next((config for config in parsed if config is not None), None)
        return parsed[0] if all(config == parsed[0] for config in parsed) else None


def _prefix(key: str, model: Model) -> str:
    """Key prefix of a model's directory: the config file lies at the root of the mount, the models beside it."""
    root = key.rpartition("/")[0]
    name = model.base_path.rstrip("/").rpartition("/")[2]
    return f"{root}/{name}/" if root else f"{name}/"


def _versions(published: Mapping[str, Any]) -> Versions:
    return {name: {int(version) for version in versions} for name, versions in published.items()}


def _union(*parts: Mapping[str, Iterable[int]]) -> Versions:
    found: Versions = {}
    for part in parts:
        for name, versions in part.items():
            found.setdefault(name, set()).update(versions)
    return found


def _first(pending: Mapping[str, str]) -> str:
    name, reason = next(iter(pending.items()))
    return f"{name}: {reason}"


def _questions(config: ModelServerConfig, other: ModelServerConfig | None) -> dict[str, set[str]]:
    """Every model and label of the configs."""
    found: dict[str, set[str]] = {}
    for model in (*config.models, *(other.models if other else ())):
        found.setdefault(model.name, set()).update(model.labels)
    return found


def _ask_patiently(
    ctx: Context, fleet: Fleet, services: Iterable[Service], questions: Mapping[str, Iterable[str]]
) -> dict[str, Answers | ServiceError]:
    """Ask, and ask those that did not answer a few times more: a gateway may just be changing replicas."""
    answers: dict[str, Answers | ServiceError] = {}
    left = list(services)
    for attempt in range(_READ_TRIES):
        if attempt:
            ctx.sleep(1)
        answers |= fleet.ask(left, questions)
        left = [service for service in left if not isinstance(answers[service.name], Answers)]
        if not left:
            break
    return answers


def _results(
    wanted: _Wanted, served: Mapping[str, Any], file: ModelServerConfig | None, obsolete: Versions
) -> Properties:
    return {
        "served": dict(served),
        "file": model_config.to_dict(file) if file is not None else {},
        "unproven": wanted.unproven(),
        "obsolete": {name: sorted(versions) for name, versions in sorted(obsolete.items())},
    }


def _drift(wanted: _Wanted, outputs: Properties) -> Iterator[tuple[tuple[str, ...], Change]]:
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


def _spelt_out(config: ModelServerConfig, published: Versions, on_disk: Versions) -> ModelServerConfig:
    """``config`` with the versions named where a policy would still select one whose files are only to be removed."""
    models = []
    for model in config.models:
        versions = model.policy.select(published.get(model.name, ()))
        if versions and model.policy.select(on_disk.get(model.name, ())) != versions:
            model = replace(model, policy=model_config.VersionPolicy.specific(versions))
        models.append(model)
    return ModelServerConfig(tuple(models))


def _pin_line(wanted: _Wanted, before: _Wanted, outputs: Properties) -> str:
    """What the publication of new versions spells out in the file first, as far as the state tells; often nothing."""
    file = model_config.from_dict(table(outputs, "file")) if table(outputs, "file") else before.file
    visible = _union(before.published, _versions(table(outputs, "obsolete")))
    coming = {
        name: pinning.Coming(frozenset(visible.get(name, ())), frozenset(versions - visible.get(name, set())))
        for name, versions in wanted.published.items()
        if file.get(name) is not None
    }
    if not any(service.poll_seconds > 0 for service in before.services):
        coming = {
            name: each for name, each in coming.items() if pinning.harms(file.get(name), wanted.file.get(name), each)
        }
    return pinning.announcement(file, pinning.pinned(file, coming))


def _in_force_by_state(before: _Wanted, outputs: Properties, on_disk: Versions) -> ModelServerConfig:
    """The config in force as far as the state tells: for a preview, which asks nobody."""
    file = model_config.from_dict(table(outputs, "file")) if table(outputs, "file") else before.file
    served = next((models for models in table(outputs, "served").values() if models), None)
    if served is None:
        return file
    return rollout.observed(
        file,
        {name: model["versions"] for name, model in served.items()},
        {
            name: {label: version for label, version in model["labels"].items() if isinstance(version, int)}
            for name, model in served.items()
        },
        on_disk,
    )


def _combined(basis: ModelServerConfig, answers: Mapping[str, Answers], on_disk: Versions) -> ModelServerConfig:
    """What services serve that do not follow the file, as one config: every version and label any of them answers.

    Where two services answer a label with different versions, one that every service has AVAILABLE counts, and among
    those the one the file names: only that can be written without a service refusing it.
    """
    models: list[Model] = []
    for model in basis.models:
        available = [set(answer.available(model.name)) for answer in answers.values()]
        everywhere = set.intersection(*available) if available else set()
        labels: dict[str, int] = {}
        for label in {label for answer in answers.values() for label in answer.labels.get(model.name, {})}:
            found = {answer.label(model.name, label) for answer in answers.values()} - {None}
            candidates = sorted(
                (version for version in found if version is not None),
                key=lambda version: (version not in everywhere, version != model.labels.get(label), version),
            )
            if candidates:
                labels[label] = candidates[0]
        versions = set.union(*available) if available else set()
        seen = rollout.observed(
            ModelServerConfig((model,)),
            {model.name: versions},
            {model.name: labels},
            {model.name: on_disk.get(model.name, ())},
        )
        models += seen.models
    return ModelServerConfig(tuple(models))


def _without(config: ModelServerConfig, model: str, version: int) -> ModelServerConfig:
    """``config`` with a version taken out of a model's specific versions, and with it the labels that name it."""
    found = config.get(model)
    if found is None or found.policy.kind != "specific" or found.policy.versions == (version,):
        return config
    fixed = replace(
        found,
        policy=model_config.VersionPolicy.specific(set(found.policy.versions) - {version}),
        labels={label: target for label, target in found.labels.items() if target != version},
    )
    return ModelServerConfig(tuple(fixed if item.name == model else item for item in config.models))
