"""Provider plugins: finding, starting and calling them (pulumirpc.ResourceProvider). None is ever downloaded."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import IO, Any, cast

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import errors_pb2, provider_pb2_grpc, status_pb2
from pulumi.runtime.proto import provider_pb2 as pb

from sandbox import paths
from sandbox.engine import config
from sandbox.engine import properties as props
from sandbox.engine.properties import Properties
from sandbox.engine.state import Resource
from tfserving.errors import TFServingError
from tfserving.property_path import parse_path
from tfserving.property_values import UNKNOWN_TEXT

CHANNEL = [("grpc.max_receive_message_length", 400 << 20), ("grpc.enable_http_proxy", 0)]
KINDS = ("add", "add-replace", "delete", "delete-replace", "update", "update-replace")


class ProviderError(TFServingError):
    """A provider refused or failed an operation."""


class InitFailedError(ProviderError):
    """A resource was made or changed but is not ready; its partial state must be kept.

    Attributes:
        result: what the operation would have returned.
        reasons: why it is not ready.
    """

    def __init__(self, detail: pb.ErrorResourceInitFailed) -> None:
        inputs = props.from_struct(detail.inputs) if detail.HasField("inputs") else None
        self.result = Result(detail.id, props.from_struct(detail.properties), detail.refresh_before_update, inputs)
        self.reasons = list(detail.reasons)
        super().__init__("\n".join(self.reasons) or "the resource is not ready")


@dataclass
class Result:
    """What create, update and read return. ``refresh``: read it again before every later update."""

    id: str
    outputs: Properties
    refresh: bool = False
    inputs: Properties | None = None


@dataclass
class Diff:
    """What a provider says of old and new. ``detailed``: property path to kind (``update-replace``) and input diff."""

    changed: bool = False
    replace: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    detailed: dict[str, tuple[str, bool]] = field(default_factory=dict)
    delete_first: bool = False


def input_diff(old: Properties, new: Properties) -> Diff:
    """The diff where no provider has a say: of the inputs."""
    found = {path: (kind, True) for path, kind in props.difference(old, new).items()}
    return Diff(bool(found), keys=sorted({str(parse_path(path)[0]) for path in found}), detailed=found)


def package_of(urn: str) -> str:
    """The package a provider resource is for; empty for any other resource."""
    kind = _named(urn)["type"]
    return kind.removeprefix("pulumi:providers:") if kind.startswith("pulumi:providers:") else ""


def _named(urn: str) -> dict[str, str]:
    _, _, kind, name = urn.split("::", 3)
    return {"urn": urn, "type": kind.rpartition("$")[2], "name": name}


class Plugin:
    """One plugin process and the provider it serves once configured."""

    def __init__(self, package: str, command: list[str], stack: config.Stack, engine: str) -> None:
        self.package = package
        self._secrets = self._resources = self._previews = self._handshaken = False
        self._configured: tuple[str, str] | None = None
        self._known = True
        self._said: deque[str] = deque(maxlen=20)
        environment, pipe = stack.environment | {"PYTHONPATH": paths.PYTHONPATH}, subprocess.PIPE
        try:
            # Its own session, so that Ctrl-C reaches only the engine. Its stdin ends when the engine does.
            self.process = subprocess.Popen(
                [*command, engine], cwd=stack.root, env=environment, text=True, start_new_session=True,
                stdin=pipe, stdout=pipe, stderr=pipe,
            )  # fmt: skip
        except OSError as error:
            raise ProviderError(f"provider plugin {package} ({command[0]}) cannot start: {error.strerror}") from None
        self._reader = threading.Thread(target=self._said.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        stdout = cast("IO[str]", self.process.stdout)
        port = stdout.readline().strip()
        if not port.isdigit():
            self.close()
            raise ProviderError(f"provider plugin {package} did not start:\n{port}{self._last_words()}".strip())
        threading.Thread(target=self._said.extend, args=(stdout,), daemon=True).start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        hello = pb.ProviderHandshakeRequest(engine_address=engine, configure_with_urn=True, invoke_with_preview=True)
        hello.supports_refresh_before_update = True
        if shaken := self._call("Handshake", hello, optional=True):
            self._handshaken = self._previews = True
            self._secrets, self._resources = shaken.accept_secrets, shaken.accept_resources

    def _last_words(self) -> str:
        self._reader.join(2)
        return "".join(self._said)

    def _call(self, method: str, request: Any, optional: bool = False) -> Any:
        """One call; None if the provider does not implement an optional method."""
        try:
            response = getattr(self._stub, method)(request)
        except grpc.RpcError as error:
            if optional and error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise self._error(error) from None
        if failures := getattr(response, "failures", None):
            raise ProviderError("\n".join(f"{f.property}: {f.reason}" if f.property else f.reason for f in failures))
        return response

    def _error(self, error: Any) -> ProviderError:
        for key, value in error.trailing_metadata() or ():
            for detail in status_pb2.Status.FromString(value).details if key == "grpc-status-details-bin" else ():
                failed = pb.ErrorResourceInitFailed()
                if detail.Unpack(failed):
                    return InitFailedError(failed)
                wrong = errors_pb2.InputPropertiesError()
                if detail.Unpack(wrong):
                    listed = (f"  - {each.property_path}: {each.reason}" for each in wrong.errors)
                    return ProviderError("\n".join([error.details(), *listed]))
        if error.code() is grpc.StatusCode.UNAVAILABLE and self.process.poll() is not None:
            return ProviderError(f"provider plugin {self.package} ended unexpectedly:\n{self._last_words()}".strip())
        return ProviderError(error.details() or f"provider {self.package}: {error.code().name}")

    def _ask(self, method: str, urn: str, like: Properties | None = None, **fields: Any) -> Any:
        """A call about one resource; None from a provider whose settings are unknown (in a preview)."""
        if not self._known:
            return None
        arguments = {k: self._struct(v) if isinstance(v, dict) else v for k, v in fields.items()}
        request = getattr(pb, f"{method}Request")(**arguments, **_named(urn))
        of_provider = package_of(urn) != ""
        try:
            return self._call(f"{method}Config" if of_provider else method, request, optional=of_provider)
        except InitFailedError as error:
            error.result.outputs = self._marked(error.result.outputs, like or {})
            raise

    def _struct(self, value: Properties) -> Any:
        value = value if self._secrets else props.plain(value)
        return props.to_struct(value if self._resources else props.without_references(value))

    def _marked(self, properties: Properties, like: Properties) -> Properties:
        """What a provider returned, with the secrets it was given marked, should it know none."""
        return properties if self._secrets else props.marked(properties, like)

    def _operate(self, method: str, urn: str, inputs: Properties, **fields: Any) -> Result:
        answer = self._ask(method, urn, like=inputs, **fields)
        outputs = self._marked(props.from_struct(answer.properties), inputs)
        return Result(getattr(answer, "id", ""), outputs, answer.refresh_before_update)

    def configure(self, urn: str, id: str, inputs: Properties) -> None:
        """Gives the provider its settings. With unknown ones (in a preview) it stays unconfigured and is not asked.

        A provider that a preview began has its id only in the update: it is told again who it is.
        """
        if self._configured == (urn, id):
            return
        self._configured = (urn, id)
        self._known = not props.has_unknown(inputs)
        if not self._known:
            return
        settings = {k: v for k, v in props.plain(inputs).items() if k != "version"}
        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
        request = pb.ConfigureRequest(
            args=props.to_struct(inputs), variables={f"{self.package}:config:{k}": v for k, v in texts.items()},
            acceptSecrets=True, acceptResources=True, sends_old_inputs=True, sends_old_inputs_to_delete=True,
            id=id, **_named(urn),
        )  # fmt: skip
        answer = self._call("Configure", request)
        if not self._handshaken:
            self._previews = answer.supportsPreview
            self._secrets, self._resources = answer.acceptSecrets, answer.acceptResources

    def check(self, urn: str, old: Properties, new: Properties, seed: bytes) -> Properties:
        """Checked inputs with defaults. Raises ProviderError naming every bad property."""
        answer = self._ask("Check", urn, olds=old, news=new, randomSeed=seed)
        return new if answer is None else self._marked(props.from_struct(answer.inputs), new)

    def diff(self, old: Resource, new: Properties, ignore: list[str]) -> Diff:
        """What changes if a resource in state ``old`` gets the inputs ``new``."""
        inputs, outputs = old.get("inputs", {}), old.get("outputs", {})
        answer = self._ask(
            "Diff", old["urn"], id=old.get("id", ""), olds=outputs, old_inputs=inputs, news=new, ignoreChanges=ignore
        )
        if answer is None:
            return input_diff(inputs, new)
        if answer.changes == pb.DiffResponse.DIFF_UNKNOWN:
            found = input_diff(inputs, new)
        else:
            detailed = {path: (KINDS[d.kind], d.inputDiff) for path, d in answer.detailedDiff.items()}
            found = Diff(answer.changes == pb.DiffResponse.DIFF_SOME, keys=list(answer.diffs), detailed=detailed)
        replacing = {str(parse_path(path)[0]) for path, (kind, _) in found.detailed.items() if "replace" in kind}
        found.replace = sorted({*answer.replaces, *replacing})
        found.delete_first = answer.deleteBeforeReplace
        return found

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> Result:
        """Makes a resource. In a preview, what is known of it beforehand."""
        if preview and not (self._known and self._previews):
            return Result("", inputs if self._known else {})
        return self._operate("Create", urn, inputs, properties=inputs, timeout=timeout, preview=preview)

    def update(self, old: Resource, inputs: Properties, timeout: float, ignore: list[str], preview: bool) -> Result:
        """Changes a resource. In a preview, what is known of it beforehand."""
        if preview and not (self._known and self._previews):
            return Result(old["id"], inputs if self._known else {})
        return self._operate(
            "Update", old["urn"], inputs, id=old["id"], olds=old.get("outputs", {}), old_inputs=old.get("inputs", {}),
            news=inputs, timeout=timeout, ignoreChanges=ignore, preview=preview,
        )  # fmt: skip

    def read(self, urn: str, id: str, inputs: Properties, outputs: Properties, timeout: float) -> Result | None:
        """What is really there, or None if it is gone."""
        answer = self._ask("Read", urn, like=outputs, id=id, inputs=inputs, properties=outputs, timeout=timeout)
        if answer is None or not answer.id:
            return None
        found = self._marked(props.from_struct(answer.inputs), inputs) if answer.HasField("inputs") else None
        outputs = self._marked(props.from_struct(answer.properties), outputs)
        return Result(answer.id, outputs, answer.refresh_before_update, found)

    def delete(self, old: Resource, timeout: float) -> None:
        """Removes a resource."""
        inputs, outputs = old.get("inputs", {}), old.get("outputs", {})
        self._ask("Delete", old["urn"], id=old["id"], properties=outputs, old_inputs=inputs, timeout=timeout)

    def construct(self, request: pb.ConstructRequest) -> pb.ConstructResponse:
        """Has the provider make a component."""
        answer: pb.ConstructResponse = self._call("Construct", request)
        return answer

    def invoke(self, token: str, arguments: Properties, preview: bool) -> Any:
        """Calls a function of the provider; its protobuf answer, None where the provider's settings are unknown."""
        request = pb.InvokeRequest(tok=token, args=self._struct(arguments), preview=preview)
        return self._call("Invoke", request) if self._known else None

    def cancel(self) -> None:
        """Asks the provider to give up what it is doing."""
        self._call("Cancel", empty_pb2.Empty(), optional=True)

    def close(self) -> None:
        """Ends the process: asks first, insists after 5 s."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ProviderManager:
    """Provider resources: what a plugin does for any other resource, the engine does for them."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins

    def check(self, urn: str, old: Properties, new: Properties, seed: bytes) -> Properties:
        """Checked settings (CheckConfig)."""
        return self._plugins.unconfigured(package_of(urn)).check(urn, old, new, seed)

    def diff(self, old: Resource, new: Properties, ignore: list[str]) -> Diff:
        """Whether the provider can go on with other settings, or must be replaced with all it manages (DiffConfig)."""
        return self._plugins.unconfigured(package_of(old["urn"])).diff(old, new, ignore)

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> Result:
        """Configures a new provider."""
        id = UNKNOWN_TEXT if preview else str(uuid.uuid4())
        self._plugins.configured(urn, id, inputs)
        return Result(id, inputs)

    def update(self, old: Resource, inputs: Properties, timeout: float, ignore: list[str], preview: bool) -> Result:
        """Configures the provider anew."""
        self._plugins.configured(old["urn"], old["id"], inputs)
        return Result(old["id"], inputs)


class Plugins:
    """The plugin processes of one run of the engine; a preview and the update after it share them."""

    def __init__(self, stack: config.Stack, engine: str) -> None:
        self._stack, self._engine = stack, engine
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._spare: dict[str, Plugin] = {}
        self._configured: dict[tuple[str, str], Plugin] = {}

    def _command(self, package: str) -> list[str]:
        for entry in ((self._stack.project.get("plugins") or {}).get("providers")) or ():
            if entry.get("name") == package:
                return [str((self._stack.root / str(entry["path"]) / f"pulumi-resource-{package}").resolve())]
        if found := shutil.which(f"pulumi-resource-{package}"):
            return [found]
        if (paths.CODE / "plugins" / package / "__main__.py").exists():
            return [sys.executable, "-m", f"sandbox.plugins.{package}"]
        raise ProviderError(
            f"no plugin for package {package}: Pulumi.yaml names none under plugins.providers, "
            f"pulumi-resource-{package} is not on PATH, and the sandbox has no stand-in for it"
        )

    def unconfigured(self, package: str) -> Plugin:
        """A plugin that can check and compare provider settings."""
        with self._locks[package]:
            if package not in self._spare:
                self._spare[package] = Plugin(package, self._command(package), self._stack, self._engine)
            return self._spare[package]

    def configured(self, urn: str, id: str, inputs: Properties) -> Plugin:
        """The provider with these settings. Raises ProviderError for settings that do not mean loopback."""
        package = package_of(urn)
        key = (urn, json.dumps(inputs, sort_keys=True))
        problems = config.refusals(props.plain(inputs), f"{package}:", package in config.PACKAGES)
        if package == "kubernetes":
            problems += config.cluster_refusals(props.plain(inputs))
        if problems:
            raise ProviderError("\n".join(map(str, problems)))
        with self._locks[package]:
            if key not in self._configured:
                self.unconfigured(package).configure(urn, id, inputs)
                self._configured[key] = self._spare.pop(package)
            self._configured[key].configure(urn, id, inputs)
            return self._configured[key]

    def _all(self) -> list[Plugin]:
        return [*self._spare.values(), *self._configured.values()]

    def cancel(self) -> None:
        """Asks every provider to give up what it is doing."""
        for plugin in self._all():
            with contextlib.suppress(ProviderError):
                plugin.cancel()

    def kill(self) -> None:
        """Ends every process now."""
        for plugin in self._all():
            plugin.process.kill()

    def close(self) -> None:
        """Ends every process, all at the same time."""
        for plugin in self._all():
            plugin.process.terminate()
        for plugin in self._all():
            plugin.close()
