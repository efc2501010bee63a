"""The bucket in memory keeps the rules of a real one: each test runs on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline.errors import IntegrityError, NotFoundError
from boothline.store import ManifestDraft, Store
from boothline.store.memory import MemoryBucket
from boothline.store.s3 import Bucket

pytestmark = pytest.mark.services

PART_BYTES = 5 * 2**20  # the least that stores accept


@pytest.fixture(params=["memory", "server"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    if request.param == "memory":
        return MemoryBucket()
    store: Store = request.getfixturevalue("store")
    return store.bucket


def test_bucket_gives_a_name_to_its_first_writer_alone(bucket: Bucket) -> None:
    assert bucket.put_if_absent("a/x.json", b"first")
    assert not bucket.put_if_absent("a/x.json", b"second")
    assert bucket.get("a/x.json") == b"first"
    bucket.put("a/x.json", b"third")
    assert bucket.get("a/x.json") == b"third"


def test_bucket_lists_what_starts_with_a_prefix_in_order(bucket: Bucket) -> None:
    for key in ("b/2", "a/9", "b/10", "b/1/x"):
        bucket.put(key, key.encode())
    assert bucket.keys("b/") == ["b/1/x", "b/10", "b/2"]
    assert [bucket.size(key) for key in ("b/10", "b/3")] == [4, None]
    bucket.delete("b/10")
    bucket.delete("b/10")
    assert bucket.keys("b/") == ["b/1/x", "b/2"]
    assert bucket.get("b/10") is None


def test_bucket_passes_on_no_object_that_is_longer_than_expected(bucket: Bucket) -> None:
    bucket.put("a", b"12345")
    for size, length, expected in ((5, 5, b"12345"), (9, 5, b"12345"), (3, 5, b"")):
        received = bytearray()
        assert bucket.receive("a", received.extend, size_bytes=size) == length
        assert received == expected
    with pytest.raises(NotFoundError):
        bucket.receive("b", print, size_bytes=1)


def test_bucket_takes_parts_whole_or_not_at_all(bucket: Bucket) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * PART_BYTES
        raise IntegrityError("changed")

    bucket.put_parts("a", iter([b"x" * PART_BYTES, b"yz"]))
    assert bucket.get("a") == b"x" * PART_BYTES + b"yz"
    with pytest.raises(IntegrityError, match="changed"):
        bucket.put_parts("b", broken())
    assert bucket.get("b") is None


def test_store_on_a_bucket_commits_finds_and_reads_nothing_unverified(
    bucket: Bucket, tmp_path: Path
) -> None:
    store = Store(bucket, cache=tmp_path / "cache")
    draft = ManifestDraft(kind="note", files={"a.txt": b"same", "b.txt": b"other"})
    ref = store.commit("steps/note/one", draft)
    assert store.commit("steps/note/one", draft) == ref == store.find("steps/note/one")
    assert store.manifests("steps/note/") == ["steps/note/one"]
    folder = Store(bucket, cache=tmp_path / "fresh").fetch(ref, tmp_path / "fetched")
    assert (folder / "b.txt").read_bytes() == b"other"
    blob = next(key for key in bucket.keys("blobs/") if bucket.get(key) == b"same")
    bucket.put(blob, b"SAME")
    with pytest.raises(IntegrityError):
        Store(bucket, cache=tmp_path / "other").read_bytes(ref, "a.txt")
