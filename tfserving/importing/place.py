"""Where the services of a stack have their models: one bucket, one key prefix, one mount, one config file."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tfserving.eas_spec import ServiceSpec
from tfserving.importing.start import Start
from tfserving.paths import clean_path

CONFIG_FILE_NAME = ServiceSpec.config_file_name
MOUNT_PATH = ServiceSpec.mount_path


@dataclass(frozen=True)
class Place:
    """What all services of a stack share.

    Attributes:
        bucket: the bucket with the models.
        root: key prefix of the model directories, empty or ending in a slash.
        mount_path: where services that read the config file see the root.
        config_file: path of the config file below the root; empty where no service reads one.
    """

    bucket: str
    root: str
    mount_path: str = MOUNT_PATH
    config_file: str = ""

    @property
    def uri(self) -> str:
        """``oss://bucket/root``."""
        return f"oss://{self.bucket}/{self.root}"

    @property
    def config_file_uri(self) -> str:
        """``oss://`` URI of the config file."""
        return f"{self.uri}{self.config_file or CONFIG_FILE_NAME}"


@dataclass(frozen=True)
class Wish:
    """What one service asks of the place.

    Attributes:
        place: where its models are; ``None`` where nothing tells.
        why_not: why nothing tells.
        exact: the root is the service's own mount; else only the directory of one model is, and the root may be any of
            the directories above.
    """

    place: Place | None
    why_not: str = ""
    exact: bool = True


def wish(start: Start) -> Wish:
    """What a service asks of the place."""
    if start.config_file:
        return _config_file_wish(start)
    if not start.base_path:
        return Wish(None, "it does not say which model of a bucket it serves")
    found = start.locate(start.base_path)
    if found is None:
        return Wish(None, f"its model at {start.base_path} is in no directory of a bucket that it mounts")
    mount, directory = found
    if directory:
        return Wish(Place(mount.bucket, mount.key, mount.path))
    return Wish(Place(mount.bucket, _parent(mount.key)), exact=False)


def choose(starts: Sequence[Start], given: Place | None = None) -> tuple[Place | None, Mapping[str, str]]:
    """The place that the stack is to have, and by name of service why it cannot have its models there.

    Services that read a config file decide, in the order in which they are named; then those that mount all models.

    Args:
        starts: the services.
        given: the place, where somebody said it; mount path and config file are taken from the services all the same.
    """
    wishes = {start.name: wish(start) for start in starts}
    reading = [wishes[start.name].place for start in starts if start.config_file]
    exact = [found.place for found in wishes.values() if found.exact]
    chosen = _first(_of(given, reading)) or given or _first(exact) or _first(found.place for found in wishes.values())
    if chosen is None:
        return None, {name: found.why_not for name, found in wishes.items()}
    if not chosen.config_file and given is None:
        chosen = replace(chosen, mount_path=next((p.mount_path for p in exact if p and _same(p, chosen)), MOUNT_PATH))
    elsewhere = {}
    for start in starts:
        reason = _elsewhere(start, wishes[start.name], chosen)
        if reason:
            elsewhere[start.name] = reason
    return chosen, elsewhere


def model_directory(start: Start, place: Place) -> str:
    """Directory of a single model below the root of a place; empty for a service that has none there."""
    found = start.locate(start.base_path) if start.base_path else None
    if found is None:
        return ""
    mount, rest = found
    key = f"{mount.key}{rest}".strip("/")
    inside = mount.bucket == place.bucket and key.startswith(place.root)
    return key[len(place.root) :] if inside else ""


def below(path: str, directory: str) -> str | None:
    """A path relative to a directory that it is in; ``None`` where it is not."""
    path, directory = clean_path(path), clean_path(directory)
    if path == directory or not path.startswith(f"{directory.rstrip('/')}/"):
        return None
    return path[len(directory.rstrip("/")) + 1 :]


def _config_file_wish(start: Start) -> Wish:
    found = start.locate(start.config_file)
    if found is None:
        return Wish(None, f"its config file {start.config_file} is in no directory of a bucket that it mounts")
    mount, name = found
    if not name:
        return Wish(None, f"its config file {start.config_file} is mounted as a file, not as one of a directory")
    return Wish(Place(mount.bucket, mount.key, mount.path, name))


def _elsewhere(start: Start, asked: Wish, chosen: Place) -> str:
    """Why a service cannot have its models in a place; empty where it can."""
    if asked.place is None:
        return asked.why_not
    if start.config_file:
        if not _same(asked.place, chosen):
            return f"it reads {asked.place.config_file_uri}, and this stack is in {chosen.uri}"
        if asked.place.config_file != chosen.config_file:
            return f"it reads {asked.place.config_file_uri}, and the other services read {chosen.config_file_uri}"
        if asked.place.mount_path != chosen.mount_path:
            where = f"at {asked.place.mount_path}, and the other services at {chosen.mount_path}"
            return f"it mounts {chosen.uri} {where}: one config file cannot fit both"
        return ""
    if not model_directory(start, chosen):
        return f"its model is at {asked.place.uri}, and this stack is in {chosen.uri}"
    return ""


def _same(one: Place, other: Place) -> bool:
    return (one.bucket, one.root) == (other.bucket, other.root)


def _of(given: Place | None, places: Iterable[Place | None]) -> list[Place | None]:
    return [place for place in places if given is None or (place is not None and _same(place, given))]


def _first(places: Iterable[Place | None]) -> Place | None:
    return next((place for place in places if place is not None), None)


def _parent(key: str) -> str:
    above = posixpath.dirname(key.strip("/"))
    return f"{above}/" if above else ""
