"""``alicloud:vpc/network:Network`` and ``alicloud:vpc/switch:Switch``, as the real provider handles them."""

from __future__ import annotations

from typing import Any, ClassVar

from sandbox.engine.properties import Properties
from sandbox.plugins.alicloud.account import Account
from sandbox.plugins.alicloud.common import misfits, sdk_call
from sandbox.plugins.server import InputError, ResourceType, State
from tfserving.errors import CloudError


class _Piece(ResourceType):
    """A piece of a network: what its describing call tells is its state."""

    known: ClassVar[dict[str, Any]]
    """Types of the inputs by name."""

    def __init__(self, provider: Account) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        """Refuses inputs the stand-in does not know."""
        if failures := list(misfits(new, self.known, "")):
            raise InputError(*failures)
        return new

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        """Asks the API; None where the piece is gone."""
        found = self._describe(state.id)
        if found is None:
            return None
        return {key: found[key] for key in state.inputs if key in found}, {**state.outputs, **found}

    def _outputs(self, id_: str, inputs: Properties) -> Properties:
        return {**inputs, **(self._describe(id_) or {})}

    def _describe(self, id_: str) -> Properties | None:
        try:
            return self._ask(id_)
        except CloudError as error:
            if "NotFound" in error.code:
                return None
            raise

    def _ask(self, id_: str) -> Properties:
        raise NotImplementedError


class Network(_Piece):
    """A VPC."""

    known: ClassVar[dict[str, Any]] = {"vpcName": str, "cidrBlock": str, "description": str}
    computed: ClassVar[tuple[str, ...]] = ("status", "routerId")

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """CreateVpc."""
        request = models().CreateVpcRequest(
            region_id=self._provider.region,
            vpc_name=inputs.get("vpcName"),
            cidr_block=inputs.get("cidrBlock"),
            description=inputs.get("description"),
        )
        id_ = sdk_call("create a VPC", self._provider.vpc.create_vpc, request).body.vpc_id
        return id_, self._outputs(id_, inputs)

    def update(self, state: State, inputs: Properties) -> Properties:
        """ModifyVpcAttribute, the address block included."""
        request = models().ModifyVpcAttributeRequest(
            region_id=self._provider.region,
            vpc_id=state.id,
            vpc_name=inputs.get("vpcName"),
            cidr_block=inputs.get("cidrBlock"),
            description=inputs.get("description"),
        )
        sdk_call(f"change VPC {state.id}", self._provider.vpc.modify_vpc_attribute, request)
        return self._outputs(state.id, inputs)

    def delete(self, state: State) -> None:
        """DeleteVpc."""
        request = models().DeleteVpcRequest(region_id=self._provider.region, vpc_id=state.id)
        sdk_call(f"delete VPC {state.id}", self._provider.vpc.delete_vpc, request, missing_is_fine=True)

    def _ask(self, id_: str) -> Properties:
        request = models().DescribeVpcAttributeRequest(region_id=self._provider.region, vpc_id=id_)
        body = sdk_call(f"read VPC {id_}", self._provider.vpc.describe_vpc_attribute, request).body
        return {
            "vpcName": body.vpc_name,
            "cidrBlock": body.cidr_block,
            "description": body.description or "",
            "status": body.status,
            "routerId": body.vrouter_id,
        }


class Switch(_Piece):
    """A vSwitch."""

    known: ClassVar[dict[str, Any]] = {
        "vswitchName": str,
        "vpcId": str,
        "zoneId": str,
        "cidrBlock": str,
        "description": str,
    }
    replace_on: ClassVar[frozenset[str]] = frozenset({"vpcId", "zoneId", "cidrBlock"})
    delete_first: ClassVar[bool] = True  # two with one address block cannot be
    computed: ClassVar[tuple[str, ...]] = ("status",)

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        """CreateVSwitch."""
        request = models().CreateVSwitchRequest(
            region_id=self._provider.region,
            v_switch_name=inputs.get("vswitchName"),
            vpc_id=inputs.get("vpcId"),
            zone_id=inputs.get("zoneId"),
            cidr_block=inputs.get("cidrBlock"),
            description=inputs.get("description"),
        )
        id_ = sdk_call("create a vSwitch", self._provider.vpc.create_vswitch, request).body.v_switch_id
        return id_, self._outputs(id_, inputs)

    def update(self, state: State, inputs: Properties) -> Properties:
        """ModifyVSwitchAttribute."""
        request = models().ModifyVSwitchAttributeRequest(
            region_id=self._provider.region,
            v_switch_id=state.id,
            v_switch_name=inputs.get("vswitchName"),
            description=inputs.get("description"),
        )
        sdk_call(f"change vSwitch {state.id}", self._provider.vpc.modify_vswitch_attribute, request)
        return self._outputs(state.id, inputs)

    def delete(self, state: State) -> None:
        """DeleteVSwitch."""
        request = models().DeleteVSwitchRequest(region_id=self._provider.region, v_switch_id=state.id)
        sdk_call(f"delete vSwitch {state.id}", self._provider.vpc.delete_vswitch, request, missing_is_fine=True)

    def _ask(self, id_: str) -> Properties:
        request = models().DescribeVSwitchAttributesRequest(region_id=self._provider.region, v_switch_id=id_)
        body = sdk_call(f"read vSwitch {id_}", self._provider.vpc.describe_vswitch_attributes, request).body
        return {
            "vswitchName": body.v_switch_name,
            "vpcId": body.vpc_id,
            "zoneId": body.zone_id,
            "cidrBlock": body.cidr_block,
            "description": body.description or "",
            "status": body.status,
        }


def vpc_of(provider: Account, vswitch: str) -> str:
    """The VPC a vSwitch is in, as the real provider looks it up."""
    request = models().DescribeVSwitchAttributesRequest(region_id=provider.region, v_switch_id=vswitch)
    found = sdk_call(f"read vSwitch {vswitch}", provider.vpc.describe_vswitch_attributes, request)
    return str(found.body.vpc_id)


def models() -> Any:
    """The SDK's models. Loading them takes seconds, which stacks without a cluster need not spend."""
    from alibabacloud_vpc20160428 import models as found

    return found
