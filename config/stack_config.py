"""What is configured for a stack, before it is understood, and what is found wrong with it on the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.reader import Reader
from tfserving.contract.found import FindVersionsResult
from tfserving.errors import Problem
from tfserving.manifest import HashCache

NAMESPACE = "tf-serving"
"""The project's name, and with it the namespace of its config keys."""


@dataclass(kw_only=True)
class StackConfig:
    """The config of one stack while it is read.

    Attributes:
        raw: values by full key (``tf-serving:models``), text or structured.
        project_dir: what relative directories are relative to.
        secret_keys: the keys Pulumi holds as secret; ``None`` where that is not known.
        cache: what is known of model files from earlier runs.
        whole: a stack needs services; a part of one, such as a component alone, does not.
        found: what is in the bucket, for models that go by it; ``None``: nobody has looked yet.
        problems: what is wrong, in the order of the config.
        warnings: what is worth saying although nothing is wrong.
    """

    raw: Mapping[str, Any]
    project_dir: Path
    secret_keys: Collection[str] | None = None
    cache: HashCache = field(default_factory=HashCache)
    whole: bool = True
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    found: FindVersionsResult | None = None

    def reader(self, key: str) -> Reader:
        """A reader of the value of one key, whose problems are the stack's."""
        reader = Reader(secret=key in (self.secret_keys or ()))
        reader.problems = self.problems  # one list, so that problems stay in the order of the config
        return reader

    def is_secret(self, key: str) -> bool | None:
        """Whether Pulumi holds the value of a key as secret; ``None`` where that is not known."""
        return None if self.secret_keys is None else key in self.secret_keys
