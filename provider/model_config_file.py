"""``model_config.pbtxt`` in OSS or in a ConfigMap: who owns it, how it is read and written, and its resource.

The first line of the file names the stack that manages it. Services read the file; what is in it after it was made is
the business of :class:`~provider.served_config.ServedConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Protocol

from provider import faults
from provider.claims import STAMP, TAKEN, found_by, is_anothers, stays
from provider.clients import NoCredentialsError
from provider.cluster import ClusterApi, NoNamespaceError, UnusableKubeconfigError
from provider.eas.labels import OWNER_LABEL, may_read, mounts
from provider.oss import Bucket, NotTextError
from provider.properties import Change, differences
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving import config_notes, model_config
from tfserving.config_notes import StoredConfig, Tried
from tfserving.contract import MODEL_CONFIG_FILE
from tfserving.contract.gates import GateReport
from tfserving.contract.serving import ServedConfigInputs
from tfserving.contract.storage import ModelConfigFileInputs, ModelConfigFileOutputs
from tfserving.errors import CloudError, OwnershipError
from tfserving.model_config import ModelServerConfig
from tfserving.property_values import Properties, has_unknown, plain

_PLACE = ("bucket", "key", "config_map", "kubeconfig", "kube_context")


class TextStore(Protocol):
    """Where a file can lie: a bucket, or a ConfigMap."""

    def uri(self, key: str) -> str:
        """How a message names the file."""

    def get_text(self, key: str) -> str | None:
        """A file's text, or None where there is none."""

    def age(self, key: str) -> float | None:
        """Seconds since a file was written; None where nobody tells."""

    def put_text(self, key: str, text: str, *, new_only: bool = False) -> None:
        """Replace a file; with ``new_only``, one that is there is an error with the code ``FileAlreadyExists``."""

    def delete(self, keys: list[str]) -> None:
        """Remove files; missing ones are fine."""


class ConfigObject:
    """The model config file at one key of a bucket or ConfigMap, in the name of one stack.

    Args:
        store: the bucket or ConfigMap.
        key: the file's key.
        owner: ``<project>/<stack>``.
        stamp: of the create that holds the file from its next write on; without one, whoever holds it goes on.
    """

    def __init__(self, store: TextStore, key: str, owner: str, stamp: str = "") -> None:
        self._store = store
        self._key = key
        self._owner = owner
        self._stamp = stamp
        self._held_by = ""

    @property
    def uri(self) -> str:
        """How a message names the file, and the id of its resource."""
        return self._store.uri(self._key)

    def find(self) -> StoredConfig | None:
        """The file, whoever manages it; None where there is none.

        Raises:
            CloudError: OSS, or the API server, refused.
        """
        try:
            content = self._store.get_text(self._key)
        except NotTextError:
            return StoredConfig("", "")  # whatever it is, it is nothing of this project
        if content is None:
            return None
        found = StoredConfig.read(content)
        self._held_by = found.held_by
        return found

    def read(self, *also: str) -> StoredConfig | None:
        """The file, if this stack (or one of the owners ``also``) manages it; None where there is none.

        Raises:
            OwnershipError: somebody else's file.
            CloudError: OSS, or the API server, refused.
        """
        found = self.find()
        if found is not None:
            self.refuse_other_owner(found.owner, *also)
        return found

    def refuse_other_owner(self, owner: str, *also: str) -> None:
        """Raises OwnershipError where the file, managed by ``owner``, is neither this stack's nor one of ``also``."""
        if owner not in (self._owner, *also):
            whose = f"is managed by {owner}" if owner else "was not made by this project"
            raise OwnershipError(
                f"{self.uri} {whose}, and {self._owner} would overwrite it. "
                "Fix: set adopt: true on a service that reads it to take it over, move that file away, or use another "
                "tf-serving:modelRoot"
            )

    def write(
        self,
        config: ModelServerConfig,
        *,
        new_only: bool = False,
        restarts: Collection[str] = frozenset(),
        gates: Iterable[GateReport] = (),
        tried: Iterable[Tried] = (),
    ) -> None:
        """Replace the file in one request.

        Args:
            config: what it says.
            new_only: a file that is there is an error.
            restarts: services that are to be restarted after that, so that they read it: whatever ends this run, the
                next one finds them in the file.
            gates: what came of gates before that; the next run finds it, too.
            tried: gates that begin now, for whoever looks at the file meanwhile.

        Raises:
            ModelConfigError: ``config`` cannot be written as it is meant.
            CloudError: OSS, or the API server, refused; with ``new_only`` the code is ``FileAlreadyExists`` where there
                is a file.
        """
        text = self._head() + config_notes.notes(restarts, gates, tried) + model_config.render(config)
        self._store.put_text(self._key, text, new_only=new_only)

    def write_text(self, content: str) -> None:
        """Replace the file's text below the head line, whatever the text was made from."""
        self._store.put_text(self._key, self._head() + config_notes.without_head(content))

    def age(self) -> float | None:
        """Seconds since the file was written; None where that is not known."""
        return self._store.age(self._key)

    def delete(self) -> None:
        """Remove the file."""
        self._store.delete([self._key])

    def _head(self) -> str:
        """The comments that make the file this stack's and this create's."""
        return config_notes.head(self._owner, self._stamp or self._held_by)


def config_files(bucket: Bucket, root: str) -> list[str]:
    """Keys of the model config files at the root of the models in a bucket, whoever manages them."""
    found = (item.key for item in bucket.list(f"{root}model_config."))
    return [key for key in found if key.endswith(".pbtxt") and "/" not in key.removeprefix(root)]


def owner_failures(inputs: Properties) -> Iterable[Failure]:
    """What is wrong with an owner property."""
    owner = plain(inputs.get("owner"))
    if not has_unknown(owner) and not re.fullmatch(r"[^\s/:]+/[^\s/:]+", str(owner or "")):
        yield Failure("owner", f"{owner!r} is not <project>/<stack>")


class ModelConfigFile(Resource):
    """Makes sure that a model config file exists before a service starts that reads it.

    Later changes are rolled out by ServedConfig, step by step. Only while no service runs that reads the file does a
    changed declaration go straight into it: where the file itself keeps services from starting, no rollout could.
    """

    contract = MODEL_CONFIG_FILE
    refresh_before_update = True

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)
        yield from config_map_failures(inputs)

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        found, wanted = ModelConfigFileOutputs.read(old_outputs), ModelConfigFileInputs.read(news)
        if found.owner != ModelConfigFileInputs.read(old_inputs).owner:
            diff.changes["owner",] = (Change.UPDATE, False)
        if found.taken:
            diff.changes[STAMP,] = (Change.UPDATE, False)
        if found.unused and wanted.knows("initial"):
            listed, initial = (model_config.to_dict(each) for each in (found.initial, wanted.initial))
            for path, change in differences(listed, initial, ("initial",)).items():
                diff.changes[path] = (change, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        read, before = ModelConfigFileInputs.read(inputs), ModelConfigFileInputs.read(old_inputs or {})
        found = ModelConfigFileOutputs.read(old_outputs or {})
        if read.knows("owner", *_PLACE):
            if old_inputs is None or old_outputs is None or _moved(before, read):
                _preview_place(ctx, read, before)
            else:  # whose it is now was read a moment ago
                _file(ctx, read).refuse_other_owner(found.owner, *_former_owners(before, read))
        unused = found.unused
        listed = old_outputs["initial"] if old_outputs is not None and not unused else inputs["initial"]
        return inputs | {"unused": unused, "initial": listed}

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        read = ModelConfigFileInputs.read(inputs)
        file, initial = _file(ctx, read), read.initial
        stored = _taken(file, read)
        if stored is None:
            try:
                file.write(initial, new_only=True)
            except CloudError as error:
                if error.code != "FileAlreadyExists":
                    raise
                stored = _taken(file, read)
        if stored is not None:
            readable = stored.parse() is not None
            if not readable or _unused(ctx, read):
                why = "no service runs that reads it" if readable else "it does not parse"
                ctx.info(f"{file.uri} exists: written anew, since {why}")
                file.write(initial)
            else:
                whose = "is managed by this stack" if stored.owner == read.owner else "is taken over"
                ctx.info(f"{file.uri} exists and {whose}: kept as it is until the rollout")
                file.write_text(stored.text)
        return file.uri, _outputs(inputs, file.find(), unused=False)

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        imported = inputs is None
        if inputs is None:
            if not id_.startswith("oss://"):
                raise OwnershipError(
                    f"{id_} cannot be imported, since nothing says which cluster it is in. "
                    "Fix: remove it; `pulumi up` makes it"
                )
            bucket, _, key = id_.removeprefix("oss://").partition("/")
            inputs = {"bucket": bucket, "key": key, "owner": "", "initial": {}}
        read = ModelConfigFileInputs.read(inputs)
        stored = _file(ctx, read).find()
        if stored is None:
            return None
        if not read.owner:
            inputs = inputs | {"owner": stored.owner}
            read = ModelConfigFileInputs.read(inputs)
        kept = {name: value for name, value in outputs.items() if name != TAKEN}
        held = found_by(stored.held_by, ctx.stamp, imported=imported)
        return Found(inputs, kept | _outputs(inputs, stored, unused=_unused(ctx, read)) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        read = ModelConfigFileInputs.read(news)
        file, initial = _file(ctx, read), read.initial
        stored = file.read(*_former_owners(ModelConfigFileInputs.read(old_inputs), read))
        unused = _unused(ctx, read)
        if stored is None:
            file.write(initial, new_only=True)
        elif unused and stored.parse() != initial:
            ctx.info(f"no service runs that reads {file.uri}: written as declared")
            file.write(initial)
        else:
            file.write_text(stored.text)
        return _outputs(news, file.find(), unused=unused)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        read = ModelConfigFileInputs.read(inputs)
        file = _file(ctx, read)
        stored = file.find()
        if stored is None:
            return
        if stored.owner != read.owner:
            ctx.warning(f"{file.uri} is managed by {stored.owner or 'nobody'} now: left where it is")
            return
        if is_anothers(stored.held_by, ctx.stamp):
            ctx.info(stays(file.uri))
            return
        if readers := _running_readers(ctx, read):
            ctx.warning(f"{file.uri} stays: {', '.join(readers)} reads it. Run the update again")
            return
        file.delete()


def _taken(file: ConfigObject, inputs: ModelConfigFileInputs, *also: str) -> StoredConfig | None:
    """The file, if this stack manages it or is to take it over; None where there is none.

    Raises:
        OwnershipError: somebody else's file, and it is not to be adopted.
    """
    return file.find() if inputs.adopt else file.read(*also)


def _former_owners(before: ModelConfigFileInputs, now: ModelConfigFileInputs) -> tuple[str, ...]:
    """Whose file an update takes for its own: by its state the stack manages it.

    One without an owner was written anew by hand, and is put right; but in another place it is somebody else's.
    """
    former = before.owner
    return tuple(filter(None, (former,))) if _moved(before, now) else (former, "")


def _moved(before: ModelConfigFileInputs, now: ModelConfigFileInputs) -> bool:
    """Whether the file may be in another place than before."""
    return any((getattr(before, name) or "") != (getattr(now, name) or "") for name in _PLACE)


def _preview_place(ctx: Context, inputs: ModelConfigFileInputs, before: ModelConfigFileInputs) -> None:
    """Look whether the file can be written where it is to be, which may be another place than before.

    Raises:
        OwnershipError: somebody else's file is there.
        CloudError: the kubeconfig is of no use, there is no such namespace, or there are no credentials.
    """
    file = _file(ctx, inputs)
    try:
        stored = _taken(file, inputs, *_former_owners(before, inputs))
        if stored is not None and stored.owner != inputs.owner:
            whose = f"is managed by {stored.owner}" if stored.owner else "was not made by this project"
            ctx.info(f"{file.uri} {whose}: it is taken over, which changes its first line")
        if stored is None and inputs.config_map:
            ClusterApi.of(inputs).config_map(inputs.config_map).check_namespace()
    except (UnusableKubeconfigError, NoNamespaceError, NoCredentialsError):
        raise
    except CloudError as error:
        if faults.is_elsewhere(error):
            raise
        ctx.warning(f"it is not known yet whether {file.uri} is somebody else's: {error}")


def in_bucket(ctx: Context, inputs: ModelConfigFileInputs | ServedConfigInputs, stamp: str = "") -> ConfigObject:
    """The file in OSS that a resource's inputs name."""
    return ConfigObject(Bucket(ctx.clients.oss, inputs.bucket), inputs.key, inputs.owner, stamp)


def in_config_map(inputs: ModelConfigFileInputs | ServedConfigInputs, stamp: str = "") -> ConfigObject:
    """The file in a ConfigMap that a resource's inputs name: under the name the file has in the bucket."""
    config_map = ClusterApi.of(inputs).config_map(inputs.config_map or "")
    return ConfigObject(config_map, inputs.key.rpartition("/")[2], inputs.owner, stamp)


def config_map_failures(inputs: Properties) -> Iterable[Failure]:
    """What is wrong with a configMap property."""
    name = inputs.get("configMap")
    if name is not None and not has_unknown(name) and not re.fullmatch(r"[a-z0-9-]+/[a-z0-9.-]+", str(plain(name))):
        yield Failure("configMap", f"{plain(name)!r} is not <namespace>/<name>")


def _file(ctx: Context, inputs: ModelConfigFileInputs) -> ConfigObject:
    if inputs.config_map:
        return in_config_map(inputs, ctx.stamp)
    return in_bucket(ctx, inputs, ctx.stamp)


def _outputs(inputs: Properties, stored: StoredConfig | None, *, unused: bool) -> Properties:
    found = (stored.parse() if stored else None) or ModelServerConfig()
    return inputs | ModelConfigFileOutputs(owner=stored.owner if stored else "", unused=unused, initial=found).write()


def _running_readers(ctx: Context, inputs: ModelConfigFileInputs) -> list[str]:
    """The services of the stack on EAS that run and name the file in their start command."""
    if inputs.config_map:
        return []
    name, uri = inputs.key.rpartition("/")[2], _file(ctx, inputs).uri
    found = [ctx.clients.eas.describe(each.name) for each in ctx.clients.eas.labelled({OWNER_LABEL: inputs.owner})]
    return [
        each.name
        for each in found
        if each is not None and each.running and may_read(each.config, name) and mounts(each.config, uri)
    ]


def _unused(ctx: Context, inputs: ModelConfigFileInputs) -> bool:
    """Whether services of the stack are there, but none of those that may read the file has a replica running."""
    if inputs.config_map:
        pods = ClusterApi.of(inputs).readers(inputs.config_map)
        return bool(pods) and not any(pod.ready for pod in pods)
    try:
        services = ctx.clients.eas.labelled({OWNER_LABEL: inputs.owner})
    except CloudError as error:
        ctx.debug(f"whether a service reads the model config file is not known: {error}")
        return False
    name = inputs.key.rpartition("/")[2]
    readers = [service for service in services if not service.config or may_read(service.config, name)]
    return bool(readers) and not any(service.running for service in readers)
