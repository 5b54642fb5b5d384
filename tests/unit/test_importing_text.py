"""A stack file that is written says what it was given, however the values look."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tfserving import stack_file
from tfserving.importing.text import WIDTH, Entry, Section, StackText

ODD = [
    "yes",
    "No",
    "null",
    "~",
    "1",
    "007",
    "0x1f",
    "1_000",
    "1.10",
    "2024-01-15",
    "a:",
    "-",
    "*x",
    "&x",
    "!x",
    "'",
    '"',
    "\\",
    "{}",
    "[a]",
    "@a",
    "`",
    "%",
    "oss://b/k/",
    "a:b",
    "tensorflow-serving:2.14.1",
    "ecs.c7.large",
    "a,b",
    "<<",
    "=",
    "?",
    "NaN",
    ".inf",
    "12:30:45",
    "1e5",
    "\ufeff",
    "é",
]
LINES = ["a #b", "a: b", "a\nb\n", "a\n\nb", " a\nb", "a\n", "\n", "a \nb", "a\n b"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from([*ODD, *LINES])
NUMBERS = st.integers(0, 2**63 - 1) | st.floats(1e-6, 1e15).filter(lambda number: not number.is_integer())
VALUES = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=10,
)
NAMES = TEXTS.filter(lambda key: key != "<<")


def text(**entries: Any) -> str:
    listed = [Entry(name, value) for name, value in entries.items()]
    return StackText(("Head.",), {}, (Section("tf-serving:models", listed),)).whole()


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_what_is_written_is_read_again(entries: dict[str, Any]) -> None:
    assert stack_file.load(text(**entries))["config"] == {"tf-serving:models": entries}


@given(st.dictionaries(st.sampled_from(["policy", "versions", "env"]), VALUES, min_size=1))
def test_so_are_values_that_may_stand_on_one_line(entry: dict[str, Any]) -> None:
    assert stack_file.load(text(m=entry))["config"] == {"tf-serving:models": {"m": entry}}


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), st.lists(st.text(max_size=300), max_size=2))
def test_an_entry_that_is_not_taken_over_is_a_comment_whatever_it_holds(
    name: str, value: dict[str, Any], why: list[str]
) -> None:
    entry = Entry(name, value, tuple(why), disabled=("it is broken", *why))
    whole = StackText((), {"alicloud:region": "cn-hangzhou"}, (Section("tf-serving:services", [entry]),)).whole()
    assert stack_file.load(whole)["config"] == {"alicloud:region": "cn-hangzhou", "tf-serving:services": {}}


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), st.data())
def test_a_key_that_is_not_taken_over_is_a_comment(value: dict[str, Any], data: st.DataObject) -> None:
    off = data.draw(st.sampled_from(sorted(value)))
    entry = Entry("m", value, disabled_keys={off: "later"})
    kept = {key: item for key, item in value.items() if key != off}
    found = stack_file.load(StackText((), {}, (Section("tf-serving:models", [entry]),)).whole())["config"]
    assert found == {"tf-serving:models": {"m": kept or None}}


def test_it_reads_as_a_person_would_write_it() -> None:
    services = {
        "deployment": "custom",
        "image": "tensorflow-serving:2.14.1",
        "flags": {"num_load_threads": 2},
        "script": "a\nb\n",
    }
    models = {"policy": {"specific": [1, 2]}, "labels": {"stable": 1}, "versions": [1, 2]}
    written = StackText(
        ("Written by hand. " * 12,),
        {"alicloud:region": "cn-hangzhou", "tf-serving:bucket": {"name": "examplebucket", "existing": True}},
        (
            Section("tf-serving:models", [Entry("shoes", models, ("It is in use.",))], ("Models.",)),
            Section("tf-serving:services", [Entry("multi_http", services, disabled_keys={"image": "Pin it:"})]),
        ),
    ).whole()
    assert max(map(len, written.splitlines())) <= WIDTH
    assert written.partition("config:\n")[2] == (
        "  alicloud:region: cn-hangzhou\n"
        "  tf-serving:bucket:\n"
        "    name: examplebucket\n"
        "    existing: true\n"
        "\n"
        "  # Models.\n"
        "  tf-serving:models:\n"
        "    # It is in use.\n"
        "    shoes:\n"
        "      policy: {specific: [1, 2]}\n"
        "      labels:\n"
        "        stable: 1\n"
        "      versions: [1, 2]\n"
        "\n"
        "  tf-serving:services:\n"
        "    multi_http:\n"
        "      deployment: custom\n"
        "      flags:\n"
        "        num_load_threads: 2\n"
        "      script: |\n"
        "        a\n"
        "        b\n"
        "      # Pin it:\n"
        "      # image: tensorflow-serving:2.14.1\n"
    )
