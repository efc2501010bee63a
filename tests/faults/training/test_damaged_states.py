"""Training states that were damaged: all of it is found, and at most one state is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from boothline.settings import Settings
from boothline.store import ManifestDraft, Store, layout
from boothline.store.verification import verify
from boothline.training.job import TrainingJob
from boothline.training.state_store import StateStore

pytestmark = [pytest.mark.services, pytest.mark.faults]

STEPS = (2, 4, 6)
FILES = ("unet.safetensors", "optimizer.safetensors", "state.json")
Note = Callable[[str, str], None]
Change = Callable[[dict[str, bytes], str, str], bytes | None]


def content(name: str, step: int) -> bytes:
    return f"{name} after step {step}".encode() * 40


def flip(objects: dict[str, bytes], key: str, older: str) -> bytes:
    data = bytearray(objects[key])
    data[len(data) // 2] ^= 1
    return bytes(data)


CHANGES: dict[str, Change] = {
    "flip": flip,
    "truncate": lambda objects, key, older: objects[key][:-1],
    "delete": lambda objects, key, older: None,
    "swap": lambda objects, key, older: next(
        data for other, data in objects.items() if other != key and other[:5] == key[:5]
    ),
    "replay": lambda objects, key, older: objects[older],
}


@pytest.fixture
def job(tmp_path: Path, tiny_pipeline: Path) -> TrainingJob:
    return TrainingJob.model_validate(
        {
            "config": {"prior": {"enabled": False}, "training": {"num_processes": 1}},
            "world_size": 1, "base_model": tiny_pipeline, "base_model_digest": "tiny",
            "pictures": [{"instance": tmp_path}], "data_digest": "data", "states": "training/job",
            "folder": tmp_path / "job",
        }
    )  # fmt: skip


def newest(settings: Settings, job: TrainingJob, folder: Path) -> int:
    """Return the step of the state that a new process would resume from, its files checked."""
    own = job.model_copy(update={"folder": folder / "job"})
    states = StateStore(
        Store.connect(settings.model_copy(update={"home": folder / "home"})), job=own
    )
    try:
        found = states.newest()
    finally:
        states.close()
    assert found is not None
    for name in FILES:
        assert (own.state_folder(found.step) / name).read_bytes() == content(name, found.step)
    return found.step


def test_damage_to_any_object_of_the_newest_state_is_found(
    store: Store, store_settings: Settings, job: TrainingJob, tmp_path: Path, measured: Note
) -> None:
    refs = {}
    for step in STEPS:
        files = {name: content(name, step) for name in FILES}
        draft = ManifestDraft(kind="training_state", files=dict(files), metadata={"step": step})
        refs[step] = store.commit(job.state_path(step), draft)
    store.commit(
        "steps/train/job", ManifestDraft(kind="training", files={}, inputs=(refs[STEPS[-1]],))
    )
    assert newest(store_settings, job, tmp_path / "sound") == STEPS[-1]
    objects = {key: store.bucket.get(key) or b"" for key in store.bucket.keys("")}
    entries = {step: {e.path: layout.blob(e.sha256) for e in store.read(refs[step]).files}
               for step in STEPS}  # fmt: skip
    targets = {entries[6][name]: entries[4][name] for name in FILES}
    targets["training/job/step-000006/manifest.json"] = "training/job/step-000004/manifest.json"
    num_cases, lost = 0, []
    for key, older in targets.items():
        for how, change in CHANGES.items():
            changed = change(objects, key, older)
            store.bucket.delete(key)
            if changed is not None:
                store.bucket.put(key, changed)
            found = verify(store)
            assert found.damages or found.missing_inputs, (key, how)
            lost.append(STEPS[-1] - newest(store_settings, job, tmp_path / f"{num_cases}"))
            num_cases += 1
            for other in ("training/job/step-000006/manifest.json", key):
                store.bucket.put(other, objects[other])
    num_states_lost = max(lost) // (STEPS[-1] - STEPS[-2])
    assert num_states_lost == 1
    assert min(lost) > 0
    assert verify(store).damages == ()
    measured(
        "damaged objects",
        f"{num_cases} of {len(targets) * len(CHANGES)} cases found, {num_states_lost} state lost at"
        " most",
    )
