"""Values of stack files are changed where they stand, and everything else stays as it is."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tfserving import stack_edit
from tfserving.stack_edit import REMOVED, StackEditError, edit, value_at

STABLE = ("tf-serving:models", "modelB", "labels", "stable")
SPECIFIC = ("tf-serving:models", "modelB", "policy", "specific")
FILE = """\
# Of the shop.
config:
  alicloud:region: cn-hangzhou   # near
  tf-serving:models:
    modelA: {policy: all}
    modelB:
      policy:
        specific: [1, 2] # exactly these
      # Promote here
      labels:
        stable: 1  # what clients ask for
        canary: 2

  # The services
  tf-serving:services:
    http: {port: 8501}
"""


def changed(old: str, new: str) -> list[str]:
    """The lines that differ."""
    lines = difflib.ndiff(old.splitlines(keepends=True), new.splitlines(keepends=True))
    return [line for line in lines if line[0] in "+-"]


def test_one_value_is_one_line() -> None:
    assert changed(FILE, edit(FILE, {STABLE: 2}, "tf-serving")) == [
        "-         stable: 1  # what clients ask for\n",
        "+         stable: 2  # what clients ask for\n",
    ]


def test_there_and_back_is_the_same_file() -> None:
    new = edit(FILE, {STABLE: 3, SPECIFIC: [1, 2, 3]}, "tf-serving")
    assert "specific: [1, 2, 3] # exactly these" in new
    assert edit(new, {STABLE: 1, SPECIFIC: [1, 2]}, "tf-serving") == FILE


_M = "config:\n  tf-serving:models:\n    "
SHAPES = {
    "quoted keys": '"config":\n  "tf-serving:models":\n    \'modelB\': {"labels": {"stable": 1}, policy: all}\n',
    "flow": "config: {tf-serving:models: {modelB: {labels: {stable: 1}}}}\n",
    "no namespace": "config:\n  models:\n    modelB:\n      labels: {stable: 1}\n",
    "old namespace": "config:\n  tf-serving:config:models:\n    modelB:\n      labels: {stable: 1}\n",
    "carriage returns": FILE.replace("\n", "\r\n"),
    "no final newline": _M + "modelB:\n      labels:\n        stable: 1",
    "no labels": _M + "modelB:\n      policy: all\n  other:x: 1\n",
    "no labels, no final newline": _M + "modelB:\n      policy: all",
    "empty labels": _M + "modelB:\n      labels:\n      policy: all\n",
    "null labels": _M + "modelB:\n      labels: ~\n",
    "empty braces": _M + "modelB: {labels: {}}\n",
    "other label": _M + "modelB:\n      labels:\n        canary: 1 # 5 %\n\n# end\n",
    "model without anything": _M + "modelB: {}\n",
    "anchor and alias": _M + "modelB:\n      labels: &l {stable: 1}\n    modelC:\n      labels: *l\n",
    "alias here": _M + "modelA:\n      labels: &l\n        stable: 1\n    modelB:\n      labels: *l\n",
    "merge here": _M + "modelA: &a\n      labels: {stable: 1, x: 2}\n    modelB:\n      <<: *a\n      policy: all\n",
    "merge of it": _M + "modelB: &b\n      labels: {stable: 1}\n    modelC:\n      <<: *b\n",
    "value with an anchor": _M + "modelB:\n      labels: {stable: &v 1, canary: *v}\n",
    "a secret beside": "config:\n  alicloud:secretKey:\n    secure: v1:abc:def==\n  tf-serving:models:\n"
    "    modelB: {labels: {stable: 1}}\nencryptionsalt: v1:x\n",
    "a literal block before": _M + "modelB:\n      note: |\n        a\n        b\n  x:y: 1\n",
    "a byte order mark": "\ufeffconfig:\n  tf-serving:models:\n    modelB: {labels: {stable: 1}}\n",
    "letters of the world": _M + "鞋: {labels: {stable: 1}} # 鞋子\n    modelB: {labels: {stable: 1}}\n",
    "a number as text": _M + "modelB: {labels: {stable: '1'}}\n",
    "a document mark": "%YAML 1.1\n---\nconfig:\n  tf-serving:models:\n    modelB: {labels: {stable: 1}}\n...\n",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_however_it_is_written_only_the_value_changes(text: str) -> None:
    new = edit(text, {STABLE: 7}, "tf-serving")
    assert value_at(new, STABLE, "tf-serving") == 7
    before, after = _models(text), _models(new)
    before["modelB"] = {**(before["modelB"] or {})}
    assert {name: entry for name, entry in after.items() if name != "modelB"} == {
        name: entry for name, entry in before.items() if name != "modelB"
    }
    assert new.count("\r\n") == new.count("\n") or "\r" not in new
    assert new.endswith("\n") == text.endswith("\n")
    assert [line for line in text.splitlines() if "#" in line and "stable" not in line] == [
        line for line in new.splitlines() if "#" in line and "stable" not in line
    ]


def _models(text: str) -> dict[str, Any]:
    return dict(stack_edit._config(text, "tf-serving")["tf-serving:models"])


@pytest.mark.parametrize(
    "text",
    [
        "config:\n  tf-serving:models: '{\"modelB\": {}}'\n",
        _M + "secure: v1:abc\n    modelB: 7\n",
        _M + "modelB: [1]\n",
        "config: 7\n",
        "",
        "config:\n  a: [\n",
    ],
)
def test_what_is_no_mapping_is_for_a_person(text: str) -> None:
    with pytest.raises(StackEditError):
        edit(text, {STABLE: 2}, "tf-serving")


BLOCK = _M + "modelB:\n      policy:\n        specific:\n        - 1 # old\n        - 2\n"


def test_items_of_a_block_list_come_and_go_by_line() -> None:
    new = edit(BLOCK, {SPECIFIC: [1, 2, 3]}, "tf-serving")
    assert changed(BLOCK, new) == ["+         - 3\n"]
    assert edit(new, {SPECIFIC: [1, 2]}, "tf-serving") == BLOCK
    assert changed(BLOCK, edit(BLOCK, {SPECIFIC: [2]}, "tf-serving")) == ["-         - 1 # old\n"]
    assert "        specific: [9, 1]\n" in edit(BLOCK, {SPECIFIC: [9, 1]}, "tf-serving")
    noted = BLOCK.replace("specific:\n", "specific: # those\n")
    assert edit(noted, {SPECIFIC: [9, 1]}, "tf-serving").endswith("specific: [9, 1] # those\n")


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_a_key_is_taken_out_again(text: str) -> None:
    more = edit(text, {(*STABLE[:3], "new"): 5}, "tf-serving")
    less = edit(more, {(*STABLE[:3], "new"): REMOVED}, "tf-serving")
    assert value_at(less, (*STABLE[:3], "new"), "tf-serving") is REMOVED


names = st.text(st.characters(min_codepoint=32, blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
numbers = st.integers(0, 2**63 - 1)


@settings(deadline=None)
@given(st.dictionaries(names, st.dictionaries(names, numbers, min_size=1), min_size=1), st.data(), st.booleans())
def test_any_mapping_in_either_style(models: dict[str, dict[str, int]], data: st.DataObject, flow: bool) -> None:
    document = {"config": {"tf-serving:models": {name: {"labels": labels} for name, labels in models.items()}}}
    text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True, sort_keys=False)
    try:
        before = _models(text)
    except StackEditError:
        return  # nothing the CLI would take
    model = data.draw(st.sampled_from(sorted(before)))
    label, value = data.draw(names), data.draw(numbers)
    if label == "<<" or "<<" in models:
        return
    new = edit(text, {("tf-serving:models", model, "labels", label): value}, "tf-serving")
    before[model]["labels"][label] = value
    assert _models(new) == before
