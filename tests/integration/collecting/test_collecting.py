"""verify and gc on a real store: what is named, what is kept, what goes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from boothline.errors import ConflictError, IntegrityError
from boothline.runs import RunRecord, StepRecord, write_run, write_step
from boothline.store import ManifestDraft, ManifestRef, Store, inventory, layout, sweeps
from boothline.store.garbage import Retention, collect
from boothline.store.manifest import digest_of
from boothline.store.verification import verify

pytestmark = pytest.mark.services

# Everything is old enough: the tests cannot wait for a day.
AT_ONCE = Retention(grace_seconds=-60)


def commit(store: Store, path: str, *inputs: ManifestRef, **files: bytes) -> ManifestRef:
    return store.commit(path, ManifestDraft(kind="test", files=dict(files), inputs=inputs))


def record_run(store: Store, run_id: str, *, created_at: float = 2e9, **steps: ManifestRef) -> None:
    run = RunRecord(run_id=run_id, status="done", config={}, created_at=created_at)
    write_run(store, run)
    for step, ref in steps.items():
        record = StepRecord(step=step, status="done", manifest=str(ref), started_at=created_at)
        write_step(store, run_id, record)


@pytest.fixture
def line(store: Store) -> dict[str, ManifestRef]:
    """A run that made a dataset, a training with a state, and a model; and a stray step."""
    dataset = commit(store, "steps/validate_data/d", picture=b"picture")
    state = commit(store, "training/t/step-000002", dataset, weights=b"weights")
    training = commit(store, "steps/train/t", dataset, state, curve=b"curve")
    model = commit(store, "steps/publish_checkpoint/m", training, model=b"model", vae=b"vae")
    stray = commit(store, "steps/train/stray", dataset, curve=b"stray curve", vae=b"vae")
    record_run(store, "r1", publish_checkpoint=model)
    return {"dataset": dataset, "state": state, "training": training, "model": model,
            "stray": stray}  # fmt: skip


def damaged(store: Store, path: str, name: str, change: Callable[[bytes], bytes]) -> str:
    """Change the blob of a file behind the store's back and return its URI."""
    found = store.look_up(path)
    assert found is not None
    sha256 = found[1].entry(name).sha256
    key = f"blobs/sha256/{sha256[:2]}/{sha256}"
    store.bucket.put(key, change(store.bucket.get(key) or b""))
    return store.bucket.uri(key)


def test_verify_sound_store_reads_everything(store: Store, line: dict[str, ManifestRef]) -> None:
    seen: list[tuple[int, int]] = []
    found = verify(store, on_progress=lambda done, total: seen.append((done, total)))
    assert (found.num_manifests, found.num_records, found.num_blobs) == (5, 2, 6)
    assert found.damages == ()
    assert found.missing_inputs == ()
    assert seen[-1] == (found.num_bytes, found.num_bytes)


@pytest.mark.proves("F43/verified")
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-1] + b"x", "has other bytes"),
        (lambda data: data[:-1], "has another length"),
        (lambda data: data + b"x", "has another length"),
        (lambda data: b"picture", "has another length"),
    ],
    ids=["flip", "truncate", "lengthen", "swap"],
)
def test_verify_damaged_blob_is_named_with_all_its_users(
    store: Store, line: dict[str, ManifestRef], change: Callable[[bytes], bytes], problem: str
) -> None:
    uri = damaged(store, "steps/train/stray", "vae", change)
    (damage,) = verify(store).damages
    assert damage.uri == uri
    assert problem in damage.problem
    assert damage.used_by == ("steps/publish_checkpoint/m", "steps/train/stray")


def test_verify_deleted_blob_is_named(store: Store, line: dict[str, ManifestRef]) -> None:
    entry = store.read(line["model"]).entry("model")
    store.bucket.delete(f"blobs/sha256/{entry.sha256[:2]}/{entry.sha256}")
    (damage,) = verify(store).damages
    assert damage.problem == "is gone"
    assert damage.used_by == ("steps/publish_checkpoint/m",)


def test_verify_damaged_manifest_and_record_are_named_with_their_users(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    for key in ("steps/train/t/manifest.json", "runs/r1/run.json"):
        store.bucket.put(key, (store.bucket.get(key) or b"").replace(b"test", b"tesu")[:-1] + b" }")
    by_uri = {damage.uri: damage for damage in verify(store).damages}
    manifest = by_uri[store.bucket.uri("steps/train/t/manifest.json")]
    assert manifest.used_by == ("steps/publish_checkpoint/m",)
    assert store.bucket.uri("runs/r1/run.json") in by_uri


def test_verify_missing_ledger_entry_is_named(store: Store) -> None:
    for number in (1, 3):
        store.put_record(f"ledger/promotions/{number:06d}.json", {"number": number})
    store.put_record("registry/model/aliases.json", {"number": 4})
    gone = [damage.uri[-11:] for damage in verify(store).damages]
    assert gone == ["000002.json", "000004.json"]


def test_verify_registered_model_that_is_gone_is_named(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    store.put_record("registry/m/x.json", {"ref": line["model"].model_dump()})
    store.forget(line["model"].path)
    (damage,) = verify(store).damages
    assert damage.used_by == ("registry/m/x.json",)


def test_collect_dry_run_names_the_stray_and_deletes_nothing(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    before = set(inventory.objects(store.bucket))
    garbage = collect(store, retention=AT_ONCE)
    assert [item.key for item in garbage.manifests] == ["steps/train/stray/manifest.json"]
    assert len(garbage.blobs) == 1
    assert set(inventory.objects(store.bucket)) == before


def test_collect_deletes_the_stray_and_leaves_what_the_run_needs(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    deleted = collect(store, retention=AT_ONCE, delete=True)
    assert (len(deleted.manifests), len(deleted.blobs)) == (1, 1)
    found = verify(store)
    assert (found.damages, found.missing_inputs, found.num_manifests) == ((), (), 4)
    assert len(collect(store, retention=AT_ONCE)) == 0
    assert not sweeps.current(store).active


def test_collect_within_the_grace_deletes_nothing(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    assert len(collect(store, retention=Retention(grace_seconds=3600), delete=True)) == 0


def test_collect_forgets_old_runs_but_never_a_registered_model(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    other = commit(store, "steps/publish_checkpoint/other", line["training"], model=b"other")
    record_run(store, "r2", created_at=1e9, publish_checkpoint=other)
    record_run(store, "r3", created_at=1e9, publish_checkpoint=line["model"])
    store.put_record("registry/m/x.json", {"ref": line["model"].model_dump(), "version": 1})
    keep = Retention(grace_seconds=-60, runs_seconds=86400)
    deleted = collect(store, retention=keep, delete=True)
    assert {item.key.split("/")[1] for item in deleted.records} == {"r2", "r3"}
    assert store.find(other.path) is None
    assert [store.find(ref.path) for ref in (line["model"], line["training"], line["state"])]
    assert verify(store).damages == ()


def test_collect_keeps_the_states_of_an_unfinished_training(store: Store) -> None:
    parts = {"step": "train", "config": {}, "inputs": []}
    key = digest_of(parts)[:32]
    for states in (key, "0" * 32):
        commit(store, f"training/{states}/step-000002", weights=states.encode())
    record = StepRecord(step="train", status="failed", started_at=0, key_parts=parts)
    write_step(store, "r1", record)
    collect(store, retention=AT_ONCE, delete=True)
    assert store.manifests("training/") == [f"training/{key}/step-000002"]


def test_collect_frees_what_nodes_were_sent_once_the_training_is_committed(store: Store) -> None:
    keys = []
    for run_id, num_steps in (("under-way", 1), ("done", 2)):
        parts = {"step": "train", "config": {"num_steps": num_steps}, "inputs": []}
        keys.append(digest_of(parts)[:32])
        record = StepRecord(step="train", status="running", started_at=0, key_parts=parts)
        write_step(store, run_id, record)
    for key in (*keys, "0" * 32):
        commit(store, f"trainjobs/{key}/job-00aa", picture=b"picture")
        commit(store, f"trainjobs/{key}/result-00aa", curve=key.encode())
        store.put_record(f"trainjobs/{key}/result-00aa/failure-0001.json", {"type": "x"})
    under_way, done = keys
    commit(store, f"steps/train/{done}", curve=done.encode())
    collect(store, retention=Retention(grace_seconds=60), delete=True)
    assert len(store.manifests("trainjobs/")) == 6
    deleted = collect(store, retention=AT_ONCE, delete=True)
    assert [item.key for item in deleted.records] == [
        f"trainjobs/{key}/result-00aa/failure-0001.json" for key in sorted((done, "0" * 32))
    ]
    left = [key for key in store.bucket.keys("trainjobs/") if not key.startswith("blobs/")]
    assert {key.split("/")[1] for key in left} == {under_way}
    assert len(left) == 3
    assert verify(store).damages == ()


def test_collect_keeps_caches_and_folders_it_does_not_know(store: Store) -> None:
    paths = ["evaluations/pictures/x", "new_folder/x", "priors/series/0"]
    for path in paths:
        commit(store, path, file=path.encode())
    assert len(collect(store, retention=AT_ONCE, delete=True)) == 0


def test_collect_with_a_damaged_manifest_deletes_nothing(
    store: Store, line: dict[str, ManifestRef]
) -> None:
    store.bucket.put("steps/train/t/manifest.json", b"{}")
    before = set(inventory.objects(store.bucket))
    with pytest.raises(IntegrityError, match="Nothing is deleted") as caught:
        collect(store, retention=AT_ONCE, delete=True)
    assert "boothline verify" in caught.value.remedy
    assert set(inventory.objects(store.bucket)) == before


def test_collect_beside_another_is_refused(store: Store, line: dict[str, ManifestRef]) -> None:
    sweep = sweeps.begin(store)
    with pytest.raises(ConflictError, match="under way"):
        collect(store, retention=AT_ONCE, delete=True)
    sweeps.end(store, sweep)
    assert len(collect(store, retention=AT_ONCE, delete=True)) == 2


def test_collect_after_a_killed_one_goes_on(
    store: Store, line: dict[str, ManifestRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps.begin(store)
    monkeypatch.setattr(sweeps, "LEASE_SECONDS", 0.0)
    assert len(collect(store, retention=AT_ONCE, delete=True)) == 2
    assert not sweeps.current(store).active


@pytest.mark.store_needs("parts")
def test_collect_aborts_stale_uploads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = store.bucket
    bucket.client._create_multipart_upload(bucket.name, bucket.name_of("blobs/x"), {})
    assert [item.key for item in inventory.unfinished_uploads(bucket)] == ["blobs/x"]
    assert len(collect(store, retention=AT_ONCE, delete=True)) == 0
    monkeypatch.setattr(inventory, "STALE_UPLOAD_SECONDS", -60.0)
    assert len(collect(store, retention=AT_ONCE, delete=True).uploads) == 1
    assert inventory.unfinished_uploads(bucket) == []


def test_commit_of_a_blob_that_a_sweep_takes_meanwhile_stores_it_again(
    store: Store, tmp_path: Path
) -> None:
    commit(store, "steps/a/old", shared=b"shared")
    writer = Interrupted(store.bucket, cache=tmp_path / "cache")
    writer.before_claim = lambda: collect(store, retention=AT_ONCE, delete=True)
    ref = commit(writer, "steps/a/new", shared=b"shared")
    assert writer.read_bytes(ref, "shared") == b"shared"
    assert verify(store).damages == ()


class Interrupted(Store):
    """A store that lets something happen between a commit's uploads and its manifest."""

    before_claim: Callable[[], object]

    def _upload(self, draft, *, on_progress):  # type: ignore[no-untyped-def]
        entries = super()._upload(draft, on_progress=on_progress)
        self.before_claim()
        return entries


def test_undisturbed_since_waits_for_a_sweep_under_way(store: Store) -> None:
    mark = store.sweep_mark()
    assert store.undisturbed_since(mark)
    sweep = sweeps.begin(store)
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 2:
            sweeps.end(store, sweep)

    assert not sweeps.undisturbed_since(store, mark, sleep=sleep)
    assert len(naps) == 2
    assert json.loads(store.bucket.get(layout.CURRENT_SWEEP) or b"")["active"] is False
