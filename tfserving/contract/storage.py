"""What lies in a bucket: the bucket's contents, published models, the model config file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tfserving.contract.kinds import Amount, Version
from tfserving.contract.parts import MODELS, ConfigMapInputs, Outputs
from tfserving.contract.records import Contract, Record, prop
from tfserving.model_config import ModelServerConfig


@dataclass(frozen=True, kw_only=True)
class BucketContentsInputs(Record):
    """Inputs of BucketContents.

    Attributes:
        bucket: name of a bucket that the stack makes.
        owner: ``<project>/<stack>``: whose object versions are removed with the bucket.
        storage_class: storage class the bucket was made with.
        redundancy_type: redundancy type the bucket was made with.
        encryption: algorithm of the default encryption.
        force_destroy: everything in the bucket is deleted with it, by its own provider.
    """

    bucket: str = prop(replaces=True)
    owner: str
    storage_class: str
    redundancy_type: str
    encryption: str
    force_destroy: bool = False


@dataclass(frozen=True, kw_only=True)
class BucketContentsOutputs(Outputs):
    """Outputs of BucketContents.

    Attributes:
        public: every way in which everybody can reach the bucket.
        exists: the bucket is there.
    """

    public: tuple[str, ...]
    exists: bool


BUCKET_CONTENTS = Contract(
    "BucketContents",
    "Who can read a bucket of the stack, and what is in it when it goes.",
    BucketContentsInputs,
    BucketContentsOutputs,
)


@dataclass(frozen=True, kw_only=True)
class ConfigReader(Record):
    """A service that reads the model config file as it changes.

    Attributes:
        poll_seconds: how often it reads it; 0 is only when it starts.
        reachable: whether the machine that runs Pulumi can ask it; by default it can.
        pods: it runs on Kubernetes and reads the ConfigMap.
    """

    poll_seconds: float = 0
    reachable: bool = True
    pods: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedModelInputs(ConfigMapInputs):
    """Inputs of PublishedModel.

    Attributes:
        name: model name.
        bucket: bucket name.
        prefix: key prefix of the model, ending in a slash.
        owner: ``<project>/<stack>``: who may remove what is published here.
        source: local model directory, relative to the project; ``oss://bucket/path/`` in the same region; or empty: the
            versions are there already and are only referred to. A change of it alone is no change.
        manifests: local directory with committed manifests, relative to the project.
        versions: by number: the version's digest (``sha256:...``), or ``any``.
        config_file: object key of the model config file that services read; without it, nobody does.
        readers: by name: services that read the config file.
        serving: the model as the config file is to list it. New versions appear once every reader keeps what it serves.
        config_files: by object key: the further model config files of the stack, each with its ConfigMap
            (``namespace/name``); empty where no pod reads it.
        bucket_exists: the bucket has to be there, because this stack does not make it.
        remove_dropped: remove the files of a version that is published no longer at once, because no rollout does it
            later.
        from_bucket: nobody named the versions: they are those that were complete in the bucket.
        tflite: whatever serves it loads ``model.tflite``, so a version may hold that alone.
        tags: ``--saved_model_tags`` of whatever serves it, where they are not ``serve`` alone: a version that comes
            from OSS has a graph for each.
    """

    name: str = prop(replaces=True)
    bucket: str = prop(replaces=True)
    prefix: str = prop(replaces=True)
    owner: str
    source: str = prop("", compared=False)
    manifests: str = prop("", compared=False)
    versions: Mapping[str, str]
    config_file: str | None = prop(None, compared=False)
    config_map: str | None = prop(None, compared=False)
    kubeconfig: str | None = prop(None, compared=False)
    kube_context: str | None = prop(None, compared=False)
    readers: Mapping[str, ConfigReader] | None = prop(None, compared=False)
    serving: ModelServerConfig | None = prop(None, compared=False, kind=MODELS)
    config_files: Mapping[str, str] | None = prop(None, compared=False)
    bucket_exists: bool = prop(False, compared=False)
    remove_dropped: bool = prop(False, compared=False)
    from_bucket: bool | None = prop(None, compared=False)
    tflite: bool | None = prop(None, compared=False)
    tags: tuple[str, ...] | None = prop(None, compared=False)


@dataclass(frozen=True, kw_only=True)
class VersionFiles(Record):
    """The files of a published version.

    Attributes:
        files: how many.
        bytes: their size.
        fingerprint: changes whenever an object of the version does.
    """

    files: int
    bytes: Amount
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class SomeFiles(Record):
    """Files of a version.

    Attributes:
        names: of the first of them, relative to the version's directory.
        count: how many there are.
    """

    names: tuple[str, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class VersionChanges(Record):
    """How a published version differs from its manifest; nothing of it where no manifest says which objects differ.

    Attributes:
        missing: files that are gone.
        changed: files with other content.
        added: files that do not belong to it.
    """

    missing: SomeFiles | None = None
    changed: SomeFiles | None = None
    added: SomeFiles | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedModelOutputs(Outputs):
    """Outputs of PublishedModel.

    Attributes:
        versions: by number: what is published, the version's digest; or what was changed since.
        files: by version: its files.
        unfinished: by version: objects of an interrupted upload.
        changes: by version: what was changed since it was published; missing where nothing was.
    """

    versions: Mapping[str, str]
    files: Mapping[str, VersionFiles]
    unfinished: Mapping[str, int]
    changes: Mapping[str, VersionChanges] | None = None


PUBLISHED_MODEL = Contract(
    "PublishedModel",
    "The versions of one model in OSS, complete and unchangeable once published.",
    PublishedModelInputs,
    PublishedModelOutputs,
)


@dataclass(frozen=True, kw_only=True)
class ModelConfigFileInputs(ConfigMapInputs):
    """Inputs of ModelConfigFile.

    Attributes:
        bucket: bucket name.
        key: object key of the file.
        owner: ``<project>/<stack>``, written to the file's first line.
        initial: models the file lists when it is made; a later change of it is no change (ServedConfig rolls it out).
        adopt: take over a file that is there and not this stack's.
    """

    bucket: str = prop(replaces=True)
    key: str = prop(replaces=True)
    owner: str
    initial: ModelServerConfig = prop(compared=False, kind=MODELS)
    adopt: bool = prop(False, compared=False)


@dataclass(frozen=True, kw_only=True)
class ModelConfigFileOutputs(Outputs):
    """Outputs of ModelConfigFile.

    Attributes:
        owner: ``<project>/<stack>`` in the file's first line.
        initial: models that the file lists now.
        unused: services are there, but none runs that reads the file.
        taken: another create holds the file.
    """

    owner: str
    initial: ModelServerConfig = prop(kind=MODELS)
    unused: bool
    taken: bool | None = None


MODEL_CONFIG_FILE = Contract(
    "ModelConfigFile",
    "The model config file in OSS or in a ConfigMap, there before a service starts that reads it.",
    ModelConfigFileInputs,
    ModelConfigFileOutputs,
)


@dataclass(frozen=True, kw_only=True)
class RetiredVersionsInputs(Record):
    """Inputs of RetiredVersions.

    Attributes:
        bucket: bucket name.
        root: key prefix of the model directories, empty or ending in a slash.
        owner: ``<project>/<stack>``: whose versions are removed.
        published: version numbers that stay, by directory of the model below the root.
        config_files: object keys of the model config files that services of the stack read.
    """

    bucket: str = prop(replaces=True)
    root: str = prop(replaces=True)
    owner: str
    published: Mapping[str, tuple[Version, ...]]
    config_files: tuple[str, ...] = prop((), compared=False)


@dataclass(frozen=True, kw_only=True)
class RetiredVersionsOutputs(Outputs):
    """Outputs of RetiredVersions.

    Attributes:
        kept: by directory: dropped versions whose files stay, since the config file of another stack names them.
    """

    kept: Mapping[str, tuple[Version, ...]]


RETIRED_VERSIONS = Contract(
    "RetiredVersions",
    "Removes the files of versions that are published no longer, once no service needs them.",
    RetiredVersionsInputs,
    RetiredVersionsOutputs,
)
