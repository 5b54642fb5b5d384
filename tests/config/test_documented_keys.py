"""``docs/stack-config.md``: exactly the keys that are read, their real defaults, and examples that are valid."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from config import stack as settings
from config.bucket import BucketSettings
from config.cloud import AlicloudSettings
from config.kubernetes import ACK_SERVICE_KEYS
from config.reader import Reader
from config.services import KEYS as SERVICE_KEYS
from config.services import ServiceSettings
from config.stack import parse
from tfserving import eas_spec, stack_file
from tfserving.contract.gates import Latency, Tolerance
from tfserving.options import keys

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "stack-config.md").read_text(encoding="utf-8")
EXAMPLES = [stack_file.load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]

# What every section's defaults are taken from.
DEFAULTS: dict[str, tuple[type, ...]] = {
    "tf-serving:bucket": (BucketSettings,),
    "tf-serving:models.<model>.gate.tolerance": (Tolerance,),
    "tf-serving:models.<model>.gate.latency": (Latency,),
    "tf-serving:services.<service>": (eas_spec.ServiceSpec, ServiceSettings),
    "tf-serving:services.<service>.rollingStrategy": (eas_spec.RollingStrategy,),
    "tf-serving:services.<service>.healthCheck.<check>": (eas_spec.Probe,),
}


def documented() -> dict[str, dict[str, str]]:
    """Keys with their defaults as the document gives them, by the section's heading."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in TEXT.splitlines():
        if heading := re.fullmatch(r"#+ (.*)", line):
            section = heading[1].strip("`")
        elif row := re.match(r"\| `([A-Za-z0-9]+)` \| [^|]+ \| ([^|]+) \|", line):
            assert row[1] not in found.get(section, {}), f"{section}: {row[1]} is there twice"
            found.setdefault(section, {})[row[1]] = row[2]
    return found


def general(path: str) -> str:
    """A config path with placeholders for names and positions, as the document's headings have it."""
    for pattern, placeholder in (
        (r"^tf-serving:(services|models)\.[^.\[]+", r"tf-serving:\1.<\1>"),
        (r"^tf-serving:traffic\.[^.\[]+", "tf-serving:traffic.<group>"),
        (r"(<services>)\.models\.[^.\[]+", r"\1.models.<model>"),
        (r"\.instanceTypes?(\[\d+\])?$", ".instanceTypes[n]"),
        (r"^tf-serving:services\.<services>\.alerts", "tf-serving:alerts"),
        (r"\.schedule\.jobs\.[^.\[]+$", ".schedule.jobs.<job>"),
        (r"\.healthCheck\.\w+$", ".healthCheck.<check>"),
        (r"<(\w+)s>", r"<\1>"),
    ):
        path = re.sub(pattern, placeholder, path)
    return path


@pytest.fixture
def accepted(good: dict[str, Any], project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The keys that are read of every mapping the examples reach, by place."""
    found = {"tf-serving:": set(keys(settings.StackOptions)), "alicloud:": set(keys(AlicloudSettings))}
    mapping = Reader.mapping

    def spy(
        self: Reader, value: Any, path: str, keys: Iterable[str] | None = None, allowed: str = ""
    ) -> dict[str, Any]:
        known = None if keys is None else tuple(keys)
        if known is not None:
            found.setdefault(general(path), set()).update(known)
        return mapping(self, value, path, known, allowed)

    monkeypatch.setattr(Reader, "mapping", spy)
    for example in EXAMPLES:
        parse(good | example, project)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_valid(good: dict[str, Any], project: Path, example: dict[str, Any]) -> None:
    parse(good | example, project)


def test_every_key_that_is_read_is_documented_and_no_other(accepted: dict[str, set[str]]) -> None:
    # No table of their own: the keys of services, wherever they run.
    assert accepted.pop("tf-serving:serviceDefaults") == {*SERVICE_KEYS, *ACK_SERVICE_KEYS} - {"target"}
    assert {section: set(keys) for section, keys in documented().items()} == accepted


@pytest.mark.parametrize("section", DEFAULTS)
def test_defaults_are_the_real_ones(section: str) -> None:
    defaults = {field.name: field.default for cls in reversed(DEFAULTS[section]) for field in fields(cls)}
    compared = 0
    for key, told in documented()[section].items():
        default = defaults.get(re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key), MISSING)
        if default is MISSING or told == "required":
            continue
        compared += 1
        if default in (None, "", ()):  # then the text says what happens
            assert not told.startswith("`"), key
        else:
            assert told == f"`{str(default).lower() if isinstance(default, bool) else default}`", key
    assert compared > 1
