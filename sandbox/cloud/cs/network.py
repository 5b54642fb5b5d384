"""VPC 2016-04-28 and the security groups of ECS 2014-05-26 (RPC): as much of them as a cluster and its nodes need.

Addresses are kept and nothing is routed. Sources: ``alibabacloud_vpc20160428`` (names), the API reference (codes),
``terraform-provider-alicloud`` (which fields it reads, and that "gone" is an HTTP 404).
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from sandbox.cloud.cs.store import Record, Store, new_id
from sandbox.cloud.errors import ApiError, request_id
from sandbox.cloud.openapi import openapi_call

VPC, ECS = "2016-04-28", "2014-05-26"
_TAG = re.compile(r"Tag\.(\d+)\.(Key|Value)")


class NetworkProduct:
    """VPCs, vSwitches and security groups.

    Args:
        store: where its records are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls: dict[str, Callable[[Mapping[str, str]], Record]] = {
            "CreateVpc": self._create_vpc,
            "DescribeVpcAttribute": self._describe_vpc,
            "DescribeVpcs": self._list_vpcs,
            "ModifyVpcAttribute": self._modify_vpc,
            "DeleteVpc": self._delete_vpc,
            "DescribeRouteTableList": self._route_tables,
            "CreateVSwitch": self._create_vswitch,
            "DescribeVSwitchAttributes": self._describe_vswitch,
            "DescribeVSwitches": self._list_vswitches,
            "ModifyVSwitchAttribute": self._modify_vswitch,
            "DeleteVSwitch": self._delete_vswitch,
            "TagResources": self._tag,
            "UnTagResources": self._untag,
            "DescribeNatGateways": self._nat_gateways,
            "CreateSecurityGroup": self._create_group,
            "DescribeSecurityGroups": self._list_groups,
            "DescribeSecurityGroupAttribute": self._describe_group,
            "ModifySecurityGroupPolicy": self._modify_group_policy,
            "DeleteSecurityGroup": self._delete_group,
        }

    def matches(self, request: web.Request) -> bool:
        """Calls of these products that are offered; others are refused by name further on."""
        call = openapi_call(request)
        return call is not None and call.version in (VPC, ECS) and call.action in self._calls

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Raises:
        ApiError: the call is refused.
        """
        call = openapi_call(request)
        form = await request.post()
        parameters = {**{key: str(value) for key, value in form.items()}, **request.query}
        answer = self._calls[call.action if call else ""](parameters)
        return web.json_response({**answer, "RequestId": request_id()})

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    # ---- VPCs ------------------------------------------------------------------------------------------------------

    def _create_vpc(self, given: Mapping[str, str]) -> Record:
        block = _block(given.get("CidrBlock") or "172.16.0.0/12")
        id_ = new_id("vpc-")
        record = {
            "VpcId": id_,
            "VpcName": given.get("VpcName", ""),
            "Description": given.get("Description", ""),
            "CidrBlock": str(block),
            "RegionId": given.get("RegionId", ""),
            "Status": "Available",
            "CreationTime": _now(),
            "IsDefault": False,
            "ResourceGroupId": given.get("ResourceGroupId") or "rg-acfmsandbox",
            "VRouterId": new_id("vrt-"),
            "EnabledIpv6": False,
            "Ipv6CidrBlock": "",
            "Tags": {"Tag": _tags(given)},
        }
        self._store.put("vpcs", id_, record)
        return {"VpcId": id_, "VRouterId": record["VRouterId"], "ResourceGroupId": record["ResourceGroupId"]}

    def _vpc(self, id_: str) -> Record:
        found = self._store.get("vpcs", id_)
        if found is None:
            raise ApiError(404, "InvalidVpcId.NotFound", f"VPC {id_} does not exist.")
        return found

    def _describe_vpc(self, given: Mapping[str, str]) -> Record:
        record = self._vpc(given.get("VpcId", ""))
        inside = [found["VSwitchId"] for found in self._store.all("vswitches") if found["VpcId"] == record["VpcId"]]
        empty: Record = {
            "SecondaryCidrBlocks": {"SecondaryCidrBlock": []},
            "UserCidrs": {"UserCidr": []},
            "Ipv6CidrBlocks": {"Ipv6CidrBlock": []},
        }
        return {**record, **empty, "VSwitchIds": {"VSwitchId": inside}}

    def _list_vpcs(self, given: Mapping[str, str]) -> Record:
        found = [item for item in self._store.all("vpcs") if given.get("VpcId", item["VpcId"]) == item["VpcId"]]
        return {"Vpcs": {"Vpc": found}, "TotalCount": len(found), "PageNumber": 1, "PageSize": 50}

    def _modify_vpc(self, given: Mapping[str, str]) -> Record:
        record = self._vpc(given.get("VpcId", ""))
        changed = {key: given[key] for key in ("VpcName", "Description", "CidrBlock") if key in given}
        if "CidrBlock" in changed:
            changed["CidrBlock"] = str(_block(changed["CidrBlock"]))
        self._store.put("vpcs", record["VpcId"], {**record, **changed})
        return {}

    def _delete_vpc(self, given: Mapping[str, str]) -> Record:
        id_ = self._vpc(given.get("VpcId", ""))["VpcId"]
        if any(found["VpcId"] == id_ for found in self._store.all("vswitches")):
            raise ApiError(400, "DependencyViolation.VSwitch", f"VPC {id_} has vSwitches.")
        if any(found["VpcId"] == id_ for found in self._store.all("groups")):
            raise ApiError(400, "DependencyViolation.SecurityGroup", f"VPC {id_} has security groups.")
        self._store.remove("vpcs", id_)
        return {}

    def _route_tables(self, given: Mapping[str, str]) -> Record:
        tables = [
            {
                "VpcId": vpc["VpcId"],
                "RouterId": vpc["VRouterId"],
                "RouteTableId": "vtb-" + vpc["VpcId"][4:],
                "RouteTableType": "System",
                "RouteTableName": "",
                "Description": "",
                "Status": "Available",
            }
            for vpc in self._store.all("vpcs")
            if given.get("VpcId", vpc["VpcId"]) == vpc["VpcId"]
        ]
        return {"RouterTableList": {"RouterTableListType": tables}, "TotalCount": len(tables), "PageNumber": 1}

    def _nat_gateways(self, _given: Mapping[str, str]) -> Record:
        return {"NatGateways": {"NatGateway": []}, "TotalCount": 0, "PageNumber": 1, "PageSize": 50}

    # ---- vSwitches -------------------------------------------------------------------------------------------------

    def _create_vswitch(self, given: Mapping[str, str]) -> Record:
        vpc = self._vpc(given.get("VpcId", ""))
        if not given.get("ZoneId"):
            raise ApiError(400, "MissingParameter", "ZoneId is needed.")
        block = _block(given.get("CidrBlock", ""))
        if not block.subnet_of(_block(vpc["CidrBlock"])):
            raise ApiError(400, "InvalidCidrBlock.Malformed", f"{block} is not a part of {vpc['CidrBlock']}.")
        for other in self._store.all("vswitches"):
            if other["VpcId"] == vpc["VpcId"] and block.overlaps(_block(other["CidrBlock"])):
                raise ApiError(400, "InvalidCidrBlock.Overlapped", f"{block} overlaps {other['VSwitchId']}.")
        id_ = new_id("vsw-")
        record = {
            "VSwitchId": id_,
            "VSwitchName": given.get("VSwitchName", ""),
            "Description": given.get("Description", ""),
            "VpcId": vpc["VpcId"],
            "ZoneId": given["ZoneId"],
            "CidrBlock": str(block),
            "Ipv6CidrBlock": "",
            "Status": "Available",
            "CreationTime": _now(),
            "IsDefault": False,
            "AvailableIpAddressCount": max(block.num_addresses - 4, 0),
            "Tags": {"Tag": _tags(given)},
        }
        self._store.put("vswitches", id_, record)
        return {"VSwitchId": id_}

    def _vswitch(self, id_: str) -> Record:
        found = self._store.get("vswitches", id_)
        if found is None:
            raise ApiError(404, "InvalidVSwitchId.NotFound", f"vSwitch {id_} does not exist.")
        return found

    def _describe_vswitch(self, given: Mapping[str, str]) -> Record:
        return self._vswitch(given.get("VSwitchId", ""))

    def _list_vswitches(self, given: Mapping[str, str]) -> Record:
        found = [
            item
            for item in self._store.all("vswitches")
            if all(given.get(key, item[key]) == item[key] for key in ("VpcId", "VSwitchId", "ZoneId"))
        ]
        return {"VSwitches": {"VSwitch": found}, "TotalCount": len(found), "PageNumber": 1, "PageSize": 50}

    def _modify_vswitch(self, given: Mapping[str, str]) -> Record:
        record = self._vswitch(given.get("VSwitchId", ""))
        changed = {key: given[key] for key in ("VSwitchName", "Description") if key in given}
        self._store.put("vswitches", record["VSwitchId"], {**record, **changed})
        return {}

    def _delete_vswitch(self, given: Mapping[str, str]) -> Record:
        id_ = self._vswitch(given.get("VSwitchId", ""))["VSwitchId"]
        clusters = [found for found in self._store.all("clusters") if not found.get("deleting")]
        users = [found["id"] for found in clusters if id_ in found["sent"].get("vswitch_ids", ())]
        if users:
            raise ApiError(400, "DependencyViolation", f"vSwitch {id_} is used by cluster {users[0]}.")
        self._store.remove("vswitches", id_)
        return {}

    # ---- tags ------------------------------------------------------------------------------------------------------

    def _tagged(self, given: Mapping[str, str]) -> list[tuple[str, Record]]:
        kinds = {"VPC": "vpcs", "VSWITCH": "vswitches", "SECURITYGROUP": "groups"}
        kind = kinds.get(given.get("ResourceType", "").upper(), "")
        if not kind:
            raise ApiError(400, "InvalidResourceType.NotSupport", f"{given.get('ResourceType')!r} cannot be tagged.")
        ids = [value for key, value in given.items() if re.fullmatch(r"ResourceId\.\d+", key)]
        found = [(kind, record) for id_ in ids if (record := self._store.get(kind, id_)) is not None]
        if not found or len(found) < len(ids):
            raise ApiError(404, "InvalidResourceId.NotFound", "There is no such resource.")
        return found

    def _tag(self, given: Mapping[str, str]) -> Record:
        for kind, record in self._tagged(given):
            tags = {tag["Key"]: tag["Value"] for tag in [*record["Tags"]["Tag"], *_tags(given)]}
            self._retag(kind, record, tags)
        return {}

    def _untag(self, given: Mapping[str, str]) -> Record:
        gone = {value for key, value in given.items() if re.fullmatch(r"TagKey\.\d+", key)}
        for kind, record in self._tagged(given):
            kept = {tag["Key"]: tag["Value"] for tag in record["Tags"]["Tag"] if tag["Key"] not in gone}
            self._retag(kind, record, {} if given.get("All") == "true" else kept)
        return {}

    def _retag(self, kind: str, record: Record, tags: Mapping[str, str]) -> None:
        id_ = record.get("VSwitchId") or record.get("SecurityGroupId") or record["VpcId"]
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._store.put(kind, id_, {**record, "Tags": {"Tag": listed}})

    # ---- security groups -------------------------------------------------------------------------------------------

    def _create_group(self, given: Mapping[str, str]) -> Record:
        vpc = self._vpc(given.get("VpcId", ""))
        id_ = new_id("sg-")
        record = {
            "SecurityGroupId": id_,
            "SecurityGroupName": given.get("SecurityGroupName", ""),
            "Description": given.get("Description", ""),
            "SecurityGroupType": given.get("SecurityGroupType") or "normal",
            "VpcId": vpc["VpcId"],
            "ResourceGroupId": given.get("ResourceGroupId", ""),
            "CreationTime": _now(),
            "InnerAccessPolicy": "Accept",
            "Tags": {"Tag": _tags(given)},
        }
        self._store.put("groups", id_, record)
        return {"SecurityGroupId": id_}

    def _group(self, given: Mapping[str, str]) -> Record:
        found = self._store.get("groups", given.get("SecurityGroupId", ""))
        if found is None:
            message = f"Security group {given.get('SecurityGroupId')} does not exist."
            raise ApiError(404, "InvalidSecurityGroupId.NotFound", message)
        return found

    def _list_groups(self, given: Mapping[str, str]) -> Record:
        keys = ("SecurityGroupId", "VpcId")
        found = [item for item in self._store.all("groups") if all(given.get(k, item[k]) == item[k] for k in keys)]
        return {"SecurityGroups": {"SecurityGroup": found}, "TotalCount": len(found), "PageNumber": 1}

    def _describe_group(self, given: Mapping[str, str]) -> Record:
        return {**self._group(given), "Permissions": {"Permission": []}}

    def _modify_group_policy(self, given: Mapping[str, str]) -> Record:
        record = self._group(given)
        changed = {**record, "InnerAccessPolicy": given.get("InnerAccessPolicy", "Accept")}
        self._store.put("groups", record["SecurityGroupId"], changed)
        return {}

    def _delete_group(self, given: Mapping[str, str]) -> Record:
        self._store.remove("groups", self._group(given)["SecurityGroupId"])
        return {}


def _block(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError:
        raise ApiError(400, "InvalidCidrBlock.Malformed", f"{text!r} is not an address block.") from None


def _tags(given: Mapping[str, str]) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, value in given.items():
        if match := _TAG.fullmatch(key):
            found.setdefault(match[1], {"Key": "", "Value": ""})[match[2]] = value
    return [found[number] for number in sorted(found, key=int)]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
