"""The resource that looks after a bucket the stack made: who can read it, and what keeps it from being deleted.

The bucket itself is ``alicloud:oss:Bucket``. What that provider does not see is here: a policy that lets everybody in,
a default encryption that is gone, and the old versions of deleted objects, without whose removal a bucket with
versioning cannot be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from provider import faults
from provider.clients import NoCredentialsError
from provider.model_config_file import owner_failures
from provider.own_bucket import Facts, OwnBucket
from provider.properties import Change
from provider.resource import Context, Diff, Failure, Found, Resource
from tfserving.contract import BUCKET_CONTENTS
from tfserving.contract.storage import BucketContentsInputs, BucketContentsOutputs
from tfserving.errors import CloudError, ConfigError, Problem
from tfserving.property_values import Properties, plain

_FIXED = ("storageClass", "redundancyType")
"""Inputs that OSS sets when it makes a bucket, and never again."""


class BucketContents(Resource):
    """A stack's bucket as it is: private, encrypted, and free of what would keep it from being deleted."""

    contract = BUCKET_CONTENTS
    refresh_before_update = True

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        yield from owner_failures(inputs)

    def diff(self, old_inputs: Properties, old_outputs: Properties, news: Properties) -> Diff:
        # An output says what was found, and stands in for an input that was declared.
        found = {name: old_outputs.get(name, old_inputs.get(name)) for name in ("encryption", *_FIXED)}
        diff = super().diff(old_inputs | found, old_outputs, news)
        if diff.replaces:
            return diff
        if ("encryption",) in diff.changes:
            declared = plain(old_inputs.get("encryption")) != plain(news.get("encryption"))
            diff.changes["encryption",] = (diff.changes["encryption",][0], declared)
        if plain(old_outputs.get("public")):
            diff.changes["public",] = (Change.DELETE, False)
        if old_outputs.get("exists") is False:
            diff.changes["exists",] = (Change.UPDATE, False)
            for name in found:
                diff.changes.pop((name,), None)
        return diff

    def preview(
        self, ctx: Context, inputs: Properties, old_inputs: Properties | None, old_outputs: Properties | None
    ) -> Properties:
        outputs = inputs | {"public": [], "exists": True}
        read = BucketContentsInputs.read(inputs)
        if not read.knows("bucket"):
            return outputs
        if old_outputs is None:
            _preview_new(ctx, read)
            return outputs
        if old_outputs.get("exists") is False:
            ctx.warning(
                f"bucket {read.bucket} is gone. `pulumi up --refresh` makes it again and publishes the "
                "models anew; without --refresh an update fails"
            )
            return outputs
        _check_fixed(read, {name: str(plain(old_outputs.get(name)) or "") for name in _FIXED})
        for way in BucketContentsOutputs.read(old_outputs).public:
            ctx.warning(f"bucket {read.bucket} is open to everybody: {way}. `pulumi up` takes that away")
        return outputs

    def create(self, ctx: Context, inputs: Properties) -> tuple[str, Properties]:
        return BucketContentsInputs.read(inputs).bucket, self._put_right(ctx, inputs)

    def update(
        self, ctx: Context, id_: str, old_inputs: Properties, old_outputs: Properties, news: Properties
    ) -> Properties:
        return self._put_right(ctx, news)

    def replaced(self, ctx: Context, old_inputs: Properties, old_outputs: Properties) -> None:
        """Says what will be in the way when the old bucket is deleted."""
        read = BucketContentsInputs.read(old_inputs)
        if read.force_destroy:
            return
        bucket, owner = _bucket(ctx, read), read.owner
        try:
            strange = bucket.contents(owner).in_the_way()
        except CloudError as error:
            if error.code != "NoSuchBucket":
                raise
            return
        if strange:
            ctx.warning(in_the_way(bucket.name, strange, owner))

    def _put_right(self, ctx: Context, inputs: Properties) -> Properties:
        read = BucketContentsInputs.read(inputs)
        bucket = _bucket(ctx, read)
        facts = bucket.facts()
        if facts is None:
            raise CloudError(
                f"bucket {bucket.name} is gone. Fix: `pulumi up --refresh`, which makes it again and publishes the "
                "models anew",
                "NoSuchBucket",
            )
        _check_fixed(read, _fixed(facts))
        for way in facts.public:
            ctx.info(f"bucket {bucket.name} was open to everybody: {way}")
        if facts.public:
            bucket.make_private(facts)
        if facts.encryption != read.encryption:
            bucket.encrypt(read.encryption)
        return inputs | {"public": [], "exists": True}

    def read(self, ctx: Context, id_: str, inputs: Properties | None, outputs: Properties) -> Found | None:
        bucket = OwnBucket(ctx.clients.oss, id_)
        facts = bucket.facts()
        if facts is None:
            if inputs is None:
                return None
            # Not None: only a refresh makes the bucket's own provider look, and this stays its neighbour until then.
            return Found(inputs, outputs | {"public": [], "exists": False})
        if inputs is None:
            inputs = {"bucket": id_, "owner": ""}
        found: Properties = {**_fixed(facts), "encryption": facts.encryption}
        return Found(found | inputs, outputs | inputs | found | {"public": facts.public, "exists": True})

    def delete(self, ctx: Context, id_: str, inputs: Properties, outputs: Properties) -> None:
        read = BucketContentsInputs.read(inputs)
        if read.force_destroy:
            return
        bucket, owner = OwnBucket(ctx.clients.oss, id_), read.owner
        try:
            found = bucket.contents(owner)
            # Never what servers may still read: what is current is for the models' own resources to remove.
            bucket.remove(found.removable, found.own_uploads, lambda count: _progress(ctx, count, len(found.removable)))
        except CloudError as error:
            if error.code != "NoSuchBucket":
                raise
            return
        if found.removable:
            ctx.info(f"{len(found.removable)} old versions and delete markers of this stack are removed from {id_}")
        if strange := found.in_the_way():
            ctx.warning(in_the_way(id_, strange, owner))


def in_the_way(bucket: str, what: str, owner: str) -> str:
    """What keeps a bucket from being deleted, and how to go on."""
    stack = owner.partition("/")[2]
    return (
        f"bucket {bucket} cannot be deleted while something is in it that this stack did not publish: {what}. "
        "Fix: move it away, or delete it with "
        f"`.venv/bin/python -m ops bucket empty {bucket} --everything --stack {stack}`; then run the same command again"
    )


def _preview_new(ctx: Context, inputs: BucketContentsInputs) -> None:
    """Look whether a bucket that the stack is to make is there already.

    Raises:
        ConfigError: it was made with other settings, which OSS cannot change.
        CloudError: it is in another region, or there are no credentials.
    """
    try:
        facts = _bucket(ctx, inputs).facts()
        if facts is not None:
            _check_fixed(inputs, _fixed(facts))
            _warn_of_foreign_objects(ctx, inputs)
    except CloudError as error:
        if isinstance(error, NoCredentialsError) or faults.is_elsewhere(error):
            raise
        name = inputs.bucket
        taken = ""
        if error.code == "AccessDenied":
            # OSS says so of every bucket of another account; a name is taken for all of them.
            taken = (
                f". If a bucket {name} of another account is there, the update cannot make one: a name is one bucket's "
                "in all of Alibaba Cloud. Fix: name another one in tf-serving:bucket.name"
            )
        ctx.warning(f"it is not known yet whether bucket {name} exists already: {error}{taken}")


def _warn_of_foreign_objects(ctx: Context, inputs: BucketContentsInputs) -> None:
    bucket = _bucket(ctx, inputs)
    found = bucket.contents(inputs.owner)
    if found.strange and not found.current and not found.removable:
        ctx.warning(
            f"bucket {bucket.name} exists and holds only what this stack did not publish: {found.in_the_way()}. "
            "If this stack did not make it, `pulumi up` cannot. Fix: write `existing: true` beside its name, or name "
            "another one"
        )


def _progress(ctx: Context, count: int, of: int) -> None:
    ctx.check()
    ctx.status(f"{count} of {of} old versions removed")


def _bucket(ctx: Context, inputs: BucketContentsInputs) -> OwnBucket:
    return OwnBucket(ctx.clients.oss, inputs.bucket)


def _fixed(facts: Facts) -> dict[str, str]:
    return {"storageClass": facts.storage_class, "redundancyType": facts.redundancy_type}


def _check_fixed(inputs: BucketContentsInputs, made_with: Mapping[str, str]) -> None:
    """Raises ConfigError where the bucket was made with another storage class or redundancy type than is wanted."""
    wanted = inputs.write()
    problems = [
        Problem(
            f"tf-serving:bucket.{name}",
            f"bucket {inputs.bucket} was made with {found}, and OSS cannot change that; a new bucket of the "
            "same name cannot be made before the old one is gone",
            allowed=found,
            fix=f"write {found}; or name a new bucket in tf-serving:bucket.name in the same edit: models and services "
            "move to it, and the old one goes last",
        )
        for name, found in made_with.items()
        if found and found != wanted[name]
    ]
    if problems:
        raise ConfigError(problems)
