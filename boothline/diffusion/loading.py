"""Loads a text-to-image model from a folder: safetensors only, no code from the folder."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from boothline.config.sampling import SamplingPrecision
from boothline.diffusion.devices import fix_bits
from boothline.diffusion.families import STABLE_DIFFUSION, Family, LatentScale, Part
from boothline.diffusion.families.family import SCHEDULER
from boothline.diffusion.layout import check_folder, read_json, weight_variant
from boothline.errors import ConfigError, DataError, MachineError, is_machine_fault

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PICTURE_NDIM = 4  # of the weights of convolutions over pictures; over films they have 5


@dataclass(frozen=True, kw_only=True)
class DiffusionParts:
    """The parts of a text-to-image model, as the training and sampling loops use them.

    Attributes:
        family: whose layout it has.
        modules: networks, tokenizers and the noise schedule by the names of their folders; what
            was let go of is missing.
        index: content of model_index.json.
    """

    family: Family = STABLE_DIFFUSION
    modules: Mapping[str, Any]
    index: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Any:  # noqa: ANN401 - neither library has types
        """Return a part by the name of its folder."""
        return self.modules[name]

    def changed(self, modules: Mapping[str, Any]) -> "DiffusionParts":
        """Return the model with some parts in the place of its own."""
        return replace(self, modules={**self.modules, **modules})

    def without(self, *names: str) -> "DiffusionParts":
        """Return the model without some parts."""
        return replace(self, modules={k: v for k, v in self.modules.items() if k not in names})

    @property
    def denoiser(self) -> "ModelMixin":
        """The network that predicts noise, v or velocity from latents_BCHW."""
        return self.part(self.family.denoiser)

    @property
    def unet(self) -> "ModelMixin":
        """The denoiser of a family whose denoiser is a UNet."""
        return self.part("unet")

    @property
    def vae(self) -> "AutoencoderKL":
        """The autoencoder: pixels in [-1, 1] to latents and back."""
        return self.part("vae")

    @property
    def text_encoder(self) -> "PreTrainedModel":
        """The first text encoder."""
        return self.part("text_encoder")

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The first text encoder's tokenizer."""
        return self.part("tokenizer")

    @property
    def scheduler(self) -> "SchedulerMixin":
        """The noise schedule, from `Family.load_schedule`."""
        return self.part(SCHEDULER)

    @property
    def text_encoders(self) -> "dict[str, PreTrainedModel]":
        """All text encoders by name."""
        return {name: self.part(name) for name in self.family.text_encoders}

    def tokenizer_of(self, text_encoder: str) -> "PreTrainedTokenizerBase | None":
        """Return a text encoder's tokenizer; None where only sizes are known."""
        return self.modules.get(tokenizer_name(text_encoder))

    @property
    def device(self) -> torch.device:
        """Device that the denoiser is on."""
        device: torch.device = self.denoiser.device
        return device

    @property
    def latent_scale(self) -> LatentScale:
        """How the autoencoder's latents are scaled for the denoiser."""
        return self.family.latent_scale(self.vae)

    def moments(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        """Return mean and log variance of the autoencoder's latents: (B, 2C, H, W)."""
        return self.family.moments(self.vae, pixels_BCHW)

    @property
    def resolution_px(self) -> int:
        """Side of the pictures that the model was made for, in pixels."""
        return self.family.resolution_px(self)

    @property
    def vae_scale(self) -> int:
        """Pixels per latent along one side."""
        return self.family.pixels_per_latent(self.vae.config)


def tokenizer_name(text_encoder: str) -> str:
    """Return the name of a text encoder's tokenizer."""
    return text_encoder.replace("text_encoder", "tokenizer")


def load_pipeline(
    path: Path,
    *,
    device: str | torch.device | None = None,
    for_sampling: bool = False,
    precision: SamplingPrecision = "fp32",
) -> DiffusionParts:
    """Load a model's parts in evaluation mode.

    Only safetensors files are opened and only the classes of the family's layout are made:
    pickle weights, custom pipelines and code in the folder are refused by name. The safety checker
    is left out.

    Args:
        path: folder with model_index.json and the folders of the parts.
        device: where the weights go; the first CUDA device or else the CPU when unset.
        for_sampling: lay the convolutions out for speed and freeze the weights.
        precision: of the denoiser and the text encoders; the autoencoder is float32, because some
            (SDXL's) overflow in half precision.

    Raises:
        DataError: the folder is not such a model; the message names the file.
        ConfigError: fp16 without a CUDA device.
    """
    family = check_folder(path)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "fp16" and torch.device(where).type == "cpu":
        raise ConfigError(
            "Sampling in fp16 needs a CUDA device, and there is none.",
            remedy="Set the precision to fp32, or to bf16 where the processor has it.",
        )
    with quiet_libraries():
        parts = DiffusionParts(
            family=family,
            modules={
                **{p.name: _part(p, path, where, precision) for p in family.parts},
                SCHEDULER: family.load_schedule(path),
            },
            index=read_json(path / "model_index.json"),
        )
    parts.vae.requires_grad_(False)
    if for_sampling:
        for network in (parts.denoiser, parts.vae):
            _lay_out(network)
            if torch.device(where).type == "cpu":
                fix_bits(network)
        for network in (parts.denoiser, *parts.text_encoders.values()):
            network.requires_grad_(False)
    return parts


def _lay_out(network: Any) -> None:  # noqa: ANN401  (one of many classes)
    """Lay convolutions out channels last where that is faster.

    A CPU's group normalisation in bf16 takes thirty times as long channels last, a pass of the tiny
    UNet half as long again (docs/runlog.md).
    """
    weights = list(network.parameters())
    slow = any(one.device.type == "cpu" and one.dtype == torch.bfloat16 for one in weights)
    if not slow and all(one.ndim <= _PICTURE_NDIM for one in weights):
        network.to(memory_format=torch.channels_last)


def load_frozen(
    path: Path, names: Iterator[str] | list[str], *, device: str | torch.device
) -> dict[str, Any]:
    """Load some networks of a checked folder alone: float32, frozen.

    Raises:
        DataError: one cannot be loaded.
    """
    family = check_folder(path)
    wanted = set(names)
    with quiet_libraries():
        return {
            part.name: _part(part, path, device).requires_grad_(False)
            for part in family.parts
            if part.name in wanted
        }


def class_of(part: Part) -> Any:  # noqa: ANN401 - neither library has types
    """Return the class that a part is loaded with."""
    library = diffusers if part.library == "diffusers" else transformers
    return getattr(library, part.classes[0])


def _part(
    part: Part, path: Path, device: str | torch.device, precision: SamplingPrecision = "fp32"
) -> Any:  # noqa: ANN401
    """Load one part; an autoencoder in float32."""
    if part.role == "tokenizer":
        return class_of(part).from_pretrained(path / part.name, local_files_only=True)
    dtype = _DTYPES["fp32" if part.role == "autoencoder" else precision]
    return _load(class_of(part), path, part, dtype).to(device)


def _load(cls: Any, path: Path, part: Part, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Load one network from its safetensors file."""
    folder = path / part.name
    try:
        model = cls.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            variant=weight_variant(folder, str(part.stem)),
            **({"dtype" if part.library == "transformers" else "torch_dtype": dtype}),
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first_line = (
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        )
        if is_machine_fault(error):
            raise MachineError(
                f"{folder} could not be loaded here: {first_line}",
                remedy="This says nothing about the files. Free memory, then run it again.",
            ) from error
        raise DataError(
            f"{folder} cannot be loaded: {first_line}",
            remedy="The files are damaged or of another layout.",
        ) from error
    return model.eval()


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
