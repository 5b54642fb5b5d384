"""Requests to the address of a service group: over the console's routes, and in a real browser."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.cloud.console.browser import Browser
from tests.cloud.console.conftest import Served
from tests.cloud.eas.conftest import http
from tests.waiting import until

pytestmark = pytest.mark.slow

STABLE = "/v1/models/modelB/labels/stable:predict"


def test_answers_to_a_group_name_the_service_and_its_version_and_are_shared_by_weight(
    served: Served, group: str
) -> None:
    # Shares are dealt as from a shuffled deck: whatever was asked before, forty in a row are right to within one deal.
    # A member whose probe a busy machine answers late is passed over for a while, so that some forties are not.
    def shared() -> bool:
        found = [served.ask(group, path=STABLE) for _ in range(40)]
        assert {(each["http"], each["status"], each["version"]) for each in found} == {(200, 200, 1)}
        assert not any(served.token("shop_new") in json.dumps(each) for each in found)
        counted = Counter(each["member"] for each in found)
        return set(counted) == {"shop_new", "shop_old"} and abs(counted["shop_new"] - 10) <= 1

    until(shared)


def test_a_single_service_names_no_member(served: Served) -> None:
    assert served.ask("multi_http", path=STABLE)["member"] == ""


def test_a_comparison_of_two_versions_of_a_group_asks_each_of_who_answered(served: Served, group: str) -> None:
    found = served.ask(group, path=STABLE, other={"version": "2"})
    assert (found["version"], found["other"]["version"]) == (1, 2)
    assert found["member"]
    assert found["other"]["member"]


def test_a_group_can_be_chosen_with_the_models_of_its_services(served: Served, group: str) -> None:
    names = http("GET", f"{served.url}api/names").json["services"]
    [found] = [each for each in names if each["name"] == group]
    assert (found["models"], sorted(found["members"]), found["protocol"]) == (
        ["modelB"],
        ["shop_new", "shop_old"],
        "http",
    )
    model = http("GET", f"{served.url}api/model?service=group%20shop&model=modelB").json
    assert [each["label"] for each in model["view"]["labels"]] == ["canary", "stable"]
    assert model["problem"] == ""
    assert json.loads(model["sample"]["body"])["instances"]


@pytest.mark.parametrize("what", ["log", "events", "metrics"])
def test_what_a_group_has_none_of_is_said(served: Served, group: str, what: str) -> None:
    answer = http("GET", f"{served.url}api/{what}?service=group%20shop")
    assert (answer.status, answer.json["Message"]) == (
        404,
        "A group has none of its own: choose shop_new or shop_old.",
    )


def test_nobody_gets_a_request_to_a_group_that_is_not_there(served: Served) -> None:
    assert served.ask("group nowhere", path=STABLE)["http"] == 404


@pytest.mark.parametrize("width", [1280, 400])
def test_a_person_sends_ten_requests_and_sees_who_answered(
    browser: Browser, served: Served, group: str, width: int
) -> None:
    browser.open(served.url, width=width)
    browser.sees("shop_new", "#groups")

    def choices(element: str) -> list[str]:
        found: list[str] = browser.js(f"return [...document.querySelector('{element}').options].map((o) => o.value)")
        return found

    def choose(element: str, value: str) -> None:
        browser.js(
            f"const list = document.querySelector('{element}'); list.value = '{value}';"
            "list.dispatchEvent(new Event('change'))"
        )

    browser.wait(lambda: group in choices("#service"))
    assert not browser.one("#times").is_displayed()
    choose("#service", group)
    browser.wait(lambda: browser.one("#times").is_displayed())
    browser.wait(lambda: "label:stable" in choices("#which"))
    choose("#which", "label:stable")
    assert browser.value("#base") == f"http://127.0.0.1:{served.eas.port}/api/predict/shop"
    choose("#times", "10")
    browser.one("#send").click()
    browser.sees("10 answers, the last one below", "#answer")
    shares = browser.js(
        "return [...document.querySelectorAll('.shares tbody tr')].map((row) => [row.cells[0].innerText, "
        "row.cells[2].innerText])"
    )
    answered = {name: int(text.removesuffix(" of 10")) for name, text in shares}
    assert sum(answered.values()) == 10
    assert answered["shop_old"] > answered["shop_new"]
    browser.sees("answered by version 1", "#answer")
    browser.sees(f"10 times: shop_new {answered['shop_new']}, shop_old {answered['shop_old']}", "#history")
    assert browser.js("return document.documentElement.scrollWidth <= window.innerWidth")
    choose("#service", "multi_http")
    browser.wait(lambda: not browser.one("#times").is_displayed())
    assert browser.errors() == []
