"""`Family`: what the product must know of a layout of text-to-image models, and nothing else does.

A family is one file here and one row of the registry (`families/__init__.py`). Facts about folders
are read without torch; what computes imports torch where it runs.

Shapes: U distinct texts, B samples, C latent channels, H and W latent sides, L tokens, D features,
P pooled features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from boothline.config.sampling import SamplerName, SamplingConfig
from boothline.config.training import ATTENTION, LoraConfig

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, ModelMixin, SchedulerMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from boothline.diffusion.loading import DiffusionParts

Tensors = Mapping[str, "torch.Tensor"]
Role = Literal["denoiser", "autoencoder", "text_encoder", "tokenizer"]
CONTEXT = "context"
POOLED = "pooled"
MASK = "mask"
SCHEDULER = "scheduler"
_STEMS: Mapping[str, str] = {
    "diffusers": "diffusion_pytorch_model",
    "transformers": "model",
}


@dataclass(frozen=True)
class Part:
    """A folder of a model.

    Attributes:
        name: of the folder, e.g. `text_encoder_2`.
        role: what it does.
        classes: names of the classes that are loaded; the first is made.
    """

    name: str
    role: Role
    classes: tuple[str, ...]

    @property
    def library(self) -> str:
        """Whose classes they are: `diffusers` or `transformers`."""
        return "diffusers" if self.role in ("denoiser", "autoencoder") else "transformers"

    @property
    def stem(self) -> str | None:
        """Name of its weight files without suffix; None: it has no weights."""
        return None if self.role == "tokenizer" else _STEMS[self.library]


AUTOENCODER = Part("vae", "autoencoder", ("AutoencoderKL",))
CLIP_TOKENIZER = ("CLIPTokenizer", "CLIPTokenizerFast")
T5_TOKENIZER = ("T5Tokenizer", "T5TokenizerFast")


@dataclass(frozen=True, kw_only=True)
class LatentScale:
    """How the autoencoder's latents become those that the denoiser reads.

    Attributes:
        factor: multiplies, after the shift is taken away.
        shift: mean of the autoencoder's latents.
    """

    factor: float
    shift: float = 0.0

    def scaled(self, latents: "torch.Tensor") -> "torch.Tensor":
        """Return the denoiser's latents of the autoencoder's."""
        return (latents - self.shift) * self.factor

    def unscaled(self, latents: "torch.Tensor") -> "torch.Tensor":
        """Return the autoencoder's latents of the denoiser's."""
        return latents / self.factor + self.shift


@dataclass(frozen=True, kw_only=True)
class ChannelScale(LatentScale):
    """Latents of which each channel has a scale of its own, or each place of a square of two.

    Attributes:
        factors, shifts: as factor and shift, (C, 1, 1) or (C, 2, 2).
    """

    factor: float = 1.0
    factors: "torch.Tensor"
    shifts: "torch.Tensor"

    def scaled(self, latents: "torch.Tensor") -> "torch.Tensor":
        """Return the denoiser's latents of the autoencoder's."""
        return (latents - _tiled(self.shifts, latents)) * _tiled(self.factors, latents)

    def unscaled(self, latents: "torch.Tensor") -> "torch.Tensor":
        """Return the autoencoder's latents of the denoiser's."""
        return latents / _tiled(self.factors, latents) + _tiled(self.shifts, latents)


def _tiled(values_CHW: "torch.Tensor", latents: "torch.Tensor") -> "torch.Tensor":
    """Return values of each channel or place, repeated over the latents."""
    height, width = (
        size // of for size, of in zip(latents.shape[-2:], values_CHW.shape[1:], strict=True)
    )
    return values_CHW.to(latents).repeat(1, height, width)


class Family(ABC):
    """One layout of text-to-image models.

    Attributes:
        name: for messages.
        pipeline: class of diffusers' pipeline: the `_class_name` of model_index.json.
        parts: its folders, apart from the scheduler's.
        methods: values of training.method that work.
        trains_text_encoders: whether the text encoders can be trained.
        guidance: `classifier_free` (two halves in one forward), or `embedded`: the scale is an
            input of the network, and negative prompts have no effect.
        usual_guidance: guidance scale that `init` writes; None: the setting's default.
        samplers: values of `sampler` that fit.
        convolutional: the denoiser is made of convolutions, which like the layout channels last.
        is_flow: trained by flow matching, else by a noise schedule.
        kohya_prefixes: beginnings of kohya's names of adapters, by network; empty: not written.
        extras: further arguments of the pipeline's class.
        index_settings: arguments of the pipeline's class that model_index.json names.
        lora_targets: layers of the denoiser that training.lora.targets means unless it is set.
        single_file: names of its weights in one file: `sd` as the first Stable Diffusion, `sdxl`;
            None: not written.
        masked: tokens come with a mask of those that are not padding, 1 or 0, as `mask`.
        empty_is_text: no text is an empty one for the text encoders; False: it is zeros instead,
            whatever they would make of it.
    """

    name: ClassVar[str]
    pipeline: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]]
    methods: ClassVar[tuple[str, ...]] = ("full", "lora")
    trains_text_encoders: ClassVar[bool] = True
    guidance: ClassVar[Literal["classifier_free", "embedded"]] = "classifier_free"
    usual_guidance: ClassVar[float | None] = None
    samplers: ClassVar[tuple[SamplerName, ...]]
    convolutional: ClassVar[bool] = True
    is_flow: ClassVar[bool] = False
    kohya_prefixes: ClassVar[Mapping[str, str]] = {}
    extras: ClassVar[Mapping[str, Any]] = {}
    index_settings: ClassVar[tuple[str, ...]] = ()
    lora_targets: ClassVar[tuple[str, ...]] = ATTENTION
    single_file: ClassVar[Literal["sd", "sdxl"] | None] = None
    masked: ClassVar[bool] = False
    empty_is_text: ClassVar[bool] = True

    def __repr__(self) -> str:
        return self.name

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders whose files decide what the model does."""
        return (*(part.name for part in self.parts), SCHEDULER)

    def adapted(self, lora: LoraConfig) -> tuple[str, ...]:
        """Return the ends of the names of the denoiser's layers that get adapters."""
        return self.lora_targets if lora.targets == ATTENTION else lora.targets

    def names(self, role: Role) -> tuple[str, ...]:
        """Return the parts of a role."""
        return tuple(part.name for part in self.parts if part.role == role)

    @property
    def denoiser(self) -> str:
        """Name of the network that denoises: `unet` or `transformer`."""
        return self.names("denoiser")[0]

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders."""
        return self.names("text_encoder")

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the networks that a training may change."""
        return (self.denoiser, *(self.text_encoders if self.trains_text_encoders else ()))

    @property
    def stems(self) -> dict[str, str]:
        """Name of the weight files of each part that has weights."""
        return {part.name: part.stem for part in self.parts if part.stem is not None}

    def latent_scale(self, vae: "AutoencoderKL") -> LatentScale:
        """Return the scale of the latents of an autoencoder."""
        config = vae.config
        shift = config.get("shift_factor") or 0.0
        return LatentScale(factor=float(config.scaling_factor), shift=float(shift))

    def pixels_per_latent(self, config: Mapping[str, Any]) -> int:
        """Return the pixels along the side of one latent, from the autoencoder's settings."""
        return int(2 ** (len(config["block_out_channels"]) - 1))

    def moments(self, vae: "AutoencoderKL", pixels_BCHW: "torch.Tensor") -> "torch.Tensor":
        """Return mean and log variance of the latents of pixels in [-1, 1]: (B, 2C, H, W)."""
        found: torch.Tensor = vae.encode(pixels_BCHW).latent_dist.parameters
        return found

    def pixels(self, vae: "AutoencoderKL", latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        """Return the pixels, about [-1, 1], of the autoencoder's latents: (B, 3, H, W)."""
        found: torch.Tensor = vae.decode(latents_BCHW, return_dict=False)[0]
        return found

    def latent_channels(self, model: "DiffusionParts") -> int:
        """Return the channels of the latents that the denoiser reads."""
        return int(model.denoiser.config.in_channels)

    def resolution_px(self, model: "DiffusionParts") -> int:
        """Return the side of the pictures that a model was made for, in pixels."""
        return int(model.denoiser.config.sample_size) * model.vae_scale

    def check_side_px(self, model: "DiffusionParts") -> int:
        """Return the side of the pictures by which an export is compared with the model."""
        return self.resolution_px(model)

    @abstractmethod
    def side_multiple(self, model: "DiffusionParts") -> int:
        """Return what the sides of pictures must be multiples of, in pixels."""

    @abstractmethod
    def token_lengths(self, model: "DiffusionParts") -> dict[str, int]:
        """Return the length of a tokenised text for each text encoder, marks included."""

    def written(self, prompt: str, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Return the text that is tokenised for a prompt; chat models get a conversation."""
        return prompt

    @abstractmethod
    def embed(
        self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors
    ) -> "Tensors":
        """Return what texts give the denoiser: `context` (U, L, D) and, for some, `pooled` (U, P).

        Args:
            text_encoders: the networks by name.
            tokens_UL: int64 for each of them; where the family is `masked`, the mask too, which
                only a plan leaves out.
        """

    def without_text(self, model: "DiffusionParts", conditioning: "Tensors") -> "Tensors":
        """Return the conditioning of an empty negative prompt, given its embedding."""
        return conditioning

    def unread(self, text_encoders: "Mapping[str, PreTrainedModel]") -> "Sequence[torch.nn.Module]":
        """Return the layers of text encoders whose output nothing reads: they cannot learn."""
        return ()

    def is_guided(self, model: "DiffusionParts", *, scale: float) -> bool:
        """Return whether a guidance scale asks for an unconditional half."""
        return self.guidance == "classifier_free" and scale > 1

    def guided(
        self, unconditional_BCHW: "torch.Tensor", conditional_BCHW: "torch.Tensor", *, scale: float
    ) -> "torch.Tensor":
        """Return both halves combined.

        eps_u + scale (eps_c - eps_u): Ho and Salimans, "Classifier-free diffusion guidance", 2022.
        """
        return unconditional_BCHW + scale * (conditional_BCHW - unconditional_BCHW)

    @abstractmethod
    def predict(
        self,
        denoiser: "ModelMixin",
        noisy_BCHW: "torch.Tensor",
        timesteps: "torch.Tensor",
        conditioning: "Tensors",
        *,
        pixels_per_latent: int,
        guidance_scale: float | None = None,
    ) -> "torch.Tensor":
        """Return the denoiser's prediction: (B, C, H, W).

        Args:
            denoiser: the network.
            noisy_BCHW: noisy latents.
            timesteps: one for all, or (B,).
            conditioning: from `embed`, a row for each sample.
            pixels_per_latent: of the autoencoder, along a side.
            guidance_scale: for embedded guidance; None: the scale of the family's training.
        """

    @abstractmethod
    def load_schedule(self, folder: Path) -> "SchedulerMixin":
        """Return the noise schedule of a model's folder."""

    @abstractmethod
    def sampling_scheduler(
        self,
        schedule: "SchedulerMixin",
        sampling: SamplingConfig,
        *,
        num_tokens: int,
        device: "torch.device | str",
    ) -> "SchedulerMixin":
        """Return a new scheduler with its timesteps set.

        Args:
            schedule: from `load_schedule`.
            sampling: names the sampler and the number of steps.
            num_tokens: of the latents, as the denoiser counts them.
            device: where the timesteps go.
        """

    def num_tokens(self, model: "DiffusionParts", *, height: int, width: int) -> int:
        """Return how many tokens latents of a size are for the denoiser."""
        return height * width
