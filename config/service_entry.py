"""What the entries of ``tf-serving:services`` have in common, wherever a service runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from config.option_reader import read_plain, with_blanks
from config.reader import Reader, whole_numbers
from tfserving import model_config, schedule, server_config
from tfserving.errors import ConfigError, ModelConfigError
from tfserving.model_config import ModelServerConfig, did_you_mean
from tfserving.model_sets import Choice, ModelChoice
from tfserving.options import keys, option
from tfserving.property_path import join_path
from tfserving.schedule import Schedule, ScheduledSize

_Autoscaler = TypeVar("_Autoscaler")
_DURATION = re.compile(r"(?=[0-9])([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?")


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long Pulumi waits for a service, as ``1h30m``; empty is the provider's default.

    Attributes:
        create: until it serves.
        update: until the change is served.
        delete: until it is gone.
    """

    create: str = option("", unit="time", otherwise="30 minutes")
    update: str = option("", unit="time", otherwise="30 minutes")
    delete: str = option("", unit="time", otherwise="10 minutes")


class EntryReader:
    """Reads one entry. What cannot be read leaves its default in the spec, so that the rest can be checked.

    Args:
        reader: takes the problems.
        name: the entry's key.
        value: the entry.
        path: where it stands.
        keys: the keys it may have.
    """

    def __init__(self, reader: Reader, name: str, value: Any, path: str, keys: Iterable[str]) -> None:
        self.reader = reader
        self.name = name
        self.path = path
        self.fields: dict[str, Any] = {}
        self.first_problem = len(reader.problems)
        self.given = reader.mapping(value, path, keys)

    def _at(self, key: str) -> str:
        return join_path(self.path, key)

    def _keep(self, key: str, name: str, read: Callable[[Any, str], Any]) -> None:
        """Reads ``key`` into field ``name`` of the spec, if it is there and nothing is wrong with it."""
        if self.given.get(key) is None:
            return
        before = len(self.reader.problems)
        value = read(self.given[key], self._at(key))
        if len(self.reader.problems) == before:
            self.fields[name] = value

    def _plain(self, cls: type, *, but: Collection[str] = ()) -> None:
        """Reads every option of ``cls`` whose type says how."""
        self.fields |= read_plain(self.reader, self.given, self.path, cls, but=but)

    def _models(self, declared: ModelServerConfig) -> None:
        """``models``: a list of names, or a mapping in which policies and labels may be others than the models' own."""
        value, path = self.given.get("models"), self._at("models")
        if value is None:
            return
        if self.given.get("configFile") in (False, "false"):
            fix = "remove configFile, or models"
            self.reader.add(path, "models are read from a config file, and configFile is false", fix=fix)
        before = len(self.reader.problems)
        is_mapping = isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] == "{")
        choices = self._chosen(value, path) if is_mapping else self._named(value, path)
        known = [model.name for model in declared.models]
        for name in choices.keys() - set(known):
            where = join_path(path, name) if is_mapping else path
            fix = did_you_mean(name, known)
            self.reader.add(where, f"there is no model {name!r} in this stack", ", ".join(known) or "none", fix)
        if not choices and len(self.reader.problems) == before:
            fix = "name models, or leave models out: then it serves all"
            self.reader.add(path, "no model is named", ", ".join(known) or "none", fix)
        if len(self.reader.problems) == before:
            self.fields["models"] = choices
        self.fields["config_file"] = True

    def _named(self, value: Any, path: str) -> dict[str, Choice]:
        allowed = "a list of model names, or a mapping of them with policy and labels"
        names = self.reader.texts(value, path, allowed)
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.reader.add(path, f"model {name} is named twice", fix="keep one")
        return {name: Choice() for name in names}

    def _chosen(self, value: Any, path: str) -> dict[str, Choice]:
        found = {}
        for name, item in self.reader.mapping(value, path).items():
            at = join_path(path, name)
            given = self.reader.mapping(item, at, keys(ModelChoice))
            policy = labels = None
            if given.get("policy") is not None:
                policy, problems = model_config.read_policy(whole_numbers(given["policy"]), join_path(at, "policy"))
                self.reader.problems += problems
            if given.get("labels") is not None:
                labels, problems = model_config.read_labels(whole_numbers(given["labels"]), join_path(at, "labels"))
                self.reader.problems += problems
            found[name] = Choice(policy=policy, labels=labels)
        return found

    def _flags(self, value: Any, path: str) -> dict[str, Any]:
        given = self.reader.mapping(value, path, allowed="flags of TensorFlow Serving with their values")
        found = {}
        for name, item in given.items():
            bare = name.lstrip("-")
            if bare != name:
                self.reader.add(join_path(path, name), f"flag {name!r} is written with dashes", bare, f"write {bare}")
            found[bare] = self.reader.scalar(item, join_path(path, name))
        return found

    def _env(self, value: Any, path: str) -> dict[str, str]:
        """Environment variables; booleans are spelt as people write them. Values may be secret and are never shown."""
        found = {}
        for name, item in self.reader.mapping(value, path).items():
            at = join_path(path, name)
            if isinstance(item, bool):
                found[name] = "true" if item else "false"
            elif isinstance(item, str | int | float):
                found[name] = str(item) if self.reader.exact(item, at) else ""
            else:
                self.reader.add(at, "the value is not a single value", "text, a number, true or false")
        return found

    def _scalars(self, value: Any, path: str) -> dict[str, Any]:
        """A mapping of single values, or lists of them."""
        found: dict[str, Any] = {}
        for name, item in self.reader.mapping(value, path).items():
            at, before = join_path(path, name), len(self.reader.problems)
            if isinstance(item, list | tuple):
                read: Any = [self.reader.scalar(one, f"{at}[{index}]") for index, one in enumerate(item)]
            else:
                read = self.reader.scalar(item, at)
            if len(self.reader.problems) == before:
                found[name] = read
        return found

    def _autoscaling(
        self,
        cls: type[_Autoscaler],
        value: Any,
        path: str,
        *,
        counts: str,
        key: str,
        allowed: str,
        metric: Callable[[str, Any, str], object],
    ) -> _Autoscaler:
        """An autoscaler: ``min``, ``max`` and, under ``key``, a target for each metric."""
        given = self.reader.mapping(value, path, keys(cls))
        for bound in ("min", "max"):
            if given and given.get(bound) is None:
                self.reader.add(join_path(path, bound), f"{bound} is missing", f"a number of {counts}")
        at = join_path(path, key)
        targets = self.reader.mapping(given.get(key), at, allowed=allowed)
        metrics = tuple(metric(name, item, join_path(at, name)) for name, item in targets.items())
        found = read_plain(self.reader, given, path, cls)
        return cls(**with_blanks(cls, found) | {key: metrics})

    def _schedule(self, value: Any, path: str) -> Schedule:
        """``schedule``: under ``jobs``, by name, when and how many."""
        reader = self.reader
        given = reader.mapping(value, path, keys(Schedule))
        at = join_path(path, "jobs")
        jobs = []
        for name, item in reader.mapping(
            given.get("jobs"), at, allowed="names of jobs, each with at and replicas"
        ).items():
            here = join_path(at, name)
            before = len(reader.problems)
            entry = reader.mapping(item, here, keys(ScheduledSize))
            is_mapping = len(reader.problems) == before
            for key, allowed in (("at", schedule.FORM), ("replicas", "a number of replicas")):
                if (entry or is_mapping) and entry.get(key) is None:
                    reader.add(join_path(here, key), f"{key} is missing", allowed)
            found: dict[str, Any] = {"at": "", "replicas": 1} | read_plain(reader, entry, here, ScheduledSize)
            jobs.append(ScheduledSize(name=name, **found))
        return Schedule(**read_plain(reader, given, path, Schedule, but=("jobs",)) | {"jobs": tuple(jobs)})

    def _batching_text(self) -> str | None:
        """The batching parameters file; ``None`` without batching."""
        value, path = self.given.get("batching"), self._at("batching")
        if value is None:
            return None
        return self._rendered(server_config.render_batching, self._scalars(value, path), path)

    def _monitoring_text(self) -> str | None:
        """The monitoring config file; ``None`` without monitoring."""
        value, path = self.given.get("monitoring"), self._at("monitoring")
        if isinstance(value, Mapping) or (isinstance(value, str) and value.lstrip()[:1] == "{"):
            return self._rendered(server_config.render_monitoring, self._scalars(value, path), path)
        if self.reader.boolean(value, path):
            return self._rendered(server_config.render_monitoring, {}, path)
        return None

    def _rendered(
        self, render: Callable[[Mapping[str, Any], str], str], parameters: Mapping[str, Any], path: str
    ) -> str | None:
        try:
            return render(parameters, path)
        except ConfigError as error:
            self.reader.problems += error.problems
        except ModelConfigError as error:
            self.reader.add(path, str(error))
        return None

    def _timeouts(self) -> Timeouts:
        path = self._at("timeouts")
        found = {}
        for key, item in self.reader.mapping(self.given.get("timeouts"), path, keys(Timeouts)).items():
            at = join_path(path, key)
            if key not in keys(Timeouts):
                continue
            text = f"{item}s" if isinstance(item, int) and not isinstance(item, bool) else str(item)
            if not _DURATION.fullmatch(text) or not re.search("[1-9]", text):
                self.reader.add(at, f"{self.reader.show(item)} is not a length of time", "such as 90s, 20m or 1h30m")
            else:
                found[key] = text
        return Timeouts(**found)
