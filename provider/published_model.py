"""The versions of one model in OSS, as a resource."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provider.claims import found_by, is_anothers, stays
from provider.oss import (
    Bucket,
)
from provider.properties import Change
from provider.publication.jobs import Looked
from provider.publication.layout import (
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
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving import wire, wording
from tfserving.contract import PUBLISHED_MODEL
from tfserving.contract.storage import PublishedModelInputs, PublishedModelOutputs, VersionChanges, VersionFiles
from tfserving.errors import CloudError, SavedModelError
from tfserving.property_values import UNKNOWN, Properties
from tfserving.published import ANY, is_changed, marked, what_changed

_LINES_SHOWN = 20


class PublishedModel(Resource):
    """The published versions of one model."""

    contract = PUBLISHED_MODEL

    # ---- without the cloud -----------------------------------------------------------------------------------------

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        read = PublishedModelInputs.read(inputs)
        if read.knows("prefix") and (not read.prefix.endswith("/") or read.prefix.startswith("/")):
            yield Failure("prefix", f"{read.prefix!r} must end in a slash and not begin with one")
        if read.source.startswith(OSS) and not object_name(read.source).bucket:
            yield Failure("source", f"{read.source!r} is not oss://bucket/path/")
        for number, digest in read.versions.items() if read.knows("versions") else ():
            if not wire.is_version(wire.decode_integer(number)):
                yield Failure(f'versions["{number}"]', f"{number!r} is not a version number, 0 to 2^63 - 1")
            elif not (digest.startswith("sha256:") or digest == ANY):
                yield Failure(f'versions["{number}"]', f"{digest!r} is not a digest, sha256:... or {ANY}")

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        # What is published counts, not what was declared: an upload that failed halfway is still to be done.
        found, read = PublishedModelOutputs.read(old_outputs), PublishedModelInputs.read(news)
        published = dict(found.versions)
        if not read.knows("versions"):
            return super().diff({**old_inputs, "versions": published}, old_outputs, news)
        wanted = with_known_digests(read.versions, published)
        diff = super().diff({**old_inputs, "versions": published}, old_outputs, {**news, "versions": wanted})
        if diff.replaces:
            return diff
        differing = [
            number
            for number in ascending(published.keys() & wanted.keys())
            if published[number] not in (wanted[number], ANY) and not is_changed(published[number])
        ]
        if differing:
            several = len(differing) > 1
            where = read.source or f"the manifests in {read.manifests}"
            raise SavedModelError(
                f"version{'s' * several} {', '.join(differing)} of {read.name} {'are' if several else 'is'} "
                f"published already and {'their' if several else 'its'} files in {where} are no longer the same. A "
                "published version never changes: a server tells versions apart by their number alone. Fix: export "
                "under a new number, or restore the files"
            )
        declared = with_known_digests(PublishedModelInputs.read(old_inputs).versions, published)
        diff.changes = {
            path: (change, path[0] != "versions" or declared.get(str(path[-1])) != wanted.get(str(path[-1])))
            for path, (change, _) in diff.changes.items()
        }
        for number in ascending(found.unfinished):
            if ("versions", number) not in diff.changes:
                diff.changes["unfinished", number] = (Change.DELETE, False)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        read, found = PublishedModelInputs.read(inputs), PublishedModelOutputs.read(old_outputs or {})
        if not read.knows("versions"):
            return inputs | {"files": UNKNOWN, "unfinished": {}}
        published, files = found.versions, found.files
        wanted = with_known_digests(read.versions, published)
        # Where files are to lie may be known only during the update.
        known = read.knows("bucket", "prefix", "source", "owner")
        looked = Publication(ctx, "", inputs, old_inputs or {}, old_outputs or {}).look() if known else Looked()
        coming = {number: looked.size(number) for number in ascending(wanted.keys() - published)}
        changes = found.changes or {}
        put_back = [number for number in ascending(wanted.keys() & published.keys()) if is_changed(published[number])]
        lines = [f"+ {wording.version(number, size)}" for number, size in coming.items()]
        lines += [f"~ version {number} ({what_changed(published[number], changes.get(number))})" for number in put_back]
        dropped = ascending(published.keys() - wanted)
        stay = Publication(ctx, "", inputs, old_inputs or {}, old_outputs or {}).stay(dropped) if known else {}
        lines += [f"- {wording.version(number, files.get(number))}{stay.get(number, '')}" for number in dropped]
        for line in lines[:_LINES_SHOWN]:
            ctx.info(f"{read.name}: {line}")
        if len(lines) > _LINES_SHOWN:
            ctx.info(f"{read.name}: and {len(lines) - _LINES_SHOWN} more")
        looked.refuse(read.name)
        kept: Properties = {
            number: files[number].write() if published.get(number) == digest and number in files else UNKNOWN
            for number, digest in wanted.items()
        }
        kept |= {number: {**size.write(), "fingerprint": UNKNOWN} for number, size in coming.items() if size}
        return inputs | {"files": kept, "unfinished": {}}

    # ---- with the cloud --------------------------------------------------------------------------------------------

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        read = PublishedModelInputs.read(inputs)
        id_ = f"oss://{read.bucket}/{read.prefix}"
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
        read, before = PublishedModelInputs.read(inputs), PublishedModelOutputs.read(outputs)
        bucket, prefix = Bucket(ctx.clients.oss, read.bucket), read.prefix
        try:
            listing = Listing.of(bucket, prefix)
        except CloudError as error:
            if error.code == NO_BUCKET:
                return None
            raise
        known = dict(before.versions)
        if imported:
            known = {number: "" for number, objects in listing.versions.items() if MANIFEST in objects}
        versions: dict[str, str] = {}
        files: dict[str, VersionFiles] = {}
        changes: dict[str, VersionChanges] = {}
        for number in ascending(known):
            objects = listing.versions.get(number)
            if not objects:
                continue
            files[number] = summary = summary_of(objects)
            versions[number] = known[number]
            if number in (before.changes or {}):
                changes[number] = (before.changes or {})[number]
            if number not in before.files or summary.fingerprint != before.files[number].fingerprint:
                ctx.status(f"looking closer at version {number}")
                committed = Source.of(ctx, read).committed(int(number))
                seen = digest_or_changes(bucket, prefix, number, objects, known[number], committed)
                changes.pop(number, None)
                if isinstance(seen, VersionChanges):
                    changes[number] = seen
                versions[number] = marked(seen) if isinstance(seen, VersionChanges) else seen
        unfinished = {
            number: len(objects)
            for number, objects in listing.staged.items()
            if (started := load_manifest(bucket, staged_manifest_key(prefix, int(number)))) is not None
            and started.owner == read.owner
        }
        if not versions and not unfinished:
            return None
        strange = listing.versions.keys() - versions.keys() - listing.staged.keys()
        if strange and read.source:
            numbers = ", ".join(ascending(strange))
            ctx.warning(f"{id_} also holds {numbers}, which this stack has not published: a policy may select it")
        as_declared = {
            number: read.versions.get(number, digest) if digest == known[number] else digest
            for number, digest in versions.items()
        }
        found = PublishedModelOutputs(
            versions=versions, files=files, unfinished=unfinished, changes=changes or None
        ).write()
        if (
            imported
            and (held := load_manifest(bucket, manifest_key(prefix, max(map(int, versions), default=0)))) is not None
        ):
            found |= found_by(held.created_by, ctx.stamp, imported=True)
        kept = {name: value for name, value in outputs.items() if name != "changes"}
        return Found(inputs | {"versions": as_declared}, kept | inputs | found)

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        read, found = PublishedModelInputs.read(inputs), PublishedModelOutputs.read(outputs)
        bucket, prefix = Bucket(ctx.clients.oss, read.bucket), read.prefix
        numbers = {*read.versions, *found.versions, *found.unfinished}
        try:
            named = Publication(ctx, id_, inputs, inputs, outputs).named(numbers)
            for number in ascending(numbers):
                ctx.check()
                ctx.status(f"removing version {number}")
                stored = load_manifest(bucket, manifest_key(prefix, int(number)))
                if stored is not None and is_anothers(stored.created_by, ctx.stamp):
                    ctx.info(stays(f"oss://{bucket.name}/{prefix}{number}/"))
                elif stored is not None and stored.owner == read.owner and number in named:
                    ctx.info(
                        f"oss://{bucket.name}/{prefix}{number}/ stays: {named[number]} names it, so services of this "
                        "stack read it from there"
                    )
                    # Whoever publishes it as well goes on with it.
                    text = replace(stored, created_by="").to_json()
                    bucket.put_text(manifest_key(prefix, int(number)), text)
                else:
                    remove_files(bucket, prefix, int(number), read.owner, stored)
        except CloudError as error:
            if error.code != NO_BUCKET:
                raise
