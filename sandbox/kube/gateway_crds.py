"""The custom resource definitions of the Gateway API: from its Go module, into the API server of a cluster.

Version and checksum are those of ``sandbox/kube/gateway_module``. ``go mod download`` puts the module into Go's own
cache; nothing of it is kept here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from sandbox.kube.gateway_routes import CONTROLLER
from tfserving.errors import TFServingError
from tfserving.kubernetes import gateway_api

MODULE = Path(__file__).with_name("gateway_module")
_PATH = "sigs.k8s.io/gateway-api"
_CRDS = "config/crd/standard"
_READY_SECONDS = 30
PORT = 8080
"""Of the Gateway's listener."""


class GatewayCrdsError(TFServingError):
    """The definitions cannot be had. The message says why."""


def files() -> list[Path]:
    """The definitions of the standard channel, downloaded where they are not yet.

    Raises:
        GatewayCrdsError: Go is missing, or the module cannot be downloaded.
    """
    go = shutil.which("go")
    if go is None:
        raise GatewayCrdsError("Go is not on PATH, so the Gateway API cannot be had: https://go.dev/dl")
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"}
    done = subprocess.run(
        [go, "mod", "download", "-json", _PATH],
        cwd=MODULE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
        directory = Path(found["Dir"]) / _CRDS
    except (ValueError, KeyError):
        reason = " ".join((done.stderr or done.stdout).split())[-300:]
        raise GatewayCrdsError(f"the Go module {_PATH} cannot be downloaded: {reason}") from None
    return sorted(each for each in directory.glob("*.yaml") if each.name != "kustomization.yaml")


def install(kubeconfig: Path) -> None:
    """Puts them into a cluster, and waits until its API server knows them.

    Raises:
        GatewayCrdsError: as :func:`files`.
        kubernetes.client.ApiException: the API server refuses one.
    """
    load: Any = config  # untyped
    api: Any = load.new_client_from_config(str(kubeconfig), persist_config=False)
    api.configuration.proxy = None
    definitions: Any = client.ApiextensionsV1Api(api)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # they are long
    names = []
    for file in files():
        for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader=loader):
            if not document:
                continue
            names.append(document["metadata"]["name"])
            try:
                definitions.create_custom_resource_definition(document)
            except client.ApiException as error:
                if error.status != 409:
                    raise
    for name in names:
        _wait_established(definitions, name)


def make_gateway(kubeconfig: Path) -> None:
    """Makes the GatewayClass and the Gateway ``default/sandbox``; its listener takes routes of every namespace."""
    load: Any = config  # untyped
    api: Any = load.new_client_from_config(str(kubeconfig), persist_config=False)
    api.configuration.proxy = None
    objects: Any = client.CustomObjectsApi(api)
    version = f"{gateway_api.GROUP}/{gateway_api.VERSION}"
    gateway_class = {
        "apiVersion": version,
        "kind": "GatewayClass",
        "metadata": {"name": "sandbox"},
        "spec": {"controllerName": CONTROLLER},
    }
    listener = {"name": "http", "protocol": "HTTP", "port": PORT, "allowedRoutes": {"namespaces": {"from": "All"}}}
    gateway = {
        "apiVersion": version,
        "kind": "Gateway",
        "metadata": {"name": "sandbox", "namespace": "default"},
        "spec": {"gatewayClassName": "sandbox", "listeners": [listener]},
    }
    place = (gateway_api.GROUP, gateway_api.VERSION)
    for create, arguments in (
        (objects.create_cluster_custom_object, ("gatewayclasses", gateway_class)),
        (objects.create_namespaced_custom_object, ("default", "gateways", gateway)),
    ):
        try:
            create(*place, *arguments)
        except client.ApiException as error:
            if error.status != 409:  # a cluster that is started again has them
                raise


def _wait_established(definitions: Any, name: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        conditions = definitions.read_custom_resource_definition(name).status.conditions or ()
        if any(each.type == "Established" and each.status == "True" for each in conditions):
            return
        time.sleep(0.1)
    raise GatewayCrdsError(f"the API server does not know {name} after {_READY_SECONDS} s")
