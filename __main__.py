"""The Pulumi program: settings, then the stack, then exports."""

from __future__ import annotations

from pathlib import Path

import pulumi

from components.serving_stack import ServingStack, StackPlan
from config import model_files, program, pulumi_config
from tfserving.contract.found import FindVersionsResult
from tfserving.manifest import user_cache


def plan(found: FindVersionsResult | None) -> StackPlan:
    """The stack file, read with what the bucket holds once that is known."""
    with user_cache() as cache:
        settings = pulumi_config.load(Path(__file__).resolve().parent, pulumi.get_stack(), cache, found)
        return StackPlan(settings=settings, files=model_files.read(settings, cache))


with program.plain_errors():
    stack = ServingStack("serving", plan)
    for name, value in stack.exports.items():
        pulumi.export(name, value)
    pulumi.run(program.underway)
