"""The versions that a stack publishes no longer, removed once no service serves them, as a resource.

In a stack with one model config file its rollout does that. Where several files name models, none of their rollouts
knows when the others are done; this resource comes after all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from provider.model_config_file import owner_failures
from provider.oss import Bucket
from provider.publication.layout import MANIFEST, Listing, load_manifest, manifest_key, remove_version
from provider.resource import Context, Diff, Failure, Found, Resource
from provider.uses import files_of_others, names_version
from tfserving.contract import RETIRED_VERSIONS
from tfserving.contract.storage import RetiredVersionsInputs
from tfserving.property_values import Properties, has_unknown
from tfserving.served import Versions, versions_of
from tfserving.wording import some_of


class RetiredVersions(Resource):
    """Dropped versions of the models of one stack."""

    contract = RETIRED_VERSIONS

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        diff = super().diff(old_inputs, old_outputs, news)
        if not has_unknown({name: each.get("published") for name, each in (("old", old_inputs), ("new", news))}):
            old, new = RetiredVersionsInputs.read(old_inputs), RetiredVersionsInputs.read(news)
            if not _dropped(old.published, new.published):  # a version more is no work here
                diff.changes = {path: change for path, change in diff.changes.items() if path[0] != "published"}
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if old_inputs is not None and not has_unknown(inputs):
            old, new = RetiredVersionsInputs.read(old_inputs), RetiredVersionsInputs.read(inputs)
            for model, versions in _dropped(old.published, new.published).items():
                ctx.info(f"{model}: version {_listed(versions)} is removed from the bucket once no service serves it")
        return inputs | {"kept": {}}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        wanted = RetiredVersionsInputs.read(inputs)
        return f"oss://{wanted.bucket}/{wanted.root}#retired", self._remove(ctx, inputs)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._remove(ctx, news)

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        """Nothing is there to be found: what was removed is gone."""
        return None if inputs is None else Found(inputs, outputs | inputs)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        """Nothing: versions go with their model, or with the rollout of the one file that is left."""

    def _remove(self, ctx: Context, inputs: Properties) -> Properties:
        wanted = RetiredVersionsInputs.read(inputs)
        bucket = Bucket(ctx.clients.oss, wanted.bucket)
        elsewhere = files_of_others(bucket, wanted.root, wanted.owner, wanted.config_files)
        kept: dict[str, list[str]] = {}
        for model, published in wanted.published.items():
            ctx.check()
            prefix = f"{wanted.root}{model}/"
            there = {int(name) for name, objects in Listing.of(bucket, prefix).versions.items() if MANIFEST in objects}
            for version in sorted(there - set(published)):
                found = load_manifest(bucket, manifest_key(prefix, version))
                if found is None or found.owner != wanted.owner:
                    continue
                if users := [uri for uri, config in elsewhere.items() if names_version(config, model, version, there)]:
                    ctx.warning(f"{model}: version {version} stays in the bucket: {some_of(users, 3)} names it")
                    kept.setdefault(model, []).append(str(version))
                    continue
                ctx.status(f"{model}: removing version {version}")
                files = remove_version(bucket, prefix, version, wanted.owner)
                ctx.info(f"{model}: version {version} removed from the bucket ({files} files)")
        return inputs | {"kept": kept}


def _dropped(old: Mapping[str, Iterable[int]], new: Mapping[str, Iterable[int]]) -> Versions:
    before, now = versions_of(old), versions_of(new)
    return {name: versions - now[name] for name, versions in before.items() if name in now and versions - now[name]}


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
