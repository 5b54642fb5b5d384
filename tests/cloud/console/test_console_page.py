"""The page in a real browser: what a person sees and can do, with mouse and with keyboard, at a desk and on a phone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ops.predict import DOCUMENT_INSTANCES
from ops.predict_answer import FASHION_MNIST
from tests.cloud.console.browser import Browser
from tests.cloud.console.conftest import HOSTILE_NAME, Served, config_file
from tests.cloud.eas.conftest import running_eas
from tests.ports import free_port
from tests.waiting import until
from tfserving import config_notes
from tfserving.config_notes import Tried
from tfserving.contract.gates import GateReport, ServiceReport

pytestmark = pytest.mark.slow

STABLE = "multi_http/modelB/label:stable"
TABS = ("debugging", "logs", "events", "metrics", "rollouts")
FILLED = {"logs": "#log", "events": "#happened", "metrics": "#meters", "rollouts": "#writes"}


@pytest.fixture
def page(browser: Browser, served: Served) -> Browser:
    browser.open(served.url)
    browser.sees("Live")
    browser.sees("canary")
    return browser


def rows(page: Browser, service: str) -> list[list[str]]:
    """Version, state and labels of each row of a service's table."""
    return page.js(
        f"return [...document.querySelectorAll('[aria-labelledby=\"service-{service}\"] tbody tr')]"
        ".map((row) => [...row.querySelectorAll('td')].map((cell) => cell.innerText.trim()))"
    )


def bars(page: Browser) -> list[tuple[str, float, float]]:
    """Class, value and width of the bar in percent, from top to bottom."""
    return [
        (name, float(value), float(width.removesuffix("%")))
        for name, value, width in page.js(
            "return [...document.querySelectorAll('.bars tbody tr')].map((row) => [row.cells[0].innerText, "
            "row.cells[2].innerText, row.querySelector('.bar > div').style.width])"
        )
    ]


def send(page: Browser) -> None:
    page.js("document.querySelector('#answer').replaceChildren()")
    page.one("#send").click()
    page.wait(lambda: page.text("#answer"))


def test_services_models_versions_states_and_labels_are_there(page: Browser) -> None:
    assert [heading.text for heading in page.all("#services h3")] == ["multi_grpc", "multi_http"]
    for service in ("multi_grpc", "multi_http"):
        assert rows(page, service) == [["2", "AVAILABLE", "canary"], ["1", "AVAILABLE", "stable"]]
    assert "1 of 1 replica ready" in page.text("#services")
    assert page.errors() == []


def test_a_label_moves_before_ones_eyes_and_what_has_the_focus_keeps_it(page: Browser, served: Served) -> None:
    page.js(f"document.querySelector('[data-key=\"{STABLE}\"]').focus()")
    try:
        served.publish(stable=2)
        page.wait(lambda: rows(page, "multi_http") == [["2", "AVAILABLE", "canary stable"], ["1", "AVAILABLE", ""]])
        assert page.js("return document.activeElement.dataset.key") == STABLE
    finally:
        served.publish(stable=1)
    page.wait(lambda: rows(page, "multi_http")[1] == ["1", "AVAILABLE", "stable"])


def test_url_and_body_are_those_of_the_document(page: Browser, served: Served) -> None:
    assert page.value("#service") == "multi_http"
    assert page.value("#base") == f"http://127.0.0.1:{served.eas.port}/api/predict/multi_http"
    assert page.value("#path") == "/v1/models/modelB:predict"
    body = page.value("#body")
    assert json.loads(body) == {"signature_name": "serving_default", "instances": DOCUMENT_INSTANCES}
    assert body.startswith('{"signature_name": "serving_default", "instances": [[[[1.0], [1.0], ')
    page.js("document.querySelector('#body').value = 'x'")
    page.one("#reset").click()
    assert page.value("#body") == body


def test_the_class_names_are_those_of_the_data_set() -> None:
    script = Path(__file__).parents[3] / "sandbox" / "cloud" / "console" / "page" / "answer.js"
    found = re.search(r"FASHION_MNIST = (\[.*?\]);", script.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert tuple(json.loads(found[1].replace(",\n]", "]"))) == FASHION_MNIST


def test_an_answer_shows_as_bars_the_highest_on_top(page: Browser) -> None:
    page.ask(STABLE)
    assert page.value("#path") == "/v1/models/modelB/labels/stable:predict"
    send(page)
    page.sees("answered by version 1", "#answer")
    page.sees("HTTP 200", "#answer")
    shown = bars(page)
    assert shown[0][0] == "Sandal"
    assert {name for name, _, _ in shown} == set(FASHION_MNIST)
    assert [value for _, value, _ in shown] == sorted((value for _, value, _ in shown), reverse=True)
    assert sum(value for _, value, _ in shown) == pytest.approx(1, abs=0.001)
    for _, value, width in shown:
        assert width == pytest.approx(100 * value, abs=0.01)
    page.js("document.querySelector('#classes').value = ''")
    send(page)
    page.sees("class 5", "#answer")


def test_a_grpc_service_is_asked_by_version_or_label_and_its_method_cannot_be_edited(page: Browser) -> None:
    page.ask("multi_grpc/modelB/version:2")
    assert page.value("#path") == "tensorflow.serving.PredictionService/Predict"
    assert page.one("#path").get_property("readOnly") is True
    send(page)
    page.sees("answered by version 2", "#answer")
    assert bars(page)[0][0] == "Sneaker"


def test_the_body_is_made_from_the_signature_until_somebody_writes_one(page: Browser) -> None:
    page.ask("multi_grpc/modelB/version:2")
    page.sees("Made from the signature. Version 2 takes image float32 [?, 28, 28, 1].", "#body-hint")
    assert json.loads(page.value("#body"))["instances"] == DOCUMENT_INSTANCES
    page.type_over("#body", '{"instances": []}')
    page.ask(STABLE)
    page.sees("Version 1 takes image", "#body-hint")
    assert page.value("#body") == '{"instances": []}'
    page.one("#made").click()
    page.wait(lambda: json.loads(page.value("#body"))["instances"] == DOCUMENT_INSTANCES)
    page.sees("Made from the signature", "#body-hint")


def test_two_labels_are_compared_side_by_side(page: Browser) -> None:
    page.ask(STABLE)
    page.wait(lambda: page.js("return document.querySelectorAll('#other option').length") == 6)
    page.js("document.querySelector('#other').value = 'label:canary'")
    send(page)
    page.sees("label stable and label canary 1 output differs", "#answer")
    shown = page.text("#answer")
    assert "same highest class for 0 of 1 instance" in shown
    assert "10 of 10" in shown
    assert [each.text for each in page.all("#answer h4")] == ["label stable", "label canary"]
    assert [bar[0] for bar in bars(page) if bar[1] > 0.5] == ["Sandal", "Sneaker"]
    page.js("document.querySelector('#other').value = 'version:1'")
    send(page)
    page.sees("label stable and version 1 no difference", "#answer")
    page.js("document.querySelector('#path').value = '/v1/models/modelB/metadata'")
    send(page)
    page.sees("Not sent: Two versions are compared by a path that ends in :predict", "#answer")


def test_requests_of_the_session_are_kept_repeated_and_forgotten(page: Browser) -> None:
    page.ask(STABLE)
    page.sees("Made from the signature", "#body-hint")
    send(page)
    page.sees("answered by version 1", "#answer")
    page.ask("multi_grpc/modelB/version:2")
    send(page)
    page.sees("answered by version 2", "#answer")
    first, second = (" ".join(item.text.split()) for item in page.all("#requests li"))
    assert "multi_grpc modelB, version 2 OK" in first
    assert "multi_http /v1/models/modelB/labels/stable:predict 200" in second
    assert re.search(r"200 \d+\.\d ms version 1", second)
    page.sees("2 good answers:", "#latency")
    page.js("document.querySelectorAll('#requests button')[1].click()")
    page.sees("answered by version 1", "#answer")
    assert page.value("#service") == "multi_http"
    assert page.value("#path") == "/v1/models/modelB/labels/stable:predict"
    page.wait(lambda: len(page.all("#requests li")) == 3)
    page.one("#clear").click()
    assert page.one("#history").is_displayed() is False
    assert page.js("return document.activeElement.id") == "send"
    assert page.js("return [localStorage.length, sessionStorage.length]") == [0, 0]


def test_a_rollout_is_seen_as_it_happens(page: Browser, served: Served) -> None:
    page.one("#tab-rollouts").click()
    page.sees("oss://examplebucket/models/tf_serving/model_config.pbtxt", "#writes")
    try:
        served.publish(stable=2)
        page.sees("modelB: label stable moves 1 to 2", "#writes .newest")
        page.sees("answered", "#writes .newest")
        assert "by hand (the file names no stack), for multi_grpc, multi_http" in page.text("#writes .newest")
    finally:
        served.publish(stable=1)
    page.sees("modelB: label stable moves 2 to 1", "#writes .newest")


def test_a_gate_is_seen_while_it_is_under_way_and_then_what_came_of_it(page: Browser, served: Served) -> None:
    demands = "modelB version 2 for label stable, on multi_http: 20 records of golden/modelB.jsonl within 0.0001"
    tried = Tried("modelB", 2, "2026-09-21T14:06:40+00:00", demands)
    failed = GateReport(
        model="modelB", version=2, services={"multi_http": ServiceReport(records=20, problems=("far",))}
    )

    def write(note: str) -> None:
        served.write(note.encode() + config_file({"stable": 1, "canary": 2}))

    page.one("#tab-rollouts").click()
    try:
        write(config_notes.notes((), (), (tried,)))
        page.sees(demands, "#writes .newest")
        chips = "return [...document.querySelectorAll('#writes .newest .chip')].map((chip) => chip.innerText)"
        assert page.js(chips) == ["gate", "under way"]
        page.sees("Rollouts under way", "#tab-rollouts")
        write(config_notes.notes((), (failed,)))
        page.sees("modelB version 2 did not pass its gate on multi_http: 20 records", "#writes .failed")
        page.wait(lambda: "under way" not in page.text("#tab-rollouts"))
        assert "under way" not in page.text("#writes")
        page.sees(demands, "#writes")  # what was tried is told of the earlier write
    finally:
        write("")
    assert page.errors() == []


def test_logs_and_events_of_a_service_are_a_press_away(page: Browser) -> None:
    page.js("document.querySelector('[data-key=\"multi_grpc/logs\"]').click()")
    assert page.value("#service") == "multi_grpc"
    assert page.js("return document.activeElement.id") == "tab-logs"
    page.sees("Successfully loaded servable version {name: modelB version: 2}", "#log")
    page.one("#word").send_keys("version: 1")
    page.wait(lambda: "version: 1}" in page.text("#log") and "version: 2}" not in page.text("#log"))
    page.js("document.querySelector('[data-key=\"multi_http/events\"]').click()")
    page.sees("Service is creating", "#happened")
    page.js("document.querySelector('[data-key=\"multi_http/metrics\"]').click()")
    page.sees("the server's counters are switched off. Fix: set monitoring: true", "#meters")
    assert page.errors() == []


def test_tabs_are_chosen_with_arrows_home_and_end(page: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key: str) -> tuple[str, list[str]]:
        ActionChains(page.driver).send_keys(key).perform()
        shown = [each.get_attribute("id") for each in page.all("[role=tabpanel]") if each.is_displayed()]
        return str(page.js("return document.activeElement.id")), shown

    page.one("#tab-debugging").click()
    assert press(Keys.ARROW_RIGHT) == ("tab-logs", ["panel-logs"])
    assert press(Keys.END) == ("tab-rollouts", ["panel-rollouts"])
    assert press(Keys.ARROW_RIGHT) == ("tab-debugging", ["panel-debugging"])
    assert press(Keys.ARROW_LEFT) == ("tab-rollouts", ["panel-rollouts"])
    assert press(Keys.HOME) == ("tab-debugging", ["panel-debugging"])
    selected = [each.get_attribute("aria-selected") for each in page.all("[role=tab]")]
    assert selected == ["true", "false", "false", "false", "false"]


def test_an_error_answer_shows_status_and_the_servers_words(page: Browser) -> None:
    page.type_over("#path", "/v1/models/modelB/labels/nobody:predict")
    send(page)
    page.sees("Unrecognized servable version label: nobody", "#answer")
    assert "HTTP 400" in page.text("#answer")
    assert bars(page) == []
    page.type_over("#path", "nowhere")
    send(page)
    page.sees("does not begin with a slash", "#answer")


def test_a_path_edited_by_hand_outlives_what_changes_elsewhere(page: Browser, served: Served) -> None:
    page.type_over("#path", "/v1/models/modelB/metadata")
    served.publish(stable=2)
    page.wait(lambda: "stable" in rows(page, "multi_http")[0][2])
    served.publish(stable=1)
    page.wait(lambda: rows(page, "multi_http")[1][2] == "stable")
    assert page.value("#path") == "/v1/models/modelB/metadata"


def test_everything_can_be_done_with_the_keyboard(page: Browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> str:
        ActionChains(page.driver).send_keys(*keys).perform()
        return str(page.js("const e = document.activeElement; return e.id || e.dataset.key || e.className"))

    assert press(Keys.TAB) == "skip"
    assert press(Keys.ENTER) == "debugging"
    order = [press(Keys.TAB) for _ in range(11)]
    assert order == [
        *("tab-debugging", "service", "model", "which", "other", "path", "made", "reset", "body", "classes", "send")
    ]
    assert press(Keys.ENTER) == "send"
    page.sees("answered by version 2", "#answer")
    page.js("document.querySelector('#answer').replaceChildren(); document.querySelector('#body').focus()")
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.sees("answered by version 2", "#answer")


def test_a_screen_reader_finds_a_name_for_everything_that_can_be_used(page: Browser) -> None:
    send(page)
    page.command("Accessibility.enable")
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    usable = ("button", "combobox", "textbox", "link", "table", "region", "article")
    found: dict[str, list[str]] = {}
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in usable and not node.get("ignored"):
            found.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    assert set(usable) <= set(found)
    assert not [role for role, names in found.items() if not all(names)]
    assert "stable: debug modelB by label stable on multi_http" in found["button"]
    live = {element.get_attribute("id") for element in page.all("[role=status], [role=alert]")}
    notices = {f"{tab}-notice" for tab in ("log", "events", "metrics")}
    assert live == {"connection", "notice", "answer", "found", "places", *notices}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_cut_off_at_any_width(browser: Browser, served: Served, width: int, dark: bool) -> None:
    browser.open(served.url, width, dark=dark)
    browser.sees("canary", "#services")
    browser.js("document.querySelector('#other').value = 'label:canary'")
    send(browser)
    browser.sees("label canary", "#answer")
    for tab in TABS:
        browser.one(f"#tab-{tab}").click()
        assert browser.js("return document.documentElement.scrollWidth") <= width, tab


def test_text_stands_out_from_its_background_in_light_and_dark(browser: Browser, served: Served) -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5."""
    for dark in (False, True):
        browser.open(served.url, dark=dark)
        browser.sees("canary", "#services")
        send(browser)
        browser.sees("answered by", "#answer")
        for tab in TABS:
            browser.one(f"#tab-{tab}").click()
            if tab in FILLED:
                browser.wait(lambda tab=tab: browser.text(FILLED[tab]))
            faint = browser.js(CONTRAST)
            assert faint == [], f"dark: {dark}, {tab}"


CONTRAST = """
const channel = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
const background = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const found = rgba(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("body *")]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length)
  .filter((e) => !e.disabled && !["NOSCRIPT", "OPTION"].includes(e.tagName))
  .map((e) => {
    const [a, b] = [luminance(rgba(getComputedStyle(e).color)), luminance(background(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim()];
  })
  .filter(([ratio]) => ratio < 4.5);
"""


def test_no_token_is_in_the_page_its_addresses_or_its_storage(page: Browser, served: Served) -> None:
    send(page)
    seen = json.dumps(
        page.js(
            "return [document.documentElement.outerHTML, location.href, Object.entries(localStorage), document.cookie,"
            " performance.getEntriesByType('resource').map((entry) => entry.name)]"
        )
    )
    assert "api/request" in seen
    for name in ("multi_http", "multi_grpc"):
        assert served.token(name) not in seen


def test_a_model_with_a_hostile_name_is_text(page: Browser, served: Served) -> None:
    try:
        served.publish(stable=1, hostile=True)
        page.sees(HOSTILE_NAME, "#services")
        assert page.all("#services img") == []
        assert page.driver.title.startswith("TF Serving Stacks")
        assert page.errors() == []
    finally:
        served.publish(stable=1)


def test_a_service_that_is_stopped_says_so_and_a_request_to_it_too(page: Browser, served: Served) -> None:
    spec = served.eas.spec("single", 0)
    spec["containers"][0] |= {"command": "tf_serving_entrypoint.sh --model_name=alone", "env": []}
    served.eas.create(spec)
    try:
        served.eas.client.stop_service("cn-hangzhou", "single")
        page.sees("Service is stopped", "#services")
        page.wait(lambda: page.js("document.querySelector('#service').value = 'single'; return true"))
        page.js("document.querySelector('#service').dispatchEvent(new Event('change'))")
        send(page)
        page.sees("no healthy upstream", "#answer")
        assert "HTTP 503" in page.text("#answer")
    finally:
        served.eas.delete("single")


def test_a_service_that_cannot_start_says_why(page: Browser, served: Served) -> None:
    spec = served.eas.spec("triton")
    spec["containers"][0] |= {"image": "tritonserver:23.11", "command": "tritonserver"}
    served.eas.create(spec)
    try:
        page.sees("Failed", "[aria-labelledby=service-triton]")
        page.sees("only runs TensorFlow Serving images", "[aria-labelledby=service-triton]")
    finally:
        served.eas.delete("triton")


def test_an_empty_cloud_says_how_to_fill_it_and_a_cloud_that_is_gone_is_waited_for(
    browser: Browser, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/-/console/"
    with running_eas(tmp_path, port=port) as eas:
        browser.open(url)
        browser.sees("No services. make up deploys stack local")
        assert browser.one("#send").is_enabled() is False
        eas.create(eas.spec("plain"))
        browser.sees("Running", "#services")
        until(lambda: eas.describe("plain").running_instance == 1)
    browser.sees("The sandbox cloud does not answer. Start it with make up")
    assert browser.one("#connection").get_attribute("data-state") == "down"
    assert "stale" in browser.one("#services").get_attribute("class")
    browser.one("#send").click()
    browser.sees("Not sent: the sandbox cloud does not answer.", "#answer")
    with running_eas(tmp_path, port=port):
        browser.sees("Live")
        browser.wait(lambda: "does not answer" not in browser.text("#notice"))


def test_the_page_says_that_it_is_loading_until_the_first_answer(browser: Browser, served: Served) -> None:
    source = "window.fetch = () => new Promise(() => {});"
    script = browser.command("Page.addScriptToEvaluateOnNewDocument", source=source)
    try:
        browser.open(served.url)
        assert "Loading services." in browser.text()
        assert browser.one("#services").get_attribute("aria-busy") == "true"
    finally:
        browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])


def test_no_other_page_can_show_the_console_in_a_frame(browser: Browser, served: Served, tmp_path: Path) -> None:
    page: Any = tmp_path / "frame.html"
    page.write_text(f'<iframe src="{served.url}"></iframe>', encoding="utf-8")
    browser.open(page.as_uri())
    browser.wait(lambda: [message for message in browser.errors() if "frame-ancestors" in message])
