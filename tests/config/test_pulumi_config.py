"""Reading all config of a running program, and what only the stack file shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi.runtime
import pytest

from config import pulumi_config
from tfserving.errors import ConfigError
from tfserving.manifest import HashCache


@pytest.fixture(autouse=True)
def no_config() -> Iterator[None]:
    """No config is left behind for other tests."""
    pulumi.runtime.set_all_config({}, [])
    yield
    pulumi.runtime.set_all_config({}, [])


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_misspelt_keys_are_read_too(tmp_path: Path) -> None:
    pulumi.runtime.set_all_config({"tf-serving:modls": "{}", "aws:region": "x"}, ["tf-serving:modls"])
    found = pulumi_config.read(tmp_path, "dev")
    assert found.values == {"tf-serving:modls": "{}", "aws:region": "x"}
    assert found.secret_keys == {"tf-serving:modls"}


def test_the_environment_of_a_language_host_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"tf-serving:bucket": "b", "tf-serving:modelRoot": "x"}))
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", json.dumps(["tf-serving:bucket"]))
    pulumi.runtime.set_all_config({"tf-serving:modelRoot": "y"})
    found = pulumi_config.read(tmp_path, "dev")
    assert found.values == {"tf-serving:bucket": "b", "tf-serving:modelRoot": "y"}
    assert found.secret_keys == {"tf-serving:bucket"}


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    pulumi.runtime.set_all_config({"alicloud:secretKey": "hunter2"})
    assert "hunter2" not in repr(pulumi_config.read(tmp_path, "dev"))


def doubts(directory: Path, text: str) -> list[str]:
    """Paths and messages of what is doubtful about a stack file."""
    write(directory / "Pulumi.yaml", "name: shop\nstackConfigDir: stacks\n")
    write(directory / "stacks" / "Pulumi.dev.yaml", text)
    return [f"{problem.path}: {problem.message}" for problem in pulumi_config.doubts(directory, "dev").problems]


def test_the_stack_file_is_where_the_project_says(tmp_path: Path) -> None:
    text = "config: {a: 1, a: 2}\n"
    assert len(doubts(tmp_path, text)) == 1
    write(tmp_path / "Pulumi.yaml", "name: shop\n")
    assert pulumi_config.doubts(tmp_path, "dev").problems == ()
    write(tmp_path / "Pulumi.dev.yaml", text)
    assert len(pulumi_config.doubts(tmp_path, "dev").problems) == 1


def test_a_model_written_twice_is_found_with_its_lines(tmp_path: Path) -> None:
    text = "config:\n  tf-serving:models:\n    modelA: {policy: all}\n    modelB: {}\n    modelA: {}\n"
    (found,) = doubts(tmp_path, text)
    assert found.startswith("tf-serving:models.modelA: the key is written twice, on lines 3 and 5 of Pulumi.dev.yaml")


def test_keys_written_twice_are_found_at_every_level(tmp_path: Path) -> None:
    text = (
        "config:\n"
        "  tf-serving:bucket: a\n"
        "  tf-serving:bucket: b\n"
        "  tf-serving:services:\n"
        "    one:\n"
        "      instanceTypes: [{type: a, type: b}, [{x: 1, x: 2}]]\n"
        "      env: {A: 1, B: 2, A: 3}\n"
        "  size: 1\n"
        "  shop:size: 2\n"
        "  shop:config:size: 3\n"
    )
    assert [found.partition(": ")[0] for found in doubts(tmp_path, text)] == [
        "tf-serving:bucket",
        "tf-serving:services.one.instanceTypes[0].type",
        "tf-serving:services.one.instanceTypes[1][0].x",
        "tf-serving:services.one.env.A",
        "shop:size",
        "shop:size",
    ]


def test_a_key_without_a_namespace_is_told_with_it(tmp_path: Path) -> None:
    (found,) = doubts(tmp_path, "config: {models: {m: {labels: {a: 007}}}}\n")
    assert found.startswith("shop:models.m.labels.a: 007 is a number")


@pytest.mark.parametrize("text", ["", "a: [", "- 1", "config: 5", "config:\n  a: {b: 1}\nencryptionsalt: v1\n", "\x00"])
def test_files_without_duplicates_or_without_sense_have_no_problem(tmp_path: Path, text: str) -> None:
    assert doubts(tmp_path, text) == []


def test_a_missing_file_has_no_problem(tmp_path: Path) -> None:
    assert pulumi_config.doubts(tmp_path, "dev").problems == ()


def test_duplicates_and_other_problems_are_told_together(good: dict[str, Any], project: Path) -> None:
    write(project / "Pulumi.dev.yaml", "config:\n  tf-serving:bucket: a\n  tf-serving:bucket: b\n")
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in good.items()}
    pulumi.runtime.set_all_config(values, [])
    with pytest.raises(ConfigError) as caught:
        pulumi_config.load(project, "dev", HashCache())
    assert [problem.path for problem in caught.value.problems] == ["tf-serving:bucket"]
    pulumi.runtime.set_all_config({**values, "tf-serving:modls": "{}"}, [])
    with pytest.raises(ConfigError) as caught:
        pulumi_config.load(project, "dev", HashCache())
    assert [problem.path for problem in caught.value.problems] == ["tf-serving:bucket", "tf-serving:modls"]


def test_a_key_that_is_read_under_another_name_is_told_once_and_as_it_is_written(
    good: dict[str, Any], project: Path
) -> None:
    write(project / "Pulumi.dev.yaml", "config:\n  tf-serving:models:\n    null: {}\n    2024-01-01: {}\n")
    models = {"<nil>": {}, "2024-01-01 00:00:00 +0000 UTC": {}}
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in good.items()}
    pulumi.runtime.set_all_config({**values, "tf-serving:models": json.dumps(models)}, [])
    with pytest.raises(ConfigError) as caught:
        pulumi_config.load(project, "dev", HashCache())
    paths = [problem.path for problem in caught.value.problems if problem.path.startswith("tf-serving:models")]
    assert paths == ["tf-serving:models.null", "tf-serving:models.2024-01-01"]


def test_a_valid_config_is_loaded(good: dict[str, Any], project: Path) -> None:
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in good.items()}
    pulumi.runtime.set_all_config(values, [])
    assert pulumi_config.load(project, "dev", HashCache()).bucket.name == "tf-serving-local"
