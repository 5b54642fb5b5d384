"""One create or update of what is served: steps are written, waited for and proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from provider.asking import MOUNT_CACHE_SECONDS, Answers, AskedService, Fleet
from provider.cluster import ClusterApi
from provider.eas.story import failure_story
from provider.gates import GateFailedError
from provider.moves import Elsewhere, wait_for_others
from provider.oss import Bucket
from provider.publication.layout import remove_version
from provider.resource import Context
from provider.restarts import RESTART_SECONDS, restart
from provider.rollout.configs import combined, without_version
from provider.rollout.files import Files
from provider.rollout.gating import Gating
from provider.rollout.heard import Heard
from provider.rollout.pending import Failed, VersionFailedError, pending_of
from provider.uses import files_of_others, names_version
from tfserving import model_config, rollout, served, server_log
from tfserving.config_notes import Tried
from tfserving.contract.serving import ServedConfigInputs, ServedConfigOutputs
from tfserving.errors import RolloutError, ServiceError
from tfserving.gates.plan import GatePlan
from tfserving.model_config import Model, ModelServerConfig
from tfserving.property_values import Properties
from tfserving.rollout import Step
from tfserving.served import Served, Versions, Wanted, began_with, spelt_out, state_before, union

STEP_SECONDS = 120.0
"""Least time a step may take before it counts as stuck."""

_SETTLE_SECONDS = 15.0
_SAMPLED = 8
_NAMED = 3
_LOG_SECONDS = 4.0


class Rollout:
    """One create or update."""

    def __init__(
        self, ctx: Context, id_: str, echoed: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> None:
        self._ctx = ctx
        self._id = id_
        self._echoed = echoed
        self._inputs = inputs = ServedConfigInputs.read(echoed)
        before, found = ServedConfigInputs.read(old_inputs), ServedConfigOutputs.read(old_outputs)
        self._previous = served.previous(inputs, before, found)
        self._wanted = Wanted.of(inputs)
        self._before = Wanted.of(before).file if before.models.models else None
        self._bucket = Bucket(ctx.clients.oss, inputs.bucket)
        self._services = services_of(self._wanted)
        self._file = Files(ctx, inputs, self._services)
        self._fleet = Fleet(ctx, self._services, ClusterApi.of(inputs))
        self._is_new = not before.models.models
        self._asked = tuple(service for service in self._fleet.polling if service.reachable)
        self._blind = tuple(service for service in self._services if not service.reachable)
        kept = union(before.published, found.obsolete)
        self._obsolete: Versions = {
            name: versions - self._wanted.published[name]
            for name, versions in kept.items()
            if name in self._wanted.published and versions - self._wanted.published[name]
        }
        if inputs.names_versions:
            self._obsolete = {}  # other files may name them: RetiredVersions comes after all rollouts
        self._on_disk = union(self._wanted.published, kept)
        self._seen = self._on_disk  # and what services were found to serve, whoever has put that there
        self._served: dict[str, Served] = dict(found.served)
        self._gating = Gating(ctx, inputs, found, self._fleet, self._asked)
        self._state_before = state_before(before, found, self._on_disk)
        self._stored: ModelServerConfig | None = None  # what the file says, as far as this run knows
        self._heard = Heard.of(ctx)
        self._noted = False  # whether the file says that a gate is under way
        self._skipped: frozenset[str] = frozenset()  # models that nothing changes: heard of already, asked no more
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
        self._gating.end()
        if self._blind:
            names = ", ".join(service.name for service in self._blind)
            self._ctx.warning(f"nothing was proven for {names}: not reachable from this machine, waited by time only")
        return self._outputs()

    def _outputs(self) -> Properties:
        results = self._wanted.results(self._served, self._stored, self._obsolete)
        return self._echoed | replace(self._gating.into(results), previous=self._previous or None).write()

    def _write(self, config: ModelServerConfig, tried: Sequence[Tried] = ()) -> None:
        """Write the file; from here on a failure keeps what exists."""
        self._ctx.record(self._id, self._outputs())
        self._file.write(config, frozenset(self._behind), self._gating.told, tried)
        self._stored = config
        self._noted = bool(tried)
        self._ctx.record(self._id, self._outputs())

    def _end_note(self) -> None:
        """Write what came of a gate in the place of its beginning, where no step has done so."""
        if self._noted and self._stored is not None:
            self._write(self._stored)

    # ---- services that poll the file -------------------------------------------------------------------------------

    def _roll(self, target: ModelServerConfig) -> None:
        in_force = self._in_force()
        if self._asked and in_force is not None and in_force != self._stored:
            self._hold(in_force)
        steps = rollout.plan(in_force, target, self._wanted.published, self._seen)
        base = None if self._is_new else began_with(in_force, self._state_before, target, self._on_disk)
        # A run that was ended after its gates had passed has left them in the file.
        gates = self._gating.plan(base, target, self._on_disk, self._file.gates if base != in_force else ())
        steps = rollout.with_gate(steps, in_force, gates.tried, gates.summary)
        for number, step in enumerate(steps, start=1):
            title = f"step {number} of {len(steps)}, {step.kind}"
            self._ctx.info(f"{title}: {step.said}")
            self._fleet.count_replicas()
            try:
                if step.needs_available:
                    self._wait(Step(step.kind, step.config, wait_available=step.needs_available), title)
                if step.kind == "gate":
                    self._try_out(gates, step.config)
                    continue
                self._give_up(in_force, step.config)
                # A file that already says this gives the server no reason to try a failed version again.
                failed_before = set() if step.config == self._stored else self._failed_versions(step)
                self._write(step.config)
                self._wait(step, title, failed_before)
            except VersionFailedError as error:
                self._fall_back(error, in_force)
            except GateFailedError as error:
                self._go_back(error, in_force, base)
            self._wait_blind(title)
            in_force = step.config
        self._end_note()

    def _try_out(self, gates: GatePlan, config: ModelServerConfig) -> None:
        """Try versions, with a note of that in the file, which is how others see it.

        Raises:
            GateFailedError: one did not pass.
            RolloutError: a file of a gate cannot be used.
        """
        if self._stored != config:  # nothing was served before, and the file says more than that
            self._ctx.record(self._id, self._outputs())
            self._gating.try_out(gates.which.candidates)
            return
        self._write(config, self._gating.begin(gates))
        try:
            self._gating.try_out(gates.which.candidates)
        except GateFailedError:
            raise
        except RolloutError:
            self._end_note()
            raise

    def _go_back(
        self, error: GateFailedError, in_force: ModelServerConfig | None, base: ModelServerConfig | None
    ) -> NoReturn:
        """Bring the services back to what they served before the rollout began: no label has moved.

        Args:
            error: what the version did not reach.
            in_force: the config in force now.
            base: the one before; None: there was none.
        """
        lines = [str(error)]
        self._ctx.record(self._id, self._outputs())
        if base is None:
            self._end_note()
            lines.append(
                "Nothing was served before, so there is nothing to go back to: the services serve this version."
            )
        else:
            try:
                for step in rollout.plan(in_force, base, self._seen, self._seen):
                    self._ctx.info(f"back, {step.kind}: {step.said}")
                    self._write(step.config)
                    self._wait(step, f"back, {step.kind}")
                self._end_note()
            except RolloutError as second:
                lines.append(f"Going back to what was served before is not done: {second}")
            else:
                lines.append("No label has moved. The model config file says again what it said before this rollout.")
        lines.append(
            "Fix: publish a version that passes under a new number, or change what the gate demands; then run the "
            "update again"
        )
        raise RolloutError("\n".join(lines)) from None

    def _give_up(self, in_force: ModelServerConfig | None, config: ModelServerConfig) -> None:
        """Before a write takes a model away that another file of the stack names: wait until it is served there."""
        lost = set(in_force.names if in_force else ()) - set(config.names)
        if lost and (others := self._inputs.other_services):
            elsewhere = Elsewhere(owner=self._inputs.owner, models=others)
            wait_for_others(self._ctx, elsewhere, lost, {service.name for service in self._services})

    def _in_force(self) -> ModelServerConfig | None:
        """The config polling services follow now: the file's, once they are seen to; else what they really serve."""
        if not self._asked:
            return self._stored or self._file.first
        basis = self._stored or self._before or self._wanted.file
        self._skipped = self._unchanged(basis)
        patience = max(2 * service.poll_seconds for service in self._asked) + _SETTLE_SECONDS
        answers: dict[str, Answers] = {}
        for _ in self._ctx.poll(patience, longest=2):
            answers = self._ask_before(basis)
            lagging = [name for name, answer in answers.items() if not self._follows(answer, basis)]
            if self._stored is not None and not lagging:
                return self._stored
            failed = (
                answer.failed(model.name, model.policy.select(self._seen.get(model.name, ())))
                for answer in answers.values()
                for model in basis.models
            )
            if self._stored is None or any(failed):
                break  # waiting changes nothing
            self._ctx.status(f"waiting until {', '.join(lagging)} serves what the model config file says")
        self._ctx.info("not every service serves what the model config file says: continuing from what is served")
        return combined(basis, answers, self._seen)

    def _ask_before(self, config: ModelServerConfig) -> dict[str, Answers]:
        answers: dict[str, Answers] = {}
        questions = self._without_skipped(questions_of(config, self._wanted.file))
        for name, answer in self._fleet.ask_patiently(self._asked, questions).items():
            if not isinstance(answer, Answers):
                raise RolloutError(f"nothing was changed, because {self._fleet.unanswered(name, answer)}")
            answers[name] = self._heard.with_newer(name, answer, self._skipped)
        self._seen = union(self._on_disk, *(answer.everything() for answer in answers.values()))
        if self._skipped and not all(self._follows(answer, config) for answer in answers.values()):
            self._skipped = frozenset()  # what was heard may hold no more
            return self._ask_before(config)
        return answers

    def _unchanged(self, config: ModelServerConfig) -> frozenset[str]:
        """The models that this update neither changes nor has to ask about, but for a few of them.

        The read before it has heard that every replica serves them as they are to be served, and the file says so.
        What moves is proven on every replica; of the rest a sample shows whether what was heard still holds.
        """
        wanted, expected = self._wanted.file, self._wanted.expected()
        same = {
            name: expected[name]
            for name in wanted.names
            if config.get(name) == wanted.get(name)
            and self._on_disk.get(name, set()) == set(self._wanted.published.get(name, ()))
        }
        settled = self._heard.settled([service.name for service in self._asked], same)
        return settled - rollout.sample(settled, self._change(config), _SAMPLED)

    def _change(self, config: ModelServerConfig) -> str:
        return "\n".join(model_config.changes(config, self._wanted.file))

    def _without_skipped(self, questions: Mapping[str, set[str]]) -> dict[str, set[str]]:
        return {name: labels for name, labels in questions.items() if name not in self._skipped}

    def _follows(self, answer: Answers, config: ModelServerConfig) -> bool:
        """Whether a service has taken up ``config``: nothing else is served any more, and the rest at least loads."""
        if any(config.get(name) is None and answer.anywhere(name) for name in answer.states):
            return False
        for model in config.models:
            if model.name not in self._seen:  # of no stack, and served by nobody: the file was never taken up
                return False
            should = set(model.policy.select(self._seen[model.name]))
            there = set(answer.anywhere(model.name))
            if not should <= there or (model.policy.kind != "all" and there - should):
                return False
            available = answer.available(model.name)
            for label, version in model.labels.items():
                if answer.label(model.name, label) != version and (version in available or version not in should):
                    return False
        return True

    def _hold(self, config: ModelServerConfig) -> None:
        """Write down what is served, and make sure that it stays: another file may yet be taken up."""
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

    def _failed_versions(self, step: Step) -> set[Failed]:
        """Versions the server gave up earlier and has not been told to try again yet: still END when a step begins."""
        found: set[Failed] = set()
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

    def _wait(self, step: Step, title: str, failed_before: set[Failed] | None = None) -> None:
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
        for gone in self._ctx.poll(seconds, longest=1):
            pending = {}
            answers = self._fleet.ask(self._asked, questions)
            if gone - looked >= _LOG_SECONDS and step.wait_available:
                looked = gone
                self._look_into_logs(step, answers, old_lines)
            for name, answer in answers.items():
                if isinstance(answer, Answers):
                    reason = pending_of(step, name, answer, stale if gone < rereads else set())
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

    def _step_seconds(self) -> float:
        chosen = self._inputs.wait_seconds or self._ctx.seconds
        slowest = max((service.poll_seconds for service in self._services), default=0.0)
        return float(chosen) if chosen else max(STEP_SECONDS, 3 * slowest + MOUNT_CACHE_SECONDS)

    def _too_late(self, title: str, seconds: float, pending: Mapping[str, str], models: Iterable[str]) -> NoReturn:
        lines = [f"{title}: not done after {seconds:g} s"]
        for name, reason in pending.items():
            lines.append(f"  service {name}: {reason}")
            lines += [f"    {line}" for line in self._fleet.story(name)]
            lines += [f"    log: {line}" for line in self._fleet.trouble(name, models)]
        lines += self._broken_meanwhile()
        lines.append(
            "What was served before is still served, and the file stays as this step wrote it. "
            "Fix: run the update again to continue; allow more time with tf-serving:rolloutSeconds"
        )
        raise RolloutError("\n".join(lines))

    def _broken_meanwhile(self) -> list[str]:
        """Of the models that were not asked about: those that are not served any more. They may hold up the others."""
        expected = self._wanted.expected()
        questions = {name: set(expected[name].labels) for name in sorted(self._skipped)}
        lines = []
        for service, answer in self._fleet.ask(self._asked, questions).items() if questions else ():
            serves = answer.served() if isinstance(answer, Answers) else {}
            broken = [name for name in questions if isinstance(answer, Answers) and serves.get(name) != expected[name]]
            lines += [
                f"  service {service}: {name}, which this update does not change, serves "
                f"{_shown({name: serves[name]}) if name in serves else 'nothing'}"
                for name in broken[:_NAMED]
            ]
            lines += [f"  service {service}: and {len(broken) - _NAMED} more models"] if len(broken) > _NAMED else []
        return lines

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
            self._inputs.wait_seconds or max(2 * service.poll_seconds for service in polling) + MOUNT_CACHE_SECONDS
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

    def _restart(self, service: AskedService, original: ModelServerConfig | None) -> None:
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
        serves: Served | str = "nothing"
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
        self._restart_failed(
            f"service {service.name} was restarted but serves {_shown(serves)}, not {_shown(expected)}", original
        )

    def _policies_changed(self) -> bool:
        """Whether a model comes under, or leaves, a policy that goes by the files."""
        before = {model.name: model.policy for model in self._before.models} if self._before else {}
        changes = ((before.get(model.name, model.policy), model.policy) for model in self._wanted.file.models)
        return any(old != new and {old.kind, new.kind} != {"specific"} for old, new in changes)

    def _serves(self, service: AskedService) -> Served | str:
        answer = self._fleet.ask((service,), questions_of(self._wanted.file, None))[service.name]
        return answer.served() if isinstance(answer, Answers) else str(answer)

    def _restart_failed(self, message: str, original: ModelServerConfig | None) -> NoReturn:
        if original is not None and original != self._stored:
            self._write(original)
            message += "\nThe model config file says again what it said before, so a replica that restarts comes up."
        raise RolloutError(message)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _remove_obsolete(self) -> None:
        """Remove the files of versions that are published no longer and, by now, not needed by any service."""
        root = self._inputs.key.removesuffix(self._file.name)
        elsewhere = files_of_others(self._bucket, root, self._inputs.owner, ()) if self._obsolete else {}
        for name in sorted(self._obsolete):
            model = self._wanted.models.get(name)
            # What lies on another mount is not this stack's.
            if model is not None and _is_below(self._inputs.mount_path or "", model):
                self._ctx.record(self._id, self._outputs())
                prefix = _prefix(self._inputs.key, self._inputs.mount_path or "", model)
                directory = prefix.removeprefix(root).rstrip("/")
                for version in sorted(self._obsolete[name]):
                    there = self._on_disk[name]
                    users = [uri for uri, other in elsewhere.items() if names_version(other, directory, version, there)]
                    if users:
                        self._ctx.warning(f"{name}: version {version} stays in the bucket: {users[0]} names it")
                    elif files := remove_version(self._bucket, prefix, version, self._inputs.owner):
                        self._ctx.info(f"{name}: version {version} removed from the bucket ({files} files)")
                    else:
                        self._ctx.info(f"{name}: version {version} stays in the bucket: not published by this stack")
            del self._obsolete[name]

    def _prove(self) -> None:
        """See that every service serves exactly what is wanted, and remember what it serves.

        Of what no step has changed: a few models, and of the others what was heard before.
        """
        expected = self._wanted.expected()
        looked_at = [model for model in self._wanted.file.models if model.name not in self._skipped]
        step = Step(
            "narrow",
            self._wanted.file,
            wait_available={model.name: expected[model.name].versions for model in looked_at},
            wait_labels={model.name: model.labels for model in looked_at if model.labels},
        )
        try:
            self._wait(step, "final check")
        except VersionFailedError as error:
            self._fall_back(error, self._wanted.file)
        removed = {
            name: tuple(sorted(versions - set(expected[name].versions)))
            for name, versions in self._on_disk.items()
            if name in expected and versions - set(expected[name].versions)
        }
        try:
            self._wait(Step("narrow", self._wanted.file, wait_gone=removed), "final check")
        except RolloutError as error:
            # Under the policy all the server goes by the directory, and an OSS mount may still show a removed one.
            self._ctx.warning(str(error))
        reachable = [service for service in self._services if service.reachable]
        polling = {service.name for service in self._asked}
        questions = questions_of(self._wanted.file, None)
        self._served = {}
        answers = self._fleet.ask_patiently(
            [service for service in reachable if service.name in polling], self._without_skipped(questions)
        )
        answers |= self._fleet.ask_patiently(
            [service for service in reachable if service.name not in polling], questions
        )
        for name, answer in answers.items():
            if not isinstance(answer, Answers):
                self._ctx.record(self._id, self._outputs())
                raise RolloutError(self._fleet.unanswered(name, answer))
            if name in polling:
                answer = self._heard.with_newer(name, answer, self._skipped)
            self._served[name] = answer.served()
            for model, found in self._served[name].items():
                strange = set(found.versions) - set(expected[model].versions)
                if strange:
                    self._ctx.warning(
                        f"service {name} serves version {', '.join(map(str, sorted(strange)))} of {model}, which this "
                        "stack has not published: remove it from the bucket, or publish it with the stack"
                    )


def _is_below(mount_path: str, model: Model) -> bool:
    """Whether a model lies below the mount of the config file; a state of an older release does not say where it is."""
    return not mount_path or model.base_path.startswith(f"{mount_path.rstrip('/')}/")


def _prefix(key: str, mount_path: str, model: Model) -> str:
    """Key prefix of a model's directory: the config file lies at the root of the mount, the models below it.

    States of older releases do not say where that is mounted: there, each model lies right beside the file.
    """
    root, mount = key.rpartition("/")[0], f"{mount_path.rstrip('/')}/"
    inside = bool(mount_path) and model.base_path.startswith(mount)
    name = model.base_path.removeprefix(mount) if inside else model.base_path.rstrip("/").rpartition("/")[2]
    return f"{root}/{name}/" if root else f"{name}/"


def services_of(wanted: Wanted) -> list[AskedService]:
    """The services that read the file, by name."""
    return [AskedService.of(name, declared) for name, declared in wanted.services.items()]


def _shown(serves: Served | str) -> str:
    return serves if isinstance(serves, str) else str({name: each.write() for name, each in serves.items()})


def _first(pending: Mapping[str, str]) -> str:
    name, reason = next(iter(pending.items()))
    return f"{name}: {reason}"


def questions_of(config: ModelServerConfig, other: ModelServerConfig | None) -> dict[str, set[str]]:
    """Every model and label of the configs."""
    found: dict[str, set[str]] = {}
    for model in (*config.models, *(other.models if other else ())):
        found.setdefault(model.name, set()).update(model.labels)
    return found
