"""Gates of models: read from the stack file, and checked against their files, the versions and the services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.kubernetes import AckServiceSettings
from config.loading import AnyService, may_serve
from config.models import ModelSettings
from config.option_reader import read_plain
from config.reader import Reader
from config.stack_config import NAMESPACE, StackConfig
from tfserving import eas_spec, saved_model
from tfserving.contract.gates import AgreeBy, Agreement, Gate, GateFile, Latency, ModelGate, Tolerance
from tfserving.errors import SavedModelError
from tfserving.gates import fit, golden, spec
from tfserving.gates.golden import GoldenError, Record
from tfserving.gates.spec import Known
from tfserving.model_config import Model, ModelServerConfig
from tfserving.model_sets import ModelSet
from tfserving.options import keys, options
from tfserving.property_path import join_path
from tfserving.saved_model import Signature

_FILE = "a file with one request a line, relative to the project"


def with_gates(
    stack: StackConfig,
    models: Iterable[ModelSettings],
    serving: ModelServerConfig,
    sets: Sequence[ModelSet],
    services: Sequence[AnyService],
) -> tuple[ModelSettings, ...]:
    """The models with their gates; whatever a gate could not do later is a problem now.

    Args:
        stack: the stack, which takes the problems.
        models: its models.
        serving: all of them as they are declared.
        sets: those that services read in config files.
        services: its services.
    """
    path = f"{NAMESPACE}:models"
    reader = stack.reader(path)
    again = Reader()  # what is wrong with models and their entries has been told
    given = again.mapping(stack.raw.get(path), path)
    found = []
    for model in models:
        place = join_path(path, model.name)
        value = again.mapping(given.get(model.name), place).get("gate")
        if value is None:
            found.append(model)
            continue
        where = join_path(place, "gate")
        before = len(stack.problems)
        gate = _read(reader, value, where)
        declared = serving.get(model.name)
        if len(stack.problems) == before and declared is not None:
            entries = [entry for each in sets if (entry := each.config.get(model.name)) is not None] or [declared]
            check = _Check(stack, reader, where, gate, model, entries)
            model = replace(model, gate=check.run([each for each in services if may_serve(each, model.name)]))
        found.append(model)
    return tuple(found)


# ---- reading -------------------------------------------------------------------------------------------------------


def _read(reader: Reader, value: Any, where: str) -> Gate:
    entry = reader.mapping(value, where, keys(Gate))
    _see_written(reader, entry, where, Gate)
    fields = read_plain(reader, entry, where, Gate)
    parts: Mapping[str, type] = {"tolerance": Tolerance, "agreement": Agreement, "latency": Latency}
    for key, cls in parts.items():
        if entry.get(key) is not None:
            fields[key] = _part(reader, entry[key], join_path(where, key), cls)
    before = len(reader.problems)
    gate = Gate(**fields)
    for key, message, allowed in spec.problems(gate):
        # A value that could not be read has its problem already.
        if not any(problem.path.startswith(f"{where}.{key}") for problem in reader.problems[:before]):
            reader.add(f"{where}.{key}", message, allowed)
    return gate


def _part(reader: Reader, value: Any, path: str, cls: type) -> Any:
    given = reader.mapping(value, path, keys(cls))
    _see_written(reader, given, path, cls)
    return cls(**read_plain(reader, given, path, cls))


def _see_written(reader: Reader, given: Mapping[str, Any], path: str, cls: type) -> None:
    """A key with nothing behind it would leave out a test that somebody meant to demand."""
    for each in options(cls):
        value = given.get(each.key, each)
        if value is None or (value == "" and each.plain_type is str):
            said = "nothing is written here" if value is None else "the text is empty"
            allowed = _FILE if each.key in ("golden", "on") else ""
            reader.add(join_path(path, each.key), said, allowed, "write what is demanded, or remove the key")


# ---- checking ------------------------------------------------------------------------------------------------------


class _Check:
    """One gate against everything around it.

    Attributes:
        entries: the model as each set of services is to serve it.
    """

    def __init__(
        self,
        stack: StackConfig,
        reader: Reader,
        where: str,
        gate: Gate,
        model: ModelSettings,
        entries: Sequence[Model],
    ) -> None:
        self.stack, self.reader, self.where = stack, reader, where
        self.gate, self.model, self.entries = gate, model, entries
        self.labels = sorted({label for each in entries for label in each.labels})

    def run(self, serving: Sequence[AnyService]) -> ModelGate:
        """The gate with what is known of its files and of the versions.

        Args:
            serving: the services that serve the model.
        """
        self._services(serving)
        self._compared(serving)
        known = self._known()
        files = {}
        for path in self.gate.files:
            if (data := self._data(path)) is not None:
                records = self._fits(path, data, known)
                files[path] = GateFile(digest=golden.digest(data), records=records)
        if self.gate.agreement is not None and self.gate.agreement.by == AgreeBy.ARGMAX:
            self._classes(known)
        return spec.with_known(self.gate, files, known)

    def _add(self, key: str, message: str, allowed: str = "", fix: str = "") -> None:
        self.reader.add(f"{self.where}.{key}" if key else self.where, message, allowed, fix)

    def _services(self, serving: Sequence[AnyService]) -> None:
        """A gate is tried on every service that serves the model, so each of them has to be able to."""
        for each in serving:
            if not each.reachable:
                message = f"service {each.name} cannot be reached from this machine (reachable: false), so nothing"
                fix = "run the update where the service can be reached and set reachable: true, or remove the gate"
                self._add("", f"{message} could be tried there", fix=fix)
            elif isinstance(each, AckServiceSettings):
                if each.spec.config_file and each.spec.rollout != "poll":
                    message = f"pods of service {each.name} get their config when they start (rollout: restart)"
                    fix = "set rollout: poll of the service, or remove the gate"
                    self._add("", f"{message}, so their labels move before anything could be tried", fix=fix)
            elif not eas_spec.answers_as_tf_serving(each.spec):
                self._add("", f"service {each.name} does not answer as TensorFlow Serving does", fix="remove the gate")
        readers = [each for each in serving if each.spec.config_file and not isinstance(each, AckServiceSettings)]
        polling = {each.spec.config_file_name for each in serving if each.spec.config_poll_seconds > 0}
        behind = [each.name for each in readers if each.spec.config_file_name not in polling]
        if behind:
            names = ", ".join(behind)
            message = f"{names} read the config file only when they start, so labels move before anything could be"
            fix = "set configPollSeconds of a custom deployment, or remove the gate"
            self._add("", f"{message} tried", fix=fix)
        elif readers and not self.labels:
            self.stack.warnings.append(
                f"model {self.model.name}: it has a gate and no labels: requests move to a new version as soon as it "
                "is loaded, and back where it does not pass. Give clients a label, and they move once it has passed"
            )

    def _compared(self, serving: Sequence[AnyService]) -> None:
        """Whether there can be another version to compare with."""
        agreement = self.gate.agreement
        if agreement is not None and agreement.with_ and agreement.with_ not in self.labels:
            there = ", ".join(self.labels) or "none"
            self._add("agreement.with", f"model {self.model.name} has no label {agreement.with_!r}", there)
        if any(each.spec.config_file for each in serving):
            return
        for key in spec.comparing(self.gate):
            allowed = "p99Ms" if key == "latency.p99Ratio" else ""
            self._add(key, spec.ALONE, allowed, "serve the model by the config file")

    def _known(self) -> Known:
        """Signatures of the versions on this machine."""
        if self.model.directory is None:
            return {}
        found = {}
        try:
            for each in saved_model.versions(self.model.directory):
                if each.number in self.model.versions:
                    found[each.number] = saved_model.loaded_signatures(
                        each.path, self.stack.cache, self.model.tags, prefer_tflite=self.model.tflite
                    )
        except SavedModelError:
            return {}  # told already
        return {number: known for number, known in found.items() if known}

    def _data(self, path: str) -> bytes | None:
        key = "golden" if path == self.gate.golden else "agreement.on"
        file: Path = self.stack.project_dir / path
        fix = ".venv/bin/python -m ops golden record writes one from a version that runs"
        try:
            return file.read_bytes()
        except FileNotFoundError:
            self._add(key, f"there is no file {path}", "a file, relative to the project", fix)
        except IsADirectoryError:
            self._add(key, f"{path} is a directory", "a file with one request a line", fix)
        except (OSError, ValueError) as error:
            self._add(key, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
        return None

    def _fits(self, path: str, data: bytes, known: Known) -> int:
        """How many records a file has, if it can be read and fits at least one version that requests are to go to."""
        key = "golden" if path == self.gate.golden else "agreement.on"
        fix = ".venv/bin/python -m ops golden record writes one from a version that runs"
        try:
            records = golden.read(data, path, expected=path == self.gate.golden)
        except GoldenError as error:
            self._add(key, "; ".join(error.problems), fix=fix)
            return 0
        problems = [self._misfits(records, path, known[number]) for number in self._answering(known)]
        if problems and all(problems):
            highest = self._answering(known)[-1]
            self._add(key, f"does not fit version {highest}: {'; '.join(problems[-1])}", fix=fix)
        return len(records)

    def _misfits(self, records: Sequence[Record], path: str, signatures: Mapping[str, Signature]) -> list[str]:
        return fit.problems(records, path, signatures, answers=path == self.gate.golden)

    def _answering(self, known: Known) -> list[int]:
        """The known versions that requests go to by label, or without, ascending."""
        highest = {number for each in self.entries for number in each.policy.select(self.model.versions)[-1:]}
        return sorted({*(number for each in self.entries for number in each.labels.values()), *highest} & known.keys())

    def _classes(self, known: Known) -> None:
        reasons = [
            fit.undecided(signature)
            for number in self._answering(known)
            for name, signature in known[number].items()
            if name == saved_model.SERVING_SIGNATURE
        ]
        if reasons and all(reasons):
            self._add("agreement.by", f"the answers have no highest class: {reasons[-1]}", "allclose")
