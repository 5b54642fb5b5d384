"""Where the models lie: the bucket, the published versions, and the config file that says which of them are served."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi

from components import arguments, names, surroundings
from components.arguments import is_output
from components.component import Argument, Component, PutBack, as_it_is
from components.declaration import Declaration
from components.found import find
from components.other_packages import Bucket
from components.resources import BucketContents, ModelConfigFile, PublishedModel, later
from config import model_files
from config.bucket import DEFAULT_MODEL_ROOT, BucketSettings
from config.model_files import ModelSource
from config.stack import Settings, StackOptions
from config.stack_config import NAMESPACE
from tfserving import model_config
from tfserving.contract.found import FindVersionsResult
from tfserving.contract.records import Record
from tfserving.contract.storage import BucketContentsInputs, ConfigReader, ModelConfigFileInputs, PublishedModelInputs
from tfserving.manifest import user_cache
from tfserving.model_config import ModelServerConfig
from tfserving.model_sets import DEFAULT_FILE, ModelSet
from tfserving.property_path import join_path
from tfserving.saved_model import SERVE_TAG

_ENCRYPTION = "AES256"


@dataclass(frozen=True, kw_only=True)
class ConfigReaders:
    """The services that read model config files, so that new versions appear only once none of them is disturbed.

    Attributes:
        serving: what the file of all models is to say.
        services: by name.
        config_map: ``namespace/name`` of the ConfigMap with the file; empty without services on Kubernetes.
        kubeconfig: kubeconfig of their cluster; empty: the environment's.
        context: context of the kubeconfig; empty: its current one.
        others: names of the files of other model sets, each with its ConfigMap; without pods that read it, empty.
    """

    serving: ModelServerConfig
    services: Mapping[str, ConfigReader]
    config_map: str = ""
    kubeconfig: pulumi.Input[str] = ""
    context: str = ""
    others: Mapping[str, str] = field(default_factory=dict)

    def inputs(self, key: str, model: str) -> dict[str, Any]:
        """The inputs of a published model that say so."""
        listed = self.serving.get(model)
        # Models that read the same files are disturbed by new ones alike.
        alike = tuple(each for each in self.serving.models if listed and each.base_path == listed.base_path)
        others = {posixpath.join(posixpath.dirname(key), name): at for name, at in self.others.items()}
        return {
            "config_file": key,
            "config_map": self.config_map or None,
            "kubeconfig": later(self.kubeconfig) or None,
            "kube_context": self.context or None,
            "readers": self.services,
            "serving": ModelServerConfig(alike),
            "config_files": others or None,
        }


@dataclass(frozen=True, kw_only=True)
class RepositoryPlan:
    """What a :class:`ModelRepository` makes, already checked. All is plain: it decides which resources there are.

    Attributes:
        bucket: the bucket, ours or somebody else's.
        root: key prefix of the model directories, empty or ending in a slash.
        owner: ``<project>/<stack>``.
        declaration: what its services read.
        models: models to publish, or to find published.
        sets: the model sets whose config file is in the bucket; each file says this when it is made.
        config_file_name: name of the config file of all models, below the root.
        readers: who reads a config file, in the bucket or on Kubernetes, and what it is to say; ``None``: nobody does.
        must_exist: an existing bucket has to be there before anything is made.
        rolled_out: the models whose dropped versions a rollout removes; files of others go at once.
        put_back: sets late values in the place of their stand-ins.
        warnings: what is worth saying although nothing is wrong.
        notes: what was found that no person wrote.
    """

    bucket: BucketSettings
    root: str
    owner: str
    declaration: Declaration
    models: tuple[ModelSource, ...] = ()
    sets: tuple[ModelSet, ...] = ()
    config_file_name: str = DEFAULT_FILE
    readers: ConfigReaders | None = None
    must_exist: bool = False
    rolled_out: frozenset[str] | None = None
    put_back: PutBack = as_it_is
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepositoryOutputs(Record):
    """Outputs of ModelRepository.

    Attributes:
        bucket: name of the bucket.
        root: key prefix of the model directories, empty or ending in a slash.
        declaration: what is to be served of each model, for the services that read from here.
        contents: URNs of what has to be there before a service can start.
    """

    bucket: str
    root: str
    declaration: str
    contents: tuple[str, ...] = ()


class ModelRepository(Component):
    """A bucket with models below one prefix, laid out as TensorFlow Serving wants it.

    A bucket that is given by name exists already, or is made by another resource: it is only named, not configured, and
    stays when the repository is removed. A mapping of options makes one. Services name the repository they read from.

    Attributes:
        bucket_name: name of the bucket.
        config_file_key: object key of the model config file of all models.
        bucket: the bucket; ``None`` for an existing one.
        bucket_contents: who can read it, and what keeps it from being deleted; ``None`` for an existing bucket.
        models: the published models by name.
        config_files: the model config files that services read.
        declaration: what is to be served of each model.
    """

    shape = (StackOptions,)
    not_taken = frozenset({"modelRoot", "services", "serviceDefaults", "kubernetes", "gpuNodePools", "rolloutSeconds",
                           "endpoint", "endpoints", "traffic"})  # fmt: skip
    arguments = (
        Argument(
            key="root", description="Key prefix of the model directories in the bucket. Default: models/tf_serving/"
        ),
        surroundings.REGION_ARGUMENT,
    )
    outputs = RepositoryOutputs

    def __init__(
        self,
        name: str,
        args: RepositoryPlan | Mapping[str, Any] | None = None,
        opts: pulumi.ResourceOptions | None = None,
        **options: Any,
    ) -> None:
        if isinstance(args, RepositoryPlan):
            plan, settings = args, None
        else:
            given = arguments.given(type(self), name, args, opts, options)
            plan, settings = _plan(name, dict(given))
        super().__init__(name, opts)
        if settings is not None and settings.asked:
            plan, _ = _plan(name, dict(given), find(settings, plan.put_back, self))
        for warning in plan.warnings:
            pulumi.log.warn(warning, self)
        for note in plan.notes:
            pulumi.log.info(note, self)
        bucket = plan.bucket
        self._put_back = plan.put_back
        self.declaration = plan.declaration
        self.bucket_name: pulumi.Input[str] = plan.put_back(bucket.name)
        self.config_file_key = f"{plan.root}{plan.config_file_name}"
        if not bucket.existing:
            fix = "give one of them another name, or pass the bucket of the one to the other"
            own = names.Thing(kind="bucket", name=self.bucket_name, path="bucket.name", fix=fix)
            names.hold(self, own, opts)
        self.bucket = None if bucket.existing else self._bucket(f"{name}-bucket", bucket)
        self.bucket_contents = self._contents(f"{name}-contents", plan) if self.bucket else None
        made = [resource for resource in (self.bucket, self.bucket_contents) if resource is not None]
        child = pulumi.ResourceOptions(parent=self, depends_on=made, protect=bucket.protect or None)
        self.models = {
            model.name: PublishedModel(
                f"{name}-{model.name}",
                PublishedModelInputs(
                    name=model.name,
                    bucket=later(self._held_bucket(plan, model, opts)),
                    prefix=_prefix(plan, model),
                    owner=plan.owner,
                    source=model.source,
                    manifests=model.manifests,
                    versions=dict(model.versions),
                    bucket_exists=plan.must_exist or bool(model.bucket),
                    remove_dropped=plan.rolled_out is not None and model.name not in plan.rolled_out,
                    from_bucket=model.from_bucket or None,
                    tflite=model.tflite or None,
                    tags=None if model.tags == (SERVE_TAG,) else model.tags,
                    **(plan.readers.inputs(self.config_file_key, model.name) if plan.readers else {}),
                ),
                child,
                plan.put_back,
            )
            for model in plan.models
        }
        # Services depend on these files alone, and so on all models: a list of every model at every service would be
        # gathered, sent and kept in the state for each. A preview makes nothing, so it waits for nothing: engines pass
        # over what depends on a failure, and a preview is to tell everything that is in the way.
        first = [] if pulumi.runtime.is_dry_run() else [*self.models.values()]
        last = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=first))
        self.config_files = [
            ModelConfigFile(
                f"{name}-config{each.suffix}",
                ModelConfigFileInputs(
                    bucket=bucket.name,
                    key=f"{plan.root}{each.file_name}",
                    owner=plan.owner,
                    initial=each.config,
                    adopt=each.adopt,
                ),
                last,
                plan.put_back,
            )
            for each in plan.sets
        ]
        self.finish(
            {
                "bucket": self.bucket_name,
                "root": plan.root,
                "declaration": plan.declaration.text,
                "contents": [resource.urn for resource in self.contents],
            }
        )

    @property
    def contents(self) -> list[pulumi.Resource]:
        """What has to be there before a service can start, without what that depends on itself."""
        if self.config_files:
            return [*self.config_files]
        found = [self.bucket, self.bucket_contents, *self.models.values()]
        return [resource for resource in found if resource is not None]

    def _held_bucket(
        self, plan: RepositoryPlan, model: ModelSource, opts: pulumi.ResourceOptions | None
    ) -> pulumi.Input[str]:
        """The bucket of a model, once it is known that no other repository of the run has its directory."""
        bucket = plan.put_back(model.bucket) if model.bucket else self.bucket_name
        directory = names.Thing(
            kind="model directory",
            name=_joined("oss://", bucket, f"/{_prefix(plan, model)}"),
            path=join_path("models", model.name),
            fix="remove the model from one of the two repositories, and let its services use the other one; or give "
            "one of them another root",
        )
        held = names.hold(self, directory, opts)
        return pulumi.Output.all(bucket, held).apply(lambda known: str(known[0])) if is_output(held) else bucket

    def _contents(self, name: str, plan: RepositoryPlan) -> BucketContents:
        settings = plan.bucket
        return BucketContents(
            name,
            BucketContentsInputs(
                bucket=settings.name,
                owner=plan.owner,
                storage_class=settings.storage_class,
                redundancy_type=settings.redundancy_type,
                encryption=_ENCRYPTION,
                force_destroy=settings.force_destroy,
            ),
            # Models depend on it, and it on the bucket: so it is deleted between them.
            pulumi.ResourceOptions(parent=self, depends_on=self.bucket, protect=settings.protect or None),
            self._put_back,
        )

    def _bucket(self, name: str, settings: BucketSettings) -> Bucket:
        """A private, versioned, encrypted bucket.

        All of it inline: with an IP address as endpoint the bucket's separate sub-resources cannot be reached, and
        mixed with inline settings they undo each other. Private is what OSS makes it without an ACL, whose inline form
        the provider warns of; that it stays so is seen to by BucketContents.
        """
        return Bucket(
            name,
            {
                "bucket": self._put_back(settings.name),
                "storageClass": settings.storage_class,
                "redundancyType": settings.redundancy_type,
                "versioning": {"status": "Enabled"},
                "serverSideEncryptionRule": {"sseAlgorithm": _ENCRYPTION},
                "lifecycleRules": [
                    {
                        "id": "remove-leftovers",
                        "prefix": "",
                        "enabled": True,
                        "abortMultipartUploads": [{"days": settings.abort_uploads_after_days}],
                        # A delete marker with nothing behind it goes, too.
                        "expirations": [{"expiredObjectDeleteMarker": True}],
                        "noncurrentVersionExpirations": [{"days": settings.expire_old_versions_after_days}],
                    }
                ],
                "forceDestroy": settings.force_destroy,
                "tags": self._put_back(dict(settings.tags)) or None,
            },
            pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )


def _joined(*parts: pulumi.Input[str]) -> pulumi.Input[str]:
    return pulumi.Output.concat(*parts) if any(map(is_output, parts)) else "".join(map(str, parts))


def _prefix(plan: RepositoryPlan, model: ModelSource) -> str:
    """Key prefix of a model's directory."""
    return model.prefix if model.bucket else f"{plan.root}{model.path}/"


def declared(settings: Settings, region: str, given: object = None) -> Declaration:
    """What a repository tells its services.

    Args:
        settings: the stack, or the part of one that the repository is.
        region: region of the bucket; empty where it is not said.
        given: the models as they were given; their gates are tried where the services are known.
    """
    entries = given if isinstance(given, Mapping) else {}
    gates = {name: entry["gate"] for name, entry in entries.items() if isinstance(entry, Mapping) and "gate" in entry}
    models = {
        model.name: {
            "policy": model_config.policy_to_dict(listed.policy),
            "labels": dict(listed.labels),
            "versions": list(model.versions),
            **({"source": model.source} if model.source else {}),
            **({"gate": gates[model.name]} if gates.get(model.name) is not None else {}),
        }
        for model in settings.models
        if (listed := settings.serving.get(model.name)) is not None
    }
    return Declaration(root=settings.model_root, region=region, models=models)


def _plan(name: str, given: dict[str, Any], found: FindVersionsResult | None = None) -> tuple[RepositoryPlan, Settings]:
    """What the arguments come to, and the settings that say so.

    Args:
        name: the repository's name.
        given: its arguments.
        found: as for :func:`config.stack.parse`.

    Raises:
        ArgumentError: everything that is wrong with them.
    """
    bucket = given.get("bucket")
    named = bucket is not None and not isinstance(bucket, Mapping)
    if named:
        given["bucket"] = {"name": bucket, "existing": True}

    def plan(values: Mapping[str, Any]) -> tuple[RepositoryPlan, Settings]:
        raw = {f"{NAMESPACE}:{key}": value for key, value in values.items() if key not in ("root", "region")}
        raw[f"{NAMESPACE}:modelRoot"] = values.get("root", DEFAULT_MODEL_ROOT)
        places = {f"{NAMESPACE}:modelRoot": "root", f"{NAMESPACE}:bucket.name": "bucket" if named else "bucket.name"}
        # Nothing of a repository depends on the region, and its provider may be made with one by the program.
        region = values.get("region") or surroundings.region() or "cn-hangzhou"
        with user_cache() as cache:
            settings = surroundings.parse(raw, region, cache, places, found=found)
            files = model_files.read(settings, cache)
        made = RepositoryPlan(
            bucket=settings.bucket,
            root=settings.model_root,
            owner=surroundings.owner(),
            declaration=declared(settings, str(values.get("region") or ""), values.get("models")),
            models=files.sources,
            # A bucket of another resource is made before its name is used.
            must_exist=settings.bucket.existing and not is_output(bucket),
            warnings=(*settings.warnings, *files.warnings),
            notes=settings.notes,
        )
        return made, settings

    checked = arguments.check(ModelRepository, name, given, plan)
    made, settings = checked.plan
    return replace(made, put_back=checked.put_back), settings
