"""The store against a real SeaweedFS."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from boothline.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    StoreError,
)
from boothline.settings import Settings
from boothline.store import FileEntry, Manifest, ManifestDraft, ManifestRef, Store
from boothline.store.manifest import files_under
from boothline.store.s3 import MULTIPART_PART_BYTES, Bucket

pytestmark = pytest.mark.services


@pytest.fixture
def bucket(store_settings: Settings) -> Bucket:
    """The bucket of the fresh store, for a look behind it."""
    return Bucket.connect(store_settings)


def commit(store: Store, path: str = "steps/train/key", **files: bytes) -> ManifestRef:
    return store.commit(path, ManifestDraft(kind="test", files=dict(files)))


@pytest.mark.proves("F32/seaweedfs", "F32/other")
def test_commit_folder_round_trips(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "deep" / "er" / "picture.bin").write_bytes(os.urandom(100_000))
    ref = store.commit(
        "steps/train/key",
        ManifestDraft(kind="test", files=files_under(source), metadata={"num": 2}),
    )
    fetched = store.fetch(ref, tmp_path / "fetched")
    assert {path: file.read_bytes() for path, file in files_under(fetched).items()} == {
        path: file.read_bytes() for path, file in files_under(source).items()
    }
    assert store.read(str(ref)).metadata == {"num": 2}


def test_commit_file_of_several_parts_round_trips(store: Store, tmp_path: Path) -> None:
    content = os.urandom(MULTIPART_PART_BYTES + 12_345)
    (tmp_path / "large").write_bytes(content)
    files = {"file": tmp_path / "large", "bytes": content[:-1]}
    ref = store.commit("steps/train/key", ManifestDraft(kind="test", files=files))
    store.fetch(ref, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "file").read_bytes() == content
    assert store.read_bytes(ref, "bytes") == content[:-1]


@pytest.mark.proves("F43/deduplicated")
def test_commit_equal_files_stores_one_blob(store: Store, bucket: Bucket) -> None:
    commit(store, "steps/train/a", one=b"same", two=b"same")
    commit(store, "steps/train/b", three=b"same")
    assert len(bucket.keys("blobs/")) == 1


def test_commit_inputs_are_in_the_manifest(store: Store) -> None:
    first = commit(store, "steps/train/a", one=b"1")
    second = store.commit("steps/train/b", ManifestDraft(kind="test", files={}, inputs=(first,)))
    assert store.read(second).inputs == (str(first),)


def test_commit_taken_path_returns_the_first_manifest(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = commit(store, one=b"first")
    assert commit(store, one=b"second") == first
    assert "other content first" in caplog.text
    assert store.read_bytes(first, "one") == b"first"


def test_commit_entry_of_stored_blob_needs_no_upload(store: Store) -> None:
    ref = commit(store, "steps/train/a", one=b"content")
    entry = store.read(ref).entry("one")
    again = store.commit("steps/train/b", ManifestDraft(kind="test", files={"new/name": entry}))
    assert store.read_bytes(again, "new/name") == b"content"


def test_commit_entry_of_missing_blob_is_refused(store: Store) -> None:
    entry = FileEntry(path="x", sha256="0" * 64, size_bytes=3)
    with pytest.raises(NotFoundError, match="does not exist"):
        store.commit("steps/train/b", ManifestDraft(kind="test", files={"x": entry}))
    assert store.find("steps/train/b") is None


def test_commit_reports_progress_up_to_the_total(store: Store) -> None:
    seen: list[tuple[int, int]] = []
    files: dict[str, bytes | Path | FileEntry] = {str(n): os.urandom(1000) for n in range(5)}
    draft = ManifestDraft(kind="test", files=files)
    store.commit(
        "steps/train/key", draft, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (5000, 5000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("path", ["../outside", "/absolute", "a/../../b", "a\\b", ""])
def test_commit_file_outside_the_manifest_is_refused(store: Store, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be stored"):
        store.commit("steps/train/key", ManifestDraft(kind="test", files={path: b"x"}))


def test_fetch_manifest_that_leaves_its_folder_is_refused(
    store: Store, bucket: Bucket, tmp_path: Path
) -> None:
    good = Manifest(
        kind="test",
        files=(FileEntry(path="inside", sha256="0" * 64, size_bytes=1),),
        inputs=(),
        metadata={},
    )
    evil = good.model_dump_json().encode().replace(b"inside", b"../out")
    bucket.put("steps/train/key/manifest.json", evil)
    with pytest.raises(IntegrityError, match="leaves the manifest's folder"):
        store.find("steps/train/key")
    assert not (tmp_path / "out").exists()


def test_fetch_through_a_link_out_of_the_destination_is_refused(
    store: Store, tmp_path: Path
) -> None:
    ref = store.commit("steps/train/key", ManifestDraft(kind="test", files={"a/file": b"x"}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="outside"):
        store.fetch(ref, tmp_path / "fetched")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_fetch_prefix_writes_only_files_under_it(store: Store, tmp_path: Path) -> None:
    files: dict[str, bytes | Path | FileEntry] = {"a/1": b"1", "a/2": b"2", "b/1": b"3"}
    ref = store.commit("steps/train/key", ManifestDraft(kind="test", files=files))
    seen: list[tuple[int, int]] = []
    store.fetch(
        ref,
        tmp_path / "fetched",
        prefix="a/",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert sorted(files_under(tmp_path / "fetched")) == ["a/1", "a/2"]
    assert seen[-1] == (2, 2)


def test_fetch_many_files_at_once_writes_all(store: Store, tmp_path: Path) -> None:
    files: dict[str, bytes | Path | FileEntry] = {
        f"{number:03d}": os.urandom(3000) for number in range(100)
    }
    ref = store.commit("steps/train/key", ManifestDraft(kind="test", files=files))
    store.fetch(ref, tmp_path / "fetched")
    assert {path: (tmp_path / "fetched" / path).read_bytes() for path in files} == files


def test_fetch_twice_reads_the_cache(store: Store, bucket: Bucket, tmp_path: Path) -> None:
    ref = commit(store, one=b"content")
    store.fetch(ref, tmp_path / "first")
    bucket.delete(bucket.keys("blobs/")[0])
    store.fetch(ref, tmp_path / "second")
    assert (tmp_path / "second" / "one").read_bytes() == b"content"


def test_fetch_over_existing_files_replaces_them(store: Store, tmp_path: Path) -> None:
    ref = commit(store, one=b"content")
    (tmp_path / "one").write_bytes(b"older")
    store.fetch(ref, tmp_path)
    assert (tmp_path / "one").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["one"]


def test_find_absent_manifest_returns_none(store: Store) -> None:
    assert store.find("steps/train/absent") is None


def test_find_committed_manifest_returns_its_reference(store: Store) -> None:
    assert commit(store, one=b"1") == store.find("steps/train/key")


def test_read_absent_manifest_raises_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        store.read(ManifestRef(path="steps/train/absent", digest="0" * 64))


def test_read_replaced_manifest_raises_integrity_error(store: Store, bucket: Bucket) -> None:
    ref = commit(store, one=b"1")
    other = commit(store, "steps/train/other", one=b"2")
    data = bucket.get("steps/train/other/manifest.json")
    assert data is not None
    assert other != ref
    bucket.put("steps/train/key/manifest.json", data)
    with pytest.raises(IntegrityError, match="was stored as"):
        store.read(ref)


def test_read_bytes_of_absent_file_raises_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="has no file 'two'"):
        store.read_bytes(commit(store, one=b"1"), "two")


def test_manifests_lists_committed_ones_in_order(store: Store) -> None:
    for step in (100, 50, 150):
        commit(store, f"training/key/step-{step:06d}", state=b"x")
    commit(store, "training/other/step-000001", state=b"x")
    assert store.manifests("training/key/") == [
        "training/key/step-000050",
        "training/key/step-000100",
        "training/key/step-000150",
    ]


def test_forget_deletes_the_manifest_and_keeps_blobs(store: Store, bucket: Bucket) -> None:
    commit(store, one=b"1")
    store.forget("steps/train/key")
    assert store.find("steps/train/key") is None
    assert len(bucket.keys("blobs/")) == 1


def test_uri_of_names_the_manifest_object(store: Store, store_settings: Settings) -> None:
    ref = commit(store, one=b"1")
    assert store.uri == f"s3://{store_settings.bucket}/{store_settings.prefix}"
    assert store.uri_of(ref) == f"{store.uri}/steps/train/key/manifest.json"


def test_record_written_twice_holds_the_last_value(store: Store) -> None:
    store.put_record("runs/r/run.json", {"status": "running"})
    store.put_record("runs/r/run.json", {"status": "done", "name": "Grüße"})
    assert store.get_record("runs/r/run.json") == {"status": "done", "name": "Grüße"}


def test_record_if_absent_conflicts_with_an_existing_one(store: Store) -> None:
    store.put_record("ledger/promotions/1.json", {"by": "first"}, if_absent=True)
    with pytest.raises(ConflictError, match="exists already"):
        store.put_record("ledger/promotions/1.json", {"by": "second"}, if_absent=True)
    assert store.get_record("ledger/promotions/1.json") == {"by": "first"}


def test_record_absent_is_none(store: Store) -> None:
    assert store.get_record("runs/none/run.json") is None


def test_record_that_is_no_object_raises_integrity_error(store: Store, bucket: Bucket) -> None:
    bucket.put("runs/r/run.json", b"[1, 2")
    with pytest.raises(IntegrityError, match="is not JSON"):
        store.get_record("runs/r/run.json")


def test_list_records_leaves_out_manifests(store: Store) -> None:
    for name in ("b", "a"):
        store.put_record(f"runs/r/steps/{name}.json", {})
    commit(store, "runs/r/steps/c", one=b"1")
    store.put_record("runs/other/steps/a.json", {})
    assert store.list_records("runs/r/") == ["runs/r/steps/a.json", "runs/r/steps/b.json"]


def test_stores_of_two_prefixes_do_not_meet(store: Store, store_settings: Settings) -> None:
    prefix = f"{store_settings.prefix}/another/one"
    other = Store.connect(store_settings.model_copy(update={"prefix": prefix}))
    commit(store, one=b"1")
    assert other.find("steps/train/key") is None


@pytest.mark.store_needs("signatures")
def test_connect_with_wrong_secret_names_the_key(store_settings: Settings) -> None:
    wrong = store_settings.model_copy(update={"s3_secret_key": SecretStr("wrong")})
    with pytest.raises(StoreError, match="refused access key") as caught:
        Store.connect(wrong)
    assert "wrong" not in str(caught.value)


def test_connect_to_a_new_bucket_creates_it(store_settings: Settings) -> None:
    settings = store_settings.model_copy(update={"bucket": f"new-{store_settings.prefix}"})
    store = Store.connect(settings)
    assert commit(store, one=b"1") is not None
    for key in store.bucket.keys(""):
        store.bucket.delete(key)
    store.bucket.client.remove_bucket(settings.bucket)
