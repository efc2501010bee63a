"""A garbage collection without mercy beside writers: no committed blob is ever lost."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from boothline.collecting import Retention, collect, verify
from boothline.runs import StepRecord, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import digest_of

pytestmark = pytest.mark.services

SECONDS = 4.0
NUM_WRITERS = 4


def write(store: Store, *, writer: int, until: float) -> list[ManifestRef]:
    """Commit steps that share a few blobs, as running jobs do: the record first."""
    draws = random.Random(writer)
    made: list[ManifestRef] = []
    while time.monotonic() < until:
        parts = {"step": "train", "writer": writer, "number": len(made)}
        record = StepRecord(step="train", status="running", started_at=0.0, key_parts=parts)
        write_step(store, f"run-{writer}-{len(made)}", record)
        files = {str(n): b"shared %d" % draws.randrange(40) for n in range(3)}
        path = f"steps/train/{digest_of(parts)[:32]}"
        made.append(store.commit(path, ManifestDraft(kind="test", files=dict(files))))
        if draws.random() < 0.5:  # the blobs of a forgotten manifest are garbage at once
            store.forget(made.pop().path)
    return made


def test_concurrent_writers_never_lose_a_blob_to_gc(store_settings: Settings) -> None:
    store = Store.connect(store_settings)
    until = time.monotonic() + SECONDS
    stop = threading.Event()
    num_deleted = 0

    def sweep() -> None:
        nonlocal num_deleted
        own = Store.connect(store_settings)
        while not stop.is_set():
            num_deleted += len(collect(own, retention=Retention(grace_seconds=-60), delete=True))

    with ThreadPoolExecutor(NUM_WRITERS + 1) as pool:
        sweeper = pool.submit(sweep)
        writers = [
            pool.submit(write, Store.connect(store_settings), writer=number, until=until)
            for number in range(NUM_WRITERS)
        ]
        refs = [ref for writer in writers for ref in writer.result()]
        stop.set()
        sweeper.result()
    assert num_deleted > 10
    assert len(refs) > 10
    assert verify(store).damages == ()
    assert [store.find(ref.path) for ref in refs] == refs
