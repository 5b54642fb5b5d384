"""The provider's settings, and its connection to one API server on loopback."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from sandbox.engine.config import is_loopback
from sandbox.engine.properties import Properties
from sandbox.plugins.server import Provider
from tfserving.errors import CloudError, TFServingError
from tfserving.kubeconfig import is_content

_SECONDS = 60


class ApiServerError(CloudError):
    """The API server refused a call. ``code`` is the HTTP status."""


@dataclass(frozen=True)
class Answer:
    """One answer of the API server.

    Attributes:
        body: the object, or the list.
        warnings: what the API server warns of: deprecated versions, unknown fields and the like.
    """

    body: dict[str, Any]
    warnings: tuple[str, ...]


class ApiServer(Provider):
    """Settings as the real provider takes them: kubeconfig (path or content), context, namespace, enablePatchForce."""

    name = "kubernetes"

    def __init__(self) -> None:
        super().__init__()
        self.namespace = "default"
        self.force = False
        self._client: Any = None
        self._plurals: dict[str, dict[str, tuple[str, bool]]] = {}

    def configure(self, settings: Properties) -> None:
        """Takes the settings and refuses every cluster that is not on this machine.

        Raises:
            TFServingError: the kubeconfig cannot be used, or means another machine.
        """
        self.namespace = str(settings.get("namespace") or "default")
        self.force = settings.get("enablePatchForce") in (True, "true")
        kubeconfig, context = str(settings.get("kubeconfig") or ""), settings.get("context") or None
        if not kubeconfig:
            raise TFServingError("kubeconfig is not set, and the stand-in does not guess a cluster")
        load: Any = config  # untyped
        try:
            if is_content(kubeconfig):
                self._client = load.new_client_from_config_dict(yaml.safe_load(kubeconfig), context=context)
            else:
                self._client = load.new_client_from_config(kubeconfig, context=context, persist_config=False)
        except Exception as error:  # whatever is wrong with it
            raise TFServingError(f"the kubeconfig cannot be used: {' '.join(str(error).split())}") from None
        host = self._client.configuration.host
        if not is_loopback(urlsplit(host).netloc):
            raise TFServingError(f"the cluster is {host}: the sandbox engine deploys to loopback only")
        self._client.configuration.proxy = None

    def path(self, api_version: str, kind: str, namespace: str, name: str) -> str:
        """The path of one object. Which kinds there are, the API server says."""
        prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        if api_version not in self._plurals:
            found = self.call("GET", prefix).body["resources"]
            self._plurals[api_version] = {
                item["kind"]: (item["name"], bool(item["namespaced"])) for item in found if "/" not in item["name"]
            }
        plural, namespaced = self._plurals[api_version][kind]
        return f"{prefix}/namespaces/{namespace}/{plural}/{name}" if namespaced else f"{prefix}/{plural}/{name}"

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
        """One request.

        Raises:
            ApiServerError: the API server refused.
            CloudError: it did not answer.
        """
        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
        url = f"{self._client.configuration.host}{path}"
        try:
            response = self._client.call_api(method, url, headers, body, _request_timeout=_SECONDS)
            raw = response.read()
        except (client.ApiException, HTTPError, OSError) as error:
            raise CloudError(f"no answer from the API server: {' '.join(str(error).split())}") from None
        if not 200 <= response.status < 300:  # which the client makes an exception only where it makes models
            raise ApiServerError(_message(response.status, response.reason, raw), str(response.status))
        found = response.headers
        warnings = [_warning(value) for name, value in found.items() if name.lower() == "warning"]
        return Answer(json.loads(raw or b"{}"), tuple(warnings))


def _message(status: int, reason: str, body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{status} {reason}"


def _warning(header: str) -> str:
    """The text in ``299 - "text"``."""
    return header.partition('"')[2].rpartition('"')[0] or header
