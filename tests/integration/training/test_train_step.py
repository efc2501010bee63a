"""The step: what its key depends on, and a training from manifests to a manifest."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from boothline.components.train import step
from boothline.config import RunConfig
from boothline.errors import DataError
from boothline.progress import Progress, read_events
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import ManifestDraft, Store
from boothline.store.manifest import files_under
from boothline.tracking import MemoryTracker

pytestmark = pytest.mark.services

SIDE_PX = 32
Contexts = Callable[..., StepContext]


def commit_pictures(
    store: Store, folder: Path, path: str, *, numbers: list[int], caption: str, kind: str
) -> str:
    """Commit random pictures, named by their number, and return the reference."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in numbers:
        name = f"images/{number:06d}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        rows.append(json.dumps({"image": name, "caption": caption, "index": number}) + "\n")
    (folder / "captions.jsonl").write_text("".join(rows))
    return str(store.commit(path, ManifestDraft(kind=kind, files=dict(files_under(folder)))))


@pytest.fixture
def dataset(store: Store, tmp_path: Path) -> str:
    return commit_pictures(
        store, tmp_path / "d", "steps/d/1", numbers=[0, 1, 2], caption="sks dog", kind="dataset"
    )


@pytest.fixture
def prior(store: Store, tmp_path: Path) -> Callable[[list[int]], str]:
    def commit(numbers: list[int]) -> str:
        name = "-".join(map(str, numbers)) or "empty"
        return commit_pictures(
            store,
            tmp_path / f"p{name}",
            f"steps/p/{name}",
            numbers=numbers,
            caption="a dog",
            kind="prior",
        )

    return commit


@pytest.fixture
def context(
    store: Store, store_settings: Settings, tiny_pipeline: Path, tmp_path: Path
) -> Contexts:
    def make(**config: Any) -> StepContext:
        folder = tmp_path / "scratch"
        folder.mkdir(exist_ok=True)
        sections = {
            "subject": {"resolution_px": SIDE_PX, "class_noun": "dog"},
            "base_model": {"source": str(tiny_pipeline)},
            "training": {"num_steps": 3, "num_processes": 1, "warmup_steps": 0},
            "checkpoints": {"every_steps": 2},
            "evaluation": {"prompts": ["a {subject}"], "sampling": {"num_steps": 1}},
        }
        for name, values in config.items():
            sections[name] = {**sections.get(name, {}), **values}
        return StepContext(
            run_id="run",
            config=RunConfig.model_validate(sections),
            settings=store_settings,
            store=store,
            progress=Progress("train", run_dir=tmp_path / "run", min_interval_seconds=0),
            tracker=MemoryTracker(),
            folder=folder,
            manifest_path="steps/train/thekey",
            key_config={"training": RunConfig.model_validate(sections).training.model_dump()},
        )

    return make


def inputs(dataset: str, *priors: str) -> step.Inputs:
    return step.Inputs(run_id="run", config="{}", dataset=dataset, priors=list(priors))


@pytest.mark.parametrize(("gpus", "processes", "ranks"), [(2, None, 2), (0, None, 1), (2, 4, 4)])
def test_key_made_elsewhere_counts_the_ranks_of_the_pod_that_trains(
    context: Contexts, dataset: str, gpus: int, processes: int | None, ranks: int
) -> None:
    here = context(training={"batch_size": 4, "num_processes": None})
    there = {"train_gpus": gpus, "num_processes": processes}
    told = replace(here, settings=here.settings.model_copy(update=there))
    assert step.key(told, inputs(dataset)).config["world_size"] == ranks


def test_key_does_not_depend_on_the_cut_of_the_prior(
    context: Contexts, dataset: str, prior: Callable[[list[int]], str]
) -> None:
    whole = step.key(context(), inputs(dataset, prior([0, 1, 2, 3])))
    cut = step.key(context(), inputs(dataset, prior([0, 1]), prior([2, 3]), prior([])))
    fewer = step.key(context(), inputs(dataset, prior([0, 1, 2])))
    assert whole == cut
    assert whole != fewer


def test_key_without_prior_preservation_ignores_the_prior(
    context: Contexts, dataset: str, prior: Callable[[list[int]], str]
) -> None:
    plain = context(prior={"enabled": False})
    assert step.key(plain, inputs(dataset)) == step.key(plain, inputs(dataset, prior([0])))


@pytest.fixture
def dataset_with_own(store: Store, tmp_path: Path) -> str:
    """A dataset with class pictures of its own."""
    folder = tmp_path / "o"
    for name, numbers in (("", [0, 1, 2]), ("class", [7, 8])):
        commit_pictures(
            store, folder / name, f"steps/x/{name or 'own'}", numbers=numbers,
            caption=name or "sks dog", kind="dataset",
        )  # fmt: skip
    files = dict(files_under(folder))
    return str(store.commit("steps/d/own", ManifestDraft(kind="dataset", files=files)))


def test_job_takes_class_pictures_of_ones_own_and_those_sampled_to_fill(
    context: Contexts, dataset_with_own: str, prior: Callable[[list[int]], str]
) -> None:
    from boothline.training.pictures import read_pictures

    empty = prior([])
    job = step._job(context(), inputs(dataset_with_own, prior([0]), empty))
    found = read_pictures(job.pictures[0].priors)
    own = [("000007.png", "class"), ("000008.png", "class")]
    assert [(p.path.name, p.caption) for p in found] == [("000000.png", "a dog"), *own]
    assert all(picture.path.is_file() for picture in found)
    assert len(read_pictures([job.pictures[0].instance])) == 3
    alone = step._job(context(), inputs(dataset_with_own, empty))
    assert [(p.path.name, p.caption) for p in read_pictures(alone.pictures[0].priors)] == own
    off = context(prior={"enabled": False})
    assert step._job(off, inputs(dataset_with_own)).pictures[0].priors == ()


def test_key_depends_on_class_pictures_of_ones_own_and_on_those_sampled_to_fill(
    context: Contexts, dataset_with_own: str, dataset: str, prior: Callable[[list[int]], str]
) -> None:
    def digest(dataset: str, *priors: str) -> object:
        return step.key(context(), inputs(dataset, *priors)).config["prior_pictures"]

    none, first, second, both = prior([]), prior([0]), prior([1]), prior([0, 1])
    own = [digest(dataset_with_own, ref) for ref in (none, first, second, both)]
    sampled = [digest(dataset, first), digest(dataset, second)]
    assert len({*own, *sampled}) == 6
    assert digest(dataset_with_own, first, second) == own[-1]
    assert digest(dataset_with_own) == own[0]


def test_produce_without_class_images_says_so(
    context: Contexts, dataset: str, prior: Callable[[list[int]], str]
) -> None:
    with pytest.raises(DataError, match="class prior holds no picture"):
        step.produce(context(), inputs(dataset, prior([])))


def test_key_depends_on_the_encoders_only_where_they_validate(
    context: Contexts, dataset: str, tiny_clip: Path, tiny_dino: Path
) -> None:
    encoders = {"clip_model": str(tiny_clip), "dino_model": str(tiny_dino)}
    plain = {"prior": {"enabled": False}, "training": {"validation": {"every_steps": 2}}}
    off = {"prior": {"enabled": False}}
    key = step.key(context(**plain, evaluation=encoders), inputs(dataset))
    swapped = {"clip_model": str(tiny_dino), "dino_model": str(tiny_clip)}
    assert step.key(context(**plain, evaluation=swapped), inputs(dataset)) != key
    assert step.key(context(**off, evaluation=swapped), inputs(dataset)) == step.key(
        context(**off, evaluation=encoders), inputs(dataset)
    )


@pytest.mark.proves("F02/logged", "F07/training")
def test_produce_trains_and_reports(
    context: Contexts,
    dataset: str,
    prior: Callable[[list[int]], str],
    tmp_path: Path,
    store: Store,
    tiny_clip: Path,
    tiny_dino: Path,
) -> None:
    here = context(
        training={"validation": {"every_steps": 2}},
        evaluation={"clip_model": str(tiny_clip), "dino_model": str(tiny_dino)},
    )
    draft = step.produce(here, inputs(dataset, prior([0, 1]), prior([2])))
    sheets = {f"samples/step-00000{number}.png" for number in (2, 3)}
    assert set(draft.files) == {"curve.jsonl", "validation.jsonl", *sheets}
    assert (draft.metadata["chosen_step"], draft.metadata["last_step"]) == (3, 3)
    assert draft.metadata["num_steps"] == 3
    state = store.read(draft.inputs[-1])
    assert state.metadata["step"] == 3
    assert draft.metadata["final_state"] == state.content_digest
    assert draft.inputs[-1].path == "training/thekey/step-000003"
    assert str(draft.inputs[0]) == dataset
    tracker = here.tracker
    assert isinstance(tracker, MemoryTracker)
    logged = [(number, set(values)) for number, values in tracker.logged_metrics]
    trained = [entry for entry in logged if "prior_loss" in entry[1]]
    assert [number for number, _ in trained] == [1, 2, 3]
    names = {"instance_loss", "prior_loss", "learning_rate", "grad_norm", "images_per_second"}
    assert all(values == names for _, values in trained)
    judged = {f"validation_{name}" for name in ("instance_loss", "subject", "prompt", "score")}
    assert [e for e in logged if "validation_score" in e[1]] == [(2, judged), (3, judged)]
    assert set(tracker.logged_artifacts) == {*sheets, "inputs.png"}
    assert tracker.logged_params["training.num_steps"] == 3
    assert tracker.logged_params["training.learning_rate"] == here.config.training.learning_rate
    last = read_events(tmp_path / "run")[-1]
    assert (last.done, last.total, last.unit) == (3, 3, "steps")
