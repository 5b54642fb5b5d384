"""A server that serves nothing: it listens where a model server would and says that all is well."""

from __future__ import annotations

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


ports = [int(flag.partition("=")[2]) for flag in sys.argv if flag.startswith(("--port=", "--rest_api_port="))]
for port in ports:
    server = ThreadingHTTPServer((os.environ["TF_SERVING_SANDBOX_HOST"], port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
signal.pause()
