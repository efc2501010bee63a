"""The training of every other family against a reference in plain torch and float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reference.chat_families import ChatReference
from reference.comparing import distance
from reference.families import FamilyReference
from reference.product import in_float64, run_one_rank, run_ranks, settings_of
from safetensors.torch import load_file

from boothline.config.sampling import SamplingConfig
from boothline.warm import Warm

TOLERANCE = 1e-6
LORA = {"method": "lora", "lora": {"rank": 2, "alpha": 3.0}}
FROZEN = {**LORA, "train_text_encoder": False}
BUCKETS = {"buckets": ("32x32", "48x32")}
# Shift of a scheduler that grows with the picture: 64 tokens of 16 by 16 latents, by its own line
# from 0.5 at 256 to 1.15 at 4096.
FLUX_SHIFT = 2.718281828459045 ** (0.5 + (64 - 256) * (1.15 - 0.5) / (4096 - 256))
CASES: dict[str, tuple[str, str, dict[str, Any], str, float]] = {
    "sdxl, full": ("sdxl", "StableDiffusionXLPipeline", {}, "", 0),
    "sdxl, full, frozen text": (
        "sdxl", "StableDiffusionXLPipeline", {"train_text_encoder": False}, "", 0,
    ),
    "sdxl, lora": ("sdxl", "StableDiffusionXLPipeline", LORA, "", 0),
    "sdxl, buckets": ("sdxl", "StableDiffusionXLPipeline", {**FROZEN, **BUCKETS}, "", 0),
    "sdxl, learnt token": (
        "sdxl", "StableDiffusionXLPipeline",
        {**LORA, "token_embedding": {"enabled": True, "learning_rate": 4e-3}}, "", 0,
    ),
    "flux, buckets": ("flux", "FluxPipeline", {**FROZEN, **BUCKETS}, "uniform", 0),
    "sd3, buckets": ("sd3", "StableDiffusion3Pipeline", {**FROZEN, **BUCKETS}, "shifted", 3.0),
    "sd3, shifted": ("sd3", "StableDiffusion3Pipeline", FROZEN, "shifted", 3.0),
    "sd3, uniform": (
        "sd3", "StableDiffusion3Pipeline", {**FROZEN, "timestep_density": "uniform"}, "uniform", 0,
    ),
    "flux, uniform": ("flux", "FluxPipeline", FROZEN, "uniform", 0),
    "flux, logit-normal": (
        "flux", "FluxPipeline", {**FROZEN, "timestep_density": "logit_normal"}, "logit_normal", 0,
    ),
    "flux, shifted": (
        "flux", "FluxPipeline", {**FROZEN, "timestep_density": "shifted"}, "shifted", FLUX_SHIFT,
    ),
    "sdxl, dropped captions and masks": (
        "sdxl", "StableDiffusionXLPipeline", {**FROZEN, "caption_dropout": 0.5, "masks": True}, "",
        0,
    ),
    "flux, dropped captions and masks": (
        "flux", "FluxPipeline", {**FROZEN, "caption_dropout": 0.5, "masks": True}, "uniform", 0,
    ),
    "z_image, dropped captions and masks": (
        "z_image", "ZImagePipeline", {**FROZEN, "caption_dropout": 0.5, "masks": True}, "shifted",
        3.0,
    ),
    "sd3, masks": (
        "sd3", "StableDiffusion3Pipeline", {**FROZEN, "masks": True}, "shifted", 3.0,
    ),
    "klein, masks": ("klein", "Flux2KleinPipeline", {**FROZEN, "masks": True}, "uniform", 0),
    "qwen_image, masks": (
        "qwen_image", "QwenImagePipeline", {**FROZEN, "masks": True}, "shifted", 0,
    ),
    "klein, buckets": ("klein", "Flux2KleinPipeline", {**FROZEN, **BUCKETS}, "uniform", 0),
    "z_image, buckets": ("z_image", "ZImagePipeline", {**FROZEN, **BUCKETS}, "shifted", 3.0),
    "qwen_image, buckets": ("qwen_image", "QwenImagePipeline", {**FROZEN, **BUCKETS}, "shifted", 0),
}  # fmt: skip
IN_EVERY_RUN = {
    "sdxl, dropped captions and masks",
    "flux, buckets",
    "sd3, shifted",
    "qwen_image, buckets",
}


def job_of(make_job: Any, folder: Path, training: dict[str, Any], *, flow: bool) -> Any:
    """Return a job of two steps with a sampler that the family has."""
    job = make_job(base=folder, num_steps=2, **training)
    if not flow:
        return job
    config, euler = job.config, {"sampling": SamplingConfig(sampler="euler", num_steps=1)}
    changed = {
        name: getattr(config, name).model_copy(update=euler)
        for name in ("evaluation", "inference", "prior")
    }
    return job.model_copy(update={"config": config.model_copy(update=changed)})


def weights_of(job: Any) -> dict[str, Any]:
    """Return the weights of the last state by network and name."""
    folder = job.folder / "states" / f"{job.config.training.num_steps}"
    return {
        f"{file.stem.removesuffix('_lora')}.{name}": tensor
        for file in folder.glob("*.safetensors")
        if file.stem.startswith(("unet", "transformer", "text_encoder", "token_embedding"))
        for name, tensor in load_file(file).items()
    }


@pytest.mark.proves("F26/training", "F02/loss")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case in IN_EVERY_RUN else [pytest.mark.matrix])
        for case in CASES
    ],
)
def test_training_of_a_family_equals_the_reference(
    make_job: Any, family_folders: Callable[[str], Path], case: str
) -> None:
    assert error_of(make_job, family_folders, case, ranks=1) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "sdxl, full",
        "sdxl, lora",
        "sdxl, learnt token",
        "sd3, shifted",
        "flux, uniform",
        "klein, buckets",
        "z_image, buckets",
        "qwen_image, buckets",
    ],
)
def test_training_of_a_family_with_two_ranks_equals_the_reference(
    make_job: Any, family_folders: Callable[[str], Path], warm: Warm | None, case: str
) -> None:
    assert error_of(make_job, family_folders, case, ranks=2, warm=warm) <= TOLERANCE


def error_of(
    make_job: Any,
    folders: Callable[[str], Path],
    case: str,
    *,
    ranks: int,
    warm: Warm | None = None,
) -> float:
    """Train a case by the product and by the reference; return how far they end apart."""
    name, pipeline, training, density, shift = CASES[case]
    settings = {**training, "world_size": ranks}
    job = job_of(make_job, folders(name), settings, flow=bool(density))
    if ranks > 1:
        run_ranks(job, warm)
    with in_float64():
        if ranks == 1:
            run_one_rank(job)
        kind = ChatReference if name in ("klein", "z_image", "qwen_image") else FamilyReference
        reference = kind(pipeline, job=job, settings=settings_of(job), density=density, shift=shift)
        wanted = reference.run()
    found = weights_of(job)
    # Layers that nothing reads carry no adapter; trained whole, they stay as they were.
    kept = {key for key in wanted.weights if key in found}
    assert found.keys() == kept
    assert wanted.weights.keys() - kept <= reference.unread
    start = {key: wanted.start[key] for key in kept}
    return distance(found, {k: wanted.weights[k] for k in kept}, start=start)
