"""What Kubeflow's page is given to show of a result."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from boothline import settings as environment
from boothline.artifacts import describe
from boothline.results import Dataset, Model, ModelBase, Training
from boothline.store import Store
from boothline.store.memory import memory_store
from boothline.trials import FAILED_TRIAL


@dataclass
class Shown:
    """An artifact as KFP's executor has it."""

    uri: str = "s3://kubeflow/x"
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    store = memory_store(tmp_path)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: store)
    monkeypatch.setenv("BOOTHLINE_BUCKET", "pictures")
    monkeypatch.setenv("BOOTHLINE_PREFIX", "team/")
    environment.current.cache_clear()
    yield store
    environment.current.cache_clear()


@pytest.mark.proves("F54/artifacts")
def test_model_says_base_steps_size_and_what_it_was_made_from(store: Store) -> None:
    data = store.commit("steps/validate_data/d", Dataset(num_images=5).draft())
    training = store.commit("steps/train/t", Training(num_steps=40).draft(inputs=(data,)))
    base = ModelBase(source="base:sd15", digest="e3")
    model = Model(model_name="boothline-dog", method="lora", base_model=base)
    ref = store.commit(
        "steps/publish_checkpoint/m",
        model.draft({"unet/weights": b"1234567"}, inputs=(training, data)),
    )
    shown = Shown()
    describe(shown, str(ref))
    assert shown.uri == "boothline://pictures/team/steps/publish_checkpoint/m"
    assert shown.metadata == {
        "manifest": str(ref),
        "digest": store.read(ref).content_digest,
        "size_bytes": 7,
        "made_from": "steps/train/t, steps/validate_data/d",
        "model_name": "boothline-dog",
        "method": "lora",
        "base_model": "base:sd15",
        "num_steps": 40,
    }


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "made again"])
def test_model_outlives_the_training_that_it_was_made_from(store: Store, again: bool) -> None:
    """A run on a cluster failed here, after its training was made again to the same bits."""
    training = store.commit("steps/train/t", Training(num_steps=40).draft())
    model = Model(model_name="m", method="lora", base_model=ModelBase(source="b", digest="e3"))
    ref = store.commit("steps/publish_checkpoint/m", model.draft(inputs=(training,)))
    store.bucket.delete(f"{training.path}/manifest.json")
    if again:
        store.commit("steps/train/t", Training(num_steps=41).draft())
    shown = Shown()
    describe(shown, str(ref))
    assert shown.metadata["made_from"] == "steps/train/t"
    assert "num_steps" not in shown.metadata


def test_result_of_a_failed_trial_is_left_as_it_is(store: Store) -> None:
    shown = Shown()
    describe(shown, FAILED_TRIAL)
    assert shown == Shown()
