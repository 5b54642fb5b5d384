"""Reloads, labels and the ways a reload gets stuck, with a manager that really runs and loaders that only pretend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from sandbox.model_server.core import ServerCore
from sandbox.model_server.manager import ManagerOptions
from sandbox.model_server.mounts import Mounts
from sandbox.model_server.states import ManagerState, ServableId, ServableState
from sandbox.model_server.status import StatusError
from tests.waiting import until

SPECIFIC_1 = "model_version_policy { specific { versions: 1 } }"
SPECIFIC_2 = "model_version_policy { specific { versions: 2 } }"
BOTH = "model_version_policy { specific { versions: 1 versions: 2 } }"
ALL = "model_version_policy { all {} }"


def label(name: str, version: int) -> str:
    return f" version_labels {{ key: '{name}' value: {version} }}"


class Bench:
    """A core over a directory of versions."""

    def __init__(self, root: Path, loaders: Any, *, allow: bool = False, poll_seconds: float = 0.02) -> None:
        self.root = root
        self.loaders = loaders
        self.core = ServerCore(
            ManagerOptions(num_load_threads=2, max_num_load_retries=0),
            loaders,
            mounts=Mounts({"/models": str(root)}),
            file_system_poll_seconds=poll_seconds,  # type: ignore[arg-type]
            allow_unavailable_labels=allow,
        )

    def publish(self, name: str, *versions: int) -> None:
        for version in versions:
            (self.root / name / str(version)).mkdir(parents=True)

    def config(self, **models: str) -> config_pb2.ModelServerConfig:
        entries = "".join(
            f"config {{ name: '{name}' base_path: '/models/{name}' model_platform: 'tensorflow' {rest} }}"
            for name, rest in models.items()
        )
        return text_format.Parse(f"model_config_list {{ {entries} }}", config_pb2.ModelServerConfig())

    def reload(self, **models: str) -> None:
        self.core.reload(self.config(**models))

    def refusal(self, **models: str) -> str:
        with pytest.raises(StatusError) as caught:
            self.reload(**models)
        return str(caught.value)

    def available(self, name: str) -> set[int]:
        return {s.id.version for s in self.core.monitor.versions(name) if s.state is ManagerState.AVAILABLE}

    def wait_available(self, name: str, *versions: int) -> None:
        until(lambda: self.available(name) == set(versions))

    def labelled(self, name: str, text: str) -> int | str:
        try:
            return self.core.label_version(name, text)
        except StatusError as error:
            return str(error)


@pytest.fixture
def make(tmp_path: Path, loaders: Any) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def build(**options: Any) -> Bench:
        benches.append(Bench(tmp_path, loaders, **options))
        return benches[-1]

    yield build
    for bench in benches:
        bench.core.stop()


# Start


def test_a_first_config_returns_when_each_model_has_a_version_available(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1, 2)
    bench.publish("b", 1)
    bench.reload(a=ALL, b="")
    assert 2 in bench.available("a")
    assert bench.available("b") == {1}


def test_the_start_waits_for_a_base_path_to_appear(make: Callable[..., Bench]) -> None:
    bench = make()
    started = threading.Thread(target=lambda: bench.reload(a=""))
    started.start()
    started.join(0.2)
    assert started.is_alive()
    bench.publish("a", 1)
    started.join(60)
    assert not started.is_alive()
    assert bench.available("a") == {1}


def test_a_first_version_that_cannot_load_fails_the_start(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.loaders.failing.add(ServableId("a", 1))
    assert bench.refusal(a="") == (
        "UNKNOWN: 1 servable(s) did not become available: {{{name: a version: 1} due to error: NOT_FOUND: no model in "
        "/models/a/1}, }"
    )


def test_labels_are_refused_at_the_start_before_anything_loads(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    assert bench.refusal(a=label("stable", 1)) == (
        "FAILED_PRECONDITION: Request to assign label to version 1 of model a, which is not currently available for "
        "inference"
    )
    assert bench.loaders.log == []


def test_with_the_flag_labels_are_accepted_at_the_start(make: Callable[..., Bench]) -> None:
    bench = make(allow=True)
    bench.publish("a", 1)
    bench.reload(a=label("stable", 1) + label("next", 9))
    assert bench.labelled("a", "stable") == 1
    assert bench.labelled("a", "next") == 9


def test_an_empty_first_config_does_nothing_and_leaves_labels_unknown(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.core.reload(config_pb2.ModelServerConfig())
    assert bench.labelled("a", "x") == "UNAVAILABLE: Model labels does not init yet.x"
    bench.publish("a", 1)
    bench.reload(a="")
    assert bench.available("a") == {1}
    assert bench.labelled("a", "x") == "INVALID_ARGUMENT: Unrecognized servable version label: x"


# Labels


def test_a_label_moves_to_a_version_that_is_available(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1, 2)
    bench.reload(a=BOTH)
    bench.wait_available("a", 1, 2)
    bench.reload(a=BOTH + label("stable", 1))
    bench.reload(a=BOTH + label("stable", 2) + label("canary", 2))
    assert bench.labelled("a", "stable") == bench.labelled("a", "canary") == 2


@pytest.mark.parametrize("allow", [False, True])
def test_moving_a_label_with_the_policy_never_loads_the_version_it_needs(
    make: Callable[..., Bench], allow: bool
) -> None:
    bench = make(allow=allow)
    bench.publish("a", 1, 2)
    bench.reload(a=SPECIFIC_1)
    bench.reload(a=SPECIFIC_1 + label("stable", 1))
    for _ in range(3):
        assert "label to version 2 of model a" in bench.refusal(a=BOTH + label("stable", 2))
        time.sleep(0.05)
    assert bench.available("a") == {1}
    assert bench.labelled("a", "stable") == 1
    bench.reload(a=BOTH + label("stable", 1))
    bench.wait_available("a", 1, 2)
    bench.reload(a=BOTH + label("stable", 2))
    assert bench.labelled("a", "stable") == 2


def test_a_refused_label_heals_where_the_version_loads_by_itself(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a=ALL)
    bench.reload(a=ALL + label("stable", 1))
    assert "label to version 2" in bench.refusal(a=ALL + label("stable", 2))
    bench.publish("a", 2)
    bench.wait_available("a", 1, 2)
    bench.reload(a=ALL + label("stable", 2))
    assert bench.labelled("a", "stable") == 2


def test_one_bad_label_of_any_model_refuses_the_whole_reload(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.publish("b", 1)
    bench.reload(a="")
    bench.reload(a=label("x", 1))
    assert "of model a" in bench.refusal(a=label("x", 1) + label("y", 5), b="")
    time.sleep(0.15)
    assert bench.available("b") == set()
    assert bench.labelled("a", "y") == "INVALID_ARGUMENT: Unrecognized servable version label: y"


def test_labels_are_swapped_before_a_new_model_is_up(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    waiting = threading.Thread(target=lambda: bench.reload(a=label("x", 1), b=""))
    waiting.start()
    until(lambda: bench.labelled("a", "x") == 1)
    assert waiting.is_alive()
    bench.publish("b", 1)
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_labelled_version_that_is_unloaded_keeps_its_label_and_blocks_reloads(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1, 2)
    bench.reload(a=BOTH)
    bench.wait_available("a", 1, 2)
    bench.reload(a=BOTH + label("old", 1))
    bench.reload(a=SPECIFIC_2 + label("old", 1))
    bench.wait_available("a", 2)
    assert bench.labelled("a", "old") == 1
    assert "label to version 1" in bench.refusal(a=SPECIFIC_2 + label("old", 1))
    bench.reload(a=SPECIFIC_2)
    assert "Unrecognized" in str(bench.labelled("a", "old"))


def test_removing_a_model_removes_its_labels_and_versions_but_not_its_history(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.publish("b", 1)
    bench.reload(a="", b="")
    bench.reload(a="", b=label("x", 1))
    bench.reload(a="")
    assert "Unrecognized" in str(bench.labelled("b", "x"))
    state = ServableId("b", 1)
    until(lambda: bench.core.monitor.state(state) == ServableState(state, ManagerState.END))


LABEL_MAPS = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(1, 4), max_size=2)


@pytest.fixture(scope="module")
def label_benches(tmp_path_factory: pytest.TempPathFactory, make_loaders: Any) -> Iterator[dict[bool, Bench]]:
    """A core without and one with the flag, both serving versions 1 and 2."""
    benches: dict[bool, Bench] = {}
    for allow in (False, True):
        bench = benches[allow] = Bench(tmp_path_factory.mktemp("labels"), make_loaders(), allow=allow)
        bench.publish("a", 1, 2)
        bench.reload(a=ALL)
        bench.wait_available("a", 1, 2)
    yield benches
    for bench in benches.values():
        bench.core.stop()


@settings(deadline=None)
@given(st.booleans(), st.lists(LABEL_MAPS, min_size=1, max_size=5))
def test_labels_follow_the_rule_whatever_the_sequence(
    label_benches: dict[bool, Bench], allow: bool, maps: list[dict[str, int]]
) -> None:
    bench = label_benches[allow]
    bench.reload(a=ALL)
    current: dict[str, int] = {}
    for wanted in maps:
        accepted = all(
            version in (1, 2) or (allow and current.get(name, version) == version) for name, version in wanted.items()
        )
        text = ALL + "".join(label(name, version) for name, version in wanted.items())
        if accepted:
            bench.reload(a=text)
            current = wanted
        else:
            assert "which is not currently available for inference" in bench.refusal(a=text)
        for name in ("x", "y"):
            expected = current.get(name, f"INVALID_ARGUMENT: Unrecognized servable version label: {name}")
            assert bench.labelled("a", name) == expected


# What a reload does and does not wait for, and how it gets stuck


def test_a_reload_does_not_wait_for_new_versions_of_known_models(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a=SPECIFIC_1)
    go_on = threading.Event()
    bench.loaders.hooks[ServableId("a", 2)] = lambda: go_on.wait(60)
    bench.publish("a", 2)
    bench.reload(a=BOTH)
    assert bench.available("a") == {1}
    go_on.set()
    bench.wait_available("a", 1, 2)


def test_a_new_model_that_cannot_load_fails_its_reload_and_the_next_one_is_fine(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    bench.publish("b", 1)
    bench.loaders.failing.add(ServableId("b", 1))
    assert bench.refusal(a="", b="").startswith(
        "UNKNOWN: 1 model(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND"
    )
    bench.reload(a="", b="")


def test_a_new_model_without_a_version_blocks_every_later_reload(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    first = threading.Thread(target=lambda: bench.reload(a="", b=""))
    first.start()
    until(lambda: bench.core._reload_lock.locked())
    second = threading.Thread(target=lambda: bench.reload(a=""))
    second.start()
    second.join(0.3)
    assert first.is_alive()
    assert second.is_alive()
    # A missing base path stops discovery for the models that are fine, too.
    bench.publish("a", 2)
    time.sleep(0.3)
    assert bench.available("a") == {1}
    bench.publish("b", 1)
    first.join(60)
    second.join(60)
    assert not first.is_alive()
    assert not second.is_alive()
    bench.wait_available("a", 2)


def test_with_a_single_poll_a_new_model_is_never_found(make: Callable[..., Bench]) -> None:
    bench = make(poll_seconds=0)
    bench.publish("a", 1)
    bench.publish("b", 1)
    bench.reload(a="")
    endings: list[str] = []
    stuck = threading.Thread(target=lambda: endings.append(bench.refusal(a="", b="")))
    stuck.start()
    stuck.join(0.3)
    assert stuck.is_alive()
    bench.core.stop()
    stuck.join(60)
    assert endings == ["CANCELLED: The server is shutting down."]


def test_a_model_without_platform_poisons_every_later_reload(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    poisoned = bench.config(a="")
    poisoned.model_config_list.config.add(name="b", base_path="/models/b")
    with pytest.raises(StatusError, match="Illegal setting neither"):
        bench.core.reload(poisoned)
    assert "Illegal setting neither" in bench.refusal(a="")
    assert bench.available("a") == {1}


def test_an_unknown_platform_is_cured_by_removing_the_model_first(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.publish("b", 1)
    bench.reload(a="")
    wrong = bench.config(a="", b="")
    wrong.model_config_list.config[1].model_platform = "torch"
    with pytest.raises(StatusError, match="Model b requests unsupported platform torch"):
        bench.core.reload(wrong)
    assert "Illegal to change a model's platform" in bench.refusal(a="", b="")
    bench.reload(a="")
    bench.reload(a="", b="")
    assert bench.available("b") == {1}


def test_a_model_that_comes_back_is_waited_for_despite_its_history(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.publish("b", 1)
    bench.reload(a="", b="")
    bench.reload(a="")
    until(lambda: bench.available("b") == set())
    bench.reload(a="", b="")
    assert bench.available("b") == {1}


def test_another_base_path_with_the_same_number_reloads_nothing(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.publish("elsewhere", 1)
    bench.reload(a="")
    moved = bench.config(a="")
    moved.model_config_list.config[0].base_path = "/models/elsewhere"
    bench.core.reload(moved)
    time.sleep(0.3)
    assert bench.loaders.log == ["load a 1"]


def test_an_emptied_base_path_unloads_the_model(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    (bench.root / "a" / "1").rmdir()
    bench.wait_available("a")
    assert bench.loaders.log == ["load a 1", "unload a 1"]


def test_a_list_of_no_models_removes_all_of_them(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.publish("a", 1)
    bench.reload(a="")
    bench.reload()
    bench.wait_available("a")


def test_a_custom_config_is_refused(make: Callable[..., Bench]) -> None:
    config = config_pb2.ModelServerConfig()
    config.custom_model_config.SetInParent()
    with pytest.raises(StatusError, match="does not yet support custom model config"):
        make().core.reload(config)


class Spec:
    """The part of ``ModelSpec`` the core reads."""

    def __init__(self, name: str, version: int | None = None, version_label: str = "") -> None:
        self.name = name
        self.version = type("Int64Value", (), {"value": version})()
        self.version_label = version_label
        self._choice = "version" if version is not None else "version_label" if version_label else None

    def WhichOneof(self, _: str) -> str | None:
        return self._choice


def test_a_request_means_the_latest_a_version_or_a_label(make: Callable[..., Bench]) -> None:
    bench = make(allow=True)
    bench.publish("a", 1, 2)
    bench.reload(a=ALL + label("stable", 1) + label("gone", 7))
    bench.wait_available("a", 1, 2)
    answers: list[int | str] = []
    for spec in (
        Spec("a"),
        Spec("a", 1),
        Spec("a", version_label="stable"),
        Spec("a", version_label="gone"),
        Spec("a", version_label="none"),
        Spec("a", 0),
        Spec(""),
    ):
        try:
            with bench.core.use(spec) as (version, _):
                answers.append(version)
        except StatusError as error:
            answers.append(str(error))
    assert answers == [
        2,
        1,
        1,
        "NOT_FOUND: Servable not found for request: Specific(a, 7)",
        "INVALID_ARGUMENT: Unrecognized servable version label: none",
        "NOT_FOUND: Servable not found for request: Specific(a, 0)",
        "INVALID_ARGUMENT: ModelSpec has no name specified.",
    ]
