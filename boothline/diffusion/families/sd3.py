"""Stable Diffusion 3 and 3.5, flow matching with three text encoders.

Esser et al., "Scaling rectified flow transformers for high-resolution image synthesis", 2024.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from boothline.config.training import ATTENTION
from boothline.diffusion.families.clip_unet import clip_length
from boothline.diffusion.families.family import (
    AUTOENCODER,
    CLIP_TOKENIZER,
    CONTEXT,
    POOLED,
    T5_TOKENIZER,
    Part,
    Tensors,
)
from boothline.diffusion.families.flow import TEXT_ATTENTION, FlowFamily, text_length

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    from boothline.diffusion.loading import DiffusionParts

_T5_LENGTH = 256


class StableDiffusion3(FlowFamily):
    """Two CLIP text encoders and T5: the first two side by side, then T5's tokens."""

    name = "Stable Diffusion 3 / 3.5"
    pipeline = "StableDiffusion3Pipeline"
    lora_targets = (*ATTENTION, *TEXT_ATTENTION)
    density = "shifted"
    max_shift = 1.16
    parts = (
        Part("transformer", "denoiser", ("SD3Transformer2DModel",)),
        AUTOENCODER,
        Part("text_encoder", "text_encoder", ("CLIPTextModelWithProjection",)),
        Part("text_encoder_2", "text_encoder", ("CLIPTextModelWithProjection",)),
        Part("text_encoder_3", "text_encoder", ("T5EncoderModel",)),
        Part("tokenizer", "tokenizer", CLIP_TOKENIZER),
        Part("tokenizer_2", "tokenizer", CLIP_TOKENIZER),
        Part("tokenizer_3", "tokenizer", T5_TOKENIZER),
    )

    def token_lengths(self, model: "DiffusionParts") -> dict[str, int]:
        """Return CLIP's lengths and the pipeline's for T5, which has no limit of its own."""
        clip = {name: clip_length(model, name) for name in ("text_encoder", "text_encoder_2")}
        length = text_length(model, "text_encoder_3", longest=_T5_LENGTH)
        return {**clip, "text_encoder_3": length}

    def sigmas(self, num_steps: int) -> None:
        """Return None: the scheduler's own levels."""

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return CLIP's hidden states filled up to T5's width, then T5's; both projections."""
        import torch

        hidden, pooled = [], []
        for name in ("text_encoder", "text_encoder_2"):
            found = text_encoders[name](tokens_UL[name], output_hidden_states=True)
            hidden.append(found.hidden_states[-2])
            pooled.append(found[0])
        t5_ULD = text_encoders["text_encoder_3"](tokens_UL["text_encoder_3"])[0]
        clip_ULD = torch.cat(hidden, dim=-1)
        room = t5_ULD.shape[-1] - clip_ULD.shape[-1]
        wide_ULD = torch.nn.functional.pad(clip_ULD, (0, room))
        return {CONTEXT: torch.cat([wide_ULD, t5_ULD], dim=-2), POOLED: torch.cat(pooled, dim=-1)}

    def side_multiple(self, model: "DiffusionParts") -> int:
        """Return the pixels of one token."""
        return int(model.vae_scale * model.denoiser.config.patch_size)

    def num_tokens(self, model: "DiffusionParts", *, height: int, width: int) -> int:
        """Return the number of patches."""
        patch = int(model.denoiser.config.patch_size)
        return (height // patch) * (width // patch)

    def predict(
        self,
        denoiser: "ModelMixin",
        noisy_BCHW: "torch.Tensor",
        timesteps: "torch.Tensor",
        conditioning: Tensors,
        *,
        pixels_per_latent: int,
        guidance_scale: float | None = None,
    ) -> "torch.Tensor":
        """Return the transformer's velocity."""
        (prediction,) = denoiser(
            hidden_states=noisy_BCHW,
            timestep=timesteps.expand(len(noisy_BCHW)),
            encoder_hidden_states=conditioning[CONTEXT],
            pooled_projections=conditioning[POOLED],
            return_dict=False,
        )
        return cast("torch.Tensor", prediction)


SD3 = StableDiffusion3()
