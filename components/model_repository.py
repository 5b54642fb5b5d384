"""Where the models lie: the bucket, the published versions, and the config file that says which of them are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_alicloud import oss

from components.resources import (
    BucketContents,
    BucketContentsArgs,
    ModelConfigFile,
    ModelConfigFileArgs,
    PublishedModel,
    PublishedModelArgs,
)
from config.stack import CONFIG_FILE_NAME, BucketSettings
from tfserving import model_config
from tfserving.model_config import ModelServerConfig

_ENCRYPTION = "AES256"


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to publish.

    Attributes:
        name: model name.
        source: local directory with its version directories, relative to the project where that is possible;
            ``oss://bucket/path/`` with the same; empty: they are in the bucket already and are only referred to.
        versions: digest of each version by its number; ``any`` where only the source or the bucket knows it.
        manifests: local directory of the committed manifests; empty without any.
    """

    name: str
    source: str
    versions: Mapping[str, str]
    manifests: str = ""


@dataclass(frozen=True, kw_only=True)
class ConfigReaders:
    """The services that read the model config file, so that new versions appear only once none of them is disturbed.

    Attributes:
        serving: what the file is to say.
        services: by name: ``pollSeconds``, ``reachable``, and ``pods`` where they run on Kubernetes.
        config_map: ``namespace/name`` of the ConfigMap with the file; empty without services on Kubernetes.
        kubeconfig: kubeconfig of their cluster; empty: the environment's.
        context: context of the kubeconfig; empty: its current one.
    """

    serving: ModelServerConfig
    services: Mapping[str, Mapping[str, Any]]
    config_map: str = ""
    kubeconfig: pulumi.Input[str] = ""
    context: str = ""

    def inputs(self, key: str, model: str) -> dict[str, Any]:
        """The inputs of a published model that say so."""
        listed = self.serving.get(model)
        return {
            "config_file": key,
            "config_map": self.config_map or None,
            "kubeconfig": self.kubeconfig or None,
            "kube_context": self.context or None,
            "readers": {name: dict(facts) for name, facts in self.services.items()},
            "serving": model_config.to_dict(ModelServerConfig((listed,) if listed else ())),
        }


@dataclass(frozen=True, kw_only=True)
class ModelRepositoryArgs:
    """Arguments of :class:`ModelRepository`. All are plain: they decide which resources there are.

    Attributes:
        bucket: the bucket, ours or somebody else's.
        root: key prefix of the model directories, empty or ending in a slash.
        owner: ``<project>/<stack>``.
        models: models to publish, or to see that they are there.
        initial: what the config file in the bucket says when it is made; ``None``: nothing reads it, so there is none.
        readers: who reads a config file, in the bucket or on Kubernetes, and what it is to say; ``None``: nobody does.
    """

    bucket: BucketSettings
    root: str
    owner: str
    models: tuple[ModelSource, ...] = ()
    initial: ModelServerConfig | None = None
    readers: ConfigReaders | None = None


class ModelRepository(pulumi.ComponentResource):
    """A bucket with models below one prefix, laid out as TensorFlow Serving wants it.

    An existing bucket is only named: it is not made, read or configured, and stays when the stack is destroyed.

    Attributes:
        bucket_name: name of the bucket.
        config_file_key: object key of the model config file.
        bucket: the bucket; ``None`` for an existing one.
        bucket_contents: who can read it, and what keeps it from being deleted; ``None`` for an existing bucket.
        models: the published models by name.
        config_file: the model config file; ``None`` if nothing reads it.
    """

    def __init__(self, name: str, args: ModelRepositoryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("tf-serving:components:ModelRepository", name, None, opts)
        self.bucket_name = args.bucket.name
        self.config_file_key = f"{args.root}{CONFIG_FILE_NAME}"
        self.bucket = None if args.bucket.existing else self._bucket(f"{name}-bucket", args.bucket)
        self.bucket_contents = self._contents(f"{name}-contents", args) if self.bucket else None
        made = [resource for resource in (self.bucket, self.bucket_contents) if resource is not None]
        child = pulumi.ResourceOptions(parent=self, depends_on=made, protect=args.bucket.protect or None)
        self.models = {
            model.name: PublishedModel(
                f"{name}-{model.name}",
                PublishedModelArgs(
                    name=model.name,
                    bucket=args.bucket.name,
                    prefix=f"{args.root}{model.name}/",
                    owner=args.owner,
                    source=model.source,
                    manifests=model.manifests,
                    versions=dict(model.versions),
                    bucket_exists=args.bucket.existing,
                    # A rollout removes them later, once no service serves them.
                    remove_dropped=args.initial is None,
                    **(args.readers.inputs(self.config_file_key, model.name) if args.readers else {}),
                ),
                child,
            )
            for model in args.models
        }
        self.config_file: ModelConfigFile | None = None
        if args.initial is not None:
            self.config_file = ModelConfigFile(
                f"{name}-config",
                ModelConfigFileArgs(
                    bucket=args.bucket.name,
                    key=self.config_file_key,
                    owner=args.owner,
                    initial=model_config.to_dict(args.initial),
                ),
                child,
            )
        self.register_outputs({"bucket": self.bucket_name, "configFileKey": self.config_file_key})

    @property
    def contents(self) -> list[pulumi.Resource]:
        """Everything that has to be there before a service can start."""
        found = [self.bucket, self.bucket_contents, *self.models.values(), self.config_file]
        return [resource for resource in found if resource is not None]

    def _contents(self, name: str, args: ModelRepositoryArgs) -> BucketContents:
        settings = args.bucket
        return BucketContents(
            name,
            BucketContentsArgs(
                bucket=settings.name,
                owner=args.owner,
                storage_class=settings.storage_class,
                redundancy_type=settings.redundancy_type,
                encryption=_ENCRYPTION,
                force_destroy=settings.force_destroy,
            ),
            # Models depend on it, and it on the bucket: so it is deleted between them.
            pulumi.ResourceOptions(parent=self, depends_on=self.bucket, protect=settings.protect or None),
        )

    def _bucket(self, name: str, settings: BucketSettings) -> oss.Bucket:
        """A private, versioned, encrypted bucket.

        All of it inline: with an IP address as endpoint the bucket's separate sub-resources cannot be reached, and
        mixed with inline settings they undo each other. Private is what OSS makes it without an ACL, whose inline form
        the provider warns of; that it stays so is seen to by BucketContents.
        """
        return oss.Bucket(
            name,
            bucket=settings.name,
            storage_class=settings.storage_class,
            redundancy_type=settings.redundancy_type,
            versioning=oss.BucketVersioningArgs(status="Enabled"),
            server_side_encryption_rule=oss.BucketServerSideEncryptionRuleArgs(sse_algorithm=_ENCRYPTION),
            lifecycle_rules=[
                oss.BucketLifecycleRuleArgs(
                    id="remove-leftovers",
                    prefix="",
                    enabled=True,
                    abort_multipart_uploads=[
                        oss.BucketLifecycleRuleAbortMultipartUploadArgs(days=settings.abort_uploads_after_days)
                    ],
                    # A delete marker with nothing behind it goes, too.
                    expirations=[oss.BucketLifecycleRuleExpirationArgs(expired_object_delete_marker=True)],
                    noncurrent_version_expirations=[
                        oss.BucketLifecycleRuleNoncurrentVersionExpirationArgs(
                            days=settings.expire_old_versions_after_days
                        )
                    ],
                ),
            ],
            force_destroy=settings.force_destroy,
            tags=dict(settings.tags) or None,
            opts=pulumi.ResourceOptions(parent=self, protect=settings.protect),
        )
