"""What to ask a Prometheus of TensorFlow Serving's counters: the expressions of alerts, dashboard and commands.

Names and labels, with the file of TensorFlow Serving (``tensorflow_serving/``) or TensorFlow (``tensorflow/``) that
declares them. The server writes ``/`` as ``:`` (``util/prometheus_exporter.cc``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from tfserving.metrics import LATENCY, REQUESTS

RUNTIME: Final = ":tensorflow:serving:runtime_latency"
QUEUED: Final = ":tensorflow:serving:batching_session:queuing_latency"
BATCHES: Final = ":tensorflow:serving:batching_session:wrapped_run_count"
LOAD_ATTEMPTS: Final = ":tensorflow:cc:saved_model:load_attempt_count"
LOAD_TIME: Final = ":tensorflow:cc:saved_model:load_latency"

METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    REQUESTS: ("tensorflow_serving/servables/tensorflow/util.cc", ("model_name", "status")),
    LATENCY: ("tensorflow_serving/servables/tensorflow/util.cc", ("model_name", "API", "entrypoint")),
    RUNTIME: ("tensorflow_serving/servables/tensorflow/util.cc", ("model_name", "API", "runtime")),
    QUEUED: ("tensorflow_serving/batching/batching_session.cc", ("thread_pool_name",)),
    BATCHES: ("tensorflow_serving/batching/batching_session.cc", ()),
    LOAD_ATTEMPTS: ("tensorflow/cc/saved_model/loader.cc", ("model_path", "status")),
    LOAD_TIME: ("tensorflow/cc/saved_model/loader.cc", ("model_path",)),
}
"""Every metric of the server that is asked for: where it is declared, and its labels.

There is none for the state of a model, for the version that answered, and for labels of versions.
"""

TARGET_LABELS: Final = ("namespace", "service", "pod", "job", "instance")
"""Labels that a Prometheus gives what it scrapes by a ServiceMonitor."""

GOOD: Final = "OK|success"
"""The status of an answered request, of today's servers and of releases before 2.11."""


def matching(*matchers: str) -> str:
    """Label matchers in braces; empty ones are left out."""
    return "{" + ",".join(each for each in matchers if each) + "}"


def quoted(text: str) -> str:
    """A text as a string of PromQL."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def as_regex(text: str) -> str:
    """A text as a string of PromQL that a regular expression matches by itself and nothing else."""
    return quoted(re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text))


def requests(selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """Requests per second."""
    return f"sum by ({', '.join(by)}) (rate({REQUESTS}{matching(selector)}[{window}]))"


def errors(selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """Refused and failed requests per second."""
    failed = matching(selector, f'status!~"{GOOD}"')
    return f"sum by ({', '.join(by)}) (rate({REQUESTS}{failed}[{window}]))"


def error_percent(selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """Errors of a hundred requests. Nothing where there were no requests."""
    return f"100 * {errors(selector, window, by)} / {requests(selector, window, by)}"


def quantile(share: float, metric: str, selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """A quantile of a histogram, in its own unit."""
    buckets = f"{metric}_bucket{matching(selector)}"
    return f"histogram_quantile({share:g}, sum by ({', '.join(('le', *by))}) (rate({buckets}[{window}])))"


def latency_ms(share: float, selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """A quantile of the latency of answers, in milliseconds; questions about a model's state have no ``API``."""
    answers = ",".join(each for each in (selector, 'API!=""') if each)
    return f"{quantile(share, LATENCY, answers, window, by)} / 1000"


def average_ms(metric: str, selector: str, window: str, by: Sequence[str] = ("model_name",)) -> str:
    """The average of a histogram of microseconds, of answers, in milliseconds.

    The server writes sums with six digits (``absl::StrCat`` of a double): of a replica that has run for long, a step of
    the sum is as much as many answers. Hence :func:`slower_on_average` for a limit.
    """
    answers = matching(selector, 'API!=""')
    parts = [f"sum by ({', '.join(by)}) (rate({metric}_{part}{answers}[{window}]))" for part in ("sum", "count")]
    return f"{parts[0]} / {parts[1]} / 1000"


def slower_on_average(metric: str, selector: str, window: str, limit: str) -> str:
    """The average where it is above a limit in milliseconds, and at least one answer was: buckets have every digit."""
    return f"{average_ms(metric, selector, window)} > {limit} and {latency_ms(1, selector, window)} > {limit}"


def loads(selector: str, window: str) -> str:
    """How often a version was loaded, or failed to, by its directory.

    A version has a counter of its own, which begins at 1 with its first load: ``increase`` does not see that. What was
    not there before the window is counted whole.
    """
    counter = f"{LOAD_ATTEMPTS}{matching(selector)}"
    return f"sum by (model_path) (({counter} unless {counter} offset {window}) or increase({counter}[{window}]))"


def failed_loads(selector: str, window: str) -> str:
    """How often loading a version failed, by its directory.

    A counter that is new begins at 1, which ``increase`` does not see: hence the second part.
    """
    failed = f"{LOAD_ATTEMPTS}{matching(selector, 'status=' + quoted('fail'))}"
    new = f"sum by (model_path) ({failed} unless {failed} offset {window})"
    return f"(sum by (model_path) (increase({failed}[{window}])) > 0) or ({new} > 0)"


def no_replica(selector: str) -> str:
    """1 where a Prometheus reaches no replica; nothing where it reaches one."""
    return f"absent(up{matching(selector)} == 1)"
