"""Garbage collection: marks what records and manifests need, and sweeps the rest (ADR 0011)."""

import logging
import time
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TypeVar

from boothline.errors import IntegrityError
from boothline.store import Store, inventory, layout, sweeps
from boothline.store.inventory import StoredObject, UnfinishedUpload
from boothline.store.layout import is_manifest, manifest_path
from boothline.store.references import SWEPT_FOLDERS, OnProgress, References, is_record
from boothline.store.s3 import Bucket
from boothline.store.transfers import run_all

logger = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
_BATCH = 64
_MAX_ROUNDS = 100

T = TypeVar("T", StoredObject, UnfinishedUpload)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is kept although nothing needs it.

    Attributes:
        grace_seconds: nothing younger is deleted.
        runs_seconds: runs older than this are forgotten, with what only they need; None keeps all.
            Registered models and what they were made from are kept whatever becomes of their run.
    """

    grace_seconds: float = DAY_SECONDS
    runs_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What nothing needs.

    Attributes:
        manifests: their objects.
        records: those of forgotten runs, and of failed nodes of trainings that are done.
        blobs: those that no remaining manifest names.
        uploads: uploads in parts that nobody finished within a day.
    """

    manifests: tuple[StoredObject, ...] = ()
    records: tuple[StoredObject, ...] = ()
    blobs: tuple[StoredObject, ...] = ()
    uploads: tuple[UnfinishedUpload, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Length of all objects together."""
        return sum(item.size_bytes for item in (*self.manifests, *self.records, *self.blobs))

    def __len__(self) -> int:
        """Return the number of objects and uploads."""
        return len(self.manifests) + len(self.records) + len(self.blobs) + len(self.uploads)

    def plus(self, other: "Garbage") -> "Garbage":
        """Return both together."""
        return Garbage(
            manifests=(*self.manifests, *other.manifests),
            records=(*self.records, *other.records),
            blobs=(*self.blobs, *other.blobs),
            uploads=(*self.uploads, *other.uploads),
        )


def collect(
    store: Store,
    *,
    retention: Retention,
    delete: bool = False,
    on_progress: OnProgress | None = None,
) -> Garbage:
    """Find what nothing needs, and delete it if asked to; safe while jobs run.

    Args:
        store: the store.
        retention: what is kept all the same.
        delete: delete it; otherwise nothing is changed.
        on_progress: called with (done, total) manifests and records while they are read.

    Returns:
        What was found, or what was deleted.

    Raises:
        IntegrityError: a manifest or record cannot be read, so nobody knows what it needs; nothing
            (more) is deleted.
        ConflictError: another garbage collection is under way.
    """
    survey = _Survey(store, retention=retention)
    garbage = survey.look(on_progress=on_progress)
    if not delete:
        return garbage
    deleted = Garbage()
    for _ in range(_MAX_ROUNDS):
        if not garbage or not (swept := _sweep(store, survey)):
            break
        deleted = deleted.plus(swept)
        garbage = survey.look()
    logger.info("deleted %d objects of %d bytes", len(deleted), deleted.num_bytes)
    return deleted


def _sweep(store: Store, survey: "_Survey") -> Garbage:
    """Announce a sweep, look for the last time, and delete as long as the sweep may last."""
    # A delete that is repeated for minutes could arrive after the sweep is over.
    bucket = store.bucket.brisk()
    sweep = sweeps.begin(store)
    until = time.monotonic() + sweeps.SWEEP_SECONDS

    def in_time(items: tuple[T, ...]) -> tuple[T, ...]:
        """Delete items, some at a time; return those that were deleted in time."""
        num_deleted = 0
        while num_deleted < len(items) and time.monotonic() < until:
            batch = items[num_deleted : num_deleted + _BATCH]
            run_all([partial(_delete, bucket, item) for item in batch])
            num_deleted += len(batch)
        return items[:num_deleted]

    try:
        garbage = survey.look()
        return Garbage(
            manifests=in_time(garbage.manifests),
            records=in_time(garbage.records),
            blobs=in_time(garbage.blobs),
            uploads=in_time(garbage.uploads),
        )
    finally:
        sweeps.end(store, sweep)


def _delete(bucket: Bucket, item: StoredObject | UnfinishedUpload, stop: Event) -> None:
    if isinstance(item, UnfinishedUpload):
        bucket.abort_upload(item.key, item.upload_id)
    else:
        bucket.delete(item.key)


@dataclass
class _Survey:
    """What the store holds and needs, kept up to date by reading only what changed.

    Attributes:
        store: the store.
        retention: what is kept although nothing needs it.
        objects: every object, by key.
        known: what was read.
        now: the store's clock at the last look, in seconds since the epoch.
    """

    store: Store
    retention: Retention
    objects: dict[str, StoredObject] = field(default_factory=dict)
    known: References = field(default_factory=References)
    now: float = 0.0

    def look(self, *, on_progress: OnProgress | None = None) -> Garbage:
        """List everything, read what is new or was changed, and return what nothing needs.

        Raises:
            IntegrityError: something cannot be read.
        """
        bucket = self.store.bucket
        self.now = time.time() + bucket.clock_skew_seconds()
        listed = inventory.objects(bucket)
        changed = [key for key, item in listed.items() if self.objects.get(key) != item]
        for key in self.objects.keys() - listed.keys():
            self.known.forget(key)
        self.known.read(self.store, changed, on_progress=on_progress)
        self.objects = listed
        if self.known.unreadable:
            key, problem = next(iter(self.known.unreadable.items()))
            raise IntegrityError(
                f"Nothing is deleted, since {len(self.known.unreadable)} objects cannot be read;"
                f" the first is {bucket.uri(key)}: {problem}",
                remedy="`boothline verify` names all of them and who uses them.",
            )
        return self._garbage()

    def _garbage(self) -> Garbage:
        """Return what nothing needs."""
        forgotten = self._of_forgotten_runs()
        ignored = frozenset(item.key for item in forgotten)
        listed = [item for key, item in self.objects.items() if key.startswith(SWEPT_FOLDERS)]
        young = [manifest_path(item.key) for item in listed if not self._is_old(item)]
        needed = self.known.needed(young=young, ignored=ignored)
        folders = self.known.needed_folders(ignored=ignored)
        swept = [
            item
            for item in listed
            if manifest_path(item.key) not in needed and not item.key.startswith(folders)
        ]
        manifests = [item for item in swept if is_manifest(item.key)]
        of_nodes = [i for i in swept if is_record(i.key) and i.key.startswith(layout.JOBS)]
        gone = {manifest_path(item.key) for item in manifests}
        used = self.known.users_of_blobs(path for path in self.known.manifests if path not in gone)
        blobs = [
            item
            for key, item in self.objects.items()
            if key.startswith(layout.BLOBS)
            and key.rsplit("/", 1)[-1] not in used
            and self._is_old(item)
        ]
        started = self.now - max(inventory.STALE_UPLOAD_SECONDS, self.retention.grace_seconds)
        uploads = inventory.unfinished_uploads(self.store.bucket)
        return Garbage(
            manifests=tuple(manifests),
            records=(*forgotten, *of_nodes),
            blobs=tuple(blobs),
            uploads=tuple(upload for upload in uploads if upload.started_at < started),
        )

    def _is_old(self, item: StoredObject) -> bool:
        return self.now - item.modified_at >= self.retention.grace_seconds

    def _of_forgotten_runs(self) -> list[StoredObject]:
        """Return all records of the runs that are older than runs are kept."""
        if self.retention.runs_seconds is None:
            return []
        keys = [key for key in self.objects if key.startswith(layout.RUNS)]
        forgotten = []
        for run_id in sorted({layout.run_of(key) for key in keys}):
            created_at = (self.store.get_record(layout.run_record(run_id)) or {}).get("created_at")
            age_seconds = self.now - created_at if isinstance(created_at, int | float) else 0.0
            if age_seconds > self.retention.runs_seconds:
                forgotten.append(layout.run_folder(run_id))
        return [
            self.objects[key]
            for key in keys
            if key.startswith(tuple(forgotten)) and not is_manifest(key)
        ]
