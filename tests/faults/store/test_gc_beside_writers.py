"""A garbage collection without mercy beside writers: no committed blob is ever lost."""

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_proxy import FaultProxy

from boothline.runs import StepRecord, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.store.garbage import Retention, collect
from boothline.store.manifest import digest_of
from boothline.store.verification import verify

pytestmark = pytest.mark.services

SECONDS = 4.0
MOST_SECONDS = 60.0
NUM_WRITERS = 4
NUM_DELETED = 20


def write(store: Store, *, writer: int, enough: threading.Event) -> tuple[int, list[str]]:
    """Commit steps that share blobs, as running jobs do: the record first.

    The last few manifests are kept, so that most blobs are garbage at any time; a moment later
    another writer needs them.

    Returns:
        The number of commits, and every blob that was lost while its manifest was there.
    """
    draws = random.Random(writer)
    kept: deque[ManifestRef] = deque()
    lost: list[str] = []
    number = 0
    while not enough.is_set():
        number += 1
        parts = {"step": "train", "writer": writer, "number": number}
        record = StepRecord(step="train", status="running", started_at=0.0, key_parts=parts)
        write_step(store, f"run-{writer}-{number % 5}", record)
        files = {str(n): b"shared %d" % draws.randrange(60) for n in range(3)}
        path = f"steps/train/{digest_of(parts)[:32]}"
        kept.append(store.commit(path, ManifestDraft(kind="test", files=dict(files))))
        if len(kept) > 2:
            old = kept.popleft()
            lost += missing(store, old)
            store.forget(old.path)
    return number, lost + [name for ref in kept for name in missing(store, ref)]


def missing(store: Store, ref: ManifestRef) -> list[str]:
    """Return the blobs of a manifest that are gone."""
    return [
        f"{ref.path}: {entry.path}"
        for entry in store.read(ref).files
        if store.bucket.size(layout.blob(entry.sha256)) is None
    ]


def test_concurrent_writers_never_lose_a_blob_to_gc(
    store_settings: Settings, proxy: FaultProxy, measured: Callable[[str, str], None]
) -> None:
    store = Store.connect(store_settings)
    started_at = time.monotonic()
    enough = threading.Event()
    num_deleted = 0
    # A slow collection leaves much time between its last look and its deletes.
    proxy.delay_seconds = 0.005
    slow = store_settings.model_copy(update={"s3_endpoint": proxy.url})

    def sweep() -> None:
        nonlocal num_deleted
        own = Store.connect(slow)
        seconds = 0.0
        while seconds < SECONDS or (num_deleted <= NUM_DELETED and seconds < MOST_SECONDS):
            num_deleted += len(collect(own, retention=Retention(grace_seconds=-60), delete=True))
            seconds = time.monotonic() - started_at

    with ThreadPoolExecutor(NUM_WRITERS + 1) as pool:
        writers = [
            pool.submit(write, Store.connect(store_settings), writer=number, enough=enough)
            for number in range(NUM_WRITERS)
        ]
        try:
            pool.submit(sweep).result()
        finally:
            enough.set()
        ended = [writer.result() for writer in writers]
    num_commits = sum(number for number, _ in ended)
    lost = [name for _, names in ended for name in names]
    assert lost == []
    assert verify(store).damages == ()
    assert num_deleted > NUM_DELETED
    assert num_commits > 20
    measured(
        "gc beside writers", f"{num_commits} commits, {num_deleted} deletes: {len(lost)} blobs lost"
    )
