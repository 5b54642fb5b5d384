"""What a promotion writes into a stack file is config that is read without a problem, after each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.stack import Settings, parse
from tests.config.test_traffic import canaries
from tfserving import promotion, stack_edit
from tfserving.promotion import Group

Change = Callable[[dict[str, Any]], dict[str, Any]]

OWN = {"modelA": {}, "modelB": {"labels": {"stable": 1, "canary": 2}}, "modelC": {}}


def stable(settings: Settings, service: str) -> int:
    """The version that a service is to answer requests by label stable with."""
    found = next(each for each in settings.files if service in each.readers)
    return next(model for model in found.config.models if model.name == "modelB").labels["stable"]


@pytest.mark.parametrize("own", [{}, {"models": OWN}, {"models": ["modelA", "modelB", "modelC"]}], ids=str)
@pytest.mark.parametrize("group", [None, Group("vision", "canary", (20, 100))], ids=["label", "shares"])
def test_every_step_of_a_promotion_is_a_stack_that_is_read_and_the_way_back_is_the_file_as_it_was(
    own: dict[str, Any], group: Group | None, changed: Change, project: Path
) -> None:
    document = changed({**canaries(**own), "tf-serving:models.modelB.labels": {"stable": 1, "canary": 2}})
    begin = text = yaml.safe_dump({"config": document}, sort_keys=False)

    def value(path: stack_edit.Path) -> Any:
        return stack_edit.value_at(text, path, "tf-serving")

    def read() -> Settings:
        config = yaml.safe_load(text)["config"]
        return parse(config, project)

    answers = []
    record = promotion.Record(
        "modelB", 2, "stable", promotion.plan("modelB", 2, "stable", value, ["multi_http"], group)
    )
    for step in record.steps:
        text = stack_edit.edit(text, promotion.edits(step, value), "tf-serving")
        settings = read()
        answers.append((stable(settings, "canary"), stable(settings, "multi_http"), dict(settings.traffic[0].weights)))
    if group is not None:
        assert answers[0] == (2, 1, {"multi_http": 90, "canary": 10})
        assert answers[1] == (2, 1, {"multi_http": 80, "canary": 20})
        assert answers[2] == (2, 1, {"multi_http": 0, "canary": 100})
        assert answers[-1] == (2, 2, {"multi_http": 90, "canary": 10})
    for count in range(len(record.steps)):
        text = begin
        for step in record.steps[: count + 1]:
            text = stack_edit.edit(text, promotion.edits(step, value), "tf-serving")
        back = promotion.Record("modelB", 2, "stable", record.steps, step=count).turned_back(("bad",), value)
        for step in back.steps:
            text = stack_edit.edit(text, promotion.edits(step, value), "tf-serving")
            read()
        assert yaml.safe_load(text) == yaml.safe_load(begin)
