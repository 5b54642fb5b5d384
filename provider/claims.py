"""Which create a thing is held by: the deletion of an older resource leaves alone what a newer one has taken over.

A replacement that keeps its name (``up --replace``, ``pulumi state taint``, another region's provider) creates first:
the create finds the thing there and takes it over. The deletion of the original follows, in the same run, in another
process of the provider, or in a later run where this one was killed in between; it would remove what is live. So the
thing itself says which create holds it: a service by a label, a version by its manifest, a model config file by a
comment.
"""

from __future__ import annotations

import uuid

from google.protobuf import struct_pb2

from tfserving.property_values import Properties, plain

STAMP = "createdBy"
"""Output with the id of the create that a state comes from. States of release 0.1.0 have none."""

TAKEN = "taken"
"""Output of a read: the thing is held by a create that this state does not come from."""


def new_stamp() -> str:
    """An id for a create."""
    return uuid.uuid4().hex


def is_anothers(held_by: str, stamp: str) -> bool:
    """Whether a thing is held by another create than the one that a state comes from.

    Args:
        held_by: what the thing says; empty where it says nothing, as those that release 0.1.0 made.
        stamp: of the state; empty for a state of release 0.1.0.
    """
    return held_by not in ("", stamp)


def found_by(held_by: str, stamp: str, *, imported: bool) -> Properties:
    """What a read adds to its outputs: an import goes on as the create that holds the thing; else :data:`TAKEN`."""
    if imported:
        return stamped({}, held_by)
    return {TAKEN: True} if is_anothers(held_by, stamp) else {}


def stays(thing: str) -> str:
    """What a deletion says that leaves a thing to the create that holds it."""
    return (
        f"{thing} stays: a newer resource of this stack has taken it over. If there is none, because a run was killed, "
        "remove it by hand"
    )


def stamped(outputs: Properties, stamp: str) -> Properties:
    """Outputs of an operation with the stamp of the create that they come from."""
    return outputs | ({STAMP: stamp} if stamp else {})


def stamp_of(outputs: Properties) -> str:
    """The stamp in a state; empty where there is none."""
    return str(plain(outputs.get(STAMP)) or "")


def stamp_in(state: struct_pb2.Struct) -> str:
    """The same of a state as it came over the protocol, which is not decoded for it."""
    return state.fields[STAMP].string_value if STAMP in state.fields else ""
