"""What a model repository tells its services: its place, and what of each model is to be served.

A service may be made by another program call than its repository, so this crosses Pulumi as one text, exact to the last
digit of every version number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfserving.errors import ConfigError, Problem


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a repository declares.

    Attributes:
        root: key prefix of the model directories, empty or ending in a slash.
        region: region of the bucket; empty where it is not said.
        models: the models as the stack config has them, each with the version numbers that are published.
    """

    root: str
    region: str
    models: Mapping[str, Mapping[str, Any]]

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    def models_for(self, model: object) -> Mapping[str, Mapping[str, Any]]:
        """The models that a service has to do with: one without labels where it serves one, else all.

        Args:
            model: the name of the one; a name that is none of them is a problem of the service, so all are there.
        """
        if not isinstance(model, str) or model not in self.models:
            return self.models
        return {model: {key: value for key, value in self.models[model].items() if key != "labels"}}

    @classmethod
    def read(cls, text: object, path: str) -> Declaration:
        """What :attr:`text` says.

        Args:
            text: as another program call has it.
            path: the argument that it came by.

        Raises:
            ConfigError: it is none.
        """
        try:
            found = json.loads(str(text))
            return cls(root=str(found["root"]), region=str(found["region"]), models=dict(found["models"]))
        except (ValueError, KeyError, TypeError):
            message = "this is not a ModelRepository"
            raise ConfigError([Problem(path, message, "the component itself", "pass the repository")]) from None
