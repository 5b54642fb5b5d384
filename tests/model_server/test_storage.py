"""Version discovery and policies."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from sandbox.model_server.mounts import Mounts
from sandbox.model_server.status import StatusError
from sandbox.model_server.storage import AspiredVersion, Servable, StorageSource, poll_servable, select, version_number

Policy = source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy


def servable(policy: str = "", base_path: str = "/m") -> Servable:
    return Servable("m", base_path, text_format.Parse(policy, Policy()))


def numbers(policy: str, children: Sequence[str]) -> list[int]:
    return [aspired.version for aspired in select(servable(policy), children)]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("0", 0),
        ("00000123", 123),
        ("-1", -1),
        ("+5", 5),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("v1", None),
        ("0.1", None),
        ("1.manifest.json", None),
        (".staging-2", None),
        ("latest", None),
        ("", None),
        ("१", None),
    ],
)
def test_a_name_is_a_version_if_all_of_it_is_an_int64(name: str, number: int | None) -> None:
    assert version_number(name) == number


def test_without_a_policy_the_highest_number_is_served() -> None:
    assert numbers("", ["1", "10", "9", "x"]) == [10]


def test_latest_takes_the_highest_numbers_and_at_least_one() -> None:
    assert numbers("latest { num_versions: 2 }", ["1", "3", "2"]) == [3, 2]
    assert numbers("latest { num_versions: 0 }", ["1", "3", "2"]) == [3]
    assert numbers("latest { num_versions: 9 }", ["1", "3"]) == [3, 1]


def test_specific_takes_those_that_exist_and_warns_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert numbers("specific { versions: 7 versions: 2 }", ["1", "2"]) == [2]
    assert "Version 7 of servable m, which was requested to be served as a 'specific' version" in caplog.text


def test_duplicate_directories_use_the_last_by_name_except_with_all(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert select(servable(), ["1", "001"]) == [AspiredVersion(1, "/m/1")]
    assert (
        "Duplicate version directories detected. Version 1 will be loaded from 1, 001 will be ignored." in caplog.text
    )
    assert [aspired.path for aspired in select(servable("all {}"), ["1", "001"])] == ["/m/001", "/m/1"]


def test_nothing_that_matches_is_an_empty_list_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert select(servable(), ["v1"]) == []
    assert (
        "No versions of servable m found under base path /m. Did you forget to name your leaf directory as a number "
        "(eg. '/1/')?" in caplog.text
    )


CHILDREN = st.lists(
    st.one_of(st.integers(0, 30).map(str), st.integers(0, 30).map(lambda n: f"0{n}"), st.sampled_from(["v1", "tmp"])),
    max_size=12,
)


@given(CHILDREN, st.integers(0, 6))
def test_latest_is_always_the_top_of_all(children: list[str], count: int) -> None:
    everything = sorted(set(numbers("all {}", children)), reverse=True)
    assert numbers(f"latest {{ num_versions: {count} }}", children) == everything[: max(count, 1)]


@given(CHILDREN, st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_specific_is_always_what_is_asked_for_and_there(children: list[str], wanted: list[int]) -> None:
    policy = "specific {" + "".join(f" versions: {number}" for number in wanted) + "}"
    assert numbers(policy, children) == sorted(set(wanted) & set(numbers("all {}", children)))


@given(CHILDREN)
def test_the_order_of_the_listing_does_not_matter(children: list[str]) -> None:
    for policy in ("", "all {}", "latest { num_versions: 3 }"):
        assert select(servable(policy), children) == select(servable(policy), children[::-1])


def test_a_plain_file_named_as_a_number_is_a_version(tmp_path: Path) -> None:
    (tmp_path / "5").write_text("")
    assert poll_servable(servable(base_path=str(tmp_path)), Mounts()) == [AspiredVersion(5, f"{tmp_path}/5")]


def test_paths_are_the_containers(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    found = poll_servable(servable(base_path="/models/m/"), Mounts({"/models": str(tmp_path)}))
    assert found == [AspiredVersion(1, "/models/m/1")]


def test_an_empty_list_of_specific_versions_aspires_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1").mkdir()
    with caplog.at_level(logging.WARNING):
        assert poll_servable(servable("specific {}", str(tmp_path)), Mounts()) == []
    assert "No specific versions requested for servable m." in caplog.text


def test_specific_versions_are_found_under_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "002").mkdir()
    found = poll_servable(servable("specific { versions: 1 versions: 2 }", str(tmp_path)), Mounts())
    assert found == [AspiredVersion(1, f"{tmp_path}/1"), AspiredVersion(2, f"{tmp_path}/002")]


def test_a_missing_base_path_is_an_error() -> None:
    with pytest.raises(StatusError) as caught:
        poll_servable(servable(base_path="/none/m"), Mounts())
    assert caught.value.message.startswith("Could not find base path /none/m for servable m with error ")


class Recorder:
    """Collects what a source reports."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def __call__(self, name: str, versions: Sequence[AspiredVersion]) -> None:
        self.calls.append((name, [aspired.version for aspired in versions]))


def started(servables: Sequence[Servable], recorder: Recorder) -> StorageSource:
    """A source whose polls are made by the test."""
    source = StorageSource(servables, -1, Mounts())
    source.start(recorder)
    return source


def test_one_missing_base_path_keeps_every_model_from_being_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a" / "1").mkdir(parents=True)
    models = [Servable("a", f"{tmp_path}/a", Policy()), Servable("b", f"{tmp_path}/b", Policy())]
    recorder = Recorder()
    source = started(models, recorder)
    with caplog.at_level(logging.ERROR):
        source.poll()
    assert recorder.calls == []
    assert "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path" in caplog.text
    (tmp_path / "b").mkdir()
    source.poll()
    assert recorder.calls == [("a", [1]), ("b", [])]


def test_models_no_longer_watched_are_reported_empty_at_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    recorder = Recorder()
    source = started([Servable("a", str(tmp_path), Policy()), Servable("b", str(tmp_path), Policy())], recorder)
    source.update([Servable("b", str(tmp_path), Policy())])
    assert recorder.calls == [("a", [])]
    assert source.names == {"b"}


def test_zero_seconds_polls_exactly_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    recorder = Recorder()
    source = StorageSource([Servable("a", str(tmp_path), Policy())], 0, Mounts())
    source.start(recorder)
    source.stop()
    assert recorder.calls == [("a", [1])]


def test_a_negative_interval_never_polls(tmp_path: Path) -> None:
    recorder = Recorder()
    source = StorageSource([Servable("a", str(tmp_path), Policy())], -1, Mounts())
    source.start(recorder)
    source.stop()
    assert recorder.calls == []
