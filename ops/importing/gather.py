"""From what was named to a draft: everything is read, and put together."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ops.importing import sources
from ops.importing.sources import FoundService, ImportSourceError, Sources
from ops.importing.target import Target
from provider.clients import Clients
from provider.publication.layout import NO_BUCKET
from tfserving.errors import CloudError
from tfserving.importing import draft, model_file, models, place, service, start
from tfserving.importing.draft import Draft
from tfserving.importing.model_file import ModelFile
from tfserving.importing.models import Listing, ModelImport, Versions
from tfserving.importing.place import MOUNT_PATH, Place
from tfserving.importing.start import Loads, Start
from tfserving.wording import some_of

_SHOWN = 5


@dataclass(frozen=True)
class Gathered:
    """What an import found.

    Attributes:
        draft: the stack file that comes of it.
        services: the services that are in it, by name.
        file: the model config file; ``None`` where there is none.
        file_uri: where the file is, or ends up.
    """

    draft: Draft
    services: dict[str, FoundService] = field(default_factory=dict)
    file: ModelFile | None = None
    file_uri: str = ""


def gather(named: Sources, target: Target, clients: Clients) -> Gathered:
    """Reads what was named, and makes a draft of it.

    Raises:
        ImportSourceError: something is not there, or there is nothing to make a stack of.
        CloudError: the cloud refused.
        ModelConfigError: the model config file is none.
    """
    left: list[tuple[str, str]] = []
    found = sources.services_of_files(named.jsons)
    found += [sources.service(clients, name) for name in named.services]
    found, starts = _startable(found, left)
    chosen, elsewhere = place.choose(starts, _given(named))
    left += [(f"service {name}", _advice(reason)) for name, reason in elsewhere.items()]
    starts = [each for each in starts if each.name not in elsewhere]
    found = [each for each in found if each.name not in elsewhere]
    if chosen is None:
        if left:
            raise ImportSourceError("nothing can be taken over:\n" + "\n".join(f"  - {a}: {b}" for a, b in left))
        raise ImportSourceError("nothing says in which bucket the models are: name oss://bucket/prefix/ as well")
    file = _file(named, chosen, starts, clients)
    if file is not None and not starts:
        chosen = replace(chosen, mount_path=_common_mount(file, chosen))
    listed = _models(chosen, file, starts, clients, left)
    known = {each.directory: each.model.name for each in listed if not each.left_out}
    described = [
        (
            service.read(
                each,
                chosen,
                target.stack.region,
                models=known,
                labels=any(one.model.labels for one in listed if not one.left_out),
                autoscaler=one.autoscaler,
                cron_scaler=one.cron_scaler,
                start_files=sources.start_files(clients, each),
                own_labels=sources.OWN_LABELS,
            ),
            one.settings,
            one.comments,
        )
        for each, one in zip(starts, found, strict=True)
    ]
    left += [("model config file", text) for text in (file.lost if file else ())]
    head = (
        "Made by `python -m ops import` of what was there. What it says is what is there: nothing is moved or copied.",
    )
    made = draft.of(chosen, target.settings, _with_comments(listed, file), described, left, head)
    return Gathered(made, {each.name: each for each in found}, file, chosen.config_file_uri)


def _startable(found: Sequence[FoundService], left: list[tuple[str, str]]) -> tuple[list[FoundService], list[Start]]:
    """The services that run a container; the others are left out."""
    kept: list[FoundService] = []
    starts: list[Start] = []
    for each in found:
        if each.problems:
            reasons = "; ".join(f"{problem.path} {problem.message}" for problem in each.problems)
            left.append((f"service {each.name}", f"its service JSON is none that an import reads: {reasons}"))
            continue
        looked = start.read(each.name, each.config)
        if not looked.image:
            what = each.config.get("processor") or "a processor"
            left.append((f"service {each.name}", f"EAS runs it by {what}, not by an image of TensorFlow Serving"))
        elif any(other.name == each.name for other in kept):
            left.append((f"service {each.name}", "it is named twice: the first one counts"))
        elif stuck := service.secrets_of_start(looked):
            reason = f"a secret stands in {some_of(stuck, _SHOWN)}, which is written to no stack file. "
            advice = "Hand it over in an environment variable of the service, and import it again"
            left.append((f"service {each.name}", f"{reason}{advice}"))
        else:
            kept.append(each)
            starts.append(looked)
    return kept, starts


def _advice(reason: str) -> str:
    return f"{reason}; import it into a stack of its own"


def _given(named: Sources) -> Place | None:
    if not named.model_config.startswith("oss://"):
        return named.bucket
    bucket, _, key = named.model_config.removeprefix("oss://").partition("/")
    above, name = posixpath.split(key)
    root = f"{above}/" if above else ""
    if named.bucket is not None:
        root = named.bucket.root
        if named.bucket.bucket != bucket or not key.startswith(root):
            raise ImportSourceError(f"{named.model_config} is not below {named.bucket.uri}")
        name = key[len(root) :]
    return Place(bucket, root, config_file=name)


def _file(named: Sources, chosen: Place, starts: Sequence[Start], clients: Clients) -> ModelFile | None:
    """The model config file: the one that was named, or the one that the services read."""
    if named.model_config:
        return model_file.read(sources.text(clients, named.model_config))
    if any(each.config_file for each in starts):
        return model_file.read(sources.text(clients, chosen.config_file_uri))
    return None


def _common_mount(file: ModelFile, chosen: Place) -> str:
    """Where the root is mounted, as far as a config file without any service tells."""
    paths = [model.base_path for model in file.models if model.base_path.startswith("/")]
    if not paths or all(place.below(path, MOUNT_PATH) for path in paths):
        return MOUNT_PATH
    common = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return common if common != "/" else chosen.mount_path


def _models(
    chosen: Place, file: ModelFile | None, starts: Sequence[Start], clients: Clients, left: list[tuple[str, str]]
) -> tuple[ModelImport, ...]:
    if file is not None:
        readers = [each for each in starts if each.config_file]
        inside = [place.below(model.base_path, chosen.mount_path) for model in file.models]
        paths = [each.base_path for each, at in zip(file.models, inside, strict=True) if not at]
        elsewhere = _elsewhere(clients, paths, readers, left)
        wanted = {directory: _loads(directory, chosen, starts) for directory in inside if directory}
        return models.of_file(file.models, chosen, _listed(clients, chosen, wanted, left), elsewhere)
    if starts:
        single = filter(None, (place.model_directory(each, chosen) for each in starts))
        found = _listed(clients, chosen, {each: _loads(each, chosen, starts) for each in single}, left)
        if found is not None:
            return models.of_listing(found)
        raise ImportSourceError(f"{left[-1][0]}: {left[-1][1]}")
    listing = sources.listing(clients, chosen)
    _tell_strays(listing, chosen, left)
    return models.of_listing(_listed(clients, chosen, dict.fromkeys(listing.models(), Loads()), left) or {})


def _loads(directory: str, chosen: Place, starts: Sequence[Start]) -> Loads:
    """What whatever serves a directory loads of its versions."""
    return Loads.of([each for each in starts if each.config_file or place.model_directory(each, chosen) == directory])


def _elsewhere(
    clients: Clients, paths: Sequence[str], readers: Sequence[Start], left: list[tuple[str, str]]
) -> dict[str, Versions | None]:
    """Directories on mounts beside the one with the models, as long as every service sees the same there."""
    found: dict[str, Versions | None] = {}
    loads = Loads.of(readers)
    for path in paths:
        seen = {
            None if at is None else f"{at[0].bucket}/{at[0].key}{at[1]}" for at in (x.locate(path) for x in readers)
        }
        [one] = seen if len(seen) == 1 else [None]
        bucket, _, key = (one or "").rstrip("/").partition("/")
        if key and path.startswith("/"):
            above, name = posixpath.split(key)
            there = Place(bucket, f"{above}/" if above else "")
            try:
                listed = _listed(clients, there, {name: loads}, left)
            except CloudError as error:
                if error.code != NO_BUCKET:
                    raise
                listed = {name: Versions(wrong=(str(error),))}
            found[path] = None if listed is None else listed[name]
    return found


def _listed(
    clients: Clients, chosen: Place, wanted: Mapping[str, Loads], left: list[tuple[str, str]]
) -> Mapping[str, Versions] | None:
    """What is in directories, each with what is loaded of its versions; ``None``: nobody may look."""
    try:
        found = sources.directories(clients, chosen, wanted)
    except CloudError as error:
        if error.code != sources.ACCESS_DENIED:
            raise
        left.append((f"versions in {chosen.uri}", f"the bucket cannot be listed with these credentials: {error}"))
        return None
    if found.unread:
        reason = f"their files cannot be read with these credentials, so only names were looked at: {found.unread}"
        left.append((f"content of versions in {chosen.uri}", reason))
    return found.versions


def _tell_strays(listing: Listing, chosen: Place, left: list[tuple[str, str]]) -> None:
    if listing.stray_count:
        more = listing.stray_count - len(listing.strays)
        shown = some_of([*listing.strays, *[""] * more], _SHOWN)
        left.append((f"objects in {chosen.uri}", f"they belong to no version of a model: {shown}"))
    if not listing.models():
        raise ImportSourceError(
            f"there is no model below {chosen.uri}: <model>/<version>/saved_model.pb was looked for. "
            "Fix: name the prefix that has the model directories"
        )


def _with_comments(listed: Sequence[ModelImport], file: ModelFile | None) -> list[tuple[ModelImport, tuple[str, ...]]]:
    comments = file.comments if file is not None else {}
    return [(each, comments.get(index, ())) for index, each in enumerate(listed)]
