"""Damage to stored bytes is found by every read, whatever was done to them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from boothline.errors import IntegrityError, StoreError
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.s3 import Bucket

pytestmark = pytest.mark.services

CONTENT = b"the bytes of a weight file" * 1000
Damage = Callable[[Bucket, str], None]


def flip(bucket: Bucket, key: str) -> None:
    data = bytearray(bucket.get(key) or b"")
    data[len(data) // 2] ^= 1
    bucket.put(key, bytes(data))


def truncate(bucket: Bucket, key: str) -> None:
    bucket.put(key, (bucket.get(key) or b"")[:-1])


def lengthen(bucket: Bucket, key: str) -> None:
    bucket.put(key, (bucket.get(key) or b"") + b"x")


def swap(bucket: Bucket, key: str) -> None:
    other = next(found for found in bucket.keys("blobs/") if found != key)
    bucket.put(key, bucket.get(other) or b"")


def delete(bucket: Bucket, key: str) -> None:
    bucket.delete(key)


@pytest.fixture
def ref(store: Store) -> ManifestRef:
    files = {"file": CONTENT, "other": CONTENT[::-1]}
    return store.commit("steps/train/key", ManifestDraft(kind="test", files=files))


@pytest.fixture
def bucket(store_settings: Settings) -> Bucket:
    return Bucket.connect(store_settings)


def key_of(store: Store, ref: ManifestRef) -> str:
    sha256 = store.read(ref).entry("file").sha256
    return f"blobs/sha256/{sha256[:2]}/{sha256}"


@pytest.mark.proves("F43/verified")
@pytest.mark.parametrize("damage", [flip, truncate, lengthen, swap, delete])
def test_fetch_damaged_blob_raises_and_leaves_nothing(
    damage: Damage, store: Store, ref: ManifestRef, bucket: Bucket, tmp_path: Path
) -> None:
    damage(bucket, key_of(store, ref))
    with pytest.raises(IntegrityError, match="blob of file"):
        store.fetch(ref, tmp_path / "fetched", prefix="file")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_read_bytes_of_damaged_blob_raises(
    damage: Damage, store: Store, ref: ManifestRef, bucket: Bucket
) -> None:
    damage(bucket, key_of(store, ref))
    with pytest.raises(IntegrityError, match="blob of file"):
        store.read_bytes(ref, "file")


def test_fetch_with_damaged_cache_downloads_again(
    store: Store, ref: ManifestRef, store_settings: Settings, tmp_path: Path
) -> None:
    store.fetch(ref, tmp_path / "first")
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    cached = store_settings.blob_cache / sha256[:2] / sha256
    cached.chmod(0o600)
    cached.write_bytes(CONTENT[:-1] + b"x")
    store.fetch(ref, tmp_path / "second")
    assert (tmp_path / "second" / "file").read_bytes() == CONTENT


def test_commit_heals_a_truncated_blob(store: Store, ref: ManifestRef, bucket: Bucket) -> None:
    truncate(bucket, key_of(store, ref))
    store.commit("steps/train/again", ManifestDraft(kind="test", files={"file": CONTENT}))
    assert store.read_bytes(ref, "file") == CONTENT


def test_find_truncated_manifest_raises(store: Store, ref: ManifestRef, bucket: Bucket) -> None:
    truncate(bucket, "steps/train/key/manifest.json")
    with pytest.raises(IntegrityError, match="is not a manifest"):
        store.find("steps/train/key")


def test_find_flipped_manifest_raises(store: Store, ref: ManifestRef, bucket: Bucket) -> None:
    data = bucket.get("steps/train/key/manifest.json") or b""
    bucket.put("steps/train/key/manifest.json", data.replace(b'"test"', b'"tesu"'))
    with pytest.raises(IntegrityError, match="differs from its seal"):
        store.find(ref.path)


@pytest.mark.store_needs("checksums")
def test_put_with_wrong_checksum_is_refused_by_the_server(bucket: Bucket) -> None:
    with pytest.raises(StoreError, match="BadDigest"):
        bucket.put("blobs/x", b"content", sha256_hex="0" * 64)
    assert bucket.get("blobs/x") is None


def test_read_manifest_of_another_writer_raises(store: Store, ref: ManifestRef) -> None:
    store.forget(ref.path)
    store.commit(ref.path, ManifestDraft(kind="test", files={"file": b"another"}))
    with pytest.raises(IntegrityError, match="replaced or damaged"):
        store.read(ref)


def test_find_manifest_replayed_at_another_path_raises(
    store: Store, ref: ManifestRef, bucket: Bucket
) -> None:
    bucket.put("steps/train/newer/manifest.json", bucket.get(f"{ref.path}/manifest.json") or b"")
    with pytest.raises(IntegrityError, match="was stored as 'steps/train/key'"):
        store.find("steps/train/newer")


def test_get_record_flipped_at_any_byte_raises(store: Store, bucket: Bucket) -> None:
    store.put_record("ledger/1.json", {"version": 1, "rate": 1e-05, "name": "x"})
    data = bucket.get("ledger/1.json") or b""
    for position in range(0, len(data), 7):
        for bit in (1, 32):
            damaged = bytearray(data)
            damaged[position] ^= bit
            bucket.put("ledger/1.json", bytes(damaged))
            with pytest.raises(IntegrityError):
                store.get_record("ledger/1.json")


def test_get_record_put_where_another_belongs_raises(store: Store, bucket: Bucket) -> None:
    store.put_record("ledger/1.json", {"version": 1})
    bucket.put("ledger/2.json", bucket.get("ledger/1.json") or b"")
    with pytest.raises(IntegrityError, match="was stored as"):
        store.get_record("ledger/2.json")
