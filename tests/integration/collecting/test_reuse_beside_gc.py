"""A step that is reused while a collection takes its result away is made again."""

import pytest

from boothline.settings import Settings
from boothline.steps import Step, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.garbage import Retention, collect
from boothline.store.verification import verify

pytestmark = pytest.mark.services


def test_reused_step_whose_result_is_swept_meanwhile_is_made_again(
    store: Store, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def produce(context, inputs: StepInputs) -> ManifestDraft:  # type: ignore[no-untyped-def]
        made.append(inputs.run_id)
        return ManifestDraft(kind="test", files={"file": b"content"})

    step = Step(
        name="train",
        inputs=StepInputs,
        version=1,
        key=lambda c, i: StepKey(config={}),
        produce=produce,
    )
    execute(step, StepInputs(run_id="r1", config="{}"), settings=store_settings)
    for key in store.bucket.keys("runs/"):
        store.bucket.delete(key)
    find = Store.find

    def find_then_sweep(self: Store, path: str) -> ManifestRef | None:
        found = find(self, path)
        monkeypatch.setattr(Store, "find", find)
        collect(store, retention=Retention(grace_seconds=-60), delete=True)
        return found

    monkeypatch.setattr(Store, "find", find_then_sweep)
    ref = execute(step, StepInputs(run_id="r2", config="{}"), settings=store_settings)
    assert made == ["r1", "r2"]
    assert store.read_bytes(ref, "file") == b"content"
    assert verify(store).damages == ()
