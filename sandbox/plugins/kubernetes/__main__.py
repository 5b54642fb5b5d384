"""``python -m sandbox.plugins.kubernetes``: the plugin process, as the sandbox engine starts it."""

from __future__ import annotations

from sandbox.plugins.kubernetes.provider import Kubernetes
from sandbox.plugins.server import serve

if __name__ == "__main__":
    serve(Kubernetes())
