"""One create or update of what is served: steps are written, waited for and proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from provider.asking import MOUNT_CACHE_SECONDS, Answers, Fleet, Service
from provider.cluster import Cluster
from provider.eas.story import failure_story
from provider.oss import Bucket
from provider.properties import Properties, plain
from provider.publication.layout import remove_version
from provider.resource import Context, table, text
from provider.restarts import RESTART_SECONDS, restart
from provider.rollout.configs import combined, spelt_out, without_version
from provider.rollout.files import Files
from provider.rollout.wanted import Versions, Wanted, results_of, union, versions_of
from tfserving import rollout, server_log
from tfserving.errors import RolloutError, ServiceError
from tfserving.model_config import Model, ModelServerConfig
from tfserving.rollout import Step

STEP_SECONDS = 120.0
"""Least time a step may take before it counts as stuck."""

_SETTLE_SECONDS = 15.0
_LOG_SECONDS = 4.0

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


class Rollout:
    """One create or update."""

    def __init__(
        self, ctx: Context, id_: str, inputs: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> None:
        self._ctx = ctx
        self._id = id_
        self._inputs = inputs
        self._wanted = Wanted.read(inputs)
        self._before = Wanted.read(old_inputs).file if old_inputs.get("models") else None
        self._bucket = Bucket(ctx.clients.oss, text(inputs, "bucket"))
        self._file = Files(ctx, inputs, self._wanted.services)
        self._fleet = Fleet(ctx, self._wanted.services, Cluster.of(inputs))
        self._asked = tuple(service for service in self._fleet.polling if service.reachable)
        self._blind = tuple(service for service in self._wanted.services if not service.reachable)
        kept = union(versions_of(table(old_inputs, "published")), versions_of(table(old_outputs, "obsolete")))
        self._obsolete: Versions = {
            name: versions - self._wanted.published[name]
            for name, versions in kept.items()
            if name in self._wanted.published and versions - self._wanted.published[name]
        }
        self._on_disk = union(self._wanted.published, kept)
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
        target = spelt_out(self._wanted.file, self._wanted.published, self._on_disk)
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
        return self._inputs | results_of(self._wanted, self._served, self._stored, self._obsolete)

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
        return combined(basis, answers, self._on_disk)

    def _ask_before(self, config: ModelServerConfig) -> dict[str, Answers]:
        answers: dict[str, Answers] = {}
        questions = questions_of(config, self._wanted.file)
        for name, answer in self._fleet.ask_patiently(self._asked, questions).items():
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
                for name, answer in self._fleet.ask(self._asked, questions_of(config, None)).items()
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
            answers = self._fleet.ask(self._asked, questions)
            if gone - looked >= _LOG_SECONDS and step.wait_available:
                looked = gone
                self._look_into_logs(step, answers, old_lines)
            for name, answer in answers.items():
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

    def _look_into_logs(self, step: Step, answers: Mapping[str, Answers | ServiceError], old_lines: set[str]) -> None:
        """End the wait where a log says that a version will never load: its state tells only after the last retry."""
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
        safe = without_version(in_force, error.model, error.version) if in_force else None
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
        answer = self._fleet.ask((service,), questions_of(self._wanted.file, None))[service.name]
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
        questions = questions_of(self._wanted.file, None)
        self._served = {}
        for name, answer in self._fleet.ask_patiently(reachable, questions).items():
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


def _prefix(key: str, model: Model) -> str:
    """Key prefix of a model's directory: the config file lies at the root of the mount, the models beside it."""
    root = key.rpartition("/")[0]
    name = model.base_path.rstrip("/").rpartition("/")[2]
    return f"{root}/{name}/" if root else f"{name}/"


def _first(pending: Mapping[str, str]) -> str:
    name, reason = next(iter(pending.items()))
    return f"{name}: {reason}"


def questions_of(config: ModelServerConfig, other: ModelServerConfig | None) -> dict[str, set[str]]:
    """Every model and label of the configs."""
    found: dict[str, set[str]] = {}
    for model in (*config.models, *(other.models if other else ())):
        found.setdefault(model.name, set()).update(model.labels)
    return found
