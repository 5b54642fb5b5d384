"""A model server for tests of everything around it: takes TF Serving's flags, starts in a fraction of a second, echoes.

HTTP answers a JSON description of the request. gRPC methods are named for what they do. ``--model_name`` picks the
behaviour at start: ``exits``, ``hangs``, ``slow``; anything else starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

healthy = True
released = threading.Event()
flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        length = self.headers.get("Content-Length")
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(length or 0))
        if "/crash" in self.path:
            os._exit(3)
        global healthy
        if "/toggle" in self.path:
            healthy = not healthy
        if "/health" in self.path and not healthy:
            self.path = "/status/500"
        if "/release" in self.path:
            released.set()
        if "/sleep" in self.path:
            time.sleep(float(self.path.rpartition("/")[2]))
        if "/broken" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"part")
            self.wfile.flush()
            self.close_connection = True
            return
        if "/stream" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(5):
                self.wfile.write(b"2\r\n%d\n\r\n" % number)
                self.wfile.flush()
                released.wait(120)
            self.wfile.write(b"0\r\n\r\n")
            return
        status = int(self.path.rpartition("/")[2]) if "/status/" in self.path else 200
        text = json.dumps(
            {
                "pid": os.getpid(),
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("latin-1") if len(body) < 10_000 else len(body),
                "flags": flags,
                "env": {k: v for k, v in os.environ.items() if "SANDBOX" in k or k.startswith("TEST_")},
                "arguments": sys.argv[1:],
            }
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Answered-By", str(os.getpid()))
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer

    def log_message(self, format: str, *args: object) -> None:
        print("request", self.command, self.path, flush=True)


def start_grpc(port: int) -> object:
    import grpc

    class Anything(grpc.GenericRpcHandler):
        def service(self, details):  # type: ignore[no-untyped-def]
            method = details.method.rpartition("/")[2]
            if method in ("Stream", "Chat"):
                return grpc.stream_stream_rpc_method_handler(self.stream)
            return grpc.unary_unary_rpc_method_handler(getattr(self, method.lower()))

        def echo(self, request, context):  # type: ignore[no-untyped-def]
            context.send_initial_metadata((("x-answered-by", str(os.getpid())),))
            return request

        def describe(self, request, context):  # type: ignore[no-untyped-def]
            described = {k: v if isinstance(v, str) else v.hex() for k, v in context.invocation_metadata()}
            described["remaining"] = str(context.time_remaining())
            described["pid"] = str(os.getpid())
            return json.dumps(described).encode()

        def fail(self, request, context):  # type: ignore[no-untyped-def]
            context.set_trailing_metadata((("x-trailer", "kept"), ("grpc-status-details-bin", b"\x08\x03details")))
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: x")

        def sleep(self, request, context):  # type: ignore[no-untyped-def]
            time.sleep(float(request))
            return b"slept"

        def crash(self, request, context):  # type: ignore[no-untyped-def]
            os._exit(3)

        def stream(self, requests, context):  # type: ignore[no-untyped-def]
            for request in requests:
                yield request
                yield request.upper()

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(20), options=unlimited)
    server.add_generic_rpc_handlers((Anything(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def main() -> None:
    name = flags.get("model_name", "")
    print("starting", flush=True)
    if name == "exits":
        print("Failed to start server. Error: INVALID_ARGUMENT: no such model", flush=True)
        sys.exit(255)
    if name == "hangs":
        print("waiting for the model", flush=True)
        threading.Event().wait()
    if name == "slow":
        time.sleep(0.5)
    grpc_port, rest_port = int(flags.get("port", 8500)), int(flags.get("rest_api_port", 0))
    servers: list[object] = []
    if grpc_port and os.environ.get("TEST_GRPC"):
        servers.append(start_grpc(grpc_port))
    stop = threading.Event()
    if os.environ.get("TEST_IGNORES_TERM"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if rest_port:
        try:
            server = ThreadingHTTPServer(("127.0.0.1", rest_port), Handler)
        except OSError:  # as TensorFlow Serving, which goes on without
            print(f"Failed to start HTTP Server at 127.0.0.1:{rest_port}", flush=True)
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
    print("running", flush=True)
    stop.wait()


main()
