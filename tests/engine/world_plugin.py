"""A real provider plugin over a directory: what the engine tests deploy to. Started by its path, as any plugin is.

Every thing is ``world/<id>.json``; ``world/journal`` has one line per operation: its start, its end, what it was.
Inputs that steer it: ``value``, ``kind`` (a change replaces), ``delay`` (seconds), ``fail`` (operations that fail),
``unready`` (made or changed, but not ready).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from sandbox.engine.properties import Properties
from sandbox.plugins.server import InputError, NotReadyError, Provider, ResourceType, State, serve
from tfserving.errors import TFServingError

WORLD = Path("world")


class Thing(ResourceType):
    replace_on: ClassVar[frozenset[str]] = frozenset({"kind"})
    computed: ClassVar[tuple[str, ...]] = ("endpoint", "token")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def check(self, name: str, old: Properties, new: Properties) -> Properties:
        if not isinstance(new.get("value", ""), str):
            raise InputError(("value", "must be a text"))
        return {"label": old.get("label", f"{name}-label"), **new}

    @contextlib.contextmanager
    def _operation(self, name: str, urn: str, inputs: Properties) -> Iterator[None]:
        WORLD.mkdir(exist_ok=True)
        start = time.monotonic()
        self._provider.log(urn, f"about to {name}", status=True)
        (WORLD / "at-work").touch()
        self._provider.cancelled.wait(float(inputs.get("delay", 0)))
        if name in inputs.get("fail", ""):
            raise TFServingError(f"the world refuses to {name} this")
        yield
        with open(WORLD / "journal", "a", encoding="utf-8") as journal:
            journal.write(f"{start:.3f} {time.monotonic():.3f} {name} {urn.rpartition('::')[2]}\n")

    def _outputs(self, id: str, inputs: Properties) -> Properties:
        return inputs | {"endpoint": f"thing://{id}", "token": f"token-{id}"}

    def _write(self, id: str, inputs: Properties) -> Properties:
        (WORLD / f"{id}.json").write_text(json.dumps(inputs), encoding="utf-8")
        if inputs.get("unready"):
            raise NotReadyError("the thing does not answer", id, self._outputs(id, inputs))
        return self._outputs(id, inputs)

    def create(self, urn: str, inputs: Properties) -> tuple[str, Properties]:
        with self._operation("create", urn, inputs):
            id = f"{urn.rpartition('::')[2]}-{os.urandom(3).hex()}"
        return id, self._write(id, inputs)

    def read(self, state: State) -> tuple[Properties, Properties] | None:
        file = WORLD / f"{state.id}.json"
        if not file.exists():
            return None
        inputs = json.loads(file.read_text(encoding="utf-8"))
        if "read" in inputs.get("fail", ""):
            raise TFServingError("the world cannot be reached")
        return inputs, self._outputs(state.id, inputs)

    def update(self, state: State, inputs: Properties) -> Properties:
        with self._operation("update", state.urn, inputs):
            return self._write(state.id, inputs)

    def delete(self, state: State) -> None:
        with self._operation("delete", state.urn, state.inputs):
            (WORLD / f"{state.id}.json").unlink(missing_ok=True)


class Slot(Thing):
    delete_first = True


class Watched(Thing):
    refresh_before_update = True


class World(Provider):
    name = "world"

    def __init__(self) -> None:
        super().__init__()
        kinds = {"Thing": Thing(self), "Slot": Slot(self), "Watched": Watched(self)}
        self.types = {f"world:index:{name}": kind for name, kind in kinds.items()}

    def configure(self, settings: Properties) -> None:
        if settings.get("broken"):
            raise TFServingError("these settings are broken")

    def invoke(self, token: str, arguments: Properties) -> Properties:
        if token != "world:index:getCount":
            return super().invoke(token, arguments)
        return {"count": len(list(WORLD.glob("*.json"))), "asked": arguments["asked"]}


if __name__ == "__main__":
    serve(World())
