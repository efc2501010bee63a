"""Bear and robot in one small model, step by step in this process: the mechanics, not the looks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from sensitivity.lab import in_this_process
from stopping import StopAfter

from boothline.config import RunConfig
from boothline.errors import BoothlineError
from boothline.report import collect, render
from boothline.results import Dataset, Evaluation, Model, Prior, Promotion, Training
from boothline.runs import read_steps
from boothline.settings import Settings
from boothline.steps import execute
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store
from boothline.subjects import parts_of
from boothline.training.batches import Half
from boothline.training.job import TrainingJob
from boothline.training.worker import run_rank

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "subjects"
SUBJECTS = {"teddy-bear": ("sks", "bear"), "toy-robot": ("zwx", "robot")}
NUM_STEPS, BATCH_SIZE = 4, 3
SAMPLING = {"num_steps": 2, "batch_size": 4}


def stopped_early(job: TrainingJob, *, settings: Settings, on_event: Any) -> None:
    """Train in this process until the first report."""
    AcceleratorState._reset_state()
    run_rank(job, settings=settings, requests=StopAfter(1))


@dataclass
class Line:
    """The steps of a run, in this process and on a store in memory."""

    store: Store
    settings: Settings
    config: RunConfig
    run_id: str
    done: dict[str, Any] = field(default_factory=dict)

    def step(self, name: str, **inputs: object) -> str:
        module = import_module(f"boothline.components.{name}.step")
        text = self.config.model_dump_json()
        values = module.Inputs(run_id=self.run_id, config=text, **inputs)
        return execute(module.STEP, values, settings=self.settings)

    def train(self) -> str:
        dataset = self.step("validate_data")
        priors = [self.step("generate_prior", dataset=dataset, shard=n) for n in (0, 1)]
        self.done |= {"dataset": dataset, "priors": priors}
        self.done["training"] = self.step("train", dataset=dataset, priors=priors)
        return self.done["training"]

    def judge(self) -> None:
        done = self.done
        done["model"] = self.step("publish_checkpoint", training=done["training"])
        given = {"model": done["model"], "priors": done["priors"]}
        samples = [self.step("sample_models", **given, shard=n) for n in (0, 1)]
        done["evaluation"] = self.step(
            "evaluate", **given, dataset=done["dataset"], samples=samples
        )
        done["promotion"] = self.step("promote", model=done["model"], evaluation=done["evaluation"])


@dataclass
class Place:
    """Where runs happen.

    Attributes:
        drawn: what each half of a batch took while a run trained: (step, half, subject).
    """

    whole: Line
    drawn: list[tuple[str, int]]


def settings_of(models: dict[str, Path], **subject: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "subject": {"name": "toys", "resolution_px": 32, **subject},
            "base_model": {"source": str(models["base"])},
            "prior": {"num_images": 8, "num_shards": 2, "sampling": SAMPLING},
            "training": {
                "num_steps": NUM_STEPS,
                "batch_size": BATCH_SIZE,
                "num_processes": 1,
                "warmup_steps": 0,
                "sample_every_steps": 0,
                "validation": {"every_steps": 2, "hold_out": 1},
            },
            "checkpoints": {"every_steps": 1},
            "evaluation": {
                "prompts": ["a photo of a {subject}", "a {subject} on the moon"],
                "images_per_prompt": 2,
                "num_shards": 2,
                "num_bootstrap": 100,
                "sampling": SAMPLING,
                "clip_model": str(models["clip"]),
                "dino_model": str(models["dino"]),
            },
            "promotion": {
                "margins": {
                    "min_subject_gain": -2,
                    "max_prompt_loss": 2,
                    "max_prior_loss": 2,
                    "max_diversity_loss": 2,
                }
            },
        }
    )


def several_of(config: RunConfig, **training: Any) -> RunConfig:
    subjects = [
        {
            "name": name,
            "images": str(EXAMPLES / name),
            "identifier": identifier,
            "class_noun": noun,
        }
        for name, (identifier, noun) in SUBJECTS.items()
    ]
    values = config.model_dump(mode="json")
    values["training"] |= training
    return RunConfig.model_validate({**values, "subjects": subjects})


@pytest.fixture(scope="module")
def models(tiny_pipeline: Path, tiny_clip: Path, tiny_dino: Path) -> dict[str, Path]:
    return {"base": tiny_pipeline, "clip": tiny_clip, "dino": tiny_dino}


@pytest.fixture(scope="module")
def place(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A run of both subjects to its verdict."""
    folder = tmp_path_factory.mktemp("several")
    store = memory_store(folder / "blobs")
    settings = Settings(home=folder / "home")
    drawn: list[tuple[str, int]] = []
    take = Half.picture_at

    def noted(half: Half, position: int, *, seed: int) -> int:
        index = take(half, position, seed=seed)
        assert len(half.counts) == 2
        drawn.append((half.name, int(index >= half.counts[0])))
        return index

    with in_this_process(store):
        line = Line(store, settings, several_of(settings_of(models)), "20260101-000000-abcd")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Half, "picture_at", noted)
            line.train()
        line.judge()
        yield Place(whole=line, drawn=drawn)


def test_both_subjects_are_drawn_equally_often_and_in_turn(place: Place) -> None:
    samples = NUM_STEPS * BATCH_SIZE
    for half in ("instance", "prior"):
        subjects = [subject for name, subject in place.drawn if name == half]
        assert subjects == [0, 1] * (samples // 2)
    assert Counter(name for name, _ in place.drawn) == {"instance": samples, "prior": samples}


def test_each_subject_has_the_pictures_of_a_run_of_its_own(place, models) -> None:
    """What is made for one of several is found by a run of it alone, to the manifest."""
    whole = place.whole
    datasets = parts_of(whole.store, whole.done["dataset"])
    priors = [parts_of(whole.store, ref) for ref in whole.done["priors"]]
    assert list(datasets) == list(SUBJECTS)
    config = settings_of(
        models, images=str(EXAMPLES / "toy-robot"), identifier="zwx", class_noun="robot"
    )
    alone = Line(whole.store, whole.settings, config, "20260101-000000-beef")
    dataset = alone.step("validate_data")
    assert dataset == str(datasets["toy-robot"])
    for number, parts in enumerate(priors):
        own = alone.step("generate_prior", dataset=dataset, shard=number)
        assert own == str(parts["toy-robot"])
        assert whole.store.read_as(Prior, own).class_noun == "robot"
    assert all(record.reused for record in read_steps(whole.store, alone.run_id))
    assert whole.store.read_as(Dataset, whole.done["dataset"]).num_images == 10


@pytest.mark.proves("F27/resume")
def test_training_of_two_subjects_stopped_and_resumed_ends_with_the_same_bits(
    place, tmp_path, monkeypatch
) -> None:
    whole = place.whole
    again = memory_store(tmp_path / "blobs")
    line = Line(again, Settings(home=tmp_path), whole.config, "20260101-000000-cafe")
    monkeypatch.setattr(Store, "connect", lambda settings, **_: again)
    with monkeypatch.context() as patch:
        patch.setattr("boothline.components.train.step.train", stopped_early)
        with pytest.raises(BoothlineError, match="stopped after step"):
            line.train()
    states = [path for path in again.manifests("training/") if "step-" in path]
    assert max(int(path[-6:]) for path in states) < NUM_STEPS
    line.train()
    final = [_state_of(one.store, one.done["training"]) for one in (whole, line)]
    digests = [
        {entry.path: entry.sha256 for entry in one.store.read(ref).files}
        for one, ref in zip((whole, line), final, strict=True)
    ]
    assert digests[0] == digests[1]


def _state_of(store: Store, training: str) -> ManifestRef:
    refs = [ManifestRef.parse(text) for text in store.read(training).inputs]
    return next(ref for ref in refs if ref.path.startswith("training/"))


def test_training_names_the_pictures_of_both_subjects(place: Place) -> None:
    whole = place.whole
    inputs = whole.store.read(whole.done["training"]).inputs
    assert whole.done["dataset"] in inputs
    assert set(whole.done["priors"]) <= set(inputs)
    assert whole.store.read_as(Training, whole.done["training"]).num_steps == NUM_STEPS
    words = whole.store.read_as(Model, whole.done["model"]).phrases
    assert words == ("sks bear", "zwx robot")


@pytest.mark.proves("F27/evaluation")
def test_each_subject_is_evaluated_by_itself_and_against_the_other(place: Place) -> None:
    whole = place.whole
    parts = parts_of(whole.store, whole.done["evaluation"])
    assert list(parts) == list(SUBJECTS)
    for name, ref in parts.items():
        found = whole.store.read_as(Evaluation, ref)
        phrase = " ".join(SUBJECTS[name])
        assert found.prompts == (f"a photo of a {phrase}", f"a {phrase} on the moon")
        assert set(found.means()) == {"score", "dino", "clip_i", "clip_t", "div", "pres"}
    together = whole.store.read_as(Evaluation, whole.done["evaluation"])
    each = [whole.store.read_as(Evaluation, ref).means()["dino"] for ref in parts.values()]
    assert together.means()["dino"] == pytest.approx(sum(each) / 2, abs=1e-6)
    confusion = together.confusion
    assert confusion is not None
    assert confusion.subjects == tuple(SUBJECTS)
    for model in ("finetuned", "base"):
        assert [sum(row) for row in confusion.shares[model]] == pytest.approx([1, 1])
    own = [confusion.scores["finetuned"][n][n] for n in (0, 1)]
    assert own == pytest.approx(each, abs=1e-5)


def test_gate_promotes_when_each_passes_and_refuses_when_one_fails(place, monkeypatch) -> None:
    whole = place.whole
    first = whole.store.read_as(Promotion, whole.done["promotion"])
    assert first.promoted
    assert {rule.name.split(".")[0] for rule in first.rules} == set(SUBJECTS)
    parts = parts_of(whole.store, whole.done["evaluation"])
    dinos = [whole.store.read_as(Evaluation, ref).means()["dino"] for ref in parts.values()]
    assert dinos[0] != dinos[1]
    between = sum(dinos) / 2
    values = whole.config.model_dump(mode="json")
    values["promotion"]["rules"] = [{"metric": "dino", "against": "none", "at_least": between}]
    strict = Line(whole.store, whole.settings, RunConfig.model_validate(values), whole.run_id)
    refused = whole.store.read_as(
        Promotion,
        strict.step("promote", model=whole.done["model"], evaluation=whole.done["evaluation"]),
    )
    worse = list(SUBJECTS)[dinos.index(min(dinos))]
    assert not refused.promoted
    broken = [rule.name for rule in refused.rules if not rule.passed]
    assert broken == [f"{worse}.dino_none_mean_floor"]


def test_report_shows_each_subject_and_the_confusion(place: Place) -> None:
    from boothline.runs import open_run

    whole = place.whole
    open_run(whole.store, whole.run_id, whole.config, pipeline="dreambooth")
    page = render(collect(whole.store, whole.run_id))
    assert 'id="confusion"' in page
    for name in SUBJECTS:
        for section in ("scores", "prompts", "subject"):
            assert f'id="{section}-{name}"' in page
        assert f"{name}: Scores" in page
    assert "most like another subject" in page
