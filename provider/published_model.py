"""The versions of one model in OSS, as a resource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from provider.claims import found_by, is_anothers, stays
from provider.model_config_file import CONFIG_MAP_INPUTS
from provider.oss import (
    Bucket,
)
from provider.properties import UNKNOWN, Change, Properties, has_unknown
from provider.publication.jobs import Looked
from provider.publication.layout import (
    ANY,
    CHANGED,
    MANIFEST,
    NO_BUCKET,
    OSS,
    Listing,
    ascending,
    digest_or_changes,
    load_manifest,
    manifest_key,
    remove_files,
    staged_manifest_key,
    summary_of,
)
from provider.publication.run import Publication, with_known_digests
from provider.publication.sources import Source, object_name
from provider.resource import Context, Diff, Failure, Found, Property, Resource, table, text
from tfserving import wire
from tfserving.errors import CloudError, SavedModelError
from tfserving.manifest import amounts

_LINES_SHOWN = 20


class PublishedModel(Resource):
    """The published versions of one model."""

    token = "tfserving:index:PublishedModel"  # noqa: S105 (a type name)
    description = "The versions of one model in OSS, complete and unchangeable once published."
    inputs: ClassVar[Mapping[str, Property]] = {
        "name": Property("string", "model name", required=True, replaces=True),
        "bucket": Property("string", "bucket name", required=True, replaces=True),
        "prefix": Property("string", "key prefix of the model, ending in a slash", required=True, replaces=True),
        "owner": Property("string", "<project>/<stack>: who may remove what is published here", required=True),
        "source": Property(
            "string",
            "local model directory, relative to the project; oss://bucket/path/ in the same region; or empty: the "
            "versions are there already and are only referred to",
            default="",
            compared=False,
        ),
        "manifests": Property(
            "string", "local directory with committed manifests, relative to the project", default="", compared=False
        ),
        "versions": Property("object", "by number: the version's digest, or `any`", required=True),
        "configFile": Property(
            "string", "object key of the model config file that services read; without it, nobody does", compared=False
        ),
        **{name: replace(each, compared=False, replaces=False) for name, each in CONFIG_MAP_INPUTS.items()},
        "readers": Property(
            "object",
            "by name: services that read the config file: pollSeconds, reachable, pods: true on Kubernetes",
            compared=False,
        ),
        "serving": Property("object", "the model as the config file is to list it", compared=False),
        "bucketExists": Property(
            "boolean",
            "the bucket has to be there, because this stack does not make it",
            default=False,
            compared=False,
        ),
        "removeDropped": Property(
            "boolean",
            "remove the files of a version that is published no longer at once, because no rollout does it later",
            default=False,
            compared=False,
        ),
    }
    outputs: ClassVar[Mapping[str, Property]] = {
        "files": Property(
            "object", "by version: number of files, bytes, and a fingerprint of the objects", required=True
        ),
        "unfinished": Property("object", "by version: objects of an interrupted upload", required=True),
    }

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        prefix = inputs["prefix"]
        if prefix is not UNKNOWN and (not text(inputs, "prefix").endswith("/") or text(inputs, "prefix")[:1] == "/"):
            yield Failure("prefix", f"{prefix!r} must end in a slash and not begin with one")
        source = text(inputs, "source")
        if source.startswith(OSS) and not object_name(source).bucket:
            yield Failure("source", f"{source!r} is not oss://bucket/path/")
        if has_unknown(inputs["versions"]):
            return
        for number, digest in table(inputs, "versions").items():
            if not wire.is_version(wire.decode_integer(number)):
                yield Failure(f'versions["{number}"]', f"{number!r} is not a version number, 0 to 2^63 - 1")
            elif not isinstance(digest, str) or not (digest.startswith("sha256:") or digest == ANY):
                yield Failure(f'versions["{number}"]', f"{digest!r} is not a digest, sha256:... or {ANY}")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        # What is published counts, not what was declared: an upload that failed halfway is still to be done.
        published = table(old_outputs, "versions")
        if has_unknown(news.get("versions")):
            return super().diff({**old_inputs, "versions": published}, old_outputs, news)
        wanted = with_known_digests(table(news, "versions"), published)
        diff = super().diff({**old_inputs, "versions": published}, old_outputs, {**news, "versions": wanted})
        if diff.replaces:
            return diff
        differing = [
            number
            for number in ascending(published.keys() & wanted.keys())
            if published[number] not in (wanted[number], ANY) and not published[number].startswith(CHANGED)
        ]
        if differing:
            several = len(differing) > 1
            where = text(news, "source") or f"the manifests in {text(news, 'manifests')}"
            raise SavedModelError(
                f"version{'s' * several} {', '.join(differing)} of {text(news, 'name')} {'are' if several else 'is'} "
                f"published already and {'their' if several else 'its'} files in {where} are no longer the same. A "
                "published version never changes: a server tells versions apart by their number alone. Fix: export "
                "under a new number, or restore the files"
            )
        declared = with_known_digests(table(old_inputs, "versions"), published)
        diff.changes = {
            path: (change, path[0] != "versions" or declared.get(str(path[-1])) != wanted.get(str(path[-1])))
            for path, (change, _) in diff.changes.items()
        }
        for number in ascending(table(old_outputs, "unfinished")):
            if ("versions", number) not in diff.changes:
                diff.changes["unfinished", number] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        if has_unknown(inputs["versions"]):
            return inputs | {"files": UNKNOWN, "unfinished": {}}
        published = table(old_outputs or {}, "versions")
        wanted = with_known_digests(table(inputs, "versions"), published)
        files = table(old_outputs or {}, "files")
        # Where files are to lie may be known only during the update.
        known = not has_unknown({name: inputs.get(name) for name in ("bucket", "prefix", "source", "owner")})
        looked = Publication(ctx, "", inputs, old_inputs or {}, old_outputs or {}).look() if known else Looked()
        coming = {number: looked.size(number) for number in ascending(wanted.keys() - published)}
        lines = [f"+ version {number}{_size(size)}" for number, size in coming.items()]
        lines += [
            f"~ version {number} ({published[number].removeprefix(CHANGED)})"
            for number in ascending(wanted.keys() & published.keys())
            if published[number].startswith(CHANGED)
        ]
        lines += [f"- version {number}{_size(files.get(number))}" for number in ascending(published.keys() - wanted)]
        for line in lines[:_LINES_SHOWN]:
            ctx.info(f"{text(inputs, 'name')}: {line}")
        if len(lines) > _LINES_SHOWN:
            ctx.info(f"{text(inputs, 'name')}: and {len(lines) - _LINES_SHOWN} more")
        looked.refuse(text(inputs, "name"))
        kept = {
            number: files[number] if published.get(number) == digest and number in files else UNKNOWN
            for number, digest in wanted.items()
        }
        kept |= {number: {**size, "fingerprint": UNKNOWN} for number, size in coming.items() if size}
        return inputs | {"files": kept, "unfinished": {}}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        id_ = f"oss://{text(inputs, 'bucket')}/{text(inputs, 'prefix')}"
        return id_, Publication(ctx, id_, inputs, {}, {}).run()

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return Publication(ctx, id_, news, old_inputs, old_outputs).run()

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        imported = inputs is None
        if inputs is None:
            bucket_name, _, prefix = id_.removeprefix(OSS).partition("/")
            name = prefix.rstrip("/").rpartition("/")[2]
            inputs = {"name": name, "bucket": bucket_name, "prefix": prefix, "owner": "", "source": "", "versions": {}}
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        try:
            listing = Listing.of(bucket, prefix)
        except CloudError as error:
            if error.code == NO_BUCKET:
                return None
            raise
        known = table(outputs, "versions")
        if imported:
            known = {number: "" for number, objects in listing.versions.items() if MANIFEST in objects}
        versions: dict[str, str] = {}
        files: dict[str, Any] = {}
        for number in ascending(known):
            objects = listing.versions.get(number)
            if not objects:
                continue
            files[number] = summary = summary_of(objects)
            versions[number] = known[number]
            if summary["fingerprint"] != table(outputs, "files").get(number, {}).get("fingerprint"):
                ctx.status(f"looking closer at version {number}")
                committed = Source.of(ctx, inputs).committed(int(number))
                versions[number] = digest_or_changes(bucket, prefix, number, objects, known[number], committed)
        unfinished = {
            number: len(objects)
            for number, objects in listing.staged.items()
            if (started := load_manifest(bucket, staged_manifest_key(prefix, int(number)))) is not None
            and started.owner == text(inputs, "owner")
        }
        if not versions and not unfinished:
            return None
        strange = listing.versions.keys() - versions.keys() - listing.staged.keys()
        if strange and text(inputs, "source"):
            numbers = ", ".join(ascending(strange))
            ctx.warning(f"{id_} also holds {numbers}, which this stack has not published: a policy may select it")
        declared = table(inputs, "versions")
        as_declared = {
            number: declared.get(number, digest) if digest == known[number] else digest
            for number, digest in versions.items()
        }
        found: Properties = {"versions": versions, "files": files, "unfinished": unfinished}
        if (
            imported
            and (held := load_manifest(bucket, manifest_key(prefix, max(map(int, versions), default=0)))) is not None
        ):
            found |= found_by(held.created_by, ctx.stamp, imported=True)
        return Found(inputs | {"versions": as_declared}, outputs | inputs | found)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        bucket, prefix = Bucket(ctx.clients.oss, text(inputs, "bucket")), text(inputs, "prefix")
        numbers = {*table(inputs, "versions"), *table(outputs, "versions"), *table(outputs, "unfinished")}
        try:
            for number in ascending(numbers):
                ctx.check()
                ctx.status(f"removing version {number}")
                stored = load_manifest(bucket, manifest_key(prefix, int(number)))
                if stored is not None and is_anothers(stored.created_by, ctx.stamp):
                    ctx.info(stays(f"oss://{bucket.name}/{prefix}{number}/"))
                else:
                    remove_files(bucket, prefix, int(number), text(inputs, "owner"), stored)
        except CloudError as error:
            if error.code != NO_BUCKET:
                raise


def _size(summary: Mapping[str, Any] | None) -> str:
    if not summary:
        return ""
    return f" ({amounts(summary['files'], summary['bytes'])})"
