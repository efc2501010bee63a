import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from boothline.components.evaluate import step
from boothline.components.sample_models import step as sample_models
from boothline.config import RunConfig
from boothline.progress import Progress
from boothline.registry.ledger import LedgerEntry, append
from boothline.settings import Settings
from boothline.steps import StepContext, key_parts
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import digest_of, files_under
from boothline.tracking import MemoryTracker

pytestmark = pytest.mark.services

SAMPLING = {"num_steps": 2, "batch_size": 4, "guidance_scale": 2.0}
Evaluate = Callable[..., tuple[ManifestRef, StepContext]]


def _png(folder: Path, name: str, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(array).save(folder / name)
    return folder / name


@pytest.fixture
def config(tiny_pipeline, tiny_clip, tiny_dino) -> RunConfig:
    return RunConfig.model_validate(
        {
            "subject": {"resolution_px": 32},
            "base_model": {"source": str(tiny_pipeline)},
            "prior": {"num_images": 4, "sampling": SAMPLING},
            "evaluation": {
                "prompts": ["a photo of {subject}", "a {subject} on the moon"],
                "images_per_prompt": 2,
                "sampling": SAMPLING,
                "clip_model": str(tiny_clip),
                "dino_model": str(tiny_dino),
                "num_bootstrap": 100,
            },
        }
    )


@pytest.fixture
def dataset(store, tmp_path) -> ManifestRef:
    files = {f"images/{n:03d}.png": _png(tmp_path / "real", f"{n}.png", n) for n in range(3)}
    return store.commit("steps/validate_data/a", ManifestDraft(kind="dataset", files=files))


@pytest.fixture
def prior(store, tmp_path) -> ManifestRef:
    files = {f"images/{n:06d}.png": _png(tmp_path / "prior", f"{n}.png", 50 + n) for n in range(3)}
    return store.commit("steps/generate_prior/a", ManifestDraft(kind="prior", files=files))


def _publish(store: Store, pipeline: Path, name: str, identifier: str = "sks") -> ManifestRef:
    draft = ManifestDraft(
        kind="model",
        files=files_under(pipeline, prefix="diffusers/"),
        metadata={
            "model_name": "boothline-subject",
            "identifier": identifier,
            "class_noun": "bear",
        },
    )
    return store.commit(f"steps/publish_checkpoint/{name}", draft)


@pytest.fixture
def model(store, tmp_path_factory) -> ManifestRef:
    from model_fixtures import make_tiny_pipeline

    return _publish(
        store, make_tiny_pipeline(tmp_path_factory.mktemp("tuned") / "m", seed=1), "tuned"
    )


def _context(config: RunConfig, store: Store, settings: Settings, folder: Path) -> StepContext:
    folder.mkdir(exist_ok=True)
    return StepContext(
        run_id="run",
        config=config,
        settings=settings,
        store=store,
        progress=Progress("evaluate", run_dir=folder),
        tracker=MemoryTracker(),
        folder=folder,
    )


@pytest.fixture
def evaluate(config, store, store_settings, tmp_path) -> Evaluate:
    runs = iter(range(100))

    def run(
        model: ManifestRef, dataset: ManifestRef, *priors: ManifestRef
    ) -> tuple[ManifestRef, StepContext]:
        folder = tmp_path / f"step-{next(runs)}"
        context = _context(config, store, store_settings, folder)
        inputs = step.Inputs(
            run_id="run",
            config="",
            model=str(model),
            dataset=str(dataset),
            priors=[str(ref) for ref in priors],
            samples=[],
        )
        parts = key_parts(step.STEP, step.key(context, inputs), store)
        ref = store.commit(f"steps/evaluate/{digest_of(parts)[:32]}", step.produce(context, inputs))
        return ref, context

    return run


@pytest.mark.proves("F40/protocol")
def test_evaluate_against_base_writes_pictures_scores_and_metadata(
    store, evaluate, model, dataset, prior, monkeypatch, store_settings
):
    ref, context = evaluate(model, dataset, prior)
    manifest = store.read(ref)
    names = [entry.path for entry in manifest.under("images/")]
    assert [n for n in names if "class" not in n] == [
        f"images/{who}/p{p:02d}-s{s:02d}.png"
        for who in ("base", "finetuned")
        for p in (0, 1)
        for s in (0, 1)
    ]
    assert len([n for n in names if n.startswith("images/finetuned-class/")]) == 3
    assert (
        manifest.entry("images/base-class/000001.png").sha256
        == store.read(prior).entry("images/000001.png").sha256
    )
    metadata = manifest.metadata
    assert metadata["prompts"] == ["a photo of sks bear", "a sks bear on the moon"]
    assert metadata["champion"] == ""
    assert "not_judged" not in metadata
    assert set(metadata["metrics"]) == {"finetuned", "base"}
    assert set(metadata["gains"]) == {"base"}
    assert set(metadata["metrics"]["finetuned"]) == {
        "dino",
        "clip_i",
        "clip_t",
        "score",
        "div",
        "pres",
    }
    rows = [json.loads(line) for line in store.read_bytes(ref, "scores.jsonl").splitlines()]
    assert len(rows) == 8
    dino = np.mean([row["dino"] for row in rows if row["model"] == "finetuned"])
    assert metadata["metrics"]["finetuned"]["dino"]["mean"] == pytest.approx(dino, abs=1e-5)
    assert {row["nearest"] for row in rows} <= {f"images/{n:03d}.png" for n in range(3)}
    assert metadata["copies"]["num_images"] == 4
    assert {str(model), str(dataset), str(prior)} <= set(manifest.inputs)
    tracker = context.tracker
    assert isinstance(tracker, MemoryTracker)
    step.ABOUT.show(context, ref)
    assert "metrics/finetuned/dino" in tracker.logged_metrics[0][1]
    sheets = [name for name in tracker.logged_artifacts if name.endswith(".png")]
    assert sheets == ["evaluation/prompt-00.png", "evaluation/prompt-01.png"]
    assert "evaluation_pictures.json" in tracker.logged_artifacts
    events = (context.folder / "events" / "evaluate.jsonl").read_text().splitlines()
    last = json.loads(events[-1])
    assert last["done"] == last["total"] == 2 * (4 + 3)
    notes = [json.loads(event)["note"] for event in events]
    assert notes[0] == "finding pictures, loading models"
    assert notes[-4:] == [
        "loading the encoders",
        "encoding the pictures of the fine-tuned model",
        "encoding the pictures of the base model",
        "computing intervals",
    ]
    monkeypatch.setattr(step.environment, "current", lambda: store_settings)
    means = step.means(str(ref))
    assert means["dino"] == metadata["metrics"]["finetuned"]["dino"]["mean"]
    assert means["dino_gain"] == metadata["gains"]["base"]["dino"]["mean"]


@pytest.mark.proves("F51/judges")
def test_evaluate_by_encoders_that_cannot_see_the_base_says_not_judged(
    store, evaluate, model, dataset, prior, monkeypatch
):
    from boothline.config.promotion import PromotionConfig
    from boothline.registry.gate import judge
    from boothline.results import Evaluation

    monkeypatch.setattr(step, "native_px_of", lambda folder, family: 512)
    ref, _ = evaluate(model, dataset, prior)
    evaluation = store.read_as(Evaluation, ref)
    assert "evaluation.dino_model" in evaluation.not_judged
    assert "cannot judge those of 512 px" in evaluation.not_judged
    verdict = judge(evaluation, PromotionConfig())
    assert not verdict.promoted
    assert verdict.reasons[0].startswith("Not judged: ")


def test_evaluate_twice_samples_once_and_gives_equal_content(
    store, evaluate, model, dataset, prior, monkeypatch
):
    first, _ = evaluate(model, dataset, prior)
    content = store.read(first).content_digest
    store.forget(first.path)
    monkeypatch.setattr(
        "boothline.evaluation.contenders.generate", lambda *arguments: pytest.fail("sampled again")
    )
    second, _ = evaluate(model, dataset, prior)
    assert store.read(second).content_digest == content


@pytest.mark.proves("F45/paired")
def test_evaluate_base_model_itself_gains_nothing(store, evaluate, tiny_pipeline, dataset):
    ref, _ = evaluate(_publish(store, tiny_pipeline, "same"), dataset)
    metadata = store.read(ref).metadata
    for gain in metadata["gains"]["base"].values():
        assert gain == {"mean": 0.0, "low": 0.0, "high": 0.0}
    for metric in ("dino", "pres", "clip_t"):
        assert metadata["metrics"]["base"][metric] == metadata["metrics"]["finetuned"][metric]


def test_evaluate_against_champion_asks_it_by_its_own_identifier(
    store, evaluate, model, tiny_pipeline, dataset
):
    champion = _publish(store, tiny_pipeline, "champion", identifier="zwx")
    entry = LedgerEntry(
        number=1,
        action="promote",
        model_name="boothline-subject",
        version=1,
        ref=champion,
        reason="",
        actor="test",
    )
    append(store, entry)
    ref, _ = evaluate(model, dataset)
    manifest = store.read(ref)
    assert manifest.metadata["champion"] == str(champion)
    assert set(manifest.metadata["gains"]) == {"base", "champion"}
    rows = [json.loads(line) for line in store.read_bytes(ref, "scores.jsonl").splitlines()]
    assert {r["prompt"] for r in rows if r["model"] == "champion"} == {
        "a photo of zwx bear",
        "a zwx bear on the moon",
    }
    assert str(champion) in manifest.inputs


def test_evaluate_key_follows_champion_and_prompts(store, evaluate, model, dataset, tiny_pipeline):
    before, _ = evaluate(model, dataset)
    champion = _publish(store, tiny_pipeline, "champion")
    append(
        store,
        LedgerEntry(
            number=1,
            action="promote",
            model_name="boothline-subject",
            version=1,
            ref=champion,
            reason="",
            actor="test",
        ),
    )
    after, _ = evaluate(model, dataset)
    assert after.path != before.path


def test_evaluate_key_follows_the_prompts_not_where_they_are_named(
    config, store, store_settings, model, dataset, tmp_path
):
    def key(**changes: object) -> object:
        values = config.model_dump(mode="json")
        values["evaluation"] |= changes
        context = StepContext(
            run_id="run",
            config=RunConfig.model_validate(values),
            settings=store_settings,
            store=store,
            progress=Progress("evaluate"),
            tracker=MemoryTracker(),
            folder=tmp_path,
        )
        inputs = step.Inputs(
            run_id="run", config="", model=str(model), dataset=str(dataset), priors=[], samples=[]
        )
        return step.key(context, inputs)

    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(config.evaluation.prompts))
    assert key(prompt_set="file", prompts_file=str(path)) == key()
    assert key(prompt_set="tiny") != key()
    path.write_text("a {subject} elsewhere")
    assert key(prompt_set="file", prompts_file=str(path)) != key()


@pytest.fixture
def sample_shard(config, store, store_settings, tmp_path, model, prior):
    """Sample one of two shards of small batches; returns its manifest draft."""
    values = config.model_dump(mode="json")
    values["evaluation"] |= {"num_shards": 2}
    values["evaluation"]["sampling"] |= {"batch_size": 2}
    sharded = RunConfig.model_validate(values)

    def run(shard: int, config: RunConfig = sharded) -> ManifestDraft:
        inputs = sample_models.Inputs(
            run_id="run", config="", model=str(model), priors=[str(prior)], shard=shard
        )
        context = _context(config, store, store_settings, tmp_path / f"shard-{shard}")
        assert key_parts(sample_models.STEP, sample_models.key(context, inputs), store)
        return sample_models.produce(context, inputs)

    run.config = sharded
    return run


def test_sample_models_in_shards_leaves_the_evaluation_nothing_to_sample(
    store, store_settings, sample_shard, model, dataset, prior, tmp_path, monkeypatch
):
    drafts = [sample_shard(number) for number in (0, 1)]
    names = [set(draft.files) for draft in drafts]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 4 + 4 + 3
    monkeypatch.setattr(
        "boothline.evaluation.contenders.generate", lambda *arguments: pytest.fail("sampled again")
    )
    inputs = step.Inputs(
        run_id="run",
        config="",
        model=str(model),
        dataset=str(dataset),
        priors=[str(prior)],
        samples=["shards"],
    )
    context = _context(sample_shard.config, store, store_settings, tmp_path / "evaluate")
    judged = step.produce(context, inputs)
    assert names[0] | names[1] < set(judged.files)


def test_sample_models_killed_goes_on_after_its_last_batch(sample_shard, monkeypatch):
    from boothline.evaluation import contenders

    batches: list[object] = []
    whole = contenders.generate

    def dying(pipeline, pictures):
        batches.append(pictures)
        if len(batches) == 2:
            raise KeyboardInterrupt
        return whole(pipeline, pictures)

    monkeypatch.setattr(contenders, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        sample_shard(0)
    sample_shard(0)
    assert batches[1] == batches[2]
    assert len(batches) == 3


def test_sample_models_of_one_shard_leaves_all_to_the_evaluation(sample_shard, config):
    draft = sample_shard(0, config)
    assert (draft.files, draft.inputs, draft.metadata["num_images"]) == ({}, (), 0)
