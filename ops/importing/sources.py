"""What an import reads: services, service JSON, model config files and listings, from the cloud and from files."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provider.clients import Clients
from provider.eas.labels import CREATED_LABEL, MANAGED_BY, OWNER_LABEL
from provider.group_calls import TRAFFIC_LABEL
from provider.oss import Bucket, NotTextError
from provider.publication import finding
from provider.publication.layout import NO_BUCKET
from provider.publication.parallel import bound, run_all
from tfserving import server_config, wire
from tfserving.cloud_names import OSS_URI
from tfserving.contract.found import FindVersionsArgs, WantedDirectory
from tfserving.errors import CloudError, ConfigError, ModelConfigError, Problem, TFServingError
from tfserving.importing import shape, start
from tfserving.importing.models import Directory, Listing, Versions
from tfserving.importing.place import Place
from tfserving.importing.service import StartFile
from tfserving.paths import clean_path
from tfserving.wording import some_of

OWN_LABELS = (*MANAGED_BY, OWNER_LABEL, CREATED_LABEL, TRAFFIC_LABEL)
ACCESS_DENIED = "AccessDenied"
_SHOWN = 20
_FLAGS = {"batching": "batching_parameters_file", "monitoring": "monitoring_config_file"}


class ImportSourceError(TFServingError):
    """What was named to be imported is not there, or is not what it was taken for."""


@dataclass(frozen=True)
class FoundService:
    """A service as the cloud or a file has it.

    Attributes:
        name: its name.
        config: its service JSON.
        autoscaler: its autoscaler, as the API gives it.
        cron_scaler: its cron scaler, likewise.
        owner: the stack that manages it, ``<project>/<stack>``; empty without one.
        comments: what a person is to know of it.
        settings: keys of its entry that follow from what the cloud says.
        problems: what of its service JSON has another shape than any that an import reads.
    """

    name: str
    config: Mapping[str, Any] = field(repr=False)
    autoscaler: Mapping[str, Any] | None = None
    cron_scaler: Mapping[str, Any] | None = None
    owner: str = ""
    comments: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


@dataclass
class Sources:
    """What was named on the command line, sorted.

    Attributes:
        services: names of services.
        jsons: files with service JSON.
        model_config: a file, or ``oss://`` URI, of a model config file.
        bucket: a bucket, and the key prefix below which the models are.
    """

    services: list[str] = field(default_factory=list)
    jsons: list[Path] = field(default_factory=list)
    model_config: str = ""
    bucket: Place | None = None


def sort(named: Iterable[str]) -> Sources:
    """Tells what each source is: an ``oss://`` URI, a local file, or the name of a service.

    Raises:
        ImportSourceError: one is nothing of that, or there are two of which one is allowed.
    """
    found = Sources()
    for source in named:
        if "://" in source:
            _sort_uri(found, source)
        elif (file := Path(source)).is_file():
            if _is_json(file):
                found.jsons.append(file)
            else:
                _set_config(found, source)
        elif "/" in source or file.suffix in (".json", ".pbtxt", ".config", ".txt"):
            raise ImportSourceError(f"there is no file {source}")
        else:
            found.services.append(source)
    return found


def _is_json(file: Path) -> bool:
    text = _text_of(file).lstrip()
    return text[:1] in ("{", "[", '"') or (file.suffix == ".json" and "model_config_list" not in text)


def _sort_uri(found: Sources, source: str) -> None:
    if not OSS_URI.fullmatch(source):
        raise ImportSourceError(f"{source!r} is not a place in OSS: oss://bucket/prefix/, or oss://bucket/file")
    bucket, _, key = source.removeprefix("oss://").partition("/")
    if key and not key.endswith("/"):
        _set_config(found, source)
    elif found.bucket is not None:
        raise ImportSourceError(f"{found.bucket.uri} and {source} are two places; a stack has one")
    else:
        found.bucket = Place(bucket, key)


def _set_config(found: Sources, source: str) -> None:
    if found.model_config:
        raise ImportSourceError(f"{found.model_config} and {source} are two model config files; a stack has one")
    found.model_config = source


def service(clients: Clients, name: str) -> FoundService:
    """A service of the account.

    Raises:
        ImportSourceError: there is none of that name.
        CloudError: EAS refused.
    """
    found = clients.eas.describe(name)
    if found is None:
        names = sorted(each.name for each in clients.eas.labelled({}))
        there = f"services there: {some_of(names, _SHOWN)}" if names else "there is no service at all"
        raise ImportSourceError(f"there is no service {name} in {clients.settings.region}; {there}")
    comments = []
    autoscaler = cron_scaler = None
    try:
        autoscaler = clients.eas.autoscaler(name)
        cron_scaler = clients.eas.cron_scaler(name)
    except CloudError as error:
        comments.append(f"Whether it has an autoscaler and a schedule is not known: {error}")
    if found.status in ("Stopped", "Failed", "DeleteFailed"):
        comments.append(f"It is {found.status} now.")
    if found.lock == "all":
        comments.append("It has the safety lock `all`: EAS refuses every change until that is taken off.")
    if found.traffic == "grouping":
        comments.append("Its requests come through a service group, whose weights stay as they are.")
    owner = found.labels.get(OWNER_LABEL, "")
    settings: dict[str, Any] = {}
    if not found.internet_endpoint and found.intranet_endpoint:
        comments.append("It is reached inside of its VPC only. Where `up` runs there, take `reachable: false` out.")
        settings["reachable"] = False
    config, problems = shape.read(found.config)
    return FoundService(name, config, autoscaler, cron_scaler, owner, tuple(comments), settings, tuple(problems))


def all_services(clients: Clients) -> list[str]:
    """The names of all services of the region that run TensorFlow Serving.

    Raises:
        CloudError: EAS refused.
    """
    return sorted(
        each.name for each in clients.eas.labelled({}) if start.read(each.name, each.config).flags is not None
    )


def services_of_files(files: Iterable[Path]) -> list[FoundService]:
    """Service JSON in files, as EAS's console and ``eascmd`` show it.

    Raises:
        ImportSourceError: a file cannot be read, or holds no JSON.
        ConfigError: what is wrong with the JSON, of all files together.
    """
    found = []
    problems: list[Problem] = []
    for file in files:
        given = _json_of(_text_of(file), str(file))
        if isinstance(given, dict) and isinstance(given.get("ServiceConfig"), str):  # an answer of DescribeService
            given = _json_of(given["ServiceConfig"], f"ServiceConfig in {file}")
        config, wrong = shape.read(given)
        problems += [replace(each, path=f"{file}: {each.path}") for each in wrong]
        if not wrong:
            owner = str((config.get("labels") or {}).get(OWNER_LABEL) or "")
            found.append(FoundService(shape.name_of(config), config, owner=owner))
    if problems:
        raise ConfigError(problems, "service JSON")
    return found


def _json_of(text: str, what: str) -> Any:
    try:
        return json.loads(
            text, parse_int=lambda digits: wire.exact(int(digits)), parse_float=_number, parse_constant=_number
        )
    except (ValueError, RecursionError) as error:
        raise ImportSourceError(f"{what} is not JSON: {error}") from None


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return number


def text(clients: Clients, source: str) -> str:
    """A model config file, local or in OSS.

    Raises:
        ImportSourceError: there is none, or it is no text.
        CloudError: OSS refused.
    """
    if not source.startswith("oss://"):
        return _text_of(Path(source))
    bucket, _, key = source.removeprefix("oss://").partition("/")
    try:
        found = Bucket(clients.oss, bucket).get_text(key)
    except NotTextError as error:
        raise ImportSourceError(str(error)) from None
    if found is None:
        raise ImportSourceError(f"there is no {source}")
    return found.removeprefix("\ufeff")


def start_files(clients: Clients, started: start.Start) -> tuple[StartFile, ...]:
    """The batching and monitoring files of a service that a stack of this project wrote for it."""
    found = []
    for key, flag in _FLAGS.items():
        path = str((started.flags or {}).get(flag) or "")
        place = started.locate(clean_path(path)) if path else None
        if place is None:
            continue
        mount, rest = place
        try:
            content = Bucket(clients.oss, mount.bucket).get_text(f"{mount.key}{rest}")
            if content and rest == server_config.start_file_name(started.name, key, content):
                read = server_config.batching_of if key == "batching" else server_config.monitoring_of
                found.append(StartFile(key, path, read(content)))
        except (CloudError, ConfigError, ModelConfigError):
            continue  # the flag stays as it is, and so does the file
    return tuple(found)


@dataclass(frozen=True)
class Looked:
    """What is in directories of a bucket.

    Attributes:
        versions: by directory.
        unread: why only the names of files were looked at; empty where their content was, too.
    """

    versions: Mapping[str, Versions]
    unread: str = ""


def directories(clients: Clients, place: Place, wanted: Mapping[str, start.Loads]) -> Looked:
    """What is in some directories below the root of a place: what a preview would find there.

    Args:
        clients: clients of the cloud.
        place: where.
        wanted: directories, each with what is loaded of its versions.

    Raises:
        CloudError: OSS refused.
    """
    asked = {
        directory: WantedDirectory(
            bucket=place.bucket,
            prefix=f"{place.root}{directory}/",
            tflite=wanted[directory].tflite,
            tags=wanted[directory].tags,
        )
        for directory in sorted(wanted)
    }
    try:
        found = finding.find(clients.oss, FindVersionsArgs(directories=asked, owner="")).directories
    except CloudError as error:
        if error.code != ACCESS_DENIED:
            raise
        # Whoever may list and not read is refused here once more only where listing is refused as well.
        return Looked(_by_name(clients, place, wanted), str(error))
    if any(not each.exists for each in found.values()):
        raise CloudError(f"there is no bucket {place.bucket}", code=NO_BUCKET)
    return Looked({directory: Versions.of(each) for directory, each in found.items()})


def _by_name(clients: Clients, place: Place, wanted: Mapping[str, start.Loads]) -> dict[str, Versions]:
    bucket = Bucket(clients.oss, place.bucket)

    def look(directory: str) -> Versions:
        above, name = posixpath.split(directory)
        listing = Listing(f"{place.root}{above}/" if above else place.root)
        for item in bucket.list(f"{place.root}{directory}/"):
            listing.add(item.key)
        return listing.directories.get(name, Directory()).versions(tflite=wanted[directory].tflite)

    names = sorted(wanted)
    return dict(zip(names, run_all([bound(look, name) for name in names]), strict=True))


def listing(clients: Clients, place: Place) -> Listing:
    """Everything below the root of a place.

    Raises:
        CloudError: OSS refused.
    """
    found = Listing(place.root)
    for item in Bucket(clients.oss, place.bucket).list(place.root):
        found.add(item.key)
    return found


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportSourceError(f"{file} cannot be read: {error}") from None
