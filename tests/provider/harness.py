"""The provider as the engine sees it: a plugin process driven over gRPC, a sandbox cloud, and models to publish."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alibabacloud_oss_v2 as oss
import grpc
from alibabacloud_eas20210701.client import Client as EasClient
from alibabacloud_tea_openapi.models import Config as EasConfig
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from provider.clients import Clients, CloudSettings, EasApi
from provider.properties import decode, encode
from tfserving.property_values import Properties

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "plugin" / "pulumi-resource-tfserving"
REGION = "cn-hangzhou"
OWNER = "tf-serving/test"
ENTRYPOINT = "/usr/bin/tf_serving_entrypoint.sh"
_UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 16 << 20),
    ("grpc.absolute_max_metadata_size", 16 << 20),
]


@dataclass
class Engine(engine_pb2_grpc.EngineServicer):
    """The engine's side of the connection: keeps what the provider logs."""

    messages: list[engine_pb2.LogRequest] = field(default_factory=list)

    def Log(self, request: engine_pb2.LogRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.messages.append(request)
        return empty_pb2.Empty()

    def lines(self, severity: int | None = None, ephemeral: bool = False) -> list[str]:
        return [
            message.message
            for message in self.messages
            if message.ephemeral == ephemeral and severity in (None, message.severity)
        ]


@dataclass
class Failed(Exception):
    """A gRPC error of the provider, with the state that came with it."""

    code: grpc.StatusCode
    message: str
    partial: provider_pb2.ErrorResourceInitFailed | None
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def outputs(self) -> Properties:
        assert self.partial is not None, "no partial state"
        return decode(self.partial.properties, self.kind)


class Plugin:
    """One plugin process, as the engine drives it, with properties in the form of :mod:`provider.properties`."""

    def __init__(self, engine: Engine, address: str, launcher: Path = LAUNCHER, cwd: Path | None = None) -> None:
        self.engine = engine
        self.process = subprocess.Popen(
            [str(launcher), "--logtostderr", "-v=3", address],
            cwd=cwd or Path("/"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.strip().isdigit(), f"{line!r} {self.process.stderr and self.process.stderr.read()}"
        self.channel = grpc.insecure_channel(f"127.0.0.1:{line.strip()}", options=_UNLIMITED)
        self.stub = provider_pb2_grpc.ResourceProviderStub(self.channel)
        self.stub.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address=address), timeout=60)

    def configure(self, **config: Any) -> None:
        self.call("Configure", provider_pb2.ConfigureRequest(args=encode(config), acceptSecrets=True))

    def call(self, method: str, request: Any, timeout: float = 120) -> Any:
        try:
            return getattr(self.stub, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            partial = None
            for key, value in error.trailing_metadata() or ():
                if key == "grpc-status-details-bin":
                    for detail in status_pb2.Status.FromString(value).details:
                        partial = provider_pb2.ErrorResourceInitFailed()
                        assert detail.Unpack(partial)
            raise Failed(error.code(), error.details(), partial, getattr(request, "type", "")) from None

    def check(self, kind: str, news: Properties, olds: Properties | None = None) -> tuple[Properties, dict[str, str]]:
        request = provider_pb2.CheckRequest(
            **_named(kind), news=encode(news, _token(kind)), olds=encode(olds or {}, _token(kind))
        )
        answer = self.call("Check", request)
        return decode(answer.inputs, _token(kind)), {failure.property: failure.reason for failure in answer.failures}

    def diff(self, kind: str, old_inputs: Properties, outputs: Properties, news: Properties, **options: Any) -> Any:
        request = provider_pb2.DiffRequest(
            **_named(kind),
            id="id",
            old_inputs=encode(old_inputs, _token(kind)),
            olds=encode(outputs, _token(kind)),
            news=encode(news, _token(kind)),
            **options,
        )
        return self.call("Diff", request)

    def create(self, kind: str, inputs: Properties, **options: Any) -> tuple[str, Properties]:
        answer = self.call(
            "Create", provider_pb2.CreateRequest(**_named(kind), properties=encode(inputs, _token(kind)), **options)
        )
        return answer.id, decode(answer.properties, _token(kind))

    def read(self, kind: str, id_: str, inputs: Properties, outputs: Properties) -> tuple[str, Properties, Properties]:
        request = provider_pb2.ReadRequest(
            **_named(kind),
            id=id_,
            inputs=encode(inputs, _token(kind)) if inputs else None,
            properties=encode(outputs, _token(kind)),
        )
        answer = self.call("Read", request)
        return answer.id, decode(answer.inputs, _token(kind)), decode(answer.properties, _token(kind))

    def update(
        self, kind: str, id_: str, old_inputs: Properties, outputs: Properties, news: Properties, **options: Any
    ) -> Properties:
        request = provider_pb2.UpdateRequest(
            **_named(kind),
            id=id_,
            old_inputs=encode(old_inputs, _token(kind)),
            olds=encode(outputs, _token(kind)),
            news=encode(news, _token(kind)),
            **options,
        )
        return decode(self.call("Update", request).properties, _token(kind))

    def delete(self, kind: str, id_: str, inputs: Properties, outputs: Properties) -> None:
        request = provider_pb2.DeleteRequest(
            **_named(kind), id=id_, old_inputs=encode(inputs, _token(kind)), properties=encode(outputs, _token(kind))
        )
        self.call("Delete", request)

    def stop(self) -> int:
        """End the process as the engine does at the end of a run; its exit status."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            status = self.process.wait(10)
        finally:
            self.process.kill()
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
        return status


def _token(kind: str) -> str:
    return f"tfserving:index:{kind}"


def _named(kind: str) -> dict[str, str]:
    token = _token(kind)
    return {"urn": f"urn:pulumi:test::tf-serving::{token}::example", "type": token, "name": "example"}


@dataclass
class Stack:
    """One resource's life as the engine keeps it: id, inputs and outputs after each operation."""

    plugin: Plugin
    kind: str
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)

    def up(self, news: Properties, **options: Any) -> str:
        """Refresh, then bring the resource to ``news``; what was done: ``create``, ``update`` or ``same``."""
        news, failures = self.plugin.check(self.kind, news, self.inputs)
        assert not failures, failures
        if self.id:
            self.refresh()
        if not self.id:
            self._keep(lambda: self.plugin.create(self.kind, news, **options), news)
            return "create"
        if self.diff(news).changes == provider_pb2.DiffResponse.DIFF_NONE:
            self.inputs = news
            return "same"
        self._keep(
            lambda: (self.id, self.plugin.update(self.kind, self.id, self.inputs, self.outputs, news, **options)), news
        )
        return "update"

    def _keep(self, operation: Callable[[], tuple[str, Properties]], news: Properties) -> None:
        try:
            self.id, self.outputs = operation()
        except Failed as error:
            if error.partial is not None:
                self.id, self.outputs, self.inputs = error.partial.id, error.outputs, news
            raise
        self.inputs = news

    def diff(self, news: Properties) -> Any:
        return self.plugin.diff(self.kind, self.inputs, self.outputs, news)

    def refresh(self) -> dict[str, Any]:
        """Read what is there; the paths an ``up`` of the same program would change, with the kind of change."""
        declared = self.inputs
        self.id, inputs, outputs = self.plugin.read(self.kind, self.id, self.inputs, self.outputs)
        if not self.id:
            self.inputs, self.outputs = {}, {}
            return {"gone": True}
        self.inputs, self.outputs = inputs, outputs
        found = self.plugin.diff(self.kind, inputs, outputs, declared)
        return {path: detail.kind for path, detail in found.detailedDiff.items()}

    def destroy(self) -> None:
        self.plugin.delete(self.kind, self.id, self.inputs, self.outputs)
        self.id = ""


def config(endpoint: str) -> dict[str, str]:
    return {
        "region": REGION,
        "easEndpoint": endpoint,
        "ossEndpoint": endpoint,
        "protocol": "HTTP",
        "accessKey": "sandbox",
        "secretKey": "sandbox",
    }


@dataclass
class Cloud:
    """A sandbox cloud in a process of its own, with a bucket for these tests."""

    endpoint: str
    oss: Any
    bucket: str = "provider-tests"

    def eas(self) -> EasApi:
        """The EAS API, past the stack: what somebody does in the console."""
        settings = CloudSettings(REGION, self.endpoint, self.endpoint, "HTTP", "sandbox", "sandbox")
        return Clients(settings, threading.Event()).eas

    def stop(self, service: str) -> None:
        """Stop a service as somebody does in the console."""
        settings = EasConfig(
            access_key_id="sandbox",
            access_key_secret="sandbox",
            region_id=REGION,
            endpoint=self.endpoint,
            protocol="HTTP",
        )
        EasClient(settings).stop_service(REGION, service)

    def put(self, key: str, content: bytes | str) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.oss.put_object(oss.PutObjectRequest(bucket=self.bucket, key=key, body=body))

    def get(self, key: str) -> str:
        return self.get_bytes(key).decode()

    def get_bytes(self, key: str) -> bytes:
        return bytes(self.oss.get_object(oss.GetObjectRequest(bucket=self.bucket, key=key)).body.content)

    def delete(self, key: str) -> None:
        self.oss.delete_object(oss.DeleteObjectRequest(bucket=self.bucket, key=key))

    def unfinished_parts(self, prefix: str) -> set[tuple[str, int]]:
        """Parts of multipart uploads that are not complete, by key and part number."""
        uploads = self.oss.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=self.bucket, prefix=prefix))
        return {
            (upload.key, part.part_number)
            for upload in uploads.uploads or ()
            for part in self.oss.list_parts(
                oss.ListPartsRequest(bucket=self.bucket, key=upload.key, upload_id=upload.upload_id)
            ).parts
            or ()
        }

    def keys(self, prefix: str = "") -> list[str]:
        listed = self.oss.list_objects_v2(oss.ListObjectsV2Request(bucket=self.bucket, prefix=prefix, max_keys=1000))
        return [item.key for item in listed.contents or ()]


@dataclass
class LocalModels:
    """A directory of models as a project has it."""

    store: Path
    directory: Path

    def add(self, model: str, version: int, content: int | None = None) -> Path:
        target = self.directory / model / str(version)
        shutil.copytree(self.store / str(content or version), target)
        return target

    def add_broken(self, model: str, version: int) -> Path:
        target = self.add(model, version, 1)
        (target / "saved_model.pb").write_bytes(b"\x0a\xff\xff not a graph")
        return target

    def digests(self, model: str) -> dict[str, str]:
        from tfserving import manifest

        return {path.name: manifest.build(path).digest for path in sorted((self.directory / model).iterdir())}

    def inputs(self, model: str, bucket: str, root: str) -> Properties:
        return {
            "name": model,
            "bucket": bucket,
            "prefix": f"{root}{model}/",
            "owner": OWNER,
            "source": str(self.directory / model),
            "versions": self.digests(model),
        }
