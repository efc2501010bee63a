"""Garbage collection: marks what records and manifests need, and sweeps the rest (ADR 0011)."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import TypeVar

from boothline.errors import IntegrityError
from boothline.store import Store, inventory, layout, sweeps
from boothline.store.inventory import StoredObject, UnfinishedUpload
from boothline.store.layout import MANIFEST_NAME
from boothline.store.references import (
    SWEPT_FOLDERS,
    OnProgress,
    References,
    is_manifest,
    is_record,
    path_of,
)
from boothline.store.transfers import run_all

logger = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600.0
_BATCH = 64
_MAX_ROUNDS = 100

T = TypeVar("T")


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
    clock: Callable[[], float] = time.monotonic,
) -> Garbage:
    """Find what nothing needs, and delete it if asked to; safe while jobs run.

    Args:
        store: the store.
        retention: what is kept all the same.
        delete: delete it; otherwise nothing is changed.
        on_progress: called with (done, total) manifests and records while they are read.
        clock: monotonic seconds.

    Returns:
        What was found, or what was deleted.

    Raises:
        IntegrityError: a manifest or record cannot be read, so nobody knows what it needs; nothing
            (more) is deleted.
        ConflictError: another garbage collection is under way.
    """
    survey = _Survey(store, retention=retention)
    survey.look(on_progress=on_progress)
    garbage = survey.garbage()
    if not delete:
        return garbage
    deleted = Garbage()
    for _ in range(_MAX_ROUNDS):
        if not len(garbage):
            break
        swept = _sweep(store, survey, clock=clock)
        deleted = deleted.plus(swept)
        if not len(swept):
            break
        survey.look()
        garbage = survey.garbage()
    logger.info("deleted %d objects of %d bytes", len(deleted), deleted.num_bytes)
    return deleted


def _sweep(store: Store, survey: "_Survey", *, clock: Callable[[], float]) -> Garbage:
    """Announce a sweep, look for the last time, and delete as long as the sweep may last."""
    sweep = sweeps.begin(store.bucket)
    until = clock() + sweeps.SWEEP_SECONDS
    try:
        survey.look()
        garbage = survey.garbage()

        def in_time(items: Sequence[T], delete: Callable[[T], None]) -> tuple[T, ...]:
            return _in_batches(items, delete, go_on=lambda: clock() < until)

        return Garbage(
            manifests=in_time(garbage.manifests, partial(_delete, store)),
            records=in_time(garbage.records, partial(_delete, store)),
            blobs=in_time(garbage.blobs, partial(_delete, store)),
            uploads=in_time(garbage.uploads, partial(inventory.abort, store.bucket.brisk())),
        )
    finally:
        sweeps.end(store.bucket, sweep)


def _delete(store: Store, item: StoredObject) -> None:
    # A delete that is repeated for minutes could arrive after the sweep is over.
    store.bucket.brisk().delete(item.key)


def _in_batches(
    items: Sequence[T], act: Callable[[T], None], *, go_on: Callable[[], bool]
) -> tuple[T, ...]:
    """Act on items, some at a time, as long as we may; return those that were acted on."""
    done: list[T] = []

    def task(item: T, stop: Event) -> None:
        act(item)

    for start in range(0, len(items), _BATCH):
        if not go_on():
            break
        batch = items[start : start + _BATCH]
        run_all([partial(task, item) for item in batch])
        done += batch
    return tuple(done)


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

    def look(self, *, on_progress: OnProgress | None = None) -> None:
        """List everything and read what is new or was changed.

        Raises:
            IntegrityError: something cannot be read.
        """
        bucket = self.store.bucket
        self.now = time.time() + bucket.clock_skew_seconds()
        listed = inventory.objects(bucket)
        changed = [key for key, item in listed.items() if self.objects.get(key) != item]
        self.known.forget(key for key in self.objects if key not in listed)
        self.known.read(self.store, changed, on_progress=on_progress)
        self.objects = listed
        if self.known.unreadable:
            key, problem = next(iter(self.known.unreadable.items()))
            raise IntegrityError(
                f"Nothing is deleted, since {len(self.known.unreadable)} objects cannot be read;"
                f" the first is {bucket.uri(key)}: {problem}",
                remedy="`boothline verify` names all of them and who uses them.",
            )

    def garbage(self) -> Garbage:
        """Return what nothing needs."""
        records = self._of_forgotten_runs()
        ignored = frozenset(item.key for item in records)
        records += self._of_nodes(ignored)
        manifests = [
            item
            for key, item in self.objects.items()
            if is_manifest(key) and key.startswith(SWEPT_FOLDERS)
        ]
        needed = self.known.needed(
            young=[path_of(item.key) for item in manifests if not self._is_old(item)],
            ignored=ignored,
        )
        swept = [item for item in manifests if path_of(item.key) not in needed]
        gone = {path_of(item.key) for item in swept}
        used = self.known.users_of_blobs(path for path in self.known.manifests if path not in gone)
        return Garbage(
            manifests=tuple(swept),
            records=tuple(records),
            blobs=tuple(
                item
                for key, item in self.objects.items()
                if key.startswith(layout.BLOBS)
                and key.rsplit("/", 1)[-1] not in used
                and self._is_old(item)
            ),
            uploads=tuple(self._stale_uploads()),
        )

    def _of_nodes(self, ignored: frozenset[str]) -> list[StoredObject]:
        """Return the records that nodes left of trainings that nobody waits for any more."""
        needed = self.known.needed_folders(ignored=ignored)
        return [
            item
            for key, item in self.objects.items()
            if key.startswith(layout.JOBS)
            and is_record(key)
            and not key.startswith(needed)
            and self._is_old(item)
        ]

    def _is_old(self, item: StoredObject) -> bool:
        return self.now - item.modified_at >= self.retention.grace_seconds

    def _stale_uploads(self) -> Iterable[UnfinishedUpload]:
        limit = self.now - max(inventory.STALE_UPLOAD_SECONDS, self.retention.grace_seconds)
        for upload in inventory.unfinished_uploads(self.store.bucket):
            if upload.started_at < limit:
                yield upload

    def _of_forgotten_runs(self) -> list[StoredObject]:
        """Return all records of the runs that are older than runs are kept."""
        if self.retention.runs_seconds is None:
            return []
        keys = [key for key in self.objects if key.startswith(layout.RUNS)]
        forgotten = []
        for run_id in sorted({layout.run_of(key) for key in keys}):
            created_at = (self.store.get_record(layout.run_record(run_id)) or {}).get("created_at")
            if not isinstance(created_at, int | float):
                continue
            if self.now - created_at > self.retention.runs_seconds:
                forgotten.append(layout.run_folder(run_id))
        return [
            self.objects[key]
            for key in keys
            if key.startswith(tuple(forgotten) or ("\0",)) and not key.endswith(MANIFEST_NAME)
        ]
