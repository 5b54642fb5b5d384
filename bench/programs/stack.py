"""All of a stack, its component made by this program."""

from __future__ import annotations

from pathlib import Path

import pulumi

from components.serving_stack import ServingStack, StackPlan
from config import model_files, program, pulumi_config
from tfserving.manifest import user_cache

with program.plain_errors():
    with user_cache() as cache:
        settings = pulumi_config.load(Path(__file__).resolve().parent, pulumi.get_stack(), cache)
        files = model_files.read(settings, cache)
    plan = StackPlan(settings=settings, files=files)
    ServingStack("serving", lambda found: plan)
    pulumi.run(program.underway)
