"""``python -m sandbox.plugins.alicloud``: the plugin process, as the sandbox engine starts it."""

from __future__ import annotations

from sandbox.plugins.alicloud.provider import Alicloud
from sandbox.plugins.server import serve

if __name__ == "__main__":
    serve(Alicloud())
