"""Who made a thing last: the deletion of an older resource leaves alone what a newer one has taken over.

A replacement that keeps its name (``up --replace``, ``pulumi state taint``) creates first: the create finds the thing
there and takes it over. The deletion of the original that follows would remove what is live.
"""

from __future__ import annotations

import threading
import uuid

from provider.resource import Resource, text
from provider.values import Properties

STAMP = "createdBy"
"""Output with the id of the create that a state comes from. States of release 0.1.0 have none."""


class Claims:
    """The creates of one provider process, which lives as long as one operation of the engine. Safe with threads."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[str, str]] = {}
        self._lock = threading.Lock()

    def stamped(self, resource: Resource, id_: str, outputs: Properties) -> Properties:
        """The outputs of a create, with an id of its own in them: the thing is this create's from now on."""
        stamp = uuid.uuid4().hex
        with self._lock:
            self._made[resource.token, id_] = stamp, text(outputs, "owner")
        return outputs | {STAMP: stamp}

    def is_anothers(self, resource: Resource, id_: str, inputs: Properties, outputs: Properties) -> bool:
        """Whether a newer resource of the same stack has made or taken over the thing that a state tells of.

        What another stack has taken is told by the thing itself, and the resource's own deletion looks at that.
        """
        with self._lock:
            stamp, owner = self._made.get((resource.token, id_), ("", ""))
        return bool(stamp) and owner == text(inputs, "owner") and stamp != text(outputs, STAMP)

    def forget(self, resource: Resource, id_: str) -> None:
        """The thing is deleted: whoever makes it next is its first owner."""
        with self._lock:
            self._made.pop((resource.token, id_), None)


def kept(outputs: Properties, before: Properties) -> Properties:
    """Outputs of an update or a read, with the stamp that the state had."""
    return outputs | ({STAMP: before[STAMP]} if STAMP in before else {})
