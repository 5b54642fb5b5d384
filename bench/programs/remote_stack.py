"""The stack of ``stack.py``, its component made by the plugin: as a generated SDK asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pulumi

options = json.loads(Path(__file__).with_name("options.json").read_text(encoding="utf-8"))
pulumi.ComponentResource("tfserving:index:ServingStack", "serving", options, None, remote=True)
