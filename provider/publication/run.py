"""One create or update of a published model: versions are uploaded aside and copied into place.

See :mod:`provider.publication` for the order and its reasons."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from provider.oss import (
    COPY_BYTES,
    MAX_KEY_BYTES,
    MULTIPART_BYTES,
    Bucket,
    ObjectInfo,
    ObjectName,
    PartUpload,
)
from provider.pinning import pin
from provider.publication.jobs import Job, Looked, There, size_of
from provider.publication.layout import (
    GRAPHS,
    MANIFEST,
    MARKER,
    NO_BUCKET,
    STAGING,
    Listing,
    ascending,
    clear_staging,
    differing,
    links,
    load_manifest,
    manifest_key,
    remove_version,
    staged_key,
    staged_manifest_key,
    summary_of,
)
from provider.publication.parallel import T, bound, run_all
from provider.publication.progress import Progress
from provider.publication.sources import BucketSource, Source, is_certain, refuse_other_content
from provider.resource import Context
from provider.uses import files_of_others, files_of_own, names_version, right_below_a_mount
from tfserving import saved_model
from tfserving.contract.storage import PublishedModelInputs, PublishedModelOutputs, VersionFiles
from tfserving.errors import CloudError, OwnershipError, SavedModelError, TFServingError
from tfserving.manifest import FileEntry, Manifest, amounts
from tfserving.pinning import Coming
from tfserving.property_values import Properties
from tfserving.published import ANY, NAMES_SHOWN, is_changed
from tfserving.wording import some_of

_VERSIONS_AT_ONCE = 4


class Publication:
    """Brings the versions of a model into place, several at once."""

    def __init__(
        self, ctx: Context, id_: str, echoed: Properties, old_inputs: Properties, old_outputs: Properties
    ) -> None:
        self._ctx = ctx
        self._id = id_
        self._echoed = echoed
        self._inputs = inputs = PublishedModelInputs.read(echoed)
        before = PublishedModelOutputs.read(old_outputs)
        self._owner = inputs.owner
        self._old_owner = PublishedModelInputs.read(old_inputs).owner or self._owner
        self._name = inputs.name
        self._bucket = Bucket(ctx.clients.oss, inputs.bucket)
        self._prefix = inputs.prefix
        self._source = Source.of(ctx, inputs)
        self._published = before.versions
        self._wanted = with_known_digests(inputs.versions, self._published)
        self._done = {
            number: digest for number, digest in self._wanted.items() if self._published.get(number) == digest
        }
        self._files = {number: before.files[number] for number in self._done if number in before.files}
        self._lock = threading.Lock()
        self._listing = Listing()
        self._pin = threading.Lock()
        self._coming: set[int] = set()
        self._taken: set[str] = set()  # versions whose manifests name another create

    def run(self) -> Properties:
        """Publish what is missing, put back what was changed, clean up what is wanted no longer; the outputs."""
        self._ctx.status(f"{self._name}: looking at {self._id}")
        self._listing = Listing.of(self._bucket, self._prefix)
        if self._todo:
            self._ctx.record(self._id, self._outputs())
            # Not in the pool of the transfers, which they wait for.
            with ThreadPoolExecutor(_VERSIONS_AT_ONCE, "version") as versions:
                looked = self._look_at_all(versions)
                for found in looked.there:
                    self._finish(found.number, found.digest, found.summary)
                looked.refuse(self._name)
                self._publish(looked.jobs, versions)
        self._take_along()
        self._clean_up()
        return self._outputs()

    def look(self) -> Looked:
        """What :meth:`run` would do, for a preview: only reads.

        Where OSS does not say, so that nobody can know before the update runs, there is a warning.

        Raises:
            CloudError: the bucket is somebody else's and does not exist.
        """
        looked = Looked()
        if self._todo:
            try:
                self._listing = self._listed()
            except CloudError as error:
                if is_certain(error):
                    raise
                self._ctx.warning(f"{self._name}: it is not known yet whether its versions can be published: {error}")
                return Looked(known=self._by_source())
            with ThreadPoolExecutor(_VERSIONS_AT_ONCE, "version") as versions:
                looked = self._look_at_all(versions, patiently=True)
        looked.problems.extend(self._damaged_manifests())
        return looked

    def stay(self, dropped: Iterable[str]) -> dict[str, str]:
        """Why files of versions that are published no longer stay, by version; those that are removed are left out.

        Only reads. Where OSS does not say, nothing is known to stay.
        """
        numbers = ascending(dropped)
        if not numbers:
            return {}
        try:
            stored = {
                number: load_manifest(self._bucket, manifest_key(self._prefix, int(number))) for number in numbers
            }
            root, directory = self._root()
            own = {key for key in (self._inputs.config_file, *(self._inputs.config_files or {})) if key}
            others = files_of_others(self._bucket, root, self._old_owner, own)
            there = {int(number) for number in (*self._published, *self._wanted)}
        except (CloudError, SavedModelError):
            return {}
        found = {}
        for number in numbers:
            known = stored[number]
            users = [uri for uri, config in others.items() if names_version(config, directory, int(number), there)]
            if known is None or known.owner not in (self._owner, self._old_owner):
                whose = f"published by {known.owner}" if known is not None and known.owner else "others published it"
                found[number] = f": its files stay, {whose}"
            elif users:
                found[number] = f": its files stay, {users[0]} names it"
        return found

    def named(self, numbers: Collection[str]) -> dict[str, str]:
        """Which of the stack's own config files still names a version, by version.

        When a model goes, none does any more: unless another resource publishes it, too.
        """
        root, directory = self._root()
        there = {int(number) for number in numbers}
        found: dict[str, str] = {}
        for uri, config in files_of_own(self._bucket, root, self._owner).items():
            models = right_below_a_mount(config, directory)
            found |= {number: uri for number in numbers if names_version(models, directory, int(number), there)}
        return found

    def _root(self) -> tuple[str, str]:
        """Key prefix of the model root, where config files lie, and the model's directory below it."""
        if self._inputs.config_file is not None:
            root = self._inputs.config_file.rpartition("/")[0]
            root = f"{root}/" if root else ""
        else:
            root = f"{self._prefix.rstrip('/').rpartition('/')[0]}/".lstrip("/")
        return root, self._prefix.removeprefix(root).rstrip("/")

    def _listed(self) -> Listing:
        """What is in the bucket; nothing where the stack is yet to make it."""
        try:
            return Listing.of(self._bucket, self._prefix)
        except CloudError as error:
            if error.code != NO_BUCKET:
                raise
        if self._inputs.bucket_exists:
            raise CloudError(
                f"tf-serving:bucket: bucket {self._bucket.name} does not exist, and the stack says existing: true. "
                "Fix: name a bucket that is there; or remove existing, and the stack makes it",
                NO_BUCKET,
            )
        return Listing(bucket_is_there=False)

    def _by_source(self) -> dict[str, VersionFiles]:
        """Number of files and bytes by version, as far as this machine knows them."""
        found = {}
        for name in self._todo if not isinstance(self._source, BucketSource) else ():
            with contextlib.suppress(SavedModelError):
                if manifest := self._source.manifest(int(name)):
                    found[name] = size_of(manifest)
        return found

    def _damaged_manifests(self) -> Iterator[SavedModelError]:
        """Manifests that are to be read when versions are dropped, or taken along by a stack with another name."""
        read = self._published.keys() - self._wanted.keys()
        if self._old_owner != self._owner:
            read |= self._done.keys()
        for name in ascending(read):
            try:
                load_manifest(self._bucket, manifest_key(self._prefix, int(name)))
            except SavedModelError as error:
                yield error
            except CloudError as error:
                self._ctx.warning(f"{self._title(int(name))}: its manifest cannot be read: {error}")

    @property
    def _todo(self) -> list[str]:
        """Versions that are not known to be published as they are wanted."""
        return ascending(self._wanted.keys() - self._done.keys())

    def _look_at_all(self, versions: ThreadPoolExecutor, *, patiently: bool = False) -> Looked:
        """Look at every version before anything is done, so that all that is wrong is reported together.

        Args:
            versions: where it is done.
            patiently: a call that OSS refuses is a warning, and says nothing about the other versions.
        """

        def look(name: str) -> Job | There | TFServingError | None:
            try:
                return self._look(name)
            except (SavedModelError, OwnershipError) as error:
                return error
            except CloudError as error:
                if not patiently:
                    raise
                if is_certain(error):
                    return error
                self._ctx.warning(f"{self._title(int(name))}: it is not known yet whether it can be published: {error}")
                return None

        found = run_all([bound(look, name) for name in self._todo], versions)
        return Looked(
            jobs=[each for each in found if isinstance(each, Job)],
            there=[each for each in found if isinstance(each, There)],
            problems=[each for each in found if isinstance(each, TFServingError)],
        )

    def _outputs(self) -> Properties:
        return self._echoed | outputs_of(self._done, self._files)

    def _at(self, number: int) -> str:
        return f"oss://{self._bucket.name}/{self._prefix}{number}/"

    def _title(self, number: int) -> str:
        return f"version {number} of {self._name}"

    def _finish(self, number: int, digest: str, summary: VersionFiles) -> None:
        with self._lock:
            self._done[str(number)] = digest
            self._files[str(number)] = summary
            self._ctx.record(self._id, self._outputs())

    # ---- what is to be done ----------------------------------------------------------------------------------------

    def _look(self, name: str) -> Job | There:
        """What there is to do for a version, if anything. Only reads.

        Raises:
            SavedModelError: other content is published under that number, or the files are not what was previewed.
            OwnershipError: somebody else's files are in the way.
            CloudError: OSS refused.
        """
        self._ctx.check()
        number, digest = int(name), self._wanted[name]
        objects = self._listing.versions.get(name, {})
        present = {path: item for path, item in objects.items() if path != MANIFEST}
        stored = load_manifest(self._bucket, manifest_key(self._prefix, number)) if MANIFEST in objects else None
        if stored is not None and stored.created_by != self._ctx.stamp:
            self._taken.add(name)
        if stored is not None and digest not in (stored.digest, ANY):
            raise SavedModelError(
                f"{self._title(number)} is published in {self._at(number)} already, with other content. A published "
                "version never changes. Fix: export under a new number"
            )
        if type(self._source) is Source:
            return self._refer(number, digest, stored, objects)
        changed = is_changed(self._published.get(name, ""))
        if stored is not None and not self._wrong(stored, present, closely=changed):
            if added := sorted(present.keys() - {entry.path for entry in stored.files}):
                self._ctx.warning(
                    f"{self._at(number)} holds files that do not belong to the version: {some_of(added, NAMES_SHOWN)}"
                )
            return There(number, stored.digest, summary_of(objects))
        manifest, source = self._source.open(number, stored.digest if stored is not None else digest)
        self._refuse_long_keys(number, manifest)
        staged = self._listing.staged.get(name, {})
        started = load_manifest(self._bucket, staged_manifest_key(self._prefix, number)) if MARKER in staged else None
        if started is not None and started.owner not in (self._owner, self._old_owner):
            raise OwnershipError(f"{started.owner} is publishing {self._title(number)} to {self._at(number)}, too")
        wrong = self._wrong(manifest, present, closely=True)
        ours = {entry.path for entry in started.files} if started else set()
        if stored is None:
            self._refuse_foreign_files(number, manifest, wrong, present, ours)
        leftover = sorted((ours - {entry.path for entry in manifest.files}) & present.keys())
        return Job(number, manifest, source, wrong, present, staged, leftover, first=stored is None)

    def _wrong(self, manifest: Manifest, present: Mapping[str, ObjectInfo], *, closely: bool) -> list[FileEntry]:
        """Files that are missing or not as the manifest says; checksums are only compared when looking closely."""
        found = []
        for entry in manifest.files:
            info = present.get(entry.path)
            if info is None or info.size != entry.size:
                found.append(entry)
            elif closely:
                self._ctx.check()
                if not self._bucket.holds(info.key, entry):
                    found.append(entry)
        return found

    def _refuse_long_keys(self, number: int, manifest: Manifest) -> None:
        """Refuse files whose keys OSS does not take, with all that stands before their names."""
        for entry in manifest.files:
            # What is copied on the server is never staged.
            staged = not isinstance(self._source, BucketSource)
            key = staged_key(self._prefix, number, entry.path) if staged else f"{self._prefix}{number}/{entry.path}"
            if (length := len(key.encode())) > MAX_KEY_BYTES:
                raise SavedModelError(
                    f"{self._title(number)}: the key of {entry.path} would have {length} bytes in the bucket, and OSS "
                    f"takes {MAX_KEY_BYTES}. Fix: a shorter tf-serving:modelRoot, or shorter names in the model"
                )

    def _refuse_foreign_files(
        self,
        number: int,
        manifest: Manifest,
        wrong: Iterable[FileEntry],
        present: Mapping[str, ObjectInfo],
        ours: set[str],
    ) -> None:
        """Refuse files in the way that no earlier attempt of ours can have put there."""
        known = {entry.path for entry in manifest.files}
        strange = {entry.path for entry in wrong} & present.keys() | (present.keys() - known)
        if strange - ours:
            raise OwnershipError(
                f"{self._at(number)} holds {sorted(strange - ours)[0]}, which is not from this project. "
                "Fix: export under a new number, or remove that directory"
            )

    def _refer(self, number: int, digest: str, stored: Manifest | None, objects: Mapping[str, ObjectInfo]) -> There:
        """See that a version that is only referred to is there, complete, and what its manifest says."""
        if not self._listing.bucket_is_there:
            raise SavedModelError(
                f"{self._title(number)} should be in the bucket already, and bucket {self._bucket.name} is not there "
                "yet: this stack makes it, empty. Fix: give the model a source; or name the bucket that holds the "
                "version in tf-serving:bucket, with existing: true"
            )
        paths = [path for path in objects if path != MANIFEST]
        tflite = bool(self._inputs.tflite)
        problems = saved_model.incomplete(paths, tflite=tflite) if paths else ["is empty"]
        problems += [why] if (why := links(objects)) else []
        expected = self._source.committed(number) or stored
        if expected is not None and not problems:
            problems = differing(self._bucket, expected, objects, closely=stored is None)
        if not problems and stored is None:  # else whoever published it has looked at what it holds
            folder, sizes = f"{self._prefix}{number}/", {path: objects[path].size for path in paths}
            if expected is None:
                refuse_other_content(self._bucket, folder, sizes)
            problems = self._source.faults_of_graph(self._bucket, folder, sizes)
        if problems:
            others = {name: found for name, found in self._listing.versions.items() if name != str(number)}
            there = ascending(name for name, found in others.items() if GRAPHS & found.keys())
            raise SavedModelError(
                f"{self._title(number)} should be in the bucket already, and {self._at(number)} {problems[0]} "
                f"(complete there: {', '.join(there) or 'none'}). Fix: name versions that are there in "
                f"tf-serving:models.{self._name}.versions, or give the model a source"
            )
        return There(number, expected.digest if expected is not None else digest, summary_of(objects))

    # ---- doing it --------------------------------------------------------------------------------------------------

    def _publish(self, jobs: list[Job], versions: ThreadPoolExecutor) -> None:
        uploads = [(entry, path) for job in jobs for entry, path in job.files]
        progress = Progress(self._ctx, self._name, len(uploads), sum(entry.size for entry, _ in uploads))
        unfinished = self._bucket.unfinished(f"{self._prefix}{STAGING}") if uploads else {}
        # A version that was published before and is put back is served by the policies in force, and stays so.
        self._coming = {job.number for job in jobs if job.first and not GRAPHS & job.present.keys()}
        with progress.shown_all_along():
            run_all([bound(self._publish_one, job, progress, unfinished) for job in jobs], versions)

    def _publish_one(self, job: Job, progress: Progress, unfinished: Mapping[str, str]) -> None:
        self._ctx.check()
        number, manifest = job.number, replace(job.manifest, owner=self._owner, created_by=self._ctx.stamp)
        self._bucket.put_text(staged_manifest_key(self._prefix, number), manifest.to_json())
        self._stage(job, progress, unfinished)
        self._bucket.delete(f"{self._prefix}{number}/{path}" for path in job.leftover)
        self._pin_once()
        self._place(job)
        objects = self._objects(number)
        wrong = [e.path for e in manifest.files if e.path not in objects or objects[e.path].size != e.size]
        if wrong:
            raise CloudError(
                f"{self._at(number)} was changed while it was published: {some_of(wrong, NAMES_SHOWN)}; "
                "run the update again"
            )
        self._seal(job, manifest)
        objects |= self._manifest_object(number)
        clear_staging(self._bucket, self._prefix, number)
        self._ctx.info(f"{self._title(number)}: {amounts(len(manifest.files), manifest.size)} in {self._at(number)}")
        self._finish(number, manifest.digest, summary_of(objects))

    def _pin_once(self) -> None:
        """Before a file appears in a version's directory, what is served now is spelt out in the config file."""
        with self._pin:
            coming, self._coming = self._coming, set()
            visible = {
                int(name)
                for name, objects in self._listing.versions.items()
                if GRAPHS & objects.keys() or MANIFEST in objects
            } | self._listing.spelt
            if coming:
                self._ctx.status(f"{self._name}: waiting until every service keeps what it serves")
                seen = Coming(frozenset(visible), frozenset(coming))
                pin(self._ctx, self._inputs, self._name, seen, self._old_owner)

    def _objects(self, number: int) -> dict[str, ObjectInfo]:
        """The files of a version as they are now, by path below its directory."""
        folder = f"{self._prefix}{number}/"
        return {item.key.removeprefix(folder): item for item in self._bucket.list(folder) if item.key != folder}

    def _manifest_object(self, number: int) -> dict[str, ObjectInfo]:
        """The manifest of a version, as ``MANIFEST`` beside its :meth:`_objects`; nothing where there is none."""
        key = manifest_key(self._prefix, number)
        return {MANIFEST: item for item in self._bucket.list(key) if item.key == key}  # noqa: B035 - one at most

    def _seal(self, job: Job, manifest: Manifest) -> None:
        """Write the manifest: from now on the version is published."""
        if not job.first:
            return
        key = manifest_key(self._prefix, job.number)
        try:
            self._bucket.put_text(key, manifest.to_json(), new_only=True)
        except CloudError as error:
            found = load_manifest(self._bucket, key) if error.code == "FileAlreadyExists" else None
            if found is None or found.digest != manifest.digest:
                raise

    def _stage(self, job: Job, progress: Progress, unfinished: Mapping[str, str]) -> None:
        """Upload files to the staging prefix, leaving out what an interrupted run has uploaded already."""

        def begin(entry: FileEntry, path: Path) -> list[Callable[[], None]]:
            self._ctx.check()
            key = staged_key(self._prefix, job.number, entry.path)
            if f"files/{entry.path}" in job.staged:
                if self._bucket.holds(key, entry):
                    progress.kept(entry.size, done=True)
                    return []
                self._bucket.delete([key])
            if entry.size <= MULTIPART_BYTES:
                return [bound(put, key, entry, path)]
            upload = self._bucket.begin(key, path, entry, unfinished.get(key))
            return [bound(send, upload, part) for part in upload.parts]

        def put(key: str, entry: FileEntry, path: Path) -> None:
            self._guarded(lambda: self._bucket.put_file(key, path, entry, progress.sent))
            progress.kept(0, done=True)

        def send(upload: PartUpload, part: int) -> None:
            kept, complete = self._guarded(lambda: upload.send(part, progress.sent))
            progress.kept(kept, done=complete)

        parts = run_all([bound(begin, entry, path) for entry, path in job.files])
        run_all([part for found in parts for part in found])

    def _guarded(self, call: Callable[[], T]) -> T:
        self._ctx.check()
        try:
            return call()
        except CloudError:
            self._ctx.check()  # a cancelled upload ends in an error of the SDK
            raise

    def _place(self, job: Job) -> None:
        """Copy files into place on the server, the graph after all others."""
        self._ctx.status(f"{self._title(job.number)}: putting files in place")
        last_steps: dict[str, Callable[[bool], None]] = {}

        def name(entry: FileEntry) -> ObjectName:
            found = job.source(entry)
            if isinstance(found, ObjectName):
                return found
            return ObjectName(self._bucket.name, staged_key(self._prefix, job.number, entry.path))

        def prepare(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{self._prefix}{job.number}/{entry.path}"
            last_steps[entry.path] = self._bucket.prepare_copy(name(entry), key, entry)

        def copy(entry: FileEntry) -> None:
            self._ctx.check()
            key = f"{self._prefix}{job.number}/{entry.path}"
            replaces = entry.path in job.present
            if entry.path in last_steps:
                last_steps[entry.path](replaces)
            else:
                self._bucket.copy(name(entry), key, entry, replace=replaces)

        run_all([bound(prepare, entry) for entry in job.wrong if entry.size > COPY_BYTES])
        run_all([bound(copy, entry) for entry in job.wrong if entry.path not in GRAPHS])
        run_all([bound(copy, entry) for entry in job.wrong if entry.path in GRAPHS])

    # ---- afterwards ------------------------------------------------------------------------------------------------

    def _take_along(self) -> None:
        """Make this resource's own what the stack published under its former name, and what another create holds."""
        names = self._done if self._old_owner != self._owner else self._done.keys() & self._taken
        for name in ascending(names):
            number = int(name)
            stored = load_manifest(self._bucket, manifest_key(self._prefix, number))
            if stored is None or stored.owner not in (self._owner, self._old_owner):
                continue
            ours = replace(stored, owner=self._owner, created_by=self._ctx.stamp)
            self._bucket.put_text(manifest_key(self._prefix, number), ours.to_json())
            self._finish(number, self._done[name], summary_of(self._objects(number) | self._manifest_object(number)))

    def _clean_up(self) -> None:
        """Remove what is left of uploads nobody wants any more, and dropped versions where no rollout will."""
        for name in self._listing.staged.keys() & self._done.keys():
            key = staged_manifest_key(self._prefix, int(name))
            started = load_manifest(
                self._bucket, key
            )  # gone by now, unless an earlier run ended before it could tidy up
            if started is not None and started.owner == self._owner:
                clear_staging(self._bucket, self._prefix, int(name))
        dropped = self._listing.staged.keys() - self._wanted.keys()
        if self._inputs.remove_dropped:
            dropped |= self._published.keys() - self._wanted.keys()
        else:
            dropped -= self._published.keys()
        stay = self.stay(dropped & self._published.keys())
        for name in ascending(dropped):
            self._ctx.check()
            if name in stay:
                self._ctx.info(f"{self._name}: version {name}{stay[name]}")
                continue
            count = remove_version(self._bucket, self._prefix, int(name), self._owner)
            if count and name in self._published:
                self._ctx.info(f"{self._name}: version {name} removed from the bucket ({count} files)")


def outputs_of(versions: Mapping[str, str], files: Mapping[str, VersionFiles]) -> Properties:
    """The outputs of a model whose versions are in place."""
    return PublishedModelOutputs(versions=versions, files=files, unfinished={}).write()


def with_known_digests(wanted: Mapping[str, str], published: Mapping[str, str]) -> dict[str, str]:
    """What is wanted, with the digest of what is published where any will do."""
    return {
        number: published[number]
        if digest == ANY and number in published and not is_changed(published[number])
        else digest
        for number, digest in wanted.items()
    }
