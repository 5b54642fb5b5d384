"""The stand-in for the Kubernetes provider against an API server that refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sandbox.plugins.kubernetes.api_server import ApiServerError
from sandbox.plugins.kubernetes.provider import Kubernetes
from sandbox.plugins.server import State
from tfserving.errors import CloudError

CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
INPUTS = {"metadata": {"name": "models", "namespace": "serving"}, "spec": {}}
STATE = State("urn", "serving/models", INPUTS, INPUTS)


class Refusing(BaseHTTPRequestHandler):
    """Knows its kinds, and has or allows nothing."""

    def _answer(self) -> None:
        kinds = {"resources": [{"kind": "PersistentVolumeClaim", "name": "persistentvolumeclaims", "namespaced": True}]}
        status, body = 404, {"message": 'persistentvolumeclaims "models" not found'}
        if self.path == "/api/v1":
            status, body = 200, kinds
        elif self.command == "PATCH":
            status, body = 422, {"message": "spec.resources: Required value"}
        elif self.path == "/proxy":
            status, body = 502, None
        raw = b"<html>" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_DELETE = do_PATCH = _answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Kubernetes]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [cluster],
        "users": [{"name": "u", "user": {}}],
        "contexts": [context],
    }
    found = Kubernetes()
    found.configure({"kubeconfig": json.dumps(kubeconfig)})
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_object_that_is_not_there_is_read_as_gone(provider: Kubernetes) -> None:
    assert provider.types[CLAIM].read(STATE) is None


def test_deleting_what_is_gone_ends_at_once(provider: Kubernetes) -> None:
    provider.cancelled.set()  # whoever waits fails
    provider.types[CLAIM].delete(STATE)


def test_a_refused_object_fails_with_the_api_servers_words(provider: Kubernetes) -> None:
    with pytest.raises(CloudError, match=r"PersistentVolumeClaim serving/models: spec\.resources: Required value"):
        provider.types[CLAIM].create("urn", INPUTS)


def test_an_answer_without_a_message_is_told_by_its_status(provider: Kubernetes) -> None:
    with pytest.raises(ApiServerError, match="502 Bad Gateway") as caught:
        provider.call("GET", "/proxy")
    assert caught.value.code == "502"
