"""Paths as TensorFlow Serving sees them."""

from __future__ import annotations

import posixpath


def clean_path(path: str) -> str:
    """An absolute path as TensorFlow opens it (``io::CleanPath``): ``/models//hats/../hats/`` is ``/models/hats``.

    It goes by the text alone, as here. Of any other path, such as a ``gs://`` URI, only slashes at the end go.
    """
    if not path.startswith("/"):
        return path.rstrip("/")
    return posixpath.normpath(f"/{path.lstrip('/')}")
