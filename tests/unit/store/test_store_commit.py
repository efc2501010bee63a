"""What a commit leaves in the bucket, in which order, and who wins when two commit at once."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from unit.store.conftest import refusal

from boothline.errors import (
    ConfigError,
    ConflictError,
    DataError,
    IntegrityError,
    NotFoundError,
    StoreError,
)
from boothline.store import (
    FileEntry,
    ManifestDraft,
    ManifestRef,
    Store,
    blobs,
    layout,
    multipart,
    sweeps,
)
from boothline.store.records import seal

PATH = "steps/train/0a"
KEY = "team/steps/train/0a/manifest.json"
PROBE = "team/probes/conditional-put"


def blob(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"team/blobs/sha256/{digest[:2]}/{digest}"


def draft(**files: Any) -> ManifestDraft:
    return ManifestDraft(kind="model", files=files, metadata={"steps": 3})


def written(client: Any) -> list[str]:
    """Return what was written, but for the probe."""
    return [name for name in client.puts if name != PROBE]


def test_commit_writes_blobs_then_a_manifest_that_names_them(
    memory_store: Store, client: Any, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(b"from a file")
    source = ManifestRef(path="steps/data/0b", digest="b" * 64)
    ref = memory_store.commit(
        PATH,
        ManifestDraft(
            kind="model",
            files={"z/bytes": b"from bytes", "a": tmp_path / "weights"},
            inputs=(source,),
            metadata={"steps": 3},
        ),
    )
    assert sorted(written(client)[:2]) == sorted([blob(b"from a file"), blob(b"from bytes")])
    assert written(client)[2:] == [KEY]
    assert client.objects[blob(b"from a file")][0] == b"from a file"
    data = client.objects[KEY][0]
    assert ref == ManifestRef(path=PATH, digest=hashlib.sha256(data).hexdigest())
    stored = json.loads(data)
    assert (stored["kind"], stored["metadata"]) == ("model", {"steps": 3})
    assert stored["inputs"] == [f"steps/data/0b@sha256:{'b' * 64}"]
    assert stored["stored_as"] == PATH
    assert stored["files"] == [
        {"path": "a", "sha256": blob(b"from a file")[-64:], "size_bytes": 11},
        {"path": "z/bytes", "sha256": blob(b"from bytes")[-64:], "size_bytes": 10},
    ]


def test_commit_is_read_back_by_another_process(
    memory_store: Store, connect: Callable[[], Store]
) -> None:
    ref = memory_store.commit(PATH, draft(a=b"content"))
    other = connect()
    assert other.find(PATH) == ref
    assert other.read_bytes(ref, "a") == b"content"


def test_commit_stores_equal_contents_once_and_counts_their_bytes_once(
    memory_store: Store, client: Any
) -> None:
    seen: list[tuple[int, int]] = []
    files = {"a": b"same", "b": b"same", "c": b"other one"}
    memory_store.commit(PATH, draft(**files), on_progress=lambda *counts: seen.append(counts))
    assert sorted(written(client)) == sorted([blob(b"same"), blob(b"other one"), KEY])
    assert seen in ([(4, 13), (13, 13)], [(9, 13), (13, 13)])


def test_commit_sends_no_blob_that_is_stored_with_its_length(
    memory_store: Store, client: Any
) -> None:
    client.objects[blob(b"content")] = (b"content", {})
    client.objects[blob(b"cut")] = (b"cu", {})
    memory_store.commit(PATH, draft(a=b"content", b=b"cut"))
    assert written(client) == [blob(b"cut"), KEY]


def test_commit_names_a_stored_blob_without_sending_it(memory_store: Store, client: Any) -> None:
    client.objects[blob(b"content")] = (b"content", {})
    entry = FileEntry(path="elsewhere", sha256=blob(b"content")[-64:], size_bytes=7)
    ref = memory_store.commit(PATH, draft(a=entry))
    assert written(client) == [KEY]
    assert memory_store.read(ref).files == (entry.model_copy(update={"path": "a"}),)


@pytest.mark.parametrize(
    ("stored", "error"),
    [(None, NotFoundError), (b"cu", IntegrityError), (b"cuts", IntegrityError)],
)
def test_commit_naming_a_blob_that_is_not_stored_whole_fails(
    memory_store: Store, client: Any, stored: bytes | None, error: type[Exception]
) -> None:
    if stored is not None:
        client.objects[blob(b"cut")] = (stored, {})
    entry = FileEntry(path="x", sha256=blob(b"cut")[-64:], size_bytes=3)
    with pytest.raises(error):
        memory_store.commit(PATH, draft(a=entry))
    assert KEY not in client.objects


def test_commit_of_a_taken_path_with_the_same_content_gives_the_first_one(
    memory_store: Store, connect: Callable[[], Store], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = memory_store.commit(PATH, draft(a=b"content"))
    caplog.clear()
    assert connect().commit(PATH, draft(a=b"content")) == first
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "the same content" in caplog.text


@pytest.mark.parametrize("contents", [(b"one", b"two"), (b"two", b"one")])
def test_commit_of_a_taken_path_with_other_content_warns_and_gives_the_first_one(
    memory_store: Store,
    connect: Callable[[], Store],
    caplog: pytest.LogCaptureFixture,
    contents: tuple[bytes, bytes],
) -> None:
    first = memory_store.commit(PATH, draft(a=contents[0]))
    assert connect().commit(PATH, draft(a=contents[1])) == first
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert memory_store.read_bytes(first, "a") == contents[0]


def test_commit_of_a_path_taken_and_deleted_meanwhile_is_a_conflict(
    memory_store: Store, connect: Callable[[], Store], client: Any
) -> None:
    memory_store.commit(PATH, draft(a=b"content"))
    client.after_look_up = lambda name: name == KEY and client.objects.pop(KEY)
    with pytest.raises(ConflictError, match="taken and deleted again"):
        connect().commit(PATH, draft(a=b"content"))


def test_commit_whose_answer_is_lost_is_ours_when_it_is_repeated(
    memory_store: Store, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "boothline.store.store")

    def lose_answer(name: str) -> None:
        if written(client).count(KEY) == 1 and name == KEY:
            raise ConnectionResetError("reset")

    client.after_put = lose_answer
    ref = memory_store.commit(PATH, draft(a=b"content"))
    assert written(client).count(KEY) == 2
    assert ref.digest == hashlib.sha256(client.objects[KEY][0]).hexdigest()
    assert "committed s3://bucket/team/steps/train/0a/manifest.json with 1 files" in caplog.text


def sweep_taking(store: Store, client: Any, content: bytes) -> Callable[[str], None]:
    """Return what a garbage collection does to a blob just before the manifest is there."""

    def sweep(name: str) -> None:
        if name == KEY and f"team/{layout.CURRENT_SWEEP}" not in client.objects:
            del client.objects[blob(content)]
            sweeps.end(store, sweeps.begin(store))

    return sweep


def test_commit_stores_again_what_a_garbage_collection_took_meanwhile(
    memory_store: Store, client: Any
) -> None:
    client.before_put = sweep_taking(memory_store, client, b"content")
    ref = memory_store.commit(PATH, draft(a=b"content"))
    assert memory_store.read_bytes(ref, "a") == b"content"


def test_commit_writes_the_manifest_again_that_a_garbage_collection_took(
    memory_store: Store, client: Any
) -> None:
    def sweep(name: str) -> None:
        if name == KEY and f"team/{layout.CURRENT_SWEEP}" not in client.objects:
            del client.objects[KEY]
            sweeps.end(memory_store, sweeps.begin(memory_store))

    client.after_put = sweep
    ref = memory_store.commit(PATH, draft(a=b"content"))
    assert memory_store.find(PATH) == ref
    assert memory_store.read_bytes(ref, "a") == b"content"


def test_commit_looks_once_at_a_blob_if_no_garbage_was_collected(
    memory_store: Store, client: Any
) -> None:
    memory_store.commit(PATH, draft(a=b"content"))
    assert client.looked_up.count(blob(b"content")) == 1


def test_commit_naming_a_blob_that_a_garbage_collection_took_is_taken_back(
    memory_store: Store, client: Any
) -> None:
    client.objects[blob(b"content")] = (b"content", {})
    client.before_put = sweep_taking(memory_store, client, b"content")
    entry = FileEntry(path="x", sha256=blob(b"content")[-64:], size_bytes=7)
    with pytest.raises(NotFoundError):
        memory_store.commit(PATH, draft(a=entry))
    assert KEY not in client.objects


def test_commit_of_another_writer_stays_when_a_garbage_collection_took_our_blob(
    memory_store: Store, connect: Callable[[], Store], client: Any
) -> None:
    theirs = memory_store.commit(PATH, draft(a=b"theirs"))
    client.objects[blob(b"content")] = (b"content", {})
    client.before_put = sweep_taking(memory_store, client, b"content")
    entry = FileEntry(path="x", sha256=blob(b"content")[-64:], size_bytes=7)
    with pytest.raises(NotFoundError):
        connect().commit(PATH, draft(a=entry))
    assert memory_store.find(PATH) == theirs


@pytest.mark.parametrize("content", [b"content after", b"cont"])
def test_commit_of_a_file_that_changes_while_it_is_stored_fails(
    memory_store: Store, client: Any, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content before")
    client.objects[blob(b"content before")] = (b"", {})  # is looked at after it was hashed
    client.after_look_up = lambda name: file.write_bytes(content)
    with pytest.raises(IntegrityError, match="changed while it was stored"):
        memory_store.commit(PATH, draft(a=file))
    assert KEY not in client.objects


def test_commit_of_a_file_that_is_not_there_names_it(memory_store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^a cannot be read: .*No such file"):
        memory_store.commit(PATH, draft(a=tmp_path / "missing"))


@pytest.mark.parametrize(
    "source",
    [b"content", FileEntry(path="x", sha256="0" * 64, size_bytes=1)],
    ids=["bytes", "entry"],
)
def test_commit_of_a_file_outside_the_manifest_is_refused(
    memory_store: Store, source: bytes | FileEntry
) -> None:
    with pytest.raises(
        ConfigError, match=r"'\.\./a' cannot be stored: .*leaves the manifest's folder"
    ):
        memory_store.commit(PATH, ManifestDraft(kind="model", files={"../a": source}))


def test_commit_to_a_store_that_ignores_if_none_match_is_refused(
    memory_store: Store, client: Any
) -> None:
    client.is_conditional = False
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        memory_store.commit(PATH, draft(a=b"content"))
    assert KEY not in client.objects


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("NotImplemented", 501, "does not know If-None-Match"),
        ("AccessDenied", 403, "refused access key 'key'"),
    ],
)
def test_commit_to_a_store_that_refuses_the_probe_says_why(
    memory_store: Store, client: Any, code: str, status: int, said: str
) -> None:
    def refuse(name: str) -> None:
        if name == PROBE:
            raise refusal(code, status)

    client.before_put = refuse
    with pytest.raises(StoreError, match=said):
        memory_store.commit(PATH, draft(a=b"content"))
    assert KEY not in client.objects


def test_commit_outside_the_folders_of_results_writes_nothing(
    memory_store: Store, client: Any
) -> None:
    with pytest.raises(ConfigError):
        memory_store.commit("../train", draft(a=b"content"))
    assert client.puts == []


def test_commit_probes_conditional_puts_once_a_process(
    memory_store: Store, connect: Callable[[], Store], client: Any
) -> None:
    memory_store.commit(PATH, draft(a=b"content"))
    assert client.puts.count(PROBE) == 2  # new, then taken
    memory_store.commit(f"{PATH}b", draft(a=b"content"))
    assert client.puts.count(PROBE) == 2
    connect().commit(f"{PATH}c", draft(a=b"content"))
    assert client.puts.count(PROBE) == 3  # taken at once


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize(("size_bytes", "in_parts"), [(9, False), (10, False), (11, True)])
def test_commit_sends_what_is_larger_than_a_part_in_parts(
    memory_store: Store,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_file: bool,
    size_bytes: int,
    in_parts: bool,
) -> None:
    streamed: list[bytes] = []

    def upload(bucket: object, key: str, parts: Iterable[bytes]) -> None:
        streamed.extend(parts)

    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", 10)
    monkeypatch.setattr(multipart, "upload", upload)
    content = b"x" * size_bytes
    (tmp_path / "file").write_bytes(content)
    memory_store.commit(PATH, draft(a=tmp_path / "file" if is_file else content))
    assert streamed == ([content[:10], content[10:]] if in_parts else [])
    assert (blob(content) in client.objects) is not in_parts


@pytest.mark.parametrize(("stored", "is_sent"), [(None, True), (b"content", False), (b"cut", True)])
@pytest.mark.parametrize("part_bytes", [6, 7])
def test_upload_says_whether_bytes_were_sent(
    memory_store: Store,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    stored: bytes | None,
    is_sent: bool,
    part_bytes: int,
) -> None:
    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", part_bytes)
    monkeypatch.setattr(multipart, "upload", lambda *arguments, **options: None)
    if stored is not None:
        client.objects[blob(b"content")] = (stored, {})
    entry = blobs.describe("a", b"content")
    assert memory_store._blobs.upload(entry, b"content", stop=Event()) is is_sent


def test_upload_of_a_file_in_parts_says_that_bytes_were_sent(
    memory_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "MULTIPART_PART_BYTES", 6)
    monkeypatch.setattr(multipart, "upload", lambda *arguments, **options: None)
    (tmp_path / "file").write_bytes(b"content")
    entry = blobs.describe("a", tmp_path / "file")
    assert memory_store._blobs.upload(entry, tmp_path / "file", stop=Event()) is True


def test_look_up_of_what_is_no_manifest_gives_the_first_reason(
    memory_store: Store, client: Any
) -> None:
    client.objects[KEY] = (seal({"schema_version": 2, "kind": 3}, path=PATH), {})
    with pytest.raises(IntegrityError, match="is not a manifest: Input should be 1"):
        memory_store.look_up(PATH)


def test_manifest_is_asked_for_once_by_reference_and_each_time_by_path(
    connect: Callable[[], Store], memory_store: Store, client: Any
) -> None:
    ref = memory_store.commit(PATH, draft(weights=b"1"))
    first = memory_store.read(ref)
    kept = client.objects.pop(KEY)
    assert memory_store.read(str(ref)) is first
    assert memory_store.find(PATH) is None
    with pytest.raises(NotFoundError):
        connect().read(ref)
    client.objects[KEY] = kept
    memory_store.forget(PATH)
    with pytest.raises(NotFoundError):
        memory_store.read(ref)
