"""``model_config.pbtxt`` in OSS or in a ConfigMap: who owns it, how it is read and written, and its resource.

The first line of the file names the stack that manages it. Services read the file; what is in it after it was made is
the business of :class:`~provider.served_config.ServedConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from provider import faults
from provider.claims import STAMP, TAKEN, found_by, is_anothers, stays
from provider.clients import NoCredentialsError
from provider.cluster import CLUSTER_INPUTS, Cluster, NoNamespaceError, UnusableKubeconfigError
from provider.eas.labels import CONFIG_FILE_FLAG, OWNER_LABEL
from provider.oss import Bucket, NotTextError
from provider.properties import Change, Properties, differences, has_unknown, plain
from provider.resource import Context, Diff, Failure, Found, Property, Resource, flag, table, text
from tfserving import model_config
from tfserving.errors import CloudError, ConfigError, ModelConfigError, OwnershipError
from tfserving.model_config import ModelServerConfig

_OWNER_LINE = re.compile(r"# Managed by Pulumi project (?P<project>\S+), stack (?P<stack>\S+): ")
_CREATED_LINE = "# Created as "
_RESTART_LINE = "# Read only at start, and still to be restarted: "


CONFIG_MAP_INPUTS: Mapping[str, Property] = {
    "configMap": Property(
        "string", "namespace/name of the ConfigMap that holds the file for pods on Kubernetes", replaces=True
    ),
    **CLUSTER_INPUTS,
}
"""Inputs that name a ConfigMap and its cluster."""


@dataclass(frozen=True)
class StoredConfig:
    """The file as it is in OSS.

    Attributes:
        owner: ``<project>/<stack>``; empty where no stack manages the file.
        text: all of it.
    """

    owner: str
    text: str

    @property
    def held_by(self) -> str:
        """The create that holds the file (:mod:`provider.claims`); empty where the file does not say."""
        lines = (line for line in self.text.splitlines() if line.startswith(_CREATED_LINE))
        return next(lines, "").removeprefix(_CREATED_LINE)

    @property
    def restarts(self) -> frozenset[str]:
        """Services that read the file only when they start, and that a run ended before it restarted."""
        lines = (line for line in self.text.splitlines() if line.startswith(_RESTART_LINE))
        return frozenset(name for line in lines for name in line.removeprefix(_RESTART_LINE).split(", "))

    def parse(self) -> ModelServerConfig | None:
        """What it says, or None where TensorFlow Serving could not read it either."""
        try:
            return model_config.parse(self.text)
        except ModelConfigError:
            return None


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
        match = _OWNER_LINE.match(content)
        found = StoredConfig(f"{match['project']}/{match['stack']}" if match else "", content)
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
                "Fix: move that file away, or use another tf-serving:modelRoot"
            )

    def write(
        self, config: ModelServerConfig, *, new_only: bool = False, restarts: Collection[str] = frozenset()
    ) -> None:
        """Replace the file in one request.

        Args:
            config: what it says.
            new_only: a file that is there is an error.
            restarts: services that are to be restarted after that, so that they read it: whatever ends this run, the
                next one finds them in the file.

        Raises:
            ModelConfigError: ``config`` cannot be written as it is meant.
            CloudError: OSS, or the API server, refused; with ``new_only`` the code is ``FileAlreadyExists`` where there
                is a file.
        """
        note = f"{_RESTART_LINE}{', '.join(sorted(restarts))}\n" if restarts else ""
        self._store.put_text(self._key, self._head() + note + model_config.render(config), new_only=new_only)

    def write_text(self, content: str) -> None:
        """Replace the file's text below the head line, whatever the text was made from."""
        body = content.split("\n", 1)[1] if _OWNER_LINE.match(content) and "\n" in content else content
        lines = [line for line in body.splitlines(keepends=True) if not line.startswith(_CREATED_LINE)]
        self._store.put_text(self._key, self._head() + "".join(lines))

    def age(self) -> float | None:
        """Seconds since the file was written; None where that is not known."""
        return self._store.age(self._key)

    def delete(self) -> None:
        """Remove the file."""
        self._store.delete([self._key])

    def _head(self) -> str:
        """The comments that make the file this stack's and this create's."""
        project, _, stack = self._owner.partition("/")
        stamp = self._stamp or self._held_by
        return (
            f"# Managed by Pulumi project {project}, stack {stack}: "
            f"change stacks/Pulumi.{stack}.yaml, an edit here is overwritten.\n"
        ) + (f"{_CREATED_LINE}{stamp}\n" if stamp else "")


def models_failures(inputs: Properties, name: str) -> Iterable[Failure]:
    """What is wrong with a models property, with the path of each problem."""
    if has_unknown(inputs.get(name)):
        return
    try:
        config = model_config.from_dict(table(inputs, name), name)
        problems = model_config.out_of_range(config, name)
    except ConfigError as error:
        problems = list(error.problems)
    for problem in problems:
        allowed = f" Allowed: {problem.allowed}." if problem.allowed else ""
        fix = f" Fix: {problem.fix}." if problem.fix else ""
        detail = f"{problem.message}.{allowed}{fix}"
        yield Failure(problem.path, detail)


def owner_failures(inputs: Properties) -> Iterable[Failure]:
    """What is wrong with an owner property."""
    if not has_unknown(inputs.get("owner")) and not re.fullmatch(r"[^\s/:]+/[^\s/:]+", text(inputs, "owner")):
        yield Failure("owner", f"{text(inputs, 'owner')!r} is not <project>/<stack>")


class ModelConfigFile(Resource):
    """Makes sure that a model config file exists before a service starts that reads it.

    Later changes are rolled out by ServedConfig, step by step. Only while no service runs that reads the file does a
    changed declaration go straight into it: where the file itself keeps services from starting, no rollout could.
    """

    token = "tfserving:index:ModelConfigFile"  # noqa: S105 (a type name)
    description = "The model config file in OSS or in a ConfigMap, there before a service starts that reads it."
    refresh_before_update = True
    inputs: ClassVar[Mapping[str, Property]] = {
        "bucket": Property("string", "bucket name", required=True, replaces=True),
        "key": Property("string", "object key of the file", required=True, replaces=True),
        "owner": Property("string", "<project>/<stack>, written to the file's first line", required=True),
        "initial": Property(
            "object",
            "models the file lists when it is made, later changes are rolled out; as an output, what it lists now",
            required=True,
            compared=False,
        ),
        **CONFIG_MAP_INPUTS,
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "unused": Property("boolean", "services are there, but none runs that reads the file", required=True),
    }

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)
        yield from models_failures(inputs, "initial")
        yield from config_map_failures(inputs)

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if text(old_outputs, "owner") != text(old_inputs, "owner"):
            diff.changes["owner",] = (Change.UPDATE, False)
        if flag(old_outputs, TAKEN):
            diff.changes[STAMP,] = (Change.UPDATE, False)
        if flag(old_outputs, "unused") and not has_unknown(news.get("initial")):
            initial = model_config.to_dict(_initial(news))
            for path, change in differences(table(old_outputs, "initial"), initial, ("initial",)).items():
                diff.changes[path] = (change, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if not has_unknown({name: inputs.get(name) for name in self.inputs if name != "initial"}):
            if old_inputs is None or old_outputs is None or _moved(old_inputs, inputs):
                _preview_place(ctx, inputs, old_inputs or {})
            else:  # whose it is now was read a moment ago
                owner = text(old_outputs, "owner")
                _file(ctx, inputs).refuse_other_owner(owner, *_former_owners(old_inputs, inputs))
        unused = old_outputs is not None and flag(old_outputs, "unused")
        listed = old_outputs["initial"] if old_outputs is not None and not unused else inputs["initial"]
        return inputs | {"unused": unused, "initial": listed}

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        file, initial = _file(ctx, inputs), _initial(inputs)
        stored = file.read()
        if stored is None:
            try:
                file.write(initial, new_only=True)
            except CloudError as error:
                if error.code != "FileAlreadyExists":
                    raise
                stored = file.read()
        if stored is not None:
            readable = stored.parse() is not None
            if not readable or _unused(ctx, inputs):
                why = "no service runs that reads it" if readable else "it does not parse"
                ctx.info(f"{file.uri} exists: written anew, since {why}")
                file.write(initial)
            else:
                ctx.info(f"{file.uri} exists and is managed by this stack: kept as it is until the rollout")
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
        stored = _file(ctx, inputs).find()
        if stored is None:
            return None
        if not text(inputs, "owner"):
            inputs = inputs | {"owner": stored.owner}
        kept = {name: value for name, value in outputs.items() if name != TAKEN}
        held = found_by(stored.held_by, ctx.stamp, imported=imported)
        return Found(inputs, kept | _outputs(inputs, stored, unused=_unused(ctx, inputs)) | held)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        file, initial = _file(ctx, news), _initial(news)
        stored = file.read(*_former_owners(old_inputs, news))
        unused = _unused(ctx, news)
        if stored is None:
            file.write(initial, new_only=True)
        elif unused and stored.parse() != initial:
            ctx.info(f"no service runs that reads {file.uri}: written as declared")
            file.write(initial)
        else:
            file.write_text(stored.text)
        return _outputs(news, file.find(), unused=unused)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        file = _file(ctx, inputs)
        stored = file.find()
        if stored is None:
            return
        if stored.owner != text(inputs, "owner"):
            ctx.warning(f"{file.uri} is managed by {stored.owner or 'nobody'} now: left where it is")
            return
        if is_anothers(stored.held_by, ctx.stamp):
            ctx.info(stays(file.uri))
            return
        file.delete()


def _former_owners(old_inputs: Properties, news: Properties) -> tuple[str, ...]:
    """Whose file an update takes for its own: by its state the stack manages it.

    One without an owner was written anew by hand, and is put right; but in another place it is somebody else's.
    """
    former = text(old_inputs, "owner")
    return tuple(filter(None, (former,))) if _moved(old_inputs, news) else (former, "")


def _moved(old_inputs: Properties, news: Properties) -> bool:
    """Whether the file may be in another place than before."""
    return any(text(old_inputs, name) != text(news, name) for name in ("bucket", "key", *CONFIG_MAP_INPUTS))


def _preview_place(ctx: Context, inputs: Properties, old_inputs: Properties) -> None:
    """Look whether the file can be written where it is to be, which may be another place than before.

    Raises:
        OwnershipError: somebody else's file is there.
        CloudError: the kubeconfig is of no use, there is no such namespace, or there are no credentials.
    """
    file = _file(ctx, inputs)
    try:
        stored = file.read(*_former_owners(old_inputs, inputs))
        if stored is None and (config_map := text(inputs, "configMap")):
            Cluster.of(inputs).config_map(config_map).check_namespace()
    except (UnusableKubeconfigError, NoNamespaceError, NoCredentialsError):
        raise
    except CloudError as error:
        if faults.is_elsewhere(error):
            raise
        ctx.warning(f"it is not known yet whether {file.uri} is somebody else's: {error}")


def in_bucket(ctx: Context, inputs: Properties, stamp: str = "") -> ConfigObject:
    """The file in OSS that a resource's inputs name."""
    bucket = Bucket(ctx.clients.oss, text(inputs, "bucket"))
    return ConfigObject(bucket, text(inputs, "key"), text(inputs, "owner"), stamp)


def in_config_map(inputs: Properties, stamp: str = "") -> ConfigObject:
    """The file in a ConfigMap that a resource's inputs name: under the name the file has in the bucket."""
    name = text(inputs, "key").rpartition("/")[2]
    config_map = Cluster.of(inputs).config_map(text(inputs, "configMap"))
    return ConfigObject(config_map, name, text(inputs, "owner"), stamp)


def config_map_failures(inputs: Properties) -> Iterable[Failure]:
    """What is wrong with a configMap property."""
    name = inputs.get("configMap")
    if name is not None and not has_unknown(name) and not re.fullmatch(r"[a-z0-9-]+/[a-z0-9.-]+", str(plain(name))):
        yield Failure("configMap", f"{plain(name)!r} is not <namespace>/<name>")


def _file(ctx: Context, inputs: Properties) -> ConfigObject:
    if text(inputs, "configMap"):
        return in_config_map(inputs, ctx.stamp)
    return in_bucket(ctx, inputs, ctx.stamp)


def _initial(inputs: Properties) -> ModelServerConfig:
    return model_config.from_dict(table(inputs, "initial"), "initial")


def _outputs(inputs: Properties, stored: StoredConfig | None, *, unused: bool) -> Properties:
    found = stored.parse() if stored else None
    return inputs | {
        "owner": stored.owner if stored else "",
        "unused": unused,
        "initial": model_config.to_dict(found) if found is not None else {},
    }


def _unused(ctx: Context, inputs: Properties) -> bool:
    """Whether services of the stack are there, but none of those that may read the file has a replica running."""
    if config_map := text(inputs, "configMap"):
        pods = Cluster.of(inputs).readers(config_map)
        return bool(pods) and not any(pod.ready for pod in pods)
    try:
        services = ctx.clients.eas.labelled({OWNER_LABEL: text(inputs, "owner")})
    except CloudError as error:
        ctx.debug(f"whether a service reads the model config file is not known: {error}")
        return False
    readers = [service for service in services if not service.config or CONFIG_FILE_FLAG in str(service.config)]
    return bool(readers) and not any(service.running for service in readers)
