"""Components that a provider makes: what the program asked for becomes the provider's ``Construct`` call.

The rules are those of pkg/resource/deploy/source_eval.go: the provider registers the component and its children with
the same monitor that the program talks to, and answers with the component's URN and outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto import resource_pb2

from sandbox.engine import properties as props
from sandbox.engine.config import Stack
from sandbox.engine.state import Resource
from tfserving.errors import TFServingError
from tfserving.property_values import RESOURCE, SIGNATURE

GET_RESOURCE = "pulumi:pulumi:getResource"
"""The function of the engine itself by which a component is looked up that another call has made."""


def construct_request(
    goal: resource_pb2.RegisterResourceRequest, stack: Stack, monitor: str, *, preview: bool, parallel: int
) -> pb.ConstructRequest:
    """What a provider is asked for.

    Args:
        goal: what the program registered.
        stack: the stack it is in.
        monitor: ``host:port`` of the engine's ResourceMonitor.
        preview: whether nothing is to be made.
        parallel: operations at a time.

    Raises:
        TFServingError: an option is used that this engine does not know.
    """
    unsupported = {
        "transforms": goal.transforms, "resource hooks": goal.hooks.ByteSize(),
        "replacement_trigger": goal.HasField("replacement_trigger"),
    }  # fmt: skip
    for name, used in unsupported.items():
        if used:
            raise TFServingError(f"{name}: not supported by the sandbox engine; deploy with the Pulumi CLI")
    request = pb.ConstructRequest(
        project=stack.project_name, stack=stack.name, organization="organization", config=stack.config,
        configSecretKeys=sorted(stack.secret_keys), dryRun=preview, parallel=parallel, monitorEndpoint=monitor,
        type=goal.type, name=goal.name, parent=goal.parent, inputs=goal.object, providers=goal.providers,
        dependencies=goal.dependencies, aliases=goal.aliases, protect=goal.protect,
        additionalSecretOutputs=goal.additionalSecretOutputs, deletedWith=goal.deletedWith,
        replace_with=goal.replace_with, deleteBeforeReplace=goal.deleteBeforeReplace, ignoreChanges=goal.ignoreChanges,
        replaceOnChanges=goal.replaceOnChanges, retainOnDelete=goal.retainOnDelete, accepts_output_values=True,
    )  # fmt: skip
    for key, needed in goal.propertyDependencies.items():
        request.inputDependencies[key].urns.extend(needed.urns)
    if goal.HasField("customTimeouts"):
        given = goal.customTimeouts
        request.customTimeouts.create, request.customTimeouts.update = given.create, given.update
        request.customTimeouts.delete = given.delete
    return request


def referred_to(goal: resource_pb2.RegisterResourceRequest) -> set[str]:
    """URNs of the resources among the inputs. A component is one of them without being a dependency."""
    return {
        str(value["urn"])
        for value in props.walk(props.from_struct(goal.object))
        if isinstance(value, dict) and value.get(SIGNATURE) == RESOURCE
    }


def look_up(resources: Iterable[Resource], request: Any) -> struct_pb2.Struct:
    """What :data:`GET_RESOURCE` answers: URN, id and outputs of a resource of this run.

    Args:
        resources: those this run has dealt with.
        request: a ``ResourceInvokeRequest``.

    Raises:
        TFServingError: there is none.
    """
    urn = props.from_struct(request.args).get("urn")
    for resource in resources:
        if resource["urn"] == urn:
            return props.to_struct({"urn": urn, "id": resource.get("id", ""), "state": resource.get("outputs", {})})
    raise TFServingError(f"unknown resource {urn}")
