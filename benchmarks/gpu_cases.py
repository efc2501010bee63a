"""The trainings of `make bench-gpu`: equal settings for ours and for diffusers' scripts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.random_models import Size, family_named
from benchmarks.training_task import CLASS_PROMPT, INSTANCE_PROMPT
from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig, SamplingPrecision
from boothline.config.training import ATTENTION
from boothline.diffusion.families.flow import TEXT_ATTENTION
from boothline.planning.shapes import PUBLISHED
from boothline.training.job import SubjectFolders, TrainingJob

NUM_PRIOR: Final = 8
ENDLESS: Final = 1_000_000
_RANK: Final = 8
_SCRIPTS: Final = Path("examples/dreambooth")
_TOY_PX: Final = 32


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training of a model, and whether it samples too.

    Attributes:
        key: the model, of `PUBLISHED`.
        method: all weights of the denoiser, or adapters of its attention.
        side_px: side of the pictures.
        batch_size: instance pictures a step; as many class pictures.
        checkpointing: recompute in the backward pass.
        script: of diffusers.
        settings: what this script is told besides.
        samples: pictures that are sampled together; 0: none are.
        sampling_steps: of each picture.
    """

    key: str
    method: Literal["full", "lora"]
    side_px: int
    batch_size: int
    checkpointing: bool
    script: str
    settings: Mapping[str, object] = field(default_factory=dict)
    samples: int = 0
    sampling_steps: int = 20

    @property
    def name(self) -> str:
        """The model's name."""
        return PUBLISHED[self.key].name

    @property
    def training(self) -> str:
        """The training in words."""
        recomputing = ", checkpointing" if self.checkpointing else ""
        halves = f"{self.batch_size} + {self.batch_size}"
        return f"train {self.method}, {self.side_px} px, {halves}, bf16{recomputing}"

    def sampling(self, precision: SamplingPrecision) -> SamplingConfig:
        """Return how pictures are sampled, by both sides."""
        return SamplingConfig(
            sampler="dpmpp_2m",
            num_steps=self.sampling_steps,
            guidance_scale=7.5,
            batch_size=self.samples,
            precision=precision,
        )


CASES: Final = (
    Case(
        key="sd15",
        method="full",
        side_px=512,
        batch_size=4,
        checkpointing=False,
        script="train_dreambooth.py",
        samples=8,
    ),
    Case(
        key="sdxl",
        method="lora",
        side_px=1024,
        batch_size=1,
        checkpointing=True,
        script="train_dreambooth_lora_sdxl.py",
        settings={"rank": _RANK},
        samples=4,
    ),
    Case(
        key="flux",
        method="lora",
        side_px=1024,
        batch_size=1,
        checkpointing=True,
        script="train_dreambooth_lora_flux.py",
        settings={
            "rank": _RANK,
            "lora_alpha": _RANK,
            "lora_layers": ",".join((*ATTENTION, *TEXT_ATTENTION)),
            "weighting_scheme": "none",
        },
    ),
)


def cases(size: Size) -> tuple[Case, ...]:
    """Return the trainings at their own size, or with tiny pictures for tiny models."""
    if size == "full":
        return CASES
    return tuple(
        replace(case, side_px=_TOY_PX, batch_size=1, sampling_steps=2, samples=min(case.samples, 2))
        for case in CASES
    )


def job_of(case: Case, *, model: Path, pictures: Path, folder: Path) -> TrainingJob:
    """Return a training of ours that does not end by itself.

    Args:
        case: what is trained.
        model: its folder.
        pictures: folder from `draw_pictures`.
        folder: receives the job's files.
    """
    return TrainingJob(
        config=_config(case),
        world_size=1,
        base_model=model,
        base_model_digest="benchmark",
        pictures=(SubjectFolders(instance=pictures / "instance", priors=(pictures / "prior",)),),
        data_digest="benchmark",
        states="training/benchmark",
        folder=folder,
    )


def _config(case: Case) -> RunConfig:
    family = family_named(case.key)
    adapted = case.method == "lora"
    training: dict[str, Any] = {
        "method": case.method,
        "lora": {"rank": _RANK, "alpha": _RANK},
        "num_steps": ENDLESS,
        "batch_size": case.batch_size,
        "num_processes": 1,
        "precision": "bf16",
        "frozen_precision": "bf16" if adapted else "fp32",
        "gradient_checkpointing": case.checkpointing,
        "train_text_encoder": False,
        "learning_rate": _learning_rate(case),
        "warmup_steps": 0,
        "sample_every_steps": 0,
    }
    sampling = {"sampler": family.samplers[0], "num_steps": 1, "batch_size": 1}
    return RunConfig.model_validate(
        {
            "training": training,
            "checkpoints": {"every_steps": ENDLESS},
            "subject": {"resolution_px": case.side_px},
            "prior": {"sampling": sampling},
            "evaluation": {"sampling": sampling, "prompts": ["a {subject}"]},
            "inference": {"sampling": sampling},
        }
    )


def _learning_rate(case: Case) -> float:
    """Return a rate that random weights stand for as long as it takes."""
    return 1e-6 if case.method == "full" else 1e-5


def peer_script(case: Case, checkout: Path) -> Path:
    """Return the script of diffusers that trains a case."""
    return checkout / _SCRIPTS / case.script


def peer_arguments(case: Case, *, model: Path, pictures: Path, folder: Path) -> dict[str, object]:
    """Return the options of diffusers' script for the same training, else as its README has them.

    Args:
        case: what is trained.
        model: its folder.
        pictures: folder from `draw_pictures`.
        folder: receives the script's files.
    """
    recomputing = {"gradient_checkpointing": True} if case.checkpointing else {}
    return {
        "pretrained_model_name_or_path": model,
        "instance_data_dir": pictures / "instance" / "images",
        "class_data_dir": pictures / "prior" / "images",
        "instance_prompt": INSTANCE_PROMPT,
        "class_prompt": CLASS_PROMPT,
        "with_prior_preservation": True,
        "num_class_images": NUM_PRIOR,
        "resolution": case.side_px,
        "train_batch_size": case.batch_size,
        "max_train_steps": ENDLESS,
        "learning_rate": _learning_rate(case),
        "lr_scheduler": "constant",
        "lr_warmup_steps": 0,
        "mixed_precision": "bf16",
        "checkpointing_steps": ENDLESS,
        "seed": 0,
        "output_dir": folder / "peer-output",
        **recomputing,
        **case.settings,
    }
