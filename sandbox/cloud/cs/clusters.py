"""CS 2015-12-15 (ROA): clusters, node pools and the tasks behind their changes, for the official SDK and Go provider.

Every change is a task that takes a moment. A node pool is described with what was sent and nothing else: the provider
takes whatever is added for a difference. No node is ever bought. The kubeconfig given out for a cluster is that of the
Kubernetes cluster beside this cloud (``python -m sandbox kube start``), where there is one.

Sources: ``alibabacloud_cs20151215`` (paths, names), the API reference, ``terraform-provider-alicloud`` (which fields it
reads, which states it waits for, which codes mean that something is gone).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.cloud.cs.store import Record, Store, new_id
from sandbox.cloud.errors import ApiError, request_id
from sandbox.cloud.openapi import openapi_call

VERSION = "2015-12-15"
TASK_SECONDS = 0.5
"""How long a change takes."""

_ROUTES = (
    ("POST", r"/clusters", "create_cluster"),
    ("GET", r"/api/v1/clusters", "list_clusters"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)", "describe_cluster"),
    ("PUT", r"/api/v2/clusters/(?P<cluster>[^/]+)", "modify_cluster"),
    ("DELETE", r"/clusters/(?P<cluster>[^/]+)", "delete_cluster"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)/resources", "resources"),
    ("GET", r"/k8s/(?P<cluster>[^/]+)/user_config", "user_config"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)/controlplanelog", "control_plane_log"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)/audit", "audit"),
    ("POST", r"/clusters/(?P<cluster>[^/]+)/nodepools", "create_pool"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)/nodepools", "list_pools"),
    ("GET", r"/clusters/(?P<cluster>[^/]+)/nodepools/(?P<pool>[^/]+)", "describe_pool"),
    ("PUT", r"/clusters/(?P<cluster>[^/]+)/nodepools/(?P<pool>[^/]+)", "modify_pool"),
    ("PUT", r"/clusters/(?P<cluster>[^/]+)/nodepools/(?P<pool>[^/]+)/node_config", "modify_node_config"),
    ("DELETE", r"/clusters/(?P<cluster>[^/]+)/nodepools/(?P<pool>[^/]+)", "delete_pool"),
    ("GET", r"/tasks/(?P<task>[^/]+)", "describe_task"),
)
_PATHS = [(method, re.compile(f"{pattern}/?"), name) for method, pattern, name in _ROUTES]
_POOL_PARTS = (
    "nodepool_info",
    "scaling_group",
    "auto_scaling",
    "kubernetes_config",
    "node_config",
    "management",
    "tee_config",
    "auto_mode",
)
_POOL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


class ClusterProduct:
    """CS in the sandbox cloud.

    Args:
        store: where its records are.
        root: the project directory, in which the Kubernetes cluster's kubeconfig is.
    """

    def __init__(self, store: Store, root: Path) -> None:
        self._store = store
        self._kubeconfig = root / ".sandbox" / "kube" / "cluster" / "kubeconfig"

    def matches(self, request: web.Request) -> bool:
        """Calls of this version; those of clients that send none, by their path."""
        call = openapi_call(request)
        if call is None:
            return False
        return call.version == VERSION or (not call.version and self._route(request) is not None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Errors have names in lower case here."""
        identifier = request_id()
        headers = {"x-acs-request-id": identifier}
        try:
            answer, status = await self._answer(request)
        except ApiError as error:
            body = {"code": error.code, "message": error.message, "requestId": identifier, "status": error.status}
            return web.json_response(body, status=error.status, headers=headers)
        if isinstance(answer, dict):
            answer = {**answer, "request_id": identifier}
        return web.json_response(answer, status=status, headers=headers)

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    @staticmethod
    def _route(request: web.Request) -> tuple[str, Mapping[str, str]] | None:
        for method, pattern, name in _PATHS:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return name, match.groupdict()
        return None

    async def _answer(self, request: web.Request) -> tuple[Any, int]:
        found = self._route(request)
        if found is None:
            call = openapi_call(request)
            name = call.name if call else request.path
            code = "UnsupportedAction." + re.sub(r"[^A-Za-z0-9]+", ".", name).strip(".")
            raise ApiError(400, code, f"The sandbox CS does not offer {name}.")
        name, ids = found
        body: Any = {}
        if request.method in ("POST", "PUT"):
            text = await request.text()
            try:
                body = json.loads(text) if text else {}
            except ValueError:
                raise ApiError(400, "InvalidParameter.Body", "The body is not valid JSON.") from None
            if not isinstance(body, dict):
                raise ApiError(400, "InvalidParameter.Body", "The body is not a JSON object.")
        handler: Callable[..., Any] = getattr(self, f"_{name}")
        answer = handler(body, request.query, **ids)
        return answer, 202 if request.method in ("POST", "PUT", "DELETE") else 200

    # ---- tasks -----------------------------------------------------------------------------------------------------

    def _task(self, kind: str, cluster: str, target: str) -> str:
        """Records a change that is done in a moment."""
        id_ = new_id("T-", 24)
        now = time.time()
        self._store.put(
            "tasks",
            id_,
            {
                "task_id": id_,
                "task_type": kind,
                "cluster_id": cluster,
                "target": target,
                "created": now,
                "done": now + TASK_SECONDS,
            },
        )
        return id_

    def _is_done(self, record: Record) -> bool:
        task = self._store.get("tasks", record.get("task", ""))
        return task is None or time.time() >= task["done"]

    def _describe_task(self, _body: Any, _query: Any, task: str) -> Record:
        found = self._store.get("tasks", task)
        if found is None:
            raise ApiError(404, "ErrorTaskNotFound", f"Task {task} is not found.")
        done = time.time() >= found["done"]
        return {
            "task_id": task,
            "task_type": found["task_type"],
            "cluster_id": found["cluster_id"],
            "state": "success" if done else "running",
            "created": _time(found["created"]),
            "updated": _time(time.time()),
            "target": {"id": found["target"], "type": "cluster"},
        }

    # ---- clusters --------------------------------------------------------------------------------------------------

    def _create_cluster(self, body: Record, _query: Any) -> Record:
        name = str(body.get("name") or "")
        if not re.fullmatch(r"[A-Za-z0-9\u4e00-\u9fa5][A-Za-z0-9\u4e00-\u9fa5_-]{0,62}", name):
            raise ApiError(400, "InvalidClusterName", f"The cluster name {name!r} is not valid.")
        if any(found["name"] == name and not found.get("deleting") for found in self._clusters()):
            raise ApiError(400, "ErrorClusterNameConflict", f"Cluster {name} exists already.")
        switches = [str(found) for found in body.get("vswitch_ids") or ()]
        if not switches and not body.get("zone_ids"):
            raise ApiError(400, "InvalidVSwitchIds", "vswitch_ids or zone_ids is needed.")
        for id_ in switches:
            if self._store.get("vswitches", id_) is None:
                raise ApiError(404, "InvalidVSwitchId.NotFound", f"vSwitch {id_} does not exist.")
        id_ = new_id("c", 32)
        task = self._task("cluster_create", id_, id_)
        self._store.put(
            "clusters",
            id_,
            {"id": id_, "name": name, "sent": body, "created": time.time(), "updated": time.time(), "task": task},
        )
        return {"cluster_id": id_, "task_id": task}

    def _clusters(self) -> list[Record]:
        for record in self._store.all("clusters"):
            if record.get("deleting") and self._is_done(record):
                for pool in self._pools(record["id"]):
                    self._store.remove("nodepools", pool["id"])
                self._store.remove("clusters", record["id"])
        return self._store.all("clusters")

    def _cluster(self, id_: str) -> Record:
        found = next((record for record in self._clusters() if record["id"] == id_), None)
        if found is None:
            raise ApiError(404, "ErrorClusterNotFound", f"Cluster {id_} is not found.")
        return found

    def _state(self, record: Record) -> str:
        if record.get("deleting"):
            return "deleting"
        if self._is_done(record):
            return "running"
        return "updating" if record.get("changed") else "initial"

    def _describe_cluster(self, _body: Any, _query: Any, cluster: str) -> Record:
        record = self._cluster(cluster)
        sent = record["sent"]
        urls = {"api_server_endpoint": self._server(), "intranet_api_server_endpoint": self._server()}
        return {
            "cluster_id": cluster,
            "cluster_type": sent.get("cluster_type", "ManagedKubernetes"),
            "profile": sent.get("profile", "Default"),
            "name": record["name"],
            "state": self._state(record),
            "region_id": sent.get("region_id", ""),
            "created": _time(record["created"]),
            "updated": _time(record["updated"]),
            "cluster_spec": sent.get("cluster_spec", "ack.pro.small"),
            "current_version": sent.get("kubernetes_version") or "1.37.2-aliyun.1",
            "init_version": sent.get("kubernetes_version") or "1.37.2-aliyun.1",
            "vpc_id": sent.get("vpcid", ""),
            "vswitch_ids": sent.get("vswitch_ids", []),
            "vswitch_id": ",".join(sent.get("vswitch_ids", [])),
            "security_group_id": sent.get("security_group_id") or "sg-" + cluster[1:21],
            "resource_group_id": sent.get("resource_group_id") or "rg-acfmsandbox",
            "worker_ram_role_name": f"KubernetesWorkerRole-{cluster[1:9]}",
            "deletion_protection": bool(sent.get("deletion_protection", False)),
            "service_cidr": sent.get("service_cidr", "172.21.0.0/20"),
            "container_cidr": sent.get("container_cidr", ""),
            "subnet_cidr": sent.get("container_cidr", ""),
            "node_cidr_mask": str(sent.get("node_cidr_mask") or "25"),
            "proxy_mode": sent.get("proxy_mode", "ipvs"),
            "ip_stack": sent.get("ip_stack", "ipv4"),
            "cluster_domain": sent.get("cluster_domain", "cluster.local"),
            "timezone": sent.get("timezone", "Asia/Shanghai"),
            "tags": sent.get("tags", []),
            "meta_data": "{}",
            "master_url": json.dumps(urls),
            "rrsa_config": {"enabled": bool(sent.get("enable_rrsa", False))},
            "maintenance_window": sent.get("maintenance_window") or {"enable": False},
            "operation_policy": sent.get("operation_policy") or {},
            "auto_mode": {"enable": False},
            "parameters": {},
            "size": 0,
        }

    def _list_clusters(self, _body: Any, query: Mapping[str, str]) -> Record:
        ids = [found["id"] for found in self._clusters() if query.get("name", found["name"]) == found["name"]]
        found = [self._describe_cluster(None, None, id_) for id_ in ids]
        page = {"page_number": 1, "page_size": max(len(found), 1), "total_count": len(found)}
        return {"clusters": found, "page_info": page}

    def _modify_cluster(self, body: Record, _query: Any, cluster: str) -> Record:
        record = self._cluster(cluster)
        self._refuse_while_deleting(record)
        sent = {**record["sent"], **{key: value for key, value in body.items() if key != "cluster_name"}}
        task = self._task("cluster_modify", cluster, cluster)
        name = str(body.get("cluster_name") or record["name"])
        changed = {**record, "name": name, "sent": sent, "updated": time.time(), "task": task, "changed": True}
        self._store.put("clusters", cluster, changed)
        return {"cluster_id": cluster, "task_id": task}

    def _delete_cluster(self, _body: Any, _query: Any, cluster: str) -> Record:
        record = self._cluster(cluster)
        if record["sent"].get("deletion_protection"):
            raise ApiError(400, "DeletionProtectionEnabled", f"Cluster {cluster} is protected against deletion.")
        task = self._task("cluster_delete", cluster, cluster)
        self._store.put("clusters", cluster, {**record, "deleting": True, "task": task})
        return {"cluster_id": cluster, "task_id": task}

    def _resources(self, _body: Any, _query: Any, cluster: str) -> list[Record]:
        self._cluster(cluster)
        return []

    def _user_config(self, _body: Any, _query: Any, cluster: str) -> Record:
        self._cluster(cluster)
        try:
            config = self._kubeconfig.read_text(encoding="utf-8")
        except OSError:
            message = "No Kubernetes cluster runs beside the sandbox cloud: python -m sandbox kube start."
            raise ApiError(404, "ErrorKubeconfigNotFound", message) from None
        return {"config": config, "expiration": _time(time.time() + 365 * 86400)}

    def _control_plane_log(self, _body: Any, _query: Any, cluster: str) -> Record:
        self._cluster(cluster)
        return {"log_project": "", "log_ttl": "0", "components": []}

    def _audit(self, _body: Any, _query: Any, cluster: str) -> Record:
        self._cluster(cluster)
        return {"audit_enabled": False, "sls_project_name": ""}

    def _server(self) -> str:
        try:
            found = re.search(r"server: (https://\S+)", self._kubeconfig.read_text(encoding="utf-8"))
        except OSError:
            return ""
        return found[1] if found else ""

    # ---- node pools ------------------------------------------------------------------------------------------------

    def _pools(self, cluster: str) -> list[Record]:
        for record in self._store.all("nodepools"):
            if record.get("deleting") and self._is_done(record):
                self._store.remove("nodepools", record["id"])
        return [record for record in self._store.all("nodepools") if record["cluster"] == cluster]

    def _pool(self, cluster: str, id_: str) -> Record:
        self._cluster(cluster)
        found = next((record for record in self._pools(cluster) if record["id"] == id_), None)
        if found is None:
            raise ApiError(404, "ErrorNodePoolNotFound", f"Node pool {id_} is not found.")
        return found

    def _create_pool(self, body: Record, _query: Any, cluster: str) -> Record:
        record = self._cluster(cluster)
        self._refuse_while_deleting(record)
        if self._state(record) == "initial":
            raise ApiError(409, "ErrorClusterState", f"Cluster {cluster} is not running yet.")
        sent = {key: body[key] for key in _POOL_PARTS if key in body}
        self._check_pool(cluster, sent, "")
        id_ = new_id("np", 32)
        task = self._task("nodepool_create", cluster, id_)
        self._store.put(
            "nodepools", id_, {"id": id_, "cluster": cluster, "sent": sent, "created": time.time(), "task": task}
        )
        return {"nodepool_id": id_, "task_id": task}

    def _check_pool(self, cluster: str, sent: Record, own: str) -> None:
        info, group, scaling = (sent.get(key) or {} for key in ("nodepool_info", "scaling_group", "auto_scaling"))
        name = str(info.get("name") or "")
        if not _POOL_NAME.fullmatch(name):
            raise ApiError(400, "InvalidNodePoolName", f"The node pool name {name!r} is not valid.")
        others = [pool for pool in self._pools(cluster) if pool["id"] != own and not pool.get("deleting")]
        if any(pool["sent"]["nodepool_info"]["name"] == name for pool in others):
            raise ApiError(400, "NodePoolNameConflict", f"A node pool {name} exists already.")
        if not group.get("instance_types"):
            raise ApiError(400, "InvalidInstanceTypes", "scaling_group.instance_types is needed.")
        if not group.get("vswitch_ids"):
            raise ApiError(400, "InvalidVSwitchIds", "scaling_group.vswitch_ids is needed.")
        for id_ in group["vswitch_ids"]:
            if self._store.get("vswitches", id_) is None:
                raise ApiError(404, "InvalidVSwitchId.NotFound", f"vSwitch {id_} does not exist.")
        if scaling.get("enable"):
            low, high = int(scaling.get("min_instances") or 0), int(scaling.get("max_instances") or 0)
            if not 0 <= low <= high:
                raise ApiError(400, "InvalidAutoScaling", f"The bounds {low} and {high} of auto_scaling are reversed.")
            if scaling.get("type") not in ("cpu", "gpu", "gpushare", "spot"):
                raise ApiError(400, "InvalidAutoScaling", f"{scaling.get('type')!r} is not a type of auto_scaling.")
            if group.get("desired_size") is not None:
                message = "desired_size cannot be set while auto_scaling is enabled."
                raise ApiError(400, "InvalidDesiredSize", message)
        if group.get("spot_strategy") == "SpotWithPriceLimit":
            limited = {item.get("instance_type") for item in group.get("spot_price_limit") or ()}
            if missing := [found for found in group["instance_types"] if found not in limited]:
                raise ApiError(400, "InvalidSpotPriceLimit", f"spot_price_limit has no price for {missing[0]}.")

    def _describe_pool(self, _body: Any, _query: Any, cluster: str, pool: str) -> Record:
        record = self._pool(cluster, pool)
        sent = record["sent"]
        info = {
            **sent["nodepool_info"],
            "nodepool_id": pool,
            "type": sent["nodepool_info"].get("type") or "ess",
            "resource_group_id": sent["nodepool_info"].get("resource_group_id") or "rg-acfmsandbox",
            "region_id": self._cluster(cluster)["sent"].get("region_id", ""),
            "created": _time(record["created"]),
            "is_default": False,
        }
        group = {**sent.get("scaling_group", {}), "scaling_group_id": "asg-" + pool[2:22]}
        if group.get("desired_size") is not None:
            group["desired_size"] = int(group["desired_size"])
        state = "deleting" if record.get("deleting") else "active"
        if state == "active" and not self._is_done(record):
            state = "updating" if record.get("changed") else "initial"
        size = int(group.get("desired_size") or 0)
        status = {"state": state, "total_nodes": size, "serving_nodes": size, "healthy_nodes": size, "failed_nodes": 0}
        return {**sent, "nodepool_info": info, "scaling_group": group, "status": status}

    def _list_pools(self, _body: Any, _query: Any, cluster: str) -> Record:
        self._cluster(cluster)
        return {"nodepools": [self._describe_pool(None, None, cluster, pool["id"]) for pool in self._pools(cluster)]}

    def _modify_pool(self, body: Record, _query: Any, cluster: str, pool: str) -> Record:
        record = self._pool(cluster, pool)
        self._refuse_while_deleting(record)
        sent = dict(record["sent"])
        for part in _POOL_PARTS:
            if isinstance(body.get(part), dict):
                # What is sent replaces what was there, key by key; what is not sent stays.
                sent[part] = {**sent.get(part, {}), **body[part]}
        if (sent.get("auto_scaling") or {}).get("enable") and "desired_size" not in (body.get("scaling_group") or {}):
            sent["scaling_group"] = {k: v for k, v in sent["scaling_group"].items() if k != "desired_size"}
        self._check_pool(cluster, sent, pool)
        task = self._task("nodepool_update", cluster, pool)
        self._store.put("nodepools", pool, {**record, "sent": sent, "task": task, "changed": True})
        return {"nodepool_id": pool, "task_id": task}

    def _modify_node_config(self, body: Record, _query: Any, cluster: str, pool: str) -> Record:
        record = self._pool(cluster, pool)
        self._refuse_while_deleting(record)
        changed = {key: value for key, value in body.items() if key in ("kubelet_config", "os_config")}
        config = {**record["sent"].get("node_config", {})}
        if "kubelet_config" in changed:
            config["kubelet_configuration"] = changed["kubelet_config"]
        task = self._task("nodepool_update", cluster, pool)
        sent = {**record["sent"], "node_config": config}
        self._store.put("nodepools", pool, {**record, "sent": sent, "task": task, "changed": True})
        return {"nodepool_id": pool, "task_id": task}

    def _delete_pool(self, _body: Any, _query: Any, cluster: str, pool: str) -> Record:
        record = self._pool(cluster, pool)
        task = self._task("nodepool_delete", cluster, pool)
        self._store.put("nodepools", pool, {**record, "deleting": True, "task": task})
        return {"task_id": task}

    @staticmethod
    def _refuse_while_deleting(record: Record) -> None:
        if record.get("deleting"):
            raise ApiError(409, "ErrorClusterState", f"{record['id']} is being deleted.")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
