"""The store: commits manifests over content-addressed blobs, and reads nothing unverified."""

import hashlib
import logging
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from pydantic import ValidationError

from boothline.errors import ConfigError, ConflictError, DataError, IntegrityError, NotFoundError
from boothline.settings import Settings
from boothline.store import layout, sweeps
from boothline.store.blobs import BlobStore, describe, inside, sweep_parts
from boothline.store.layout import MANIFEST_NAME, check_manifest_path
from boothline.store.manifest import FileEntry, Manifest, ManifestDraft, ManifestRef, Readable
from boothline.store.records import BrokenSealError, seal, unseal
from boothline.store.s3 import Bucket
from boothline.store.sweeps import Sweep
from boothline.store.transfers import Counter, OnProgress, run_all

logger = logging.getLogger(__name__)

ReadableT = TypeVar("ReadableT", bound=Readable)
_REMEMBERED = 256
"""Manifests. A reference names one text for ever, and a run of nine steps asks for each some ten
times."""


class Store:
    """Manifests, blobs and records of one bucket and prefix.

    Safe to use from several threads; every process makes its own.

    Args:
        bucket: where everything is.
        cache: local folder of verified blobs.
    """

    def __init__(self, bucket: Bucket, *, cache: Path) -> None:
        self._bucket = bucket
        self._blobs = BlobStore(bucket, cache)
        self._remembered = lru_cache(_REMEMBERED)(self._read)

    @classmethod
    def connect(cls, settings: Settings, *, brisk: bool = False) -> "Store":
        """Return the configured store; its bucket is created when missing.

        Args:
            settings: where it is, and the cache of this machine.
            brisk: a person waits: give up after some ten seconds. A step waits three minutes, as
                for each of its requests: the store may be starting again.

        Raises:
            ConfigError: no endpoint or no credentials are configured.
            ServiceError: the store does not answer in time, or refuses the request.
        """
        store = cls(Bucket.connect(settings, brisk=brisk), cache=settings.blob_cache)
        sweep_parts(settings.blob_cache)
        return store

    @property
    def uri(self) -> str:
        """The store as `s3://bucket/prefix`."""
        return self._bucket.uri("").rstrip("/")

    @property
    def bucket(self) -> Bucket:
        """The bucket behind the store, for what looks at objects one by one (verify, gc)."""
        return self._bucket

    def uri_of(self, ref: ManifestRef | str) -> str:
        """Return the `s3://` URI of a manifest's own object."""
        return self._bucket.uri(_key(_parsed(ref).path))

    def find(self, path: str) -> ManifestRef | None:
        """Return the reference of the manifest committed at a path, or None.

        Raises:
            IntegrityError: something is there that is not a manifest.
        """
        found = self.look_up(path)
        return None if found is None else found[0]

    def look_up(self, path: str) -> tuple[ManifestRef, Manifest] | None:
        """Return the manifest committed at a path with its reference, or None.

        Raises:
            IntegrityError: something is there that is not a manifest, or belongs elsewhere.
        """
        data = self._bucket.get(_key(path))
        if data is None:
            return None
        try:
            manifest = Manifest.model_validate(unseal(data, path=path))
        except (ValidationError, BrokenSealError) as error:
            reason = _first_reason(error) if isinstance(error, ValidationError) else f"it {error}"
            raise IntegrityError(
                f"{self._bucket.uri(_key(path))} is not a manifest: {reason}.",
                remedy="Delete that object, then run the step that made it again.",
            ) from error
        return ManifestRef(path=path, digest=hashlib.sha256(data).hexdigest()), manifest

    def read(self, ref: ManifestRef | str) -> Manifest:
        """Return a manifest whose bytes have the digest of the reference.

        What was read once is remembered; `look_up` says whether it is still there.

        Raises:
            NotFoundError: it does not exist.
            IntegrityError: its bytes have another digest.
        """
        return self._remembered(_parsed(ref))

    def _read(self, wanted: ManifestRef) -> Manifest:
        found = self.look_up(wanted.path)
        if found is None:
            raise NotFoundError(
                f"The manifest {self.uri_of(wanted)} does not exist.",
                remedy="The step that made it has to run again.",
            )
        actual, manifest = found
        if actual.digest != wanted.digest:
            raise IntegrityError(
                f"The manifest {self.uri_of(wanted)} has digest {actual.digest[:12]}... instead of"
                f" {wanted.digest[:12]}...: it was replaced or damaged.",
                remedy="Run the step that reads it again, so that it looks the manifest up again.",
            )
        return manifest

    def read_as(self, kind: type[ReadableT], ref: ManifestRef | str) -> ReadableT:
        """Return what a manifest says as the typed result of its kind, e.g. `Evaluation`.

        Raises:
            NotFoundError: it does not exist.
            IntegrityError: its bytes have another digest.
            DataError: it is of another kind, or what it says cannot be read.
        """
        return kind.of(self.read(ref), name=str(ref))

    def commit(
        self, path: str, draft: ManifestDraft, *, on_progress: OnProgress | None = None
    ) -> ManifestRef:
        """Upload what is not stored yet, then claim the path with a manifest, written last.

        Args:
            path: where to commit, e.g. `steps/train/<key>`.
            draft: files, inputs and metadata.
            on_progress: called with (done, total) bytes, one call at a time.

        Returns:
            The reference of the committed manifest: ours, or that of the writer who came first.

        Raises:
            IntegrityError: a file changed meanwhile, or what was committed first cannot be read.
            ServiceError: the store cannot be reached or refuses the request.
        """
        check_manifest_path(path)
        mark = self.sweep_mark()
        entries = self._upload(draft, on_progress=on_progress)
        manifest = Manifest(
            kind=draft.kind,
            files=tuple(sorted(entries, key=lambda entry: entry.path)),
            inputs=tuple(str(ref) for ref in draft.inputs),
            metadata=dict(draft.metadata),
        )
        ref, ours = self._claim(path, manifest)
        if not self.undisturbed_since(mark):
            self._store_again(draft, entries, path=path if ours else "")
            if self.look_up(path) is None:  # listed by the sweep later than the records that count
                ref, _ = self._claim(path, manifest)
        return ref

    def fetch(
        self,
        ref: ManifestRef | str,
        destination: Path,
        *,
        prefix: str | tuple[str, ...] = "",
        on_progress: OnProgress | None = None,
    ) -> Path:
        """Write the verified files of a manifest under a folder; they are read-only.

        Args:
            ref: the manifest.
            destination: folder that receives each file at its path in the manifest.
            prefix: only files whose path starts with this, or with one of these.
            on_progress: called with (done, total) bytes, one call at a time.

        Returns:
            The destination.

        Raises:
            NotFoundError: the manifest does not exist.
            IntegrityError: the manifest or a file differs from its digest.
            DiskFullError: no space is left on a local disk.
        """
        entries = self.read(ref).under(prefix)
        counter = Counter(sum(entry.size_bytes for entry in entries), on_progress)
        destination.mkdir(parents=True, exist_ok=True)
        targets = [inside(destination, entry) for entry in entries]

        def place(entry: FileEntry, target: Path, stop: Event) -> None:
            self._blobs.place(entry, target, stop=stop, on_bytes=counter.add)

        run_all([partial(place, *pair) for pair in zip(entries, targets, strict=True)])
        return destination

    def read_bytes(self, ref: ManifestRef | str, path: str) -> bytes:
        """Return the verified bytes of one file of a manifest.

        Raises:
            NotFoundError: the manifest does not exist or has no such file.
            IntegrityError: the manifest or the file differs from its digest.
        """
        try:
            entry = self.read(ref).entry(path)
        except KeyError as error:
            raise NotFoundError(f"The manifest {ref} has no file {path!r}.") from error
        return self.read_entry(entry)

    def read_entry(self, entry: FileEntry) -> bytes:
        """Return the verified bytes of a file that a manifest lists, which has been read already.

        Raises:
            IntegrityError: the file differs from its digest.
        """
        return self._blobs.read(entry)

    def manifests(self, prefix: str) -> list[str]:
        """Return the paths of the manifests under a folder, e.g. `training/<key>/`, sorted."""
        keys = self._bucket.keys(layout.check_listing(prefix))
        return sorted(layout.manifest_path(key) for key in keys if layout.is_manifest(key))

    def forget(self, path: str) -> None:
        """Delete the manifest at a path, never a blob; does nothing when there is none."""
        self._bucket.delete(_key(path))
        self._remembered.cache_clear()

    def put_record(
        self, path: str, value: Mapping[str, object], *, if_absent: bool = False
    ) -> None:
        """Write a small JSON object; its path ends with .json.

        Raises:
            ConflictError: `if_absent` is set and the record exists.
        """
        key = layout.check_record_path(path)
        data = seal(value, path=key)
        if not if_absent:
            self._bucket.put(key, data)
        elif not self._bucket.put_if_absent(key, data):
            raise ConflictError(
                f"The record {self._bucket.uri(key)} exists already.",
                remedy="Read it, then decide again.",
            )

    def get_record(self, path: str) -> dict[str, object] | None:
        """Return a record, or None when it does not exist.

        Raises:
            IntegrityError: its bytes are not what was written there.
        """
        key = layout.check_record_path(path)
        data = self._bucket.get(key)
        if data is None:
            return None
        try:
            return unseal(data, path=key)
        except BrokenSealError as error:
            raise IntegrityError(
                f"The record {self._bucket.uri(key)} {error}.",
                remedy="Restore it from a copy of the bucket.",
            ) from error

    def list_records(self, prefix: str) -> list[str]:
        """Return the paths of all records under a folder, sorted."""
        keys = self._bucket.keys(layout.check_listing(prefix))
        return [key for key in keys if key.endswith(".json") and not layout.is_manifest(key)]

    def sweep_mark(self) -> Sweep:
        """Return the newest garbage collection, to be asked about later."""
        return sweeps.current(self)

    def undisturbed_since(self, mark: Sweep) -> bool:
        """Return whether no garbage collection ran since a mark; one that runs now is waited for.

        Whoever found something in the store and made it known (committed a manifest, wrote a
        record) asks afterwards, and looks again whether it is still there if not undisturbed.
        """
        return sweeps.undisturbed_since(self, mark)

    def _upload(self, draft: ManifestDraft, *, on_progress: OnProgress | None) -> list[FileEntry]:
        """Store the files of a draft, equal contents once, and return their entries."""
        entries = run_all(
            [partial(_entry_of, path, source) for path, source in draft.files.items()]
        )
        self._store_blobs(draft, entries, on_progress=on_progress)
        return entries

    def _claim(self, path: str, manifest: Manifest) -> tuple[ManifestRef, bool]:
        """Write a manifest unless its path is taken; return what is there, and whether it is ours.

        Raises:
            ConflictError: it was taken and deleted again meanwhile.
        """
        data = seal(manifest.model_dump(mode="json"), path=path)
        if not self._bucket.put_if_absent(_key(path), data):
            return self._committed_by_another(path, manifest), False
        logger.info("committed %s with %d files", self._bucket.uri(_key(path)), len(manifest.files))
        return ManifestRef(path=path, digest=hashlib.sha256(data).hexdigest()), True

    def _store_again(self, draft: ManifestDraft, entries: list[FileEntry], *, path: str) -> None:
        """Store the blobs of a committed draft that a garbage collection took.

        Raises:
            NotFoundError: one is gone that the draft named without bytes; the manifest at the path,
                if it is given, is taken back.
        """
        try:
            self._store_blobs(draft, entries, on_progress=None)
        except NotFoundError:
            if path:
                self.forget(path)
            raise

    def _store_blobs(
        self, draft: ManifestDraft, entries: list[FileEntry], *, on_progress: OnProgress | None
    ) -> None:
        """Store the blobs of entries, which stand in the order of the draft's files."""
        sources = dict(zip(entries, draft.files.values(), strict=True))
        unique = {entry.sha256: entry for entry in reversed(entries)}
        counter = Counter(sum(entry.size_bytes for entry in unique.values()), on_progress)

        def upload(entry: FileEntry, stop: Event) -> None:
            source = sources[entry]
            if isinstance(source, FileEntry):
                self._blobs.require(entry, stop=stop)
            else:
                self._blobs.upload(entry, source, stop=stop)
            counter.add(entry.size_bytes)

        run_all([partial(upload, entry) for entry in unique.values()])

    def _committed_by_another(self, path: str, ours: Manifest) -> ManifestRef:
        """Return the manifest that another writer committed first.

        Raises:
            ConflictError: it was deleted again meanwhile.
        """
        found = self.look_up(path)
        if found is None:
            raise ConflictError(
                f"The manifest at {path} was taken and deleted again while we committed.",
                remedy="Run the step again.",
            )
        ref, theirs = found
        if theirs.content_digest == ours.content_digest:
            logger.info("another writer committed the same content first: %s", ref)
        else:
            logger.warning("another writer committed other content first, which is used: %s", ref)
        return ref


def _parsed(ref: ManifestRef | str) -> ManifestRef:
    return ManifestRef.parse(ref) if isinstance(ref, str) else ref


def _key(path: str) -> str:
    return f"{check_manifest_path(path)}/{MANIFEST_NAME}"


def _entry_of(path: str, source: Path | bytes | FileEntry, stop: Event) -> FileEntry:
    """Return the entry of one file of a draft.

    Raises:
        ConfigError: its path would leave the manifest's folder.
        DataError: the local file cannot be read.
    """
    try:
        if isinstance(source, FileEntry):
            return FileEntry(path=path, sha256=source.sha256, size_bytes=source.size_bytes)
        return describe(path, source)
    except ValidationError as error:
        raise ConfigError(f"{path!r} cannot be stored: {_first_reason(error)}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _first_reason(error: ValidationError) -> str:
    return str(error.errors()[0]["msg"])
