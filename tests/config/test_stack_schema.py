"""``stacks/schema.json``: what an editor knows of a stack file is what the program reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from config.stack import parse
from ops import schema_command
from tests.config.test_bad_config import BAD
from tests.config.test_documented_keys import EXAMPLES
from tfserving.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
STACKS = sorted((PROJECT / "stacks").glob("Pulumi.*.yaml"))
SCHEMA = json.loads(schema_command.texts()[schema_command.SCHEMA])
VALIDATOR = Draft202012Validator(SCHEMA)

OF_SHAPE = re.compile(
    r"unknown key|is not a whole number|neither true nor false|is not a mapping|is not a text|is not a list"
    r"|has no namespace|is not a setting this project"
)
"""What a schema can see: a key nobody reads, or a value of another type."""


def wrong(config: dict[str, Any]) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors({"config": config})]


@pytest.mark.parametrize("name", schema_command.texts())
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert (PROJECT / name).read_text(encoding="utf-8") == schema_command.texts()[name], f"{name}: run make schema"


def test_it_is_a_valid_schema_in_which_every_option_is_described() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    config = SCHEMA["properties"]["config"]["properties"]
    assert all(config[key].get("description") for key in config)
    service = SCHEMA["$defs"]["service"]["else"]["anyOf"][0]["properties"]
    assert service["rpcKeepaliveMs"]["default"] == 60_000
    assert service["deployment"]["anyOf"][0] == {"enum": ["scenario", "custom"]}
    assert [key for key, value in service.items() if key != "target" and not value.get("description")] == []


@pytest.mark.parametrize("file", STACKS, ids=[file.name for file in STACKS])
def test_every_stack_file_names_it_and_is_valid(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_of_the_docs_is_valid(example: dict[str, Any]) -> None:
    assert wrong(example) == []


def test_values_that_pulumi_encrypted_and_text_of_pulumi_config_set_are_valid() -> None:
    service = {"deployment": "custom", "port": "8501", "grpc": "false", "token": {"secure": "v1:abc"}}
    services = {"multi_http": service, "vision": {"target": "ack", "disruptionBudget": False, "runAsUser": "image"}}
    assert wrong({"tf-serving:services": services, "tf-serving:models": '{"modelA": {}}'}) == []
    assert wrong({"tf-serving:serviceDefaults": {"configPollSeconds": "30", "headless": True}}) == []


@pytest.mark.parametrize(("changes", "path", "words"), BAD, ids=[f"{i}-{path}" for i, (_, path, _) in enumerate(BAD)])
def test_what_is_wrong_by_its_shape_is_wrong_by_the_schema(
    changed: Callable[[dict[str, Any]], dict[str, Any]], project: Path, changes: dict[str, Any], path: str, words: str
) -> None:
    config = changed(changes)
    with pytest.raises(ConfigError) as caught:
        parse(config, project)
    seen = [problem for problem in caught.value.problems if OF_SHAPE.search(problem.message)]
    if seen and not any("JSON" in problem.message for problem in caught.value.problems):
        assert wrong(config), f"the schema takes what is refused: {seen}"


def test_what_is_right_is_right_by_the_schema(good: dict[str, Any]) -> None:
    assert wrong(good) == []
