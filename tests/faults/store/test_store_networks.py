"""The store behind a bad network: slow, busy, cut at every part of an upload; wrong clocks."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from fault_proxy import BUSY, Fault, FaultProxy
from racing import race

from boothline.errors import ServiceError
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store, blobs, failures, inventory
from boothline.store.s3 import Bucket
from boothline.store.verification import verify

pytestmark = pytest.mark.services

NUM_PARTS = 3
PART_BYTES = 5 * 2**20  # the least that stores accept
Note = Callable[[str, str], None]


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three parts, which are small here."""
    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", PART_BYTES)
    path = tmp_path / "large"
    path.write_bytes(os.urandom((NUM_PARTS - 1) * PART_BYTES + 12_345))
    return path


def part_number(number: int) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(b"PUT ") and b"partNumber=%d&" % number in data


def is_create(data: bytes) -> bool:
    return data.startswith(b"POST ") and b"?uploads=" in data


def is_complete(data: bytes) -> bool:
    return data.startswith(b"POST ") and b"uploadId=" in data


REQUESTS = {
    "create": is_create,
    **{f"part-{n}": part_number(n) for n in range(1, NUM_PARTS + 1)},
    "complete": is_complete,
}


@pytest.mark.parametrize("how", ["request lost", "answer lost", "busy"])
def test_upload_cut_at_each_request_completes_and_leaves_nothing(
    behind_proxy: Store, proxy: FaultProxy, store: Store, large: Path, how: str, measured: Note,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    content, lost = large.read_bytes(), []
    for number, (name, matches) in enumerate(REQUESTS.items()):
        large.write_bytes(b"%08d" % number + content[8:])
        answer = BUSY if how == "busy" else b""
        fault = proxy.inject(
            Fault(
                matches,
                lose_request=how == "request lost",
                answer=answer,
                reset=how == "request lost",
            )
        )
        ref = behind_proxy.commit(
            f"steps/a/{name}", ManifestDraft(kind="test", files={"large": large})
        )
        assert fault.num_seen >= 1, name
        if store.read_bytes(ref, "large") != large.read_bytes():
            lost.append(name)
    assert lost == []
    monkeypatch.setattr(inventory, "STALE_UPLOAD_SECONDS", -60.0)
    left = inventory.unfinished_uploads(store.bucket)
    for upload in left:  # of a create whose answer was lost nobody knows the name
        store.bucket.abort_upload(upload.key, upload.upload_id)
    assert len(left) <= (1 if how == "answer lost" else 0)
    stale = inventory.unfinished_uploads(store.bucket)
    assert stale == []
    assert verify(store).damages == ()
    measured(
        "s3 faults",
        f"{how} at each of {len(REQUESTS)} requests: {len(lost)} lost, {len(stale)} stale after"
        " the sweep",
    )


def test_commit_to_a_slow_store_completes(
    behind_proxy: Store, proxy: FaultProxy, store: Store
) -> None:
    proxy.delay_seconds, proxy.bytes_per_second = 0.05, 2e6
    content = os.urandom(300_000)
    ref = behind_proxy.commit("steps/a/b", ManifestDraft(kind="test", files={"file": content}))
    assert behind_proxy.read_bytes(ref, "file") == content


def test_commit_to_a_busy_store_completes(behind_proxy: Store, proxy: FaultProxy) -> None:
    fault = proxy.inject(Fault(lambda data: data[:4] in (b"PUT ", b"HEAD"), num_times=4))
    fault.answer = BUSY
    ref = behind_proxy.commit("steps/a/b", ManifestDraft(kind="test", files={"file": b"content"}))
    assert fault.num_seen == 4
    assert behind_proxy.read_bytes(ref, "file") == b"content"


@pytest.mark.faults
def test_commit_during_an_outage_of_a_minute_completes(
    behind_proxy: Store, proxy: FaultProxy, large: Path, measured: Note
) -> None:
    import threading

    fault = proxy.inject(Fault(part_number(2), lose_request=True))
    down = threading.Timer(0.0, proxy.refuse)
    up = threading.Timer(60.0, proxy.accept_again)
    down.start()
    up.start()
    started_at = time.monotonic()
    ref = behind_proxy.commit("steps/a/b", ManifestDraft(kind="test", files={"large": large}))
    seconds = time.monotonic() - started_at
    up.join()
    assert fault.num_seen <= 1
    assert behind_proxy.read_bytes(ref, "large") == large.read_bytes()
    stale = inventory.unfinished_uploads(behind_proxy.bucket)
    assert stale == []
    measured("s3 faults", f"down 60 s: done whole after {seconds:.0f} s, {len(stale)} stale")


def test_clock_off_by_sixteen_minutes_is_named_after_one_attempt(
    store_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Note
) -> None:
    import minio.api
    import minio.time

    real = minio.time.utcnow
    requests: list[str] = []
    attempts: list[int] = []
    send = minio.api.Minio._url_open

    def count(self: object, method: str, *args: object, **more: object) -> object:
        requests.append(method)
        return send(self, method, *args, **more)

    monkeypatch.setattr(minio.api.Minio, "_url_open", count)
    bucket = Bucket.connect(store_settings)
    bucket.put("probes/x", b"x")
    for minutes in (16, -16):
        monkeypatch.setattr(minio.time, "utcnow", lambda by=minutes: real() + timedelta(minutes=by))
        clock = SimpleNamespace(time=lambda by=minutes: time.time() + 60 * by)
        monkeypatch.setattr(failures, "time", clock)
        for action in (
            lambda: Bucket.connect(store_settings),
            lambda: bucket.get("probes/x"),
            lambda: bucket.size("probes/x"),
            lambda: bucket.put("probes/x", b"y"),
        ):
            requests.clear()
            with pytest.raises(ServiceError, match="clock") as caught:
                action()
            assert "NTP" in caught.value.remedy
            attempts.append(len(requests))
    assert attempts == [1] * 8
    measured(
        "clock",
        f"connect, GET, HEAD, PUT, both ways: {len(attempts)} errors name it, after"
        f" {max(attempts)} attempt each",
    )


def test_fifty_races_for_one_key_have_one_owner_each(
    store_settings: Settings, measured: Note
) -> None:

    stores = [Store.connect(store_settings) for _ in range(2)]
    longest, num_owned = 0.0, 0

    def run(number: int, writer: int) -> tuple[str, float]:
        started_at = time.monotonic()
        files: dict[str, bytes | Path] = {"file": b"by %d" % writer}
        ref = stores[writer].commit(
            f"steps/train/{number}", ManifestDraft(kind="test", files=dict(files))
        )
        return str(ref), time.monotonic() - started_at

    for number in range(50):
        (first, one), (second, two) = race([partial(run, number, writer) for writer in range(2)])
        num_owned += first == second
        longest = max(longest, one, two)
    assert num_owned == 50
    assert longest < 5
    assert verify(stores[0]).num_manifests == 50
    measured(
        "one key",
        f"{num_owned} of 50 races: one owner, the loser reuses after {longest:.2f} s at most",
    )
