"""The services a program talks to (ResourceMonitor, Engine), and the program's process."""

from __future__ import annotations

import contextlib
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, cast

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from sandbox.engine import properties as props
from sandbox.engine.config import Stack
from sandbox.engine.construction import GET_RESOURCE
from sandbox.engine.deployment import Deployment, Observer, SkippedError, StepError
from sandbox.engine.plugins import CHANNEL
from sandbox.engine.policies import PolicyPack
from sandbox.engine.runtimes import start_of
from sandbox.engine.state import Resource
from sandbox.engine.urns import STACK_TYPE
from tfserving.errors import TFServingError

FEATURES = (
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_OUTPUT_VALUES,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
)
"""The SDK itself refuses options that need a feature not listed here."""
SEVERITIES = ("debug", "info", "warning", "error")


class Monitor(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """Both services of one run of the engine; ``deployment`` is the run they belong to at the moment."""

    def __init__(self, stack: Stack, observer: Observer, parallel: int) -> None:
        self.deployment: Deployment | None = None
        self.policies: PolicyPack | None = None
        self._stack, self._observer, self._parallel = stack, observer, parallel
        name = f"{stack.project_name}-{stack.name}"
        self._root = f"urn:pulumi:{stack.name}::{stack.project_name}::{STACK_TYPE}::{name}"
        self._program: subprocess.Popen[str] | None = None
        # Every resource the SDK has in flight holds a thread here; the deployment limits how many work at a time.
        self._server = grpc.server(ThreadPoolExecutor(parallel * 4 + 16), options=CHANNEL)
        resource_pb2_grpc.add_ResourceMonitorServicer_to_server(self, self._server)
        engine_pb2_grpc.add_EngineServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def kill(self) -> None:
        """Ends the program now."""
        if self._program and self._program.poll() is None:
            self._program.kill()
            self._program.wait()

    def close(self) -> None:
        """Ends the program, the policy pack and the server."""
        self.kill()
        if self.policies:
            self.policies.close()
        self._server.stop(None)

    def run_program(self, deployment: Deployment) -> bool:
        """Runs the project's program against a deployment. What it prints becomes messages.

        Raises:
            TFServingError: it cannot start.
        """
        settings = {
            "project": self._stack.project_name, "stack": self._stack.name, "organization": "organization",
            "monitor": self.address, "engine": self.address, "parallel": self._parallel,
            "dry_run": deployment.preview, "root_directory": str(self._stack.root),
            "config": self._stack.config, "secret_keys": sorted(self._stack.secret_keys),
        }  # fmt: skip
        directory = self._stack.root / str(self._stack.project.get("main") or ".")
        start = start_of(self._stack, settings, directory)
        try:
            program = self._program = subprocess.Popen(
                start.command, cwd=directory, env=start.environment, text=True, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise TFServingError(f"the program cannot start: {error.filename}: {error.strerror}") from None
        stdin, stdout = cast("IO[str]", program.stdin), cast("IO[str]", program.stdout)
        with contextlib.suppress(BrokenPipeError):  # it says itself why it ended at once
            stdin.write(start.input)
            stdin.flush()
        for line in stdout:
            self._observer.message("info", line.rstrip(), self._root)
        return program.wait() == 0

    # ResourceMonitor

    def _current(self, context: Any) -> Deployment:
        if self.deployment is not None and not self.deployment.cancelled.is_set():
            return self.deployment
        context.abort(grpc.StatusCode.UNAVAILABLE, "the run was cancelled")
        raise AssertionError("abort raises")

    def GetDeploymentInfo(self, request: Any, context: Any) -> resource_pb2.DeploymentInfo:
        """What kind of run this is, and what the engine supports."""
        return resource_pb2.DeploymentInfo(
            project=self._stack.project_name, stack=self._stack.name, config=self._stack.config,
            dryRun=self._current(context).preview, parallel=self._parallel,
            configSecretKeys=sorted(self._stack.secret_keys), supportedFeatures=FEATURES,
        )  # fmt: skip

    def RegisterResource(self, request: Any, context: Any) -> resource_pb2.RegisterResourceResponse:
        """A failed or skipped resource is an answer, not an error: the program goes on with what does not need it."""
        deployment = self._current(context)
        urn = deployment.urn(request.type, request.name, request.parent)
        response = resource_pb2.RegisterResourceResponse(urn=urn)
        for violation in self.policies.check(request, urn) if self.policies and not request.remote else ():
            self._observer.message("error" if violation.is_mandatory else "warning", str(violation), urn)
        try:
            if request.remote:
                made = deployment.construct(request, self.address)
                response.urn = made.urn
                response.object.CopyFrom(made.state)
                for key, needed in made.stateDependencies.items():
                    response.propertyDependencies[key].urns.extend(needed.urns)
                return response
            state = deployment.register(request)
        except (StepError, SkippedError) as error:
            if not request.supportsResultReporting:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))
            response.result = resource_pb2.Result.FAIL  # its outputs are unknown to the program from now on
            return response
        response.id = state.get("id", "")
        response.object.CopyFrom(_outputs(state))
        return response

    def RegisterResourceOutputs(self, request: Any, context: Any) -> empty_pb2.Empty:
        """Outputs of a component or of the stack."""
        self._current(context).register_outputs(request.urn, props.from_struct(request.outputs))
        return empty_pb2.Empty()

    def ReadResource(self, request: Any, context: Any) -> resource_pb2.ReadResourceResponse:
        """``Resource.get``."""
        try:
            state = self._current(context).read(request)
        except TFServingError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return resource_pb2.ReadResourceResponse(urn=state["urn"], properties=_outputs(state))

    def Invoke(self, request: Any, context: Any) -> resource_pb2.ResourceInvokeResponse:
        """A provider's function, passed through."""
        deployment = self._current(context)
        response = resource_pb2.ResourceInvokeResponse()
        try:
            if request.tok == GET_RESOURCE:
                getattr(response, "return").CopyFrom(deployment.look_up(request))
                return response
            plugin = deployment.provider(request.provider, request.tok, request.version)
            answer = plugin.invoke(request.tok, props.from_struct(request.args), deployment.preview)
        except TFServingError as error:
            context.abort(grpc.StatusCode.UNKNOWN, f"{request.tok}: {error}")
        if answer is not None:
            getattr(response, "return").CopyFrom(getattr(answer, "return"))
        return response

    def Call(self, request: Any, context: Any) -> None:
        """Methods of component packages."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.tok}: methods are not supported by the sandbox engine")

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> empty_pb2.Empty:
        """The program is done; nothing more will be asked of it."""
        return empty_pb2.Empty()

    # Engine

    def Log(self, request: Any, context: Any) -> empty_pb2.Empty:
        """A message of the program or of a provider."""
        urn = request.urn if request.urn.count("::") >= 3 else self._root
        self._observer.message(SEVERITIES[request.severity], request.message, urn, request.ephemeral)
        return empty_pb2.Empty()


def _outputs(state: Resource) -> Any:
    return props.to_struct(state.get("outputs", {}) if state["custom"] else {})
