"""The two files of a promotion: the stack file, edited in place, and the record beside it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ops.doctor.stack import load
from ops.engine import PROJECT_DIR, short_name
from tfserving import stack_edit
from tfserving.promotion import PromotionError, Record


class Files:
    """The stack file and the record of one stack.

    Args:
        stack: stack name.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        TFServingError: there is no stack file.
    """

    def __init__(self, stack: str, project_dir: Path = PROJECT_DIR) -> None:
        # A link stays a link: what is written is what it leads to.
        self.stack_file = load(stack, project_dir).file.resolve()
        self.record_file = self.stack_file.with_name(f"Pulumi.{short_name(stack)}.promotion.json")
        self._project = str(yaml.safe_load((project_dir / "Pulumi.yaml").read_text(encoding="utf-8"))["name"])

    # ---- the stack file --------------------------------------------------------------------------------------------

    def text(self) -> str:
        """The stack file, line ends as they are."""
        try:
            return self.stack_file.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as error:
            raise PromotionError(f"{self.stack_file} cannot be read: {error}") from None

    def value(self, path: stack_edit.Path) -> Any:
        """What the stack file says at a path."""
        return stack_edit.value_at(self.text(), path, self._project)

    def edited(self, text: str, changes: Mapping[stack_edit.Path, Any]) -> str:
        """The text of a stack file with some values changed."""
        return stack_edit.edit(text, changes, self._project)

    def write(self, old: str, new: str) -> None:
        """Writes the stack file, unless it is no longer what was read.

        Raises:
            PromotionError: somebody wrote it in between.
        """
        if self.text() != old:
            raise PromotionError(
                f"{self.stack_file.name} was changed by somebody else just now, and nothing was written. "
                "Fix: look at the file, then run it again with --continue, or --abort"
            )
        _write(self.stack_file, new)

    # ---- the record ------------------------------------------------------------------------------------------------

    def record(self) -> Record | None:
        """The record of the promotion that is under way, if one is.

        Raises:
            PromotionError: it cannot be read.
        """
        try:
            return Record.from_dict(json.loads(self.record_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise PromotionError(f"{self.record_file} cannot be read: {error}") from None

    def keep(self, record: Record) -> None:
        """Writes the record."""
        _write(self.record_file, json.dumps(record.to_dict(), indent=2, ensure_ascii=False) + "\n")

    def forget(self) -> None:
        """Removes the record: the promotion is over."""
        self.record_file.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other promotions of the stack away; the lock goes with the process, however it ends.

        Raises:
            PromotionError: one is at work.
        """
        name = hashlib.sha256(str(self.record_file).encode()).hexdigest()[:16]
        place = Path(tempfile.gettempdir()) / f"tf-serving-promotion-{os.getuid()}-{name}.lock"
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise PromotionError("a promotion of this stack is at work already; wait for it, or stop it") from None
        try:
            yield
        finally:
            os.close(handle)


def digest(text: str) -> str:
    """Tells one text of a stack file from another."""
    return hashlib.sha256(text.encode()).hexdigest()


def marked(record: Record, text: str) -> Record:
    """The record after the stack file was written."""
    return replace(record, written=digest(text))


def _write(file: Path, text: str) -> None:
    """Writes a file so that a reader sees the old one or the new one, with the rights it had."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        with open(partial, "wb") as handle:
            handle.write(text.encode())
            handle.flush()
            os.fsync(handle.fileno())
        if file.exists():
            os.chmod(partial, file.stat().st_mode & 0o7777)
        partial.replace(file)
    except OSError as error:
        raise PromotionError(f"{file} cannot be written: {error.strerror or error}") from None
