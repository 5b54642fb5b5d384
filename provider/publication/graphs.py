"""What the graph of a version in OSS tells, where nobody of this project has looked at it before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tfserving import saved_model

GRAPH_BYTES = 64 << 20
"""A larger graph is not read: its tags, and what it needs beside it, are not known then."""


def faults_of_graph(
    sizes: Mapping[str, int], read: Callable[[str, int], bytes], *, tflite: bool, tags: Iterable[str]
) -> list[str]:
    """Why a server would not load a version, or fail its requests, as the rest of a sentence that begins with its name.

    Args:
        sizes: bytes by path.
        read: gives the first bytes of a file.
        tflite: whatever serves it has ``--prefer_tflite_model``.
        tags: ``--saved_model_tags`` of whatever serves it.
    """
    graph = saved_model.graph_of(sizes)
    if not graph or sizes[graph] > GRAPH_BYTES:
        return []
    return saved_model.incomplete(sizes, read(graph, max(sizes[graph], 1)), tflite=tflite, tags=tags)
