"""One run over a stack: what the program registers becomes steps on providers and on the state.

The decisions are those of pkg/resource/deploy (step_generator.go, step.go). A registration is decided and carried out
in the thread of its call: independent resources run side by side, a dependent one waits in the program for its inputs.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import resource_pb2 as pb
from pulumi.runtime.proto.provider_pb2 import ConstructResponse

from sandbox.engine import properties as props
from sandbox.engine import urns
from sandbox.engine.config import Stack
from sandbox.engine.construction import construct_request, look_up, referred_to
from sandbox.engine.plugins import (
    Diff,
    InitFailedError,
    Plugin,
    Plugins,
    ProviderManager,
    Result,
    input_diff,
    package_of,
)
from sandbox.engine.properties import Properties
from sandbox.engine.state import Resource, Snapshot, now, references
from sandbox.engine.urns import STACK_TYPE
from tfserving.errors import TFServingError
from tfserving.property_path import covers, parse_path
from tfserving.property_values import UNKNOWN_TEXT, UNKNOWNS

INVERTED = {"add": "delete", "add-replace": "delete-replace", "delete": "add", "delete-replace": "add-replace"}
Node = TypeVar("Node", bound=Hashable)


class StepError(TFServingError):
    """An operation on one resource failed; the reason has been told already."""


class SkippedError(TFServingError):
    """A resource was left alone because something it depends on failed, or because the run was cancelled."""

    def __init__(self) -> None:
        super().__init__("skipped")


@dataclass
class Step:
    """One operation on one resource, done or (in a preview) to be done. ``op``: as in the CLI's JSON."""

    op: str
    urn: str
    old: Resource | None = None
    new: Resource | None = None
    diff: Diff = field(default_factory=Diff)


class Observer:
    """Who wants to know what a run does."""

    def started(self, step: Step) -> None:
        """An operation begins."""

    def finished(self, step: Step, seconds: float, failed: bool) -> None:
        """An operation ended."""

    def message(self, severity: str, text: str, urn: str = "", ephemeral: bool = False) -> None:
        """A message of the engine, the program or a provider; an ephemeral one is the state of a running operation."""


def run_in_order(
    nodes: Iterable[Node], after: Mapping[Node, set[Node]], work: Callable[[Node], bool], parallel: int
) -> set[Node]:
    """Runs ``work`` on every node once ``work`` returned True for those in ``after[node]``, ``parallel`` at a time.

    Returns the nodes on which it returned False and those never run because of them.
    """
    waiting, done, failed, running = list(nodes), set[Node](), set[Node](), dict[Future[bool], Node]()
    known = set(waiting)
    with ThreadPoolExecutor(parallel) as pool:
        while waiting or running:
            ready = [node for node in waiting if after.get(node, set()) & known <= done]
            waiting = [node for node in waiting if node not in set(ready)]
            running |= {pool.submit(work, node): node for node in ready}
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                (done if future.result() else failed).add(running.pop(future))
    return failed | set(waiting)


def seconds(text: str) -> float:
    """A duration as Go writes it (``1h5m``, ``90s``) in seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"([\d.]+)(h|ms|m|s)", text))


class Deployment:
    """A preview, update, refresh or destroy of one stack.

    Attributes:
        steps: what was or will be done, in order.
        failed: URNs of resources that failed or were skipped; then nothing more is deleted.
        outputs: the stack's outputs, once the program has registered them; in a preview only if they change.
        cancelled: set it to let running operations end and start no more.
    """

    def __init__(
        self, stack: Stack, snapshot: Snapshot, plugins: Plugins, observer: Observer,
        *, preview: bool, refresh: bool = False, parallel: int = 8,
    ) -> None:  # fmt: skip
        self._stack, self._snapshot, self._plugins, self._observer = stack, snapshot, plugins, observer
        self._refresh, self._parallel = refresh, parallel
        self.preview = preview
        self.steps: list[Step] = []
        self.failed: set[str] = set()
        self.outputs: Properties | None = None
        self.cancelled = threading.Event()
        self._lock = threading.RLock()
        self._slots = threading.BoundedSemaphore(parallel)
        self._seen: set[str] = set()
        self._replaced: set[str] = set()
        self._condemned: set[str] = set()
        self._default_providers: dict[str, Future[str]] = {}
        self._aliases: dict[str, list[str]] = {}

    # What the program asks for

    def register(self, goal: pb.RegisterResourceRequest) -> Resource:
        """Brings a resource to its goal state. Raises StepError or SkippedError."""
        urn = self._claim(goal.type, goal.name, goal.parent)
        with self._lock:
            above = self._aliases.get(goal.parent, ())
            self._aliases[urn] = urns.aliases(goal, self._stack.name, self._stack.project_name, above)
        with self._accounted(urn):
            new = self._goal(goal, urn)
            self._skip_after_failure(new)
            with self._slots:
                self._settle(goal, new)
            return new

    def construct(self, goal: pb.RegisterResourceRequest, monitor: str) -> ConstructResponse:
        """Has a provider make a component, which registers itself. Raises StepError or SkippedError."""
        urn = self.urn(goal.type, goal.name, goal.parent)
        with self._accounted(urn):
            package = goal.type.split(":")[0]
            reference = goal.provider or goal.providers.get(package) or self._default_provider(package, goal.version)
            needed = {key: list(each.urns) for key, each in goal.propertyDependencies.items()}
            self._skip_after_failure({
                "urn": urn, "parent": goal.parent, "dependencies": [*goal.dependencies, *referred_to(goal)],
                "propertyDependencies": needed, "provider": reference,
            })  # fmt: skip
            request = construct_request(goal, self._stack, monitor, preview=self.preview, parallel=self._parallel)
            return self._plugin(reference).construct(request)

    def look_up(self, request: pb.ResourceInvokeRequest) -> Struct:
        """A resource that this run has dealt with (:func:`sandbox.engine.construction.look_up`)."""
        return look_up(self._snapshot.done, request)

    def read(self, request: pb.ReadResourceRequest) -> Resource:
        """Looks a resource up that this stack does not manage. Raises StepError or SkippedError."""
        urn = self._claim(request.type, request.name, request.parent)
        with self._accounted(urn):
            provider = request.provider or self._default_provider(request.type.split(":")[0], request.version)
            inputs = props.from_struct(request.properties)
            new = _tidy({
                "urn": urn, "custom": True, "id": request.id, "type": request.type, "inputs": inputs, "external": True,
                "parent": request.parent, "dependencies": sorted(request.dependencies), "provider": provider,
                "additionalSecretOutputs": list(request.additionalSecretOutputs),
            })  # fmt: skip
            self._skip_after_failure(new)
            old = self._snapshot.find(urn)
            with self._slots, self._step(Step("read", urn, old, new)):
                if request.id not in UNKNOWNS:
                    result = self._plugin(provider).read(urn, request.id, inputs, inputs, 0)
                    if result is None:
                        raise TFServingError(f"resource {request.id!r} does not exist")
                    self._take(new, result)
                self._snapshot.put(new, old)
            return new

    def register_outputs(self, urn: str, outputs: Properties) -> None:
        """Sets the outputs of a component. What stayed unknown because of a failure keeps its last value."""
        found = next((r for r in self._snapshot.done if r["urn"] == urn), None)
        if found is None:
            return
        before = found.get("outputs", {})
        if not self.preview:
            known = {k: before.get(k) if props.has_unknown(v) else v for k, v in outputs.items()}
            outputs = {k: v for k, v in known.items() if v is not None or outputs[k] is None}
        if found["type"] == STACK_TYPE and not (self.preview and outputs == before):
            self.outputs = outputs
        found["outputs"] = outputs
        self._snapshot.save()

    def provider(self, reference: str, token: str, version: str) -> Plugin:
        """The provider for a function call: the one referred to, or the default one of the token's package."""
        return self._plugin(reference or self._default_provider(token.split(":")[0], version))

    # What the engine does on its own

    def delete_rest(self, everything: bool = False) -> None:
        """Deletes what the program no longer registers and what was replaced, or everything, dependents first."""
        rest = [r for r in self._snapshot.left if everything or r.get("delete") or r["urn"] not in self._seen]
        self._condemned |= {r["urn"] for r in rest}
        needed_by = {
            i: {j for j, other in enumerate(rest) if j != i and resource["urn"] in references(other)}
            for i, resource in enumerate(rest)
        }

        def work(i: int) -> bool:
            with contextlib.suppress(StepError, SkippedError), self._accounted(rest[i]["urn"]):
                self._delete(rest[i], "delete-replaced" if rest[i].get("delete") else "delete")
                return True
            return False

        self.failed |= {rest[i]["urn"] for i in run_in_order(range(len(rest)), needed_by, work, self._parallel)}

    def refresh(self) -> None:
        """Brings the state to what is really there."""
        live = [r for r in self._snapshot.left if "id" in r and not package_of(r["urn"]) and not r.get("delete")]

        def work(i: int) -> bool:
            old = live[i]
            step = Step("refresh", old["urn"], old)
            with contextlib.suppress(StepError, SkippedError), self._accounted(old["urn"]), self._step(step):
                step.new = new = self._reread(old)
                if new is None:
                    step.op = "delete"
                    return True
                before, after = old.get("outputs", {}), new.get("outputs", {})
                if old.get("external"):
                    step.diff = input_diff(before, after)
                else:
                    step.diff = self._plugin(old["provider"]).diff(
                        new, old.get("inputs", {}), old.get("ignoreChanges", [])
                    )
                    turned = {p: (INVERTED.get(kind, kind), own) for p, (kind, own) in step.diff.detailed.items()}
                    step.diff.detailed = turned
                step.op = "update" if step.diff.changed else "same"
                return True
            return False

        run_in_order(range(len(live)), {}, work, self._parallel)

    # One resource

    def urn(self, kind: str, name: str, parent: str) -> str:
        """The URN of a resource of this stack."""
        return urns.urn(self._stack.name, self._stack.project_name, kind, name, parent)

    def _claim(self, kind: str, name: str, parent: str) -> str:
        urn = self.urn(kind, name, parent)
        with self._lock:
            if urn in self._seen:
                self._observer.message("error", f"Duplicate resource URN '{urn}'; try giving it a unique name", urn)
                self.failed.add(urn)
                raise StepError(f"duplicate resource URN {urn}")
            self._seen.add(urn)
        return urn

    @contextlib.contextmanager
    def _accounted(self, urn: str) -> Iterator[None]:
        try:
            if self.cancelled.is_set():
                raise SkippedError
            yield
        except (StepError, SkippedError):
            self.failed.add(urn)
            raise
        except TFServingError as error:
            self.failed.add(urn)
            self._observer.message("error", str(error), urn)
            raise StepError(str(error)) from None

    def _skip_after_failure(self, new: Resource) -> None:
        if broken := references(new) & self.failed:
            self._observer.message("info", f"skipped, as {min(broken)} failed", new["urn"])
            raise SkippedError

    @contextlib.contextmanager
    def _step(self, step: Step) -> Iterator[None]:
        if package_of(step.urn) and step.urn.rpartition("::")[2].startswith("default"):  # nobody asked for it
            yield
            return
        with self._lock:
            self.steps.append(step)
        self._observer.started(step)
        start, failed = time.monotonic(), True
        try:
            yield
            failed = False
        finally:
            self._observer.finished(step, time.monotonic() - start, failed)

    def _goal(self, goal: pb.RegisterResourceRequest, urn: str) -> Resource:
        unsupported = {
            "import": goal.importId,
            "transforms": goal.transforms, "resource hooks": goal.hooks.ByteSize(),
            "replacement_trigger": goal.HasField("replacement_trigger"), "state migrations": goal.state_migrations,
            "hide_diffs": goal.hideDiffs,
            "a parameterized package": goal.packageRef, "environment variable mappings": goal.envVarMappings,
        }  # fmt: skip
        for name, used in unsupported.items():
            if used:
                raise TFServingError(f"{name}: not supported by the sandbox engine; deploy with the Pulumi CLI")
        inputs, provider = props.from_struct(goal.object), ""
        if package_of(urn):
            inputs |= {"version": goal.version} if goal.version else {}
        elif goal.custom:
            provider = goal.provider or self._default_provider(goal.type.split(":")[0], goal.version)
        timeouts = {f.name: seconds(text) for f, text in goal.customTimeouts.ListFields()}
        return _tidy({
            "urn": urn, "custom": goal.custom, "type": goal.type, "inputs": inputs, "parent": goal.parent,
            "protect": goal.protect, "dependencies": sorted(goal.dependencies), "provider": provider,
            "propertyDependencies": {k: sorted(v.urns) for k, v in sorted(goal.propertyDependencies.items()) if v.urns},
            "additionalSecretOutputs": list(goal.additionalSecretOutputs), "customTimeouts": timeouts,
            "retainOnDelete": goal.retainOnDelete, "deletedWith": goal.deletedWith,
            "replaceWith": list(goal.replace_with),
            "ignoreChanges": list(goal.ignoreChanges), "replaceOnChanges": list(goal.replaceOnChanges),
        })  # fmt: skip

    def _default_provider(self, package: str, version: str) -> str:
        name = f"default_{version.replace('.', '_')}" if version else "default"
        with self._lock:
            key = f"{package}:{name}"
            mine = key not in self._default_providers
            future = self._default_providers.setdefault(key, Future())
        if mine:
            settings = self._stack.package_config(package)
            inputs = {k: props.secret(text) if hidden else text for k, (text, hidden) in settings.items()}
            goal = pb.RegisterResourceRequest(
                type=f"pulumi:providers:{package}",
                name=name,
                custom=True,
                object=props.to_struct(inputs),
                version=version,
            )
            try:
                state = self.register(goal)
                future.set_result(f"{state['urn']}::{state['id']}")
            except TFServingError:
                future.set_exception(SkippedError())
        return future.result()

    def _plugin(self, reference: str) -> Plugin:
        """The configured provider a resource refers to."""
        urn, _, id = reference.rpartition("::")
        for resource in self._snapshot.resources:
            if resource["urn"] == urn and resource.get("id") == id:
                return self._plugins.configured(urn, id, resource.get("inputs", {}))
        raise TFServingError(f"the state does not hold its provider {urn}")

    def _manager(self, resource: Resource) -> Plugin | ProviderManager | None:
        """Who creates, updates and compares a resource; nobody does for components."""
        if not resource["custom"]:
            return None
        return ProviderManager(self._plugins) if package_of(resource["urn"]) else self._plugin(resource["provider"])

    def _settle(self, goal: pb.RegisterResourceRequest, new: Resource) -> None:
        """Decides what is to be done about a resource, and does it."""
        urn, wanted, manager = new["urn"], new.get("inputs", {}), self._manager(new)
        old = self._snapshot.find(urn, *self._aliases[urn])
        if old and _is_managed(old) and (self._refresh or old.get("refreshBeforeUpdate")):
            refresh = Step("refresh", urn, old)
            refresh.new = old = self._reread(old)
            with self._lock:
                self.steps.append(refresh)
            if old is None:
                self._observer.message("info", "no longer exists; it will be created again", urn)
        recreate = old is not None and bool(old.get("pendingReplacement"))
        before = old.get("inputs", {}) if old and not recreate and not old.get("external") else {}
        for path in goal.ignoreChanges if before else ():
            wanted = props.keep(wanted, before, parse_path(path))
        if props.has_unknown(wanted) and not self.preview:
            raise TFServingError("an input is still unknown although everything it depends on is done")
        new["inputs"] = manager.check(urn, before, wanted, os.urandom(32)) if manager else wanted
        if old is None or old.get("external"):
            return self._make(Step("create", urn, old, new), new)
        diff = Diff(True) if recreate else self._diff(old, new, manager)
        if diff.replace or recreate:
            return self._replace(goal, old, new, diff)
        new |= {key: old[key] for key in ("id", "outputs", "created", "modified", "refreshBeforeUpdate") if key in old}
        if diff.changed or old.get("initErrors"):
            return self._make(Step("update", urn, old, new, diff), new)
        with self._step(Step("same", urn, old, new)):
            return self._snapshot.put(new, old)

    def _diff(self, old: Resource, new: Resource, manager: Plugin | ProviderManager | None) -> Diff:
        if self._replaced & {*new.get("replaceWith", ()), new.get("deletedWith", "")}:
            return Diff(True, replace=["replaceWith" if new.get("replaceWith") else "deletedWith"])
        if self._provider_changed(old, new):
            return Diff(True, replace=["provider"])
        if manager is None:
            diff = input_diff(old.get("inputs", {}), new["inputs"])
        else:
            diff = manager.diff(old, new["inputs"], new.get("ignoreChanges", []))
        return self._with_rules(diff, new.get("replaceOnChanges", []), bool(old.get("initErrors")))

    @staticmethod
    def _with_rules(diff: Diff, rules: list[str], unready: bool) -> Diff:
        """Applies ``replaceOnChanges``; the special path ``#initerror`` stands for a resource that is not ready."""
        paths = [*diff.detailed, *diff.keys] if diff.changed else []
        hit = {path for path in paths + ["#initerror"] * unready for rule in rules if covers(rule, parse_path(path))}
        diff.replace = sorted({*diff.replace, *(str(parse_path(path)[0]) for path in hit)})
        for path in hit & set(diff.detailed):
            kind, own = diff.detailed[path]
            diff.detailed[path] = (kind if kind.endswith("replace") else f"{kind}-replace", own)
        return diff

    def _provider_changed(self, old: Resource, new: Resource) -> bool:
        """Whether another provider than before must own the resource (step_generator.go, providerChanged)."""
        before, after = old.get("provider", ""), new.get("provider", "")
        if before == after or not before or not after:
            return bool(before != after)
        states = {f"{r['urn']}::{r.get('id')}": r for r in self._snapshot.resources}
        diff = ProviderManager(self._plugins).diff(states[before], states[after].get("inputs", {}), [])
        return bool(diff.replace)

    def _make(self, step: Step, new: Resource, keep: bool = False) -> None:
        """Creates or updates; ``keep``: the predecessor stays in the state, to be deleted later."""
        old, manager, timeouts = step.old, self._manager(new), new.get("customTimeouts", {})
        inputs, ignored = new["inputs"], new.get("ignoreChanges", [])
        failed: InitFailedError | None = None
        with self._step(step):
            with self._snapshot.pending("updating" if step.op == "update" else "creating", new):
                try:
                    if manager is None:
                        result = Result("", new.get("outputs", {}))
                    elif step.op == "update" and old is not None:
                        result = manager.update(old, inputs, timeouts.get("update", 0), ignored, self.preview)
                    else:
                        result = manager.create(new["urn"], inputs, timeouts.get("create", 0), self.preview)
                except InitFailedError as error:
                    failed, result = error, error.result
                if manager and not self.preview and not (result.id or new.get("id")):
                    raise TFServingError("the provider returned no id")
            new.setdefault("created", now())
            self._take(new, result)
            if failed:
                new["initErrors"] = failed.reasons
            if keep and old:
                old["delete"] = True
            self._snapshot.put(new, None if keep else old)
            if failed:
                raise failed

    @staticmethod
    def _take(new: Resource, result: Result) -> None:
        """Enters what a provider returned into the state."""
        hidden = new.get("additionalSecretOutputs", ())
        new["outputs"] = {k: props.secret(v) if k in hidden else v for k, v in result.outputs.items()}
        new |= {"refreshBeforeUpdate": result.refresh, "modified": now(), "id": result.id or new.get("id", "")}
        _tidy(new)

    def _replace(self, goal: pb.RegisterResourceRequest, old: Resource, new: Resource, diff: Diff) -> None:
        urn, manager = new["urn"], self._manager(new)
        if old.get("protect") and new.get("protect"):
            raise TFServingError("cannot be replaced, as it is protected: remove `protect` first")
        self._replaced.add(urn)
        if manager:  # its defaults are computed anew
            new["inputs"] = manager.check(urn, {}, props.from_struct(goal.object), os.urandom(32))
        gone = bool(old.get("pendingReplacement"))
        if not gone and (goal.deleteBeforeReplace if goal.deleteBeforeReplaceDefined else diff.delete_first):
            with self._lock:  # nothing that depends on it may register meanwhile
                falling = [*reversed(self._falling_with(old)), old]
                self._condemned |= {resource["urn"] for resource in falling}
                for resource in falling:
                    self._delete(resource, "delete-replaced", comes_back=True)
            gone = True
        with self._step(Step("replace", urn, old, new, diff)):
            self._make(Step("create-replacement", urn, old, new, diff), new, keep=not gone)

    def _falling_with(self, root: Resource) -> list[Resource]:
        """What must be deleted before ``root`` is, as it cannot outlive it (calculateDependentReplacements)."""
        gone, found = {root["urn"]}, []
        for resource in self._snapshot.left:
            if resource["urn"] not in self._seen and not resource.get("delete") and self._falls_with(resource, gone):
                if resource.get("protect"):
                    raise TFServingError(f"cannot be replaced, as {resource['urn']} falls with it and is protected")
                gone.add(resource["urn"])
                found.append(resource)
        return found

    def _falls_with(self, resource: Resource, gone: set[str]) -> bool:
        if not _is_managed(resource):
            return False
        if {resource["provider"].rpartition("::")[0], resource.get("deletedWith", "")} & gone:
            return True
        inputs = resource.get("inputs", {})
        unknown = {k: UNKNOWN_TEXT for k, urns in resource.get("propertyDependencies", {}).items() if gone & set(urns)}
        if not unknown.keys() & inputs.keys():
            return False
        diff = self._plugin(resource["provider"]).diff(resource, inputs | unknown, resource.get("ignoreChanges", []))
        return bool(self._with_rules(diff, resource.get("replaceOnChanges", []), False).replace)

    def _delete(self, old: Resource, op: str, comes_back: bool = False) -> None:
        if op == "delete" and old.get("protect"):
            raise TFServingError("cannot be deleted, as it is protected: remove `protect` and run `up` first")
        with self._step(Step(op, old["urn"], old)):
            left_alone = not _is_managed(old) or old.get("retainOnDelete") or old.get("pendingReplacement")
            if not (self.preview or left_alone or old.get("deletedWith") in self._condemned):
                with self._snapshot.pending("deleting", old):
                    self._plugin(old["provider"]).delete(old, old.get("customTimeouts", {}).get("delete", 0))
            if comes_back:
                old["pendingReplacement"] = True
                self._snapshot.save()
            else:
                self._snapshot.put(None, old)

    def _reread(self, old: Resource) -> Resource | None:
        """The resource as it really is, entered into the state; None if it is gone."""
        inputs, outputs, timeouts = old.get("inputs", {}), old.get("outputs", {}), old.get("customTimeouts", {})
        reasons: list[str] = []
        try:
            plugin = self._plugin(old["provider"])
            result = plugin.read(old["urn"], old["id"], inputs, outputs, timeouts.get("read", 0))
        except InitFailedError as error:
            result, reasons = error.result, error.reasons
            self._observer.message("warning", "\n".join(["is not ready:", *reasons]), old["urn"])
        new = None
        if result is not None:
            new = old | {"inputs": inputs if result.inputs is None else result.inputs, "initErrors": reasons}
            self._take(new, result)
            if (new.get("inputs"), new.get("outputs")) == (inputs, outputs):
                new["modified"] = old.get("modified", "")
        self._snapshot.refreshed(old, new)
        return new


def _is_managed(resource: Resource) -> bool:
    """Whether the resource is its provider's to read, and the stack's to delete."""
    return bool(resource.get("custom") and not resource.get("external") and not package_of(resource["urn"]))


def _tidy(resource: Resource) -> Resource:
    """Drops empty entries, as the CLI does."""
    for key in [
        k for k, v in resource.items() if v in ("", [], {}, False) and k not in ("custom", "inputs", "outputs")
    ]:
        del resource[key]
    return resource
