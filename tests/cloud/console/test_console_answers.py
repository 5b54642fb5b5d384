"""What the console makes of answers: bars, and the difference of two, with numbers as the server wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.cloud.console.answers import Number, bars, difference, parse


def predictions(text: str) -> str:
    return f'{{"predictions": {text}}}'


def output(left: str, right: str) -> dict[str, Any]:
    (found,) = difference(predictions(left), predictions(right))["outputs"]
    return dict(found)


def test_numbers_stay_the_text_that_the_server_wrote() -> None:
    text = "[9223372036854775807, 0.30000001192092896, 1e5, 1.50, -0.0, NaN, -Infinity]"
    assert [each.text for each in parse(text)] == text.strip("[]").split(", ")


def test_what_is_no_json_is_nothing() -> None:
    assert parse("<html>") is None
    assert parse("[" * 100_000) is None
    assert bars("no healthy upstream") == []


def test_scores_are_ranked_and_keep_their_digits() -> None:
    (found,) = bars(predictions("[[0.25, 0.699999988079071, 0.05]]"))
    shown = [(row["index"], row["text"]) for row in found["rows"]]
    assert shown == [(1, "0.699999988079071"), (0, "0.25"), (2, "0.05")]
    assert (found["title"], found["classes"]) == ("", 3)


def test_bars_are_for_what_looks_like_scores_only() -> None:
    assert bars(predictions("[[1, 0]]")) == []
    assert bars(predictions("[[120.5, 3.25]]")) == []
    assert bars(predictions("[[NaN, 0.5]]")) == []
    assert bars('{"outputs": [0.5, 0.5]}') == []  # the first dimension is the batch
    assert [each["title"] for each in bars('{"outputs": [[0.5, 0.5], [1, 0.0]]}')] == ["row 1 of 2", "row 2 of 2"]
    assert [each["title"] for each in bars('{"outputs": {"p": [[0.5, 0.5]], "n": [[3, 4]]}}')] == ["p"]
    found = bars(predictions('[{"ids": [1, 2], "scores": [0.1, 0.9], "price": [9.5, 0.5]}]'))
    assert [each["title"] for each in found] == ["scores"]


def test_with_as_many_names_as_numbers_these_need_not_add_up_to_1() -> None:
    sigmoid = predictions("[[0.9, 0.8, 0.0]]")
    assert bars(sigmoid) == bars(sigmoid, 10) == []
    assert [row["index"] for row in bars(sigmoid, 3)[0]["rows"]] == [0, 1, 2]
    assert difference(sigmoid, sigmoid, 3)["instances"] == 1


def test_instances_are_numbered_and_many_classes_are_cut() -> None:
    found = bars(predictions(json.dumps([[index / 4950 for index in range(100)]] * 7)))
    assert [each["title"] for each in found] == [f"Instance {index} of 7" for index in range(1, 6)]
    assert len(found[0]["rows"]) == 10
    assert found[0]["rows"][0] == {"index": 99, "text": "0.02", "share": 0.02}


def test_the_largest_difference_says_where_it_is_and_shows_both_numbers() -> None:
    found = output("[[0.25, 0.5], [0.125, 0.5]]", "[[0.25, 0.5], [0.625, 0.25]]")
    assert (found["values"], found["differing"]) == (4, 2)
    assert (found["largest"], found["at"], found["left"], found["right"]) == ("0.5", "[1][0]", "0.125", "0.625")


def test_64_bit_integers_differ_by_one_where_doubles_would_not() -> None:
    found = output("[9223372036854775807]", "[9223372036854775806]")
    assert (found["largest"], found["left"], found["right"]) == ("1", "9223372036854775807", "9223372036854775806")


def test_the_same_number_in_other_words_is_no_difference() -> None:
    assert output("[1.50, 1e2, NaN, Infinity, 0.0]", "[1.5, 100, NaN, Infinity, -0.0]")["differing"] == 0


def test_numbers_that_are_not_finite_are_told_apart() -> None:
    found = output("[NaN, 1.0]", "[0.5, Infinity]")
    assert (found["differing"], found["largest"]) == (2, "")
    assert found["other"] == ["[0]: NaN and 0.5", "[1]: 1.0 and Infinity"]


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ("[[1.0, 2.0]]", "[[1.0, 2.0, 3.0]]", "[0]: 2 and 3 values"),
        ("[[1.0]]", "[[1.0], [2.0]]", "the whole: 1 and 2 values"),
        ('["a"]', '["b"]', '[0]: "a" and "b"'),
        ('[{"b64": "aa"}]', '[{"b64": "bb"}]', '[0].b64: "aa" and "bb"'),
        ("[1]", "[[1]]", "[0]: 1 and [1]"),
    ],
)
def test_what_is_no_number_differs_in_words(left: str, right: str, words: str) -> None:
    assert output(left, right)["other"] == [words]


def test_outputs_are_compared_by_name_and_one_that_is_missing_is_said() -> None:
    found = difference(predictions('[{"a": 1, "b": 2}]'), predictions('[{"a": 1, "c": 2}]'))["outputs"]
    assert [(each["output"], each["differing"]) for each in found] == [("a", 0), ("b", 1), ("c", 1)]
    assert found[1]["other"] == ["the value: [2] and nothing"]
    whole = difference('{"outputs": {"a": [1]}}', '{"outputs": {"a": [3]}}')["outputs"]
    assert [(each["output"], each["largest"]) for each in whole] == [("a", "2")]


def test_the_highest_class_of_each_instance_is_compared() -> None:
    found = difference(predictions("[[0.9, 0.1], [0.9, 0.1]]"), predictions("[[0.8, 0.2], [0.25, 0.75]]"))
    assert (found["instances"], found["agreeing"]) == (2, 1)
    assert found["classes"][1] == {
        "title": "instance 2",
        "left": {"index": 0, "text": "0.9"},
        "right": {"index": 1, "text": "0.75"},
    }


@pytest.mark.parametrize("other", ['{"error": "no"}', "", '{"outputs": [1]}', "[1]"])
def test_an_error_cannot_be_compared(other: str) -> None:
    assert difference(predictions("[1.0]"), other)["problem"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(_JSON, _JSON)
def test_any_two_answers_can_be_compared_and_an_answer_is_like_itself(left: Any, right: Any) -> None:
    one, two = (json.dumps({"predictions": value}) for value in (left, right))
    json.dumps([difference(one, two), bars(one)])
    same = difference(one, one)
    assert same["problem"] or not any(each["differing"] or each["other"] for each in same["outputs"])


@given(st.integers(), st.integers())
def test_the_difference_of_whole_numbers_is_exact(left: int, right: int) -> None:
    found = output(f"[{left}]", f"[{right}]")
    if left == right:
        assert found["differing"] == 0
    elif abs(left - right) < 10**30:
        assert int(found["largest"]) == abs(left - right)


def test_numbers_beyond_every_type_do_no_harm() -> None:
    long = "9" * 5000
    assert bars(predictions(f"[[{long}, 0.5]]")) == []
    assert output(f"[{long}]", "[1]")["differing"] == 1
    assert output("[1e99999999999999999999]", "[-1e99999999999999999999]")["differing"] == 1


def test_a_number_knows_what_it_is() -> None:
    assert (Number("-12").is_whole, Number("1.0").is_whole, Number("1e3").is_whole) == (True, False, False)
