"""Loads a Stable Diffusion model from a folder: safetensors only, no code from the folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from boothline.diffusion.layout import WEIGHT_NAMES, check_folder, read_json, weight_variant
from boothline.diffusion.threads import fix_bits
from boothline.errors import DataError

logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=torch.nn.Module)


@dataclass(frozen=True, kw_only=True)
class DiffusionParts:
    """The parts of a Stable Diffusion model, as the training and sampling loops use them.

    Attributes:
        unet: `UNet2DConditionModel`, predicts noise (or v) from latents_BCHW.
        vae: `AutoencoderKL`, pixels in [-1, 1] to latents and back.
        text_encoder: `CLIPTextModel`.
        tokenizer: `CLIPTokenizer`.
        scheduler: `DDPMScheduler` with the model's noise schedule: `alphas_cumprod`, `add_noise`,
            `config.prediction_type`.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDPMScheduler

    @property
    def device(self) -> torch.device:
        """Device that the UNet is on."""
        device: torch.device = self.unet.device
        return device

    @property
    def resolution_px(self) -> int:
        """Side of the pictures that the model was made for, in pixels."""
        return int(self.unet.config.sample_size) * self.vae_scale

    @property
    def vae_scale(self) -> int:
        """Pixels per latent along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def load_pipeline(
    path: Path, *, device: str | torch.device | None = None, for_sampling: bool = False
) -> DiffusionParts:
    """Load a model's parts in float32, in evaluation mode.

    Only safetensors files are opened and only the classes of the Stable Diffusion layout are made:
    pickle weights, custom pipelines and code in the folder are refused by name. The safety checker
    is left out.

    Args:
        path: folder with model_index.json, unet/, vae/, text_encoder/, tokenizer/ and scheduler/.
        device: where the weights go; the first CUDA device or else the CPU when unset.
        for_sampling: lay the convolutions out for speed (channels last) and freeze the weights.

    Raises:
        DataError: the folder is not such a model; the message names the file.
    """
    check_folder(path)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with quiet_libraries():
        parts = DiffusionParts(
            unet=_load(UNet2DConditionModel, path, "unet").to(where),
            vae=_load(AutoencoderKL, path, "vae").to(where),
            text_encoder=_load(CLIPTextModel, path, "text_encoder").to(where),
            tokenizer=CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True),
            scheduler=load_noise_schedule(path),
        )
    parts.vae.requires_grad_(False)
    if for_sampling:
        for part in (parts.unet, parts.vae):
            part.to(memory_format=torch.channels_last)
            if torch.device(where).type == "cpu":
                fix_bits(part)
        for part in (parts.unet, parts.text_encoder):
            part.requires_grad_(False)
    return parts


def load_vae(path: Path, *, device: str | torch.device) -> AutoencoderKL:
    """Load a checked folder's autoencoder alone: float32, frozen.

    Raises:
        DataError: it cannot be loaded.
    """
    with quiet_libraries():
        return _load(AutoencoderKL, path, "vae").to(device).requires_grad_(False)


def load_text_encoder(path: Path, *, device: str | torch.device) -> CLIPTextModel:
    """Load a checked folder's text encoder alone: float32, frozen.

    Raises:
        DataError: it cannot be loaded.
    """
    with quiet_libraries():
        return _load(CLIPTextModel, path, "text_encoder").to(device).requires_grad_(False)


def load_noise_schedule(path: Path) -> DDPMScheduler:
    """Return the folder's noise schedule, whatever sampler the folder names."""
    config = read_json(path / "scheduler" / "scheduler_config.json")
    # Latents are not bounded to [-1, 1], so clipping them is wrong; not every config says so.
    return DDPMScheduler.from_config(config, clip_sample=config.get("clip_sample", False))


def _load(cls: type[ModelT], path: Path, part: str) -> ModelT:
    """Load one model part from its safetensors file."""
    try:
        model: Any = cls.from_pretrained(  # type: ignore[attr-defined]
            path / part,
            use_safetensors=True,
            local_files_only=True,
            variant=weight_variant(path / part, WEIGHT_NAMES[part]),
            **({"dtype" if cls is CLIPTextModel else "torch_dtype": torch.float32}),
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first_line = (
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        )
        raise DataError(
            f"{path / part} cannot be loaded: {first_line}",
            remedy="The files are damaged or of another layout.",
        ) from error
    loaded: ModelT = model.eval()
    return loaded


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars and warnings of diffusers and transformers inside the block."""
    before = (diffusers_logging.get_verbosity(), transformers_logging.get_verbosity())
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])
