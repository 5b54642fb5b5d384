"""The least extra config that makes one service JSON of another."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tfserving.eas_spec import extra_for, merge

SCALARS = st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "b", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def named(key: str, names: st.SearchStrategy[set[str]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return names.flatmap(
        lambda some: st.tuples(*(OBJECTS.map(lambda rest, name=name: {key: name, **rest}) for name in sorted(some)))
    ).map(list)


@st.composite
def services(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two service JSONs; the second has at least the containers, mounts and variables of the first."""
    few = draw(st.sets(st.sampled_from("xy")))
    more = few | draw(st.sets(st.sampled_from("xyz")))
    base = {
        "metadata": draw(OBJECTS),
        "containers": [draw(OBJECTS)],
        "storage": draw(named("mount_path", st.just(few))),
    }
    wanted = {
        "metadata": draw(OBJECTS),
        "containers": draw(st.lists(OBJECTS, min_size=1, max_size=3)),
        "storage": draw(named("mount_path", st.just(more))),
    }
    extra = draw(OBJECTS)
    return base, {**wanted, **extra}


def by_identity(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "storage": sorted(config.get("storage") or [], key=lambda item: str(item["mount_path"]))}


@given(services())
def test_merged_over_the_one_it_gives_the_other(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    base, wanted = both
    assert by_identity(merge(base, extra_for(base, wanted))) == by_identity(wanted)


@given(OBJECTS)
def test_nothing_is_needed_where_both_are_the_same(config: dict[str, Any]) -> None:
    assert extra_for(config, config) == {}


def test_it_says_no_more_than_what_differs() -> None:
    base = {
        "metadata": {"name": "a", "instance": 1},
        "containers": [{"image": "i", "port": 1, "env": [{"name": "A", "value": "1"}]}],
        "storage": [{"mount_path": "/models", "oss": {"path": "oss://b/", "readOnly": True}}],
    }
    wanted = {
        "metadata": {"name": "a", "instance": 1, "shm_size": 1},
        "containers": [{"image": "i", "port": 1, "env": [{"name": "A", "value": "2"}]}, {"image": "sidecar"}],
        "storage": [
            {"mount_path": "/data", "nfs": {"server": "s"}},
            {"mount_path": "/models", "oss": {"path": "oss://b/"}},
        ],
    }
    assert extra_for(base, wanted) == {
        "metadata": {"shm_size": 1},
        "containers": [{"env": [{"name": "A", "value": "2"}]}, {"image": "sidecar"}],
        "storage": [
            {"mount_path": "/data", "nfs": {"server": "s"}},
            {"mount_path": "/models", "oss": {"readOnly": None}},
        ],
    }
