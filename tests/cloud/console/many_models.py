"""A server that answers for any number of models and loads nothing, for tests of the console.

Every model has versions 1 and 2, stable and canary. ``model_0007`` fails to load version 2. Answers hold numbers that
JavaScript would round. ``--grpc_max_threads`` says for how many models there are counters.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = os.environ.get("TF_SERVING_SANDBOX_HOST", "127.0.0.1")
LARGE = {1: "9223372036854775807", 2: "9223372036854775806"}
LABELS = {"stable": 1, "canary": 2}
FAILS = "model_0007"

flags = dict(argument.removeprefix("--").partition("=")[::2] for argument in sys.argv[1:])
PATH = re.compile(
    r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>\w+))?(?P<rest>/metadata|:predict|)"
)
TENSOR = {"dtype": "DT_INT64", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}, "name": "x:0"}
COUNTERS = """\
# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{{model_name="{name}",status="OK"}} 10
:tensorflow:serving:request_count{{model_name="{name}",status="INVALID_ARGUMENT"}} 2
# TYPE :tensorflow:serving:request_latency histogram
"""
LIMITS = [(f"{10 * 1.8**step:g}", min(10, step)) for step in range(28)] + [("+Inf", 10)]
BUCKETS = "".join(
    f':tensorflow:serving:request_latency_bucket{{{{model_name="{{name}}",API="predict",le="{limit}"}}}} {count}\n'
    for limit, count in LIMITS
)


def names() -> list[str]:
    return [f"model_{number:04}" for number in range(int(flags.get("grpc_max_threads", 0)))]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.found()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def found(self) -> tuple[int, bytes]:
        if self.path == "/monitoring/prometheus/metrics":
            return 200, "".join((COUNTERS + BUCKETS).format(name=name) for name in names()).encode()
        match = PATH.fullmatch(self.path)
        if match is None:
            return 404, b'{"error": "not found"}'
        version = int(match["version"] or LABELS.get(match["label"] or "", 2))
        if match["rest"] == "/metadata":
            signature = {"inputs": {"x": TENSOR}, "outputs": {"y": TENSOR}, "method_name": "tensorflow/serving/predict"}
            spec = {"name": match["model"], "signature_name": "", "version": str(version)}
            metadata = {"signature_def": {"signature_def": {"serving_default": signature}}}
            return 200, json.dumps({"model_spec": spec, "metadata": metadata}).encode()
        if match["rest"] == ":predict":
            return 200, f'{{"predictions": [[{LARGE[version]}, 1.50, 0.10000000149011612]]}}'.encode()
        failed = match["model"] == FAILS
        good = {"error_code": "OK", "error_message": ""}
        bad = {"error_code": "DATA_LOSS", "error_message": "the file is cut off"}
        states = [
            {"version": "2", "state": "END" if failed else "AVAILABLE", "status": bad if failed else good},
            {"version": "1", "state": "AVAILABLE", "status": good},
        ]
        return 200, json.dumps({"model_version_status": states}).encode()

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server = ThreadingHTTPServer((HOST, int(flags["rest_api_port"])), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"token {flags.get('model_name', '')} in the log", flush=True)
    stop.wait()


if __name__ == "__main__":
    main()
