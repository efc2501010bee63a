"""Writes down the key of every step for three configurations, so that a change of one is seen.

A key decides what a store full of results is still good for. The inputs are made up here and never
change, and of the version only the step's own number counts: a release changes every key, on
purpose, but none of these.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from boothline.catalogue import steps
from boothline.config import RunConfig
from boothline.config.loading import resolve
from boothline.launch.compile import GOLDENS
from boothline.progress import Progress
from boothline.settings import Settings
from boothline.steps import StepContext, key_parts
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.store.memory import memory_store
from boothline.tracking import MemoryTracker

STEP_KEYS = GOLDENS / "step_keys.json"
RUN_ID = "20260101-000000-abcd"
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "demo": ("training.num_processes=2",),
    "adapters, buckets and validation": (
        "training.num_processes=2",
        "training.method=lora",
        "training.lora.rank=4",
        "training.lora.dora=true",
        "training.ema_decay=0.99",
        "training.noise_offset=0.05",
        "training.random_crops=2",
        "training.caption_templates=['a photo of {subject}', '{caption} in snow']",
        "training.validation={every_steps: 50, hold_out: 1, choose: best, patience: 3}",
        "subject.aspect_buckets=['64x64', '96x64']",
        "evaluation.prompt_set=tiny",
        "inference.grid_columns=4",
        "promotion.rules=[{metric: clip_t, against: champion, statistic: low, at_least: -0.02}]",
    ),
    "sweep and retraining in shards": (
        "sweep.trials=[{training.learning_rate: 2.5e-4}, {prior.weight: 0.5}]",
        "retrain={max_champion_age_days: 30, min_champion_score: 0.4}",
        "evaluation.num_shards=3",
        "inference.num_shards=3",
        "prior.num_shards=4",
        "training.num_processes=4",
        "training.optimizer=adafactor",
        "checkpoints.every_steps=50",  # from here on: plain DreamBooth, as the demo once was
        "prior.sampling.num_steps=20",
        "promotion.margins={max_prompt_loss: 0.2, statistic: mean}",
        "training.horizontal_flip=false",
        "training.learning_rate=4.5e-4",
        "training.num_steps=200",
        "training.sample_every_steps=50",
        "training.text_encoder_learning_rate=1.0e-4",
        "training.token_embedding={enabled: false, learning_rate: 5.0e-4}",
        "training.train_text_encoder=true",
    ),
}
"""Settings over those of examples/demo.yaml, by the name of the configuration."""

_DEMO = Path(__file__).resolve().parents[1] / "examples" / "demo.yaml"
_PICTURES = "subject.images=examples/subjects/teddy-bear"  # below the folder of each test
_MODELS = ("tiny-emoji-sd", "tiny-emoji-clip", "tiny-emoji-dino")
# Who wrote a manifest, and when, is in the digest of its reference.
_REFERENCE = re.compile(r"@sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """Manifests that the steps read, made up."""

    dataset: str
    prior: str
    training: str
    model: str
    evaluation: str


def step_keys() -> dict[str, dict[str, Any]]:
    """Return key and parts of every step, by configuration and by step."""
    return {
        name: dict(_keys_of(resolve([_DEMO], (*overrides, _PICTURES))))
        for name, overrides in CONFIGURATIONS.items()
    }


def as_json(keys: Mapping[str, Mapping[str, Any]]) -> str:
    """Return keys as they stand in the golden file."""
    return json.dumps(keys, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the golden file."""
    STEP_KEYS.write_text(as_json(step_keys()), encoding="utf-8")


def _keys_of(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """Yield each step with its key and what the key digests."""
    with TemporaryDirectory(prefix="boothline-keys-") as name, contextlib.chdir(name):
        folder = Path(name)
        _write_sources(folder, config)
        store = memory_store(folder / "blobs")
        inputs = _commit_inputs(store)
        settings = Settings(home=folder / "home", models_dir=folder / "models", num_processes=None)
        for step in (one.name for one in steps()):
            scratch = folder / step
            scratch.mkdir()
            context = StepContext(
                run_id=RUN_ID,
                config=config,
                settings=settings,
                store=store,
                progress=Progress(step),
                tracker=MemoryTracker(),
                folder=scratch,
            )
            parts = _parts_of(step, context, inputs)
            yield step, {"key": layout.key_of(parts), "parts": parts}


def _parts_of(step: str, context: StepContext, inputs: _Inputs) -> dict[str, Any]:
    """Return what the key of a step digests, without what differs from time to time."""
    module = import_module(f"boothline.components.{step}.step")
    given = {
        "dataset": inputs.dataset,
        "priors": [inputs.prior],
        "training": inputs.training,
        "model": inputs.model,
        "evaluation": inputs.evaluation,
        "models": [inputs.model] * 2,
        "evaluations": [inputs.evaluation] * 2,
        "samples": [],
        "shard": 1,
    }
    wanted = {name: given[name] for name in module.Inputs.model_fields if name in given}
    values = module.Inputs(run_id=RUN_ID, config="{}", **wanted)
    parts = key_parts(module.STEP, module.key(context, values), context.store)
    parts["version"] = str(module.STEP.version)
    cleaned: dict[str, Any] = json.loads(_REFERENCE.sub("", json.dumps(parts)))
    return cleaned


def _write_sources(folder: Path, config: RunConfig) -> None:
    """Write the models and pictures that a configuration names; only their bytes count here."""
    pictures = folder / config.subject.images
    pictures.mkdir(parents=True)
    for number in range(3):
        (pictures / f"{number}.png").write_bytes(b"picture %d" % number)
    (pictures / "0.txt").write_text("a photo of {subject} on grass")
    for model in _MODELS:
        tokenizer = folder / "models" / model / "tokenizer"
        tokenizer.mkdir(parents=True)
        (tokenizer.parent / "model_index.json").write_text(json.dumps({"name": model}))
        (tokenizer / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
        (tokenizer / "merges.txt").write_text("#version: 0.2\n")


def _commit_inputs(store: Store) -> _Inputs:
    """Commit manifests of every kind that a step reads."""
    words = {"identifier": "sks", "class_noun": "bear"}
    images = {"images/000000.png": b"a picture", "images/000001.png": b"another"}
    captions = b'{"image": "images/000000.png", "caption": "a bear"}\n'

    def commit(kind: str, *inputs: ManifestRef, **metadata: object) -> ManifestRef:
        draft = ManifestDraft(
            kind=kind,
            files={**images, "captions.jsonl": captions},
            inputs=inputs,
            metadata=metadata,
        )
        return store.commit(f"steps/{kind}/golden", draft)

    dataset, prior = commit("dataset", **words), commit("prior", series="golden")
    training = commit("training", dataset, num_steps=200)
    model = commit("model", training, **words)
    evaluation = commit("evaluation", model, metrics={"finetuned": {"score": {"mean": 0.5}}})
    return _Inputs(
        dataset=str(dataset),
        prior=str(prior),
        training=str(training),
        model=str(model),
        evaluation=str(evaluation),
    )


if __name__ == "__main__":
    main()
