"""Provider plugins: finding, starting and calling them (pulumirpc.ResourceProvider). None is ever downloaded."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto import provider_pb2_grpc, status_pb2

from sandbox.engine import config
from sandbox.engine import properties as props
from sandbox.engine.properties import Properties
from sandbox.engine.state import Resource
from tfserving.errors import TFServingError

CHANNEL = [("grpc.max_receive_message_length", 400 << 20), ("grpc.enable_http_proxy", 0)]
KINDS = ("add", "add-replace", "delete", "delete-replace", "update", "update-replace")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


class ProviderError(TFServingError):
    """A provider refused or failed an operation."""


class InitFailedError(ProviderError):
    """A resource was made or changed but is not ready; its partial state must be kept.

    Attributes:
        result: what the operation would have returned.
        reasons: why it is not ready.
    """

    def __init__(self, detail: pb.ErrorResourceInitFailed) -> None:
        self.reasons = list(detail.reasons)
        self.result = Result(detail.id, props.from_struct(detail.properties), detail.refresh_before_update)
        self.result.inputs = props.from_struct(detail.inputs) if detail.HasField("inputs") else None
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
    return Diff(bool(found), keys=sorted({str(props.parse_path(path)[0]) for path in found}), detailed=found)


class Plugin:
    """One plugin process and the provider it serves once configured."""

    def __init__(self, package: str, command: list[str], stack: config.Stack, engine: str) -> None:
        self.package = package
        self._secrets = self._resources = self._previews = self._handshaken = False
        self._known = True
        self._said: deque[str] = deque(maxlen=20)
        pipe = subprocess.PIPE
        environment = stack.environment | {"PYTHONPATH": str(REPOSITORY)}
        try:
            # Its own session, so that Ctrl-C reaches only the engine. Its stdin ends when the engine does.
            self.process = subprocess.Popen(
                [*command, engine], cwd=stack.root, env=environment, text=True, start_new_session=True,
                stdin=pipe, stdout=pipe, stderr=pipe,
            )  # fmt: skip
        except OSError as error:
            raise ProviderError(f"provider plugin {package} ({command[0]}) cannot start: {error.strerror}") from None
        stdout = cast("IO[str]", self.process.stdout)
        self._reader = threading.Thread(target=self._said.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        port = stdout.readline().strip()
        if not port.isdigit():
            self.close()
            raise ProviderError(f"provider plugin {package} did not start:\n{port}{self._last_words()}".strip())
        threading.Thread(target=self._said.extend, args=(stdout,), daemon=True).start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        request = pb.ProviderHandshakeRequest(
            engine_address=engine,
            configure_with_urn=True,
            supports_refresh_before_update=True,
            invoke_with_preview=True,
        )
        try:
            shaken = self._stub.Handshake(request, timeout=60)
            self._handshaken = self._previews = True
            self._secrets, self._resources = shaken.accept_secrets, shaken.accept_resources
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise self._error(error) from None

    def _last_words(self) -> str:
        self._reader.join(2)
        return "".join(self._said)

    def _error(self, error: Any) -> ProviderError:
        for key, value in error.trailing_metadata() or ():
            for detail in status_pb2.Status.FromString(value).details if key == "grpc-status-details-bin" else ():
                failed = pb.ErrorResourceInitFailed()
                if detail.Unpack(failed):
                    return InitFailedError(failed)
        if error.code() is grpc.StatusCode.UNAVAILABLE and self.process.poll() is not None:
            return ProviderError(f"provider plugin {self.package} ended unexpectedly:\n{self._last_words()}".strip())
        return ProviderError(error.details() or f"provider {self.package}: {error.code().name}")

    def _call(self, method: str, request: Any, optional: bool = False) -> Any:
        try:
            response = getattr(self._stub, method)(request)
        except grpc.RpcError as error:
            if optional and error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise self._error(error) from None
        if failures := getattr(response, "failures", None):
            raise ProviderError("\n".join(f"{f.property}: {f.reason}" if f.property else f.reason for f in failures))
        return response

    def _struct(self, value: Properties) -> Any:
        value = value if self._secrets else props.plain(value)
        return props.to_struct(value if self._resources else props.without_references(value))

    def _result(self, response: Any, inputs: Properties) -> Result:
        outputs = props.from_struct(response.properties)
        if not self._secrets:
            props.mark_like(outputs, inputs)
        return Result(getattr(response, "id", ""), outputs, response.refresh_before_update)

    def configure(self, urn: str, inputs: Properties) -> None:
        """Gives the provider its settings. With unknown ones (in a preview) it stays unconfigured and is not asked."""
        self._known = not props.has_unknown(inputs)
        if self._known:
            settings = {k: v for k, v in props.plain(inputs).items() if k != "version"}
            texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
            request = pb.ConfigureRequest(
                args=props.to_struct(inputs), variables={f"{self.package}:config:{k}": v for k, v in texts.items()},
                acceptSecrets=True, acceptResources=True, sends_old_inputs=True, sends_old_inputs_to_delete=True,
                **_named(urn),
            )  # fmt: skip
            answer = self._call("Configure", request)
            if not self._handshaken:
                self._previews = answer.supportsPreview
                self._secrets, self._resources = answer.acceptSecrets, answer.acceptResources

    def check(self, urn: str, old: Properties, new: Properties, seed: bytes = b"") -> Properties:
        """Checked inputs with defaults. Raises ProviderError naming every bad property."""
        request = pb.CheckRequest(olds=self._struct(old), news=self._struct(new), randomSeed=seed, **_named(urn))
        method = "CheckConfig" if is_provider(urn) else "Check"
        response = self._call(method, request, optional=is_provider(urn)) if self._known else None
        if response is None:
            return new
        checked = props.from_struct(response.inputs)
        if not self._secrets:
            props.mark_like(checked, new)
        return checked

    def diff(self, old: Resource, new: Properties, ignore: list[str]) -> Diff:
        """What changes if a resource in state ``old`` gets the inputs ``new``."""
        urn = old["urn"]
        inputs, outputs = self._struct(old.get("inputs", {})), self._struct(old.get("outputs", {}))
        request = pb.DiffRequest(
            id=old.get("id", ""),
            olds=outputs,
            old_inputs=inputs,
            news=self._struct(new),
            ignoreChanges=ignore,
            **_named(urn),
        )
        method = "DiffConfig" if is_provider(urn) else "Diff"
        answer = self._call(method, request, optional=is_provider(urn)) if self._known else None
        if answer is None or answer.changes == pb.DiffResponse.DIFF_UNKNOWN:
            found = input_diff(old.get("inputs", {}), new)
        else:
            detailed = {path: (KINDS[d.kind], d.inputDiff) for path, d in answer.detailedDiff.items()}
            found = Diff(answer.changes == pb.DiffResponse.DIFF_SOME, keys=list(answer.diffs), detailed=detailed)
        if answer is not None:
            replacing = {str(props.parse_path(p)[0]) for p, (kind, _) in found.detailed.items() if "replace" in kind}
            found.replace = sorted({*answer.replaces, *replacing})
            found.delete_first = answer.deleteBeforeReplace
        return found

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> Result:
        """Makes a resource. In a preview, what is known of it beforehand."""
        if preview and not (self._known and self._previews):
            return Result("", inputs if self._known else {})
        request = pb.CreateRequest(properties=self._struct(inputs), timeout=timeout, preview=preview, **_named(urn))
        return self._result(self._call("Create", request), inputs)

    def update(self, old: Resource, inputs: Properties, timeout: float, ignore: list[str], preview: bool) -> Result:
        """Changes a resource. In a preview, what is known of it beforehand."""
        if preview and not (self._known and self._previews):
            return Result(old["id"], inputs if self._known else {})
        request = pb.UpdateRequest(
            id=old["id"], olds=self._struct(old.get("outputs", {})), old_inputs=self._struct(old.get("inputs", {})),
            news=self._struct(inputs), timeout=timeout, ignoreChanges=ignore, preview=preview, **_named(old["urn"]),
        )  # fmt: skip
        return self._result(self._call("Update", request), inputs)

    def read(self, urn: str, id: str, inputs: Properties, outputs: Properties, timeout: float) -> Result | None:
        """What is really there, or None if it is gone."""
        states = {"properties": self._struct(outputs), "inputs": self._struct(inputs)}
        response = self._call("Read", pb.ReadRequest(id=id, timeout=timeout, **states, **_named(urn)))
        if not response.id:
            return None
        result = self._result(response, outputs)
        if response.HasField("inputs"):
            result.inputs = props.from_struct(response.inputs)
            if not self._secrets:
                props.mark_like(result.inputs, inputs)
        return result

    def delete(self, old: Resource, timeout: float) -> None:
        """Removes a resource."""
        outputs, inputs = self._struct(old.get("outputs", {})), self._struct(old.get("inputs", {}))
        request = pb.DeleteRequest(
            id=old["id"], properties=outputs, old_inputs=inputs, timeout=timeout, **_named(old["urn"])
        )
        self._call("Delete", request)

    def invoke(self, token: str, arguments: Properties, preview: bool) -> Any:
        """Calls a function of the provider; the protobuf answer. Unknown where the provider's settings are."""
        if not self._known:
            return None
        return self._call("Invoke", pb.InvokeRequest(tok=token, args=self._struct(arguments), preview=preview))

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


def is_provider(urn: str) -> bool:
    """Whether a URN names a provider resource."""
    return package_of(urn) != ""


def package_of(urn: str) -> str:
    """The package a provider resource is for, empty for any other resource."""
    kind = urn.split("::")[2].rpartition("$")[2]
    return kind.removeprefix("pulumi:providers:") if kind.startswith("pulumi:providers:") else ""


def _named(urn: str) -> dict[str, Any]:
    _, _, kind, name = urn.split("::", 3)
    return {"urn": urn, "type": kind.rpartition("$")[2], "name": name}


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
        if (REPOSITORY / "sandbox" / "plugins" / package).is_dir():
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

    def configured(self, urn: str, inputs: Properties) -> Plugin:
        """The provider with these settings. Raises ProviderError for settings that do not mean loopback."""
        package = package_of(urn)
        key = (package, json.dumps(inputs, sort_keys=True))
        if problems := config.refused_provider_config(package, props.plain(inputs), f"provider {package}"):
            raise ProviderError("\n".join(map(str, problems)))
        with self._locks[package]:
            if key not in self._configured:
                plugin = self.unconfigured(package)
                plugin.configure(urn, inputs)
                self._configured[key] = self._spare.pop(package)
            return self._configured[key]

    def all(self) -> list[Plugin]:
        """Every running plugin."""
        return [*self._spare.values(), *self._configured.values()]

    def cancel(self) -> None:
        """Asks every provider to give up what it is doing."""
        for plugin in self.all():
            with contextlib.suppress(ProviderError):
                plugin.cancel()

    def kill(self) -> None:
        """Ends every process now."""
        for plugin in self.all():
            plugin.process.kill()

    def close(self) -> None:
        """Ends every process: asks first, insists after 5 s."""
        for plugin in self.all():
            plugin.process.terminate()
        for plugin in self.all():
            plugin.close()
