"""A step for several subjects: each part is that of a run of its own, and all are gathered."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.facts import SubjectPart
from boothline.progress import Progress
from boothline.results import Dataset, Prior, parts_in
from boothline.settings import Settings
from boothline.steps import Step, StepContext, StepInputs, StepKey, key_parts
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.store.memory import memory_store
from boothline.subjects import each_subject, part_of, parts_of
from boothline.tracking import MemoryTracker

SUBJECTS = [
    {"name": "bear", "images": "bears", "identifier": "sks", "class_noun": "bear"},
    {"name": "robot", "images": "robots", "identifier": "zwx", "class_noun": "robot"},
]


class Inputs(StepInputs):
    dataset: str
    shard: int = 0


def key(context: StepContext, inputs: Inputs) -> StepKey:
    noun = context.config.subject.class_noun
    return StepKey(config={"noun": noun}, inputs=(ManifestRef.parse(inputs.dataset),))


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    noun = context.config.subject.class_noun
    context.tracker.metrics({"made": 1})
    (context.folder / "scratch").touch()
    prior = Prior(num_images=2, class_noun=noun)
    return prior.draft({"images/0.png": noun.encode()}, inputs=(ManifestRef.parse(inputs.dataset),))


def gather(context: StepContext, parts: Mapping[str, ManifestRef]) -> tuple[Prior, dict[str, Any]]:
    return Prior(num_images=2 * len(parts)), {}


ONE = Step(name="generate_prior", inputs=Inputs, version=1, key=key, produce=produce)
EACH = each_subject(ONE, gather=gather)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path / "blobs")


def context_of(store: Store, folder: Path, *, several: bool) -> StepContext:
    folder.mkdir()
    config = {"subject": {"name": "toys", "images": "bears", "class_noun": "bear"}}
    return StepContext(
        run_id="run",
        config=RunConfig.model_validate({**config, "subjects": SUBJECTS if several else []}),
        settings=Settings(home=folder),
        store=store,
        progress=Progress("generate_prior"),
        tracker=MemoryTracker(),
        folder=folder,
    )


def datasets(store: Store) -> tuple[ManifestRef, dict[str, ManifestRef]]:
    """Commit a dataset of each subject, and one of both."""
    parts = {
        name: store.commit(f"steps/validate_data/{name}", Dataset(class_noun=name).draft())
        for name in ("bear", "robot")
    }
    named = [SubjectPart(subject=n, content=store.read(r).content_digest) for n, r in parts.items()]
    draft = Dataset(num_images=0, parts=tuple(named)).draft(inputs=tuple(parts.values()))
    return store.commit("steps/validate_data/both", draft), parts


@pytest.mark.proves("F27/parts")
def test_parts_of_several_subjects_are_the_results_of_runs_of_their_own(store, tmp_path) -> None:
    whole, parts = datasets(store)
    several = context_of(store, tmp_path / "several", several=True)
    draft = EACH.produce(several, Inputs(run_id="run", config="{}", dataset=str(whole)))
    made = parts_of(store, store.commit("steps/generate_prior/both", draft))
    assert list(made) == ["bear", "robot"]
    alone = context_of(store, tmp_path / "alone", several=False)
    inputs = Inputs(run_id="run", config="{}", dataset=str(parts["bear"]))
    own = layout.key_of(key_parts(ONE, ONE.key(alone, inputs), store))
    assert made["bear"].path == layout.step_result("generate_prior", own)
    assert store.read_bytes(made["robot"], "images/0.png") == b"robot"
    assert several.tracker.logged_metrics == [(0, {"bear/made": 1.0}), (0, {"robot/made": 1.0})]


def test_step_of_one_subject_is_the_step_itself(store, tmp_path) -> None:
    _, parts = datasets(store)
    alone = context_of(store, tmp_path / "alone", several=False)
    inputs = Inputs(run_id="run", config="{}", dataset=str(parts["bear"]))
    assert EACH.key(alone, inputs) == ONE.key(alone, inputs)
    assert EACH.produce(alone, inputs) == ONE.produce(alone, inputs)


def test_key_of_several_subjects_follows_from_the_keys_of_each(store, tmp_path) -> None:
    whole, parts = datasets(store)
    several = context_of(store, tmp_path / "several", several=True)
    found = EACH.key(several, Inputs(run_id="run", config="{}", dataset=str(whole)))
    assert found.config == {"subjects": {"bear": {"noun": "bear"}, "robot": {"noun": "robot"}}}
    assert found.inputs == tuple(parts.values())


def test_part_that_is_there_is_used_and_noted_as_needed(store, tmp_path) -> None:
    whole, _ = datasets(store)
    inputs = Inputs(run_id="run", config="{}", dataset=str(whole))
    needed: list[ManifestRef] = []
    first = context_of(store, tmp_path / "first", several=True)
    again = replace(context_of(store, tmp_path / "again", several=True), needed=needed.append)
    made = EACH.produce(first, inputs)
    assert EACH.produce(again, inputs).inputs == made.inputs
    assert needed == list(made.inputs[:2])
    assert not again.tracker.logged_metrics


def test_content_of_several_follows_from_the_content_of_each(store) -> None:
    whole, parts = datasets(store)
    manifest = store.read(whole)
    assert parts_in(manifest) == parts
    assert [part.content for part in Dataset.of(manifest).parts] == [
        store.read(ref).content_digest for ref in parts.values()
    ]


def test_part_of_a_subject_that_a_result_lacks_is_refused_by_name(store) -> None:
    whole, parts = datasets(store)
    assert part_of(store, whole, "robot") == parts["robot"]
    assert part_of(store, parts["bear"], "robot") == parts["bear"]
    with pytest.raises(DataError, match="nothing of the subject 'cat', but of bear, robot"):
        part_of(store, whole, "cat")
