"""The console with hundreds of models: what is asked, sent and drawn stays small however many there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import alibabacloud_oss_v2 as oss
import pytest

from tests.cloud.console import many_models
from tests.cloud.console.browser import Browser
from tests.cloud.console.conftest import BUCKET, ROOT, START, STORAGE
from tests.cloud.eas.conftest import Eas, http, running_eas
from tests.waiting import until
from tfserving import model_config
from tfserving.model_config import Model, ModelServerConfig, VersionPolicy

pytestmark = pytest.mark.slow

TOKEN = "token-that-nobody-shall-see"
LARGEST_LOOK = 20_000
"""Bytes. A page of 20 models is less, whatever else there is."""
MOST_ELEMENTS = 5_000


@dataclass
class Many:
    """A cloud with one service of two replicas."""

    eas: Eas
    count: int
    url: str

    def get(self, path: str) -> Any:
        answer = http("GET", f"{self.url}api/{path}")
        assert answer.status == 200, answer.body
        return answer.json

    def service(self, query: str = "") -> dict[str, Any]:
        return next(iter(self.get(f"overview?{query}")["services"]), {})

    def names(self, query: str = "") -> list[str]:
        return [model["name"] for model in self.service(query)["models"]]


def config(count: int) -> bytes:
    policy = VersionPolicy.specific([1, 2])
    names = [f"model_{number:04}" for number in range(count)]
    models = [Model(name, f"/models/{name}", policy=policy, labels=many_models.LABELS) for name in names]
    return model_config.render(ModelServerConfig(tuple(models))).encode()


@pytest.fixture(scope="module", params=[300, 1000])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    command = (sys.executable, many_models.__file__)
    with running_eas(tmp_path_factory.mktemp("many"), command=command) as eas:
        eas.oss.put_bucket(oss.PutBucketRequest(bucket=BUCKET))
        for name, data in {
            "model_config.pbtxt": config(request.param),
            "monitoring.pbtxt": b"prometheus_config { enable: true }",
        }.items():
            eas.oss.put_object(oss.PutObjectRequest(bucket=BUCKET, key=ROOT + name, body=data))
        spec = eas.spec("many", 2, storage=STORAGE, token=TOKEN)
        flags = f"--monitoring_config_file=/models/monitoring.pbtxt --grpc_max_threads={request.param}"
        spec["containers"][0] |= {"command": f"{START} --model_name={TOKEN} {flags}", "env": []}
        eas.run(spec)
        until(lambda: eas.describe("many").running_instance == 2)
        yield Many(eas, request.param, f"http://127.0.0.1:{eas.port}/-/console/")


def test_a_look_is_as_large_with_a_thousand_models_as_with_twenty(many: Many) -> None:
    answer = http("GET", f"{many.url}api/overview")
    assert len(answer.body) < LARGEST_LOOK
    service = many.service()
    assert (service["total"], service["matching"], service["pages"]) == (many.count, many.count, many.count // 20)
    assert many.names() == [f"model_{number:04}" for number in range(20)]
    assert many.names("at=many:2")[0] == "model_0020"
    assert many.names("at=many:9999")[-1] == f"model_{many.count - 1:04}"


def test_the_filter_finds_models_labels_and_services(many: Many) -> None:
    assert many.names("q=_0250") == ["model_0250"]
    assert len(many.names("q=MODEL_025")) == 10
    assert many.service("q=canary")["matching"] == many.count
    assert many.service("q=many")["matching"] == many.count
    assert many.get("overview?q=nothing-like-it")["services"] == []


def test_what_needs_a_look_is_found_among_all_bit_by_bit(many: Many) -> None:
    until(lambda: many.service()["asked"] == many.count, 120)
    assert many.service()["troubled"] == 1
    assert many.names("troubled=1") == [many_models.FAILS]
    assert many.service("troubled=1")["models"][0]["versions"][0]["error"] == "the file is cut off"


def test_counters_are_paged_and_filtered(many: Many) -> None:
    found = many.get("metrics?service=many&q=model_01")
    assert (found["replicas"], found["matching"], len(found["models"])) == (2, 100, 50)
    first = found["models"][0]
    assert (first["model"], first["start"]["requests"]) == ("model_0100", 24)
    assert first["start"]["errors"] == {"INVALID_ARGUMENT": 4}
    assert first["lately"]["requests"] == 0


def test_a_token_is_masked_in_the_log_and_everywhere_else(many: Many) -> None:
    lines = many.get("log?service=many")["lines"]
    assert any("token [secret] in the log" in line for line in lines)
    for path in ("overview", "names", "log?service=many", "events?service=many", "rollouts", "metrics?service=many"):
        assert TOKEN not in json.dumps(many.get(path))


def test_the_page_stays_small_and_follows_the_filter(many: Many, browser: Browser) -> None:
    browser.open(many.url)
    browser.sees("model_0019", "#services")
    assert "model_0020" not in browser.text("#services")
    browser.sees(f"{many.count} models", "#services")
    # The lists to choose from hold every name; everything else is one page.
    assert browser.js("return document.querySelectorAll('*:not(option)').length") < MOST_ELEMENTS
    browser.js("document.querySelector('[aria-label=\"Next page of models of many\"]').click()")
    browser.sees("model_0039", "#services")
    browser.one("#filter").send_keys("_0250")
    browser.wait(lambda: [each.text.split()[0] for each in browser.all("#services tbody th")] == ["model_0250"])
    browser.one("#filter").clear()
    browser.one("#filter").send_keys("nothing like it")
    browser.sees("Nothing matches the filter.", "#services")
    browser.js("document.querySelector('#filter').value = ''")
    browser.one("#troubled").click()
    browser.sees("the file is cut off", "#services")
    assert browser.errors() == []


def test_a_64_bit_integer_is_shown_to_its_last_digit(many: Many, browser: Browser) -> None:
    browser.open(many.url)
    browser.sees("model_0019", "#services")
    browser.ask("many/model_0003/label:stable")
    browser.sees("Version 1 takes x int64 [?, 2]", "#body-hint")
    browser.js("document.querySelector('#other').value = 'label:canary'")
    browser.one("#send").click()
    browser.sees("label canary 1 output differs", "#answer")
    shown = browser.text("#answer")
    assert f"1 at [0][0]: {many_models.LARGE[1]} and {many_models.LARGE[2]}" in shown
    assert "1 of 3" in shown
    assert "1.50, 0.10000000149011612" in shown


def test_counters_of_many_models_are_shown_in_pages(many: Many, browser: Browser) -> None:
    browser.open(many.url)
    browser.sees("model_0019", "#services")
    browser.one("#tab-metrics").click()
    browser.sees("model_0049", "#meters")
    browser.sees("4 INVALID_ARGUMENT", "#meters")
    browser.one("#meter-filter").send_keys("_0111")
    browser.wait(lambda: len(browser.all("#meters tbody tr")) == 1)
    assert browser.errors() == []
