"""Builds a complete run in a real store, with drawn pictures and plausible numbers."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from integration.report.synthetic_results import (
    around,
    draw,
    jsonl,
    scores_of_contenders,
    sheet,
    validation_rows,
)

from boothline.config import RunConfig
from boothline.metering import Usage
from boothline.runs import (
    Failure,
    RunRecord,
    RunStatus,
    StepRecord,
    StepStatus,
    write_run,
    write_step,
)
from boothline.store import ManifestDraft, ManifestRef, Store

RUN_ID = "20261122-093000-1a2b"
CREATED_AT = 1_795_340_000.0
USAGE = Usage(cpu_seconds=12.5, num_gpus=1, cpu_joules=420.0, gpu_joules=5000.0)
NASTY = "<script>alert('x')</script> & \"quotes\""


@dataclass
class SyntheticRun:
    """A run to be committed step by step.

    Attributes:
        store: a real store.
        draw: gives the PNG of (place, likeness).
        champion: whether a champion was evaluated too.
        verdict: of the gate.
        prompts: prompt templates of the evaluation.
        images_per_prompt: pictures per prompt.
        copies: signs of overfitting.
        usage: of every step.
    """

    store: Store
    draw: Callable[[int, float], bytes] = draw
    champion: bool = False
    verdict: str = "promoted"
    prompts: Sequence[str] = RunConfig().evaluation.prompts
    images_per_prompt: int = 4
    num_class_pictures: int = 16
    num_own_class_pictures: int = 0
    copies: dict[str, Any] = field(
        default_factory=lambda: {
            "bound": 0.9,
            "num_images": 16,
            "num_near_copies": 3,
            "expected_share": 1 / 3,
            "warning": False,
        }
    )
    usage: Usage | None = USAGE
    config: RunConfig = field(init=False)
    refs: dict[str, ManifestRef] = field(init=False, default_factory=dict)
    clock: float = field(init=False, default=CREATED_AT)

    def __post_init__(self) -> None:
        values = {
            "subject": {"name": "teddy-bear"},
            "training": {"num_steps": 120},
            "evaluation": {
                "prompts": list(self.prompts),
                "images_per_prompt": self.images_per_prompt,
            },
        }
        self.config = RunConfig.model_validate(values)

    def complete(self) -> str:
        """Commit all steps of a finished run and return its id."""
        for step in (
            self.validate,
            self.prior,
            self.train,
            self.publish,
            self.evaluate,
            self.promote,
            self.infer,
        ):
            step()
        return self.record("refused" if self.verdict == "refused" else "done")

    def record(self, status: RunStatus) -> str:
        """Write the run's record and return its id."""
        write_run(
            self.store,
            RunRecord(
                run_id=RUN_ID,
                status=status,
                config=self.config.model_dump(mode="json"),
                created_at=CREATED_AT,
            ),
        )
        return RUN_ID

    def step(
        self,
        name: str,
        draft: ManifestDraft | None,
        *,
        seconds: float,
        shard: int | None = None,
        reused: bool = False,
        status: StepStatus = "done",
        failure: Failure | None = None,
    ) -> None:
        """Commit a step's result, if any, and write its record."""
        label = name if shard is None else f"{name}-{shard}"
        if draft:
            self.refs[label] = self.store.commit(f"steps/{name}/{label}", draft)
        write_step(
            self.store,
            RUN_ID,
            StepRecord(
                step=name,
                shard=shard,
                status=status,
                reused=reused,
                manifest=str(self.refs[label]) if draft else "",
                started_at=self.clock,
                seconds=seconds,
                failure=failure,
                usage=self.usage,
            ),
        )
        self.clock += seconds

    def validate(self) -> None:
        """Commit a data set of five pictures with one quarantined and one warning."""
        files: dict[str, bytes] = {f"images/{i:03}.png": self.draw(i, 1.0) for i in range(5)}
        files["thumbnails/q000.png"] = self.draw(9, 0.8)
        files["captions.jsonl"] = jsonl(
            [
                {
                    "image": f"images/{i:03}.png",
                    "caption": "a photo of sks bear",
                    "source": f"bear-{i}.jpg",
                }
                for i in range(5)
            ]
        )
        for i in range(self.num_own_class_pictures):
            files[f"class/images/{i:06}.png"] = self.draw(300 + i, 0.1)
        report = {
            "accepted": [
                {
                    "source": f"bear-{i}.jpg",
                    "image": f"images/{i:03}.png",
                    "width_px": 640,
                    "height_px": 480,
                }
                for i in range(5)
            ],
            "quarantined": [
                {
                    "source": "blurred.jpg",
                    "reason": "is blurred or empty: sharpness 12.0, expected 60",
                    "advice": "Take it again with more light.",
                    "thumbnail": "thumbnails/q000.png",
                },
                {
                    "source": f"{NASTY}.jpg",
                    "reason": "is not a picture",
                    "advice": "Remove it.",
                },
            ],
            "warnings": [
                {
                    "source": "bear-3.jpg",
                    "check": "size",
                    "message": "is 58 x 60 px and is enlarged to 64 px",
                    "advice": "Use a larger picture.",
                }
            ],
        }
        files["report.json"] = json.dumps(report).encode()
        metadata = {"num_images": 5, "num_quarantined": 2, "num_warnings": 1, "resolution_px": 64}
        self.step(
            "validate_data",
            ManifestDraft(kind="dataset", files=files, metadata=metadata),
            seconds=2.4,
        )

    def prior(self) -> None:
        """Commit two shards of class pictures."""
        half = self.num_class_pictures // 2
        for shard in (0, 1):
            files = {
                f"images/{i:06}.png": self.draw(100 + i, 0.1)
                for i in range(shard * half, (shard + 1) * half)
            }
            draft = ManifestDraft(
                kind="prior", files=files, metadata={"num_images": half, "class_noun": "bear"}
            )
            self.step("generate_prior", draft, seconds=21.7, shard=shard, reused=shard == 0)

    def train(self) -> None:
        """Commit a loss curve with sample sheets and the training state it ends in."""
        rng = random.Random(7)
        steps = self.config.training.num_steps
        curve = [
            {
                "step": s,
                "instance_loss": 0.05 + 0.16 * math.exp(-s / 35) + rng.uniform(-0.02, 0.02),
                "prior_loss": 0.09 + rng.uniform(-0.025, 0.025),
                "learning_rate": 1e-4,
                "grad_norm": None if s == 3 else 0.8,
            }
            for s in range(1, steps + 1)
        ]
        state = self.store.commit(
            "training/abc/step-000120",
            ManifestDraft(
                kind="training_state",
                files={"state.json": b"{}"},
                inputs=self._inputs("validate_data", "generate_prior-0", "generate_prior-1"),
            ),
        )
        files = {"curve.jsonl": jsonl(curve), "validation.jsonl": jsonl(validation_rows(steps))} | {
            f"samples/step-{s:06}.png": sheet(s / steps) for s in (0, 40, 80, 120)
        }
        draft = ManifestDraft(
            kind="training",
            files=files,
            inputs=(*self._inputs("validate_data", "generate_prior-0", "generate_prior-1"), state),
            metadata={
                "final_state": self.store.read(state).content_digest,
                "num_steps": steps,
                "world_size": 2,
                "num_parameters_trained": 12_345_678,
                "chosen_step": 80,
                "last_step": steps,
            },
        )
        self.step("train", draft, seconds=98.3)

    def publish(self) -> None:
        """Commit a model."""
        files = {
            "diffusers/model_index.json": b"{}",
            "diffusers/unet/weights.safetensors": b"w" * 40_000,
        }
        draft = ManifestDraft(
            kind="model",
            files=files,
            inputs=self._inputs("train"),
            metadata={"model_name": self.config.model_name},
        )
        self.step("publish_checkpoint", draft, seconds=6.1)

    def evaluate(self) -> None:
        """Commit generated pictures and scores of every contender."""
        likeness = {"finetuned": 0.95, "base": 0.05} | ({"champion": 0.7} if self.champion else {})
        files: dict[str, bytes] = {
            f"images/{who}/p{p:02}-s{s:02}.png": self.draw(p + 4 * s, like)
            for who, like in likeness.items()
            for p in range(len(self.prompts))
            for s in range(self.images_per_prompt)
        }
        prompts = [self.config.subject.fill(prompt) for prompt in self.prompts]
        files["scores.jsonl"] = jsonl(self._score_rows(prompts))
        metrics, gains = scores_of_contenders(champion=self.champion)
        metadata = {
            "prompts": prompts,
            "images_per_prompt": self.images_per_prompt,
            "metrics": metrics,
            "gains": gains,
            "real": {"dino": around(0.803, 0.03), "clip_i": around(0.884, 0.02)},
            "champion": "",
            "copies": self.copies,
        }
        draft = ManifestDraft(
            kind="evaluation",
            files=files,
            inputs=self._inputs("publish_checkpoint", "validate_data"),
            metadata=metadata,
        )
        self.step("evaluate", draft, seconds=54.0)

    def _score_rows(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """Return a row for each picture of the fine-tuned model; the first ones are near copies."""
        return [
            {
                "model": "finetuned",
                "image": f"images/finetuned/p{p:02}-s{s:02}.png",
                "prompt": prompt,
                "sample": s,
                "nearest": f"images/{(p + s) % 5:03}.png",
                "nearest_cosine": round(0.93 - 0.01 * (p * self.images_per_prompt + s), 3),
            }
            for p, prompt in enumerate(prompts)
            for s in range(self.images_per_prompt)
        ]

    def promote(self) -> None:
        """Commit the verdict of the gate."""
        passed = self.verdict == "promoted"
        change = -0.014 if passed else -0.121
        rules = [
            {
                "name": "subject_gain",
                "passed": True,
                "value": 0.271,
                "bound": 0.02,
                "text": "Subject fidelity (DINO) gains +0.271 (interval +0.240 to +0.308) over the "
                "base; at least +0.020 is needed: passed.",
            },
            {
                "name": "prompt_loss",
                "passed": passed,
                "value": change,
                "bound": -0.1,
                "text": f"Prompt fidelity (CLIP-T) changes {change} against the base; "
                f"-0.100 or more is needed: {'passed' if passed else 'refused'}.",
            },
            {
                "name": "finite_scores",
                "passed": True,
                "text": "All 24 scores are finite numbers: passed.",
            },
        ]
        metadata = {
            "verdict": self.verdict,
            "rules": rules,
            "model": str(self.refs["publish_checkpoint"]),
            "model_name": self.config.model_name,
            "champion_before": "steps/old@sha256:" + "0" * 64 if self.champion else "",
        }
        draft = ManifestDraft(
            kind="promotion",
            files={},
            inputs=self._inputs("publish_checkpoint", "evaluate"),
            metadata=metadata,
        )
        self.step("promote", draft, seconds=0.9)

    def infer(self) -> None:
        """Commit two shards of batch pictures, one with a hostile prompt."""
        for shard in (0, 1):
            rows = [
                {
                    "image": f"images/{shard * 4 + i:05}-00.png",
                    "prompt": NASTY if shard and not i else f"a photo of sks bear number {i}",
                    "seed": 1000 + i,
                }
                for i in range(4)
            ]
            files: dict[str, bytes] = {
                row["image"]: self.draw(60 + i + 4 * shard, 0.9) for i, row in enumerate(rows)
            }
            files["index.jsonl"] = jsonl(rows)
            draft = ManifestDraft(
                kind="images",
                files=files,
                inputs=self._inputs("publish_checkpoint"),
                metadata={"num_images": 4, "shard": shard, "num_shards": 2},
            )
            self.step("batch_infer", draft, seconds=8.0, shard=shard)

    def _inputs(self, *labels: str) -> tuple[ManifestRef, ...]:
        return tuple(self.refs[label] for label in labels)
