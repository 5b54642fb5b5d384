"""The model config file in every place where services read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provider.asking import AskedService
from provider.model_config_file import (
    ConfigObject,
    in_bucket,
    in_config_map,
)
from provider.resource import Context
from tfserving.config_notes import StoredConfig, Tried
from tfserving.contract.gates import GateReport
from tfserving.contract.serving import ServedConfigInputs
from tfserving.model_config import ModelServerConfig


class Files:
    """The model config file in every place where services read it: in the bucket, in a ConfigMap, or in both.

    Between two writes a run may be killed. Files that do not say the same count as none: the rollout then goes on from
    what services really serve, and writes both.
    """

    def __init__(self, ctx: Context, inputs: ServedConfigInputs, services: Iterable[AskedService]) -> None:
        where = {service.pods is not None for service in services}
        self._objects: list[ConfigObject] = []
        if False in where or not where:
            self._objects.append(in_bucket(ctx, inputs))
        if True in where:
            self._objects.append(in_config_map(inputs))
        self.first: ModelServerConfig | None = None  # what one of the files says, once they were read
        self.restarts: frozenset[str] = frozenset()  # services that the files say are still to be restarted
        self.gates: tuple[GateReport, ...] = ()  # what came of gates before the files were written

    @property
    def uri(self) -> str:
        return self._objects[0].uri

    @property
    def name(self) -> str:
        """What the file is called in each place."""
        return self.uri.rpartition("/")[2]

    def find(self) -> ModelServerConfig | None:
        """What the files say, whoever manages them."""
        return self._same(found.find() for found in self._objects)

    def read(self) -> ModelServerConfig | None:
        """What the files say, if this stack manages them; raises OwnershipError where it does not."""
        return self._same(found.read() for found in self._objects)

    def write(
        self,
        config: ModelServerConfig,
        restarts: frozenset[str],
        gates: Sequence[GateReport] = (),
        tried: Sequence[Tried] = (),
    ) -> None:
        """Replace the files, one after the other.

        Args:
            config: what they say.
            restarts: services that are still to be restarted.
            gates: what came of gates before.
            tried: gates that begin now.
        """
        self.restarts = restarts
        for found in self._objects:
            found.write(config, restarts=restarts, gates=gates, tried=tried)

    def _same(self, found: Iterable[StoredConfig | None]) -> ModelServerConfig | None:
        stored = list(found)
        self.restarts = frozenset().union(*(each.restarts for each in stored if each))
        self.gates = next((each.gates for each in stored if each), ())
        parsed = [found.parse() if found else None for found in stored]
        self.first = next((config for config in parsed if config is not None), None)
        return parsed[0] if all(config == parsed[0] for config in parsed) else None
