"""Settings that fit a base model, by its family and its own size; and what does not fit one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from boothline.config import RunConfig
from boothline.config.sampling import SamplingConfig
from boothline.diffusion.families import STABLE_DIFFUSION, Family
from boothline.diffusion.layout import read_json
from boothline.errors import ConfigError

REAL_PX: Final = 256
"""Bases of pictures at least this large are real ones: nothing of the tiny base fits them."""
DINO: Final = "models/dino-vits16"
CLIP: Final = "models/clip-vit-base-patch32"
_FLOW_PX: Final = 1024
_SMALLEST, _LARGEST = 0.75, 1.5
_MAX_FULL_RATE: Final = 5e-5
INIT: Final = "`boothline init PICTURES --base-model SOURCE --class-noun NOUN` writes what fits."
_SECTIONS: Final = ("prior", "evaluation", "inference")


def native_px(family: Family, configs: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return the side of the pictures that a base was trained on; None where it does not say.

    Args:
        family: of the base.
        configs: settings of its networks by folder.
    """
    size = configs.get(family.denoiser, {}).get("sample_size")
    if not isinstance(size, int) or "block_out_channels" not in configs.get("vae", {}):
        return None
    return size * family.pixels_per_latent(configs["vae"])


def native_px_of(folder: Path, family: Family) -> int | None:
    """Return the side of the pictures that a base in a folder was trained on; None: unknown."""
    configs = {
        part: read_json(path)
        for part in (family.denoiser, "vae")
        if (path := folder / part / "config.json").is_file()
    }
    return native_px(family, configs)


def usual_px(family: Family, native: int | None) -> int | None:
    """Return the side of the pictures that a base is for; None: unknown.

    Args:
        family: of the base.
        native: side of the pictures that it was trained on. Most bases of flow matching do not say.
    """
    return native or (_FLOW_PX if family.is_flow else None)


def fitting_values(
    family: Family, source: str, native: int | None, *, dino: str, clip: str
) -> dict[str, object]:
    """Return the settings of a run that fit a real base: low-rank adapters, which fit most cards.

    Args:
        family: of the base.
        source: of the base.
        native: side of the pictures that it was trained on; None: unknown.
        dino: encoder of the subject's fidelity.
        clip: encoder of the prompt's.
    """
    if native is not None and native < REAL_PX:
        return {"base_model.source": source, "subject.resolution_px": native}
    values: dict[str, object] = {
        "base_model.source": source,
        "subject.resolution_px": usual_px(family, native) or _FLOW_PX,
        "prior.num_images": 200,
        "training.method": "lora",
        "training.num_steps": 800,
        "training.batch_size": 1,
        "training.num_processes": 1,
        "training.learning_rate": 1e-4,
        "training.train_text_encoder": family is STABLE_DIFFUSION,
        "training.precision": "bf16",
        "training.gradient_checkpointing": True,
        "checkpoints.every_steps": 200,
        "evaluation.dino_model": dino,
        "evaluation.clip_model": clip,
    }
    usual = fitting_sampling(family, SamplingConfig())
    for section in _SECTIONS:
        values[f"{section}.sampling.batch_size"] = 4
        if family.usual_guidance:
            values[f"{section}.sampling.guidance_scale"] = family.usual_guidance
        if family.is_flow:
            values[f"{section}.sampling.sampler"] = usual.sampler
    return values


def fitting_sampling(family: Family, sampling: SamplingConfig) -> SamplingConfig:
    """Return settings in which sampler and guidance are a flow family's if nobody chose them.

    Args:
        family: of the model.
        sampling: the settings; what was given to it stays.
    """
    if not family.is_flow:
        return sampling
    usual = {"sampler": family.samplers[0], "guidance_scale": family.usual_guidance}
    chosen = sampling.model_fields_set
    return sampling.model_copy(
        update={n: value for n, value in usual.items() if value is not None and n not in chosen}
    )


def check_fit(config: RunConfig, native: int | None) -> None:
    """Refuse settings of another base: its resolution, and those of the tiny one on a real one.

    Args:
        config: the run's configuration.
        native: side of the pictures that the base was trained on; None: unknown.

    Raises:
        ConfigError: a setting does not fit; the message names it and what to set.
    """
    if native is None or native < REAL_PX:
        return
    side = config.subject.resolution_px
    if not _SMALLEST * native <= side <= _LARGEST * native:
        raise ConfigError(
            f"subject.resolution_px is {side}, and the base model {config.base_model.source!r} was "
            f"trained on pictures of {native} px.",
            remedy=f"Set subject.resolution_px={native}. {INIT}",
        )
    training = config.training
    fixed = training.optimizer != "prodigy"
    if training.method == "full" and fixed and training.learning_rate > _MAX_FULL_RATE:
        raise ConfigError(
            f"training.learning_rate {training.learning_rate:g} fits the tiny base or adapters; "
            f"it destroys the weights of a base of {native} px.",
            remedy="Set training.learning_rate=2e-6, or training.method=lora.",
        )
