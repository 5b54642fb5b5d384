"""The stack file that an import writes, and how the cloud of its stack is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ops.doctor.stack import NAMESPACE, StackConfig, load, read_yaml
from ops.engine import PROJECT_DIR, short_name
from tfserving import stack_file
from tfserving.errors import TFServingError

_HANDED_ON = ("region", "protocol", "accountType", "skipRegionValidation", "profile")
_ENDPOINTS = ("endpoint", "endpoints")
_MADE = ("bucket", "models", "services")


class ImportTargetError(TFServingError):
    """The stack file cannot be written, or nothing says in which region the stack is."""


@dataclass(frozen=True)
class Target:
    """Where an import goes.

    Attributes:
        stack: how the cloud is reached: the stack's own file, another stack's, or the options of the command.
        name: name of the stack; empty where only text is wanted.
        file: the stack file.
        existing: its text; empty where there is none.
        settings: config keys that are written beside what is imported.
        present: config keys that the file has already.
        owner: ``<project>/<stack>``.
    """

    stack: StackConfig
    name: str
    file: Path
    existing: str
    settings: Mapping[str, Any]
    present: Mapping[str, Any]
    owner: str

    def write(self, whole: str, lines: Sequence[str]) -> None:
        """Writes the stack file: anew, or into the one that is there.

        Args:
            whole: the file, where there is none.
            lines: what goes below ``config:`` of one that is there.

        Raises:
            ImportTargetError: it cannot be written, or is written in a way that nothing can be added to.
        """
        text = extended(self.existing, lines) if self.existing else whole
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ImportTargetError(f"{self.file} cannot be written: {error.strerror}") from None


def choose(name: str, like: str, region: str, project_dir: Path = PROJECT_DIR) -> Target:
    """Finds out where an import goes.

    Args:
        name: stack to write the file of; empty: none.
        like: stack whose settings of the cloud are taken over; empty: none.
        region: region id; empty: that of the stack's file, or of ``like``.
        project_dir: the directory of ``Pulumi.yaml``.

    Raises:
        ImportTargetError: the stack has models or services already, or nothing names a region.
        DoctorError: there is no stack ``like``.
    """
    project = read_yaml(project_dir / "Pulumi.yaml")
    name = short_name(name)
    file = project_dir / str(project.get("stackConfigDir") or "") / f"Pulumi.{name}.yaml"
    existing = _text(file) if name and file.is_file() else ""
    own = load(name, project_dir) if existing else None
    if own is not None:
        made = [f"{NAMESPACE}:{key}" for key in _MADE if f"{NAMESPACE}:{key}" in own.values]
        if made:
            raise ImportTargetError(
                f"{file} has {', '.join(made)} already, and an import overwrites nothing. "
                "Fix: give --stack another name, or leave it out, and copy what is printed"
            )
    other = load(like, project_dir) if like else None
    values: dict[str, Any] = {}
    for stack in (other, own):
        values |= _of_the_cloud(stack) if stack is not None else {}
    values |= {"alicloud:region": region} if region else {}
    if not values.get("alicloud:region"):
        raise ImportTargetError("nothing says in which region: add --region cn-hangzhou, or --like and a stack")
    held = own or other
    if held is None:
        held = StackConfig(name or "new", file, values, frozenset(), False)
    else:
        keys = {key: value for key, value in held.values.items() if key.startswith("alicloud:")}
        held = replace(held, values=keys | values)
    written = {key: value for key, value in values.items() if own is None or key not in own.values}
    present = own.values if own is not None else {}
    return Target(held, name, file, existing, written, present, f"{project.get('name') or NAMESPACE}/{name or 'new'}")


def extended(text: str, lines: Sequence[str]) -> str:
    """A stack file with more config keys.

    Args:
        text: the file.
        lines: further lines below ``config:``, indented by two blanks.

    Raises:
        ImportTargetError: its config is not written in lines of their own.
    """
    document = stack_file.load(text)
    before = document.get("config") if isinstance(document, dict) else None
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    config = next((pair for pair in pairs if pair[0].value == "config"), None)
    there = text.splitlines()
    if not before:
        rest = there if config is None else [line for line in there if not line.startswith("config:")]
        result = "\n".join([*rest, "config:", *lines]) + "\n"
    else:
        assert config is not None  # noqa: S101 - it has values
        indent = config[1].value[0][0].start_mark.column
        end = _last_line(config[1]) + 1
        added = [f"{' ' * (indent - 2)}{line}" if line and indent > 2 else line for line in lines]
        result = "\n".join([*there[:end], *added, *there[end:]]) + "\n"
    try:
        after = stack_file.load(result)["config"]
    except (yaml.YAMLError, TypeError, KeyError):
        after = None
    if not isinstance(after, dict) or any(after.get(key) != value for key, value in (before or {}).items()):
        raise ImportTargetError(
            "the stack file is written in a way that nothing can be added to. "
            "Fix: leave --stack out, and copy what is printed below its `config:`"
        )
    return result


def _last_line(node: yaml.Node) -> int:
    """The last line of a value, whatever follows it."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    last: int = node.end_mark.line - (
        1 if node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line else 0
    )
    return last


def _of_the_cloud(stack: StackConfig) -> dict[str, Any]:
    wanted = [f"alicloud:{key}" for key in _HANDED_ON] + [f"{NAMESPACE}:{key}" for key in _ENDPOINTS]
    return {key: stack.values[key] for key in wanted if key in stack.values}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportTargetError(f"{file} cannot be read: {error}") from None
