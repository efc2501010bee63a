"""FLUX.1: Black Forest Labs' rectified-flow transformer, 2024, as diffusers' pipeline runs it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
from boothline.diffusion.families.flow import (
    TEXT_ATTENTION,
    FlowFamily,
    packed,
    text_length,
    unpacked,
)

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    from boothline.diffusion.loading import DiffusionParts

TRAINING_GUIDANCE = 3.5
"""Guidance scale that a distilled model is told in training: the one it is usually sampled at."""
_T5_LENGTH = 512
_TIMESTEPS = 1000


class Flux(FlowFamily):
    """CLIP's pooled output and T5's tokens; latents go in as tokens of two by two."""

    name = "FLUX.1"
    pipeline = "FluxPipeline"
    guidance = "embedded"
    usual_guidance = TRAINING_GUIDANCE
    lora_targets = (*ATTENTION, *TEXT_ATTENTION)
    density = "uniform"
    parts = (
        Part("transformer", "denoiser", ("FluxTransformer2DModel",)),
        AUTOENCODER,
        Part("text_encoder", "text_encoder", ("CLIPTextModel",)),
        Part("text_encoder_2", "text_encoder", ("T5EncoderModel",)),
        Part("tokenizer", "tokenizer", CLIP_TOKENIZER),
        Part("tokenizer_2", "tokenizer", T5_TOKENIZER),
    )

    def token_lengths(self, model: "DiffusionParts") -> dict[str, int]:
        """Return CLIP's length and the pipeline's for T5, which has no limit of its own."""
        return {
            "text_encoder": clip_length(model, "text_encoder"),
            "text_encoder_2": text_length(model, "text_encoder_2", longest=_T5_LENGTH),
        }

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return T5's hidden state and CLIP's pooled output."""
        pooled = text_encoders["text_encoder"](tokens_UL["text_encoder"]).pooler_output
        context = text_encoders["text_encoder_2"](tokens_UL["text_encoder_2"])[0]
        return {CONTEXT: context, POOLED: pooled}

    def latent_channels(self, model: "DiffusionParts") -> int:
        """Return the channels before packing."""
        return int(model.denoiser.config.in_channels) // 4

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
        """Return the transformer's velocity; a distilled model gets the guidance scale too."""
        count, (height, width) = len(noisy_BCHW), noisy_BCHW.shape[2:]
        tokens = packed(noisy_BCHW)
        scale = TRAINING_GUIDANCE if guidance_scale is None else guidance_scale
        (velocity,) = denoiser(
            hidden_states=tokens,
            timestep=timesteps.expand(count).to(tokens.dtype) / _TIMESTEPS,
            guidance=tokens.new_full((count,), scale) if denoiser.config.guidance_embeds else None,
            encoder_hidden_states=conditioning[CONTEXT],
            pooled_projections=conditioning[POOLED],
            txt_ids=tokens.new_zeros(conditioning[CONTEXT].shape[1], 3),
            img_ids=_places(height // 2, width // 2, like=tokens),
            return_dict=False,
        )
        return unpacked(velocity, height=height, width=width)


def _places(rows: int, columns: int, *, like: "torch.Tensor") -> "torch.Tensor":
    """Return (0, row, column) of each token: (rows x columns, 3)."""
    import torch

    places = like.new_zeros(rows, columns, 3)
    places[..., 1] += torch.arange(rows, device=like.device)[:, None]
    places[..., 2] += torch.arange(columns, device=like.device)[None, :]
    return places.reshape(rows * columns, 3)


FLUX = Flux()
