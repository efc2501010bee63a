"""FLUX.2-klein: Black Forest Labs' smaller transformer, 2025, as diffusers' pipeline runs it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boothline.config.training import ATTENTION
from boothline.diffusion.families.chat import QWEN_TOKENIZER, TIMESTEPS, ChatFamily, conversation
from boothline.diffusion.families.family import (
    CONTEXT,
    MASK,
    ChannelScale,
    LatentScale,
    Part,
    Tensors,
)
from boothline.diffusion.families.flow import TEXT_ATTENTION, packed, unpacked

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKLFlux2, ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from boothline.diffusion.loading import DiffusionParts

_LAYERS = (9, 18, 27)
_TRAINING_STEPS = 50
"""Steps that the shift of noise levels in training is for: those that the base is sampled with."""


class Flux2Klein(ChatFamily):
    """Three of Qwen3's hidden states side by side; padding is read too, so all texts are as long.

    Distilled models take no guidance. Latents are scaled by the autoencoder's batch norm, which
    counts each place of a square of two by two as a channel.
    """

    name = "FLUX.2-klein"
    pipeline = "Flux2KleinPipeline"
    # In the single stream attention's projection is one with that of the feed-forward layer.
    lora_targets = (*ATTENTION, *TEXT_ATTENTION, "to_qkv_mlp_proj")
    density = "uniform"
    longest = 512
    index_settings = ("is_distilled",)
    parts = (
        Part("transformer", "denoiser", ("Flux2Transformer2DModel",)),
        Part("vae", "autoencoder", ("AutoencoderKLFlux2",)),
        Part("text_encoder", "text_encoder", ("Qwen3ForCausalLM",)),
        Part("tokenizer", "tokenizer", QWEN_TOKENIZER),
    )

    def latent_scale(self, vae: "AutoencoderKLFlux2") -> LatentScale:
        """Return mean and deviation of each channel and place."""
        mean, variance = (
            values.view(-1, 2, 2) for values in (vae.bn.running_mean, vae.bn.running_var)
        )
        deviation = (variance + vae.config.batch_norm_eps).sqrt()
        return ChannelScale(factors=1 / deviation, shifts=mean)

    def latent_channels(self, model: "DiffusionParts") -> int:
        """Return the channels before packing."""
        return int(model.denoiser.config.in_channels) // 4

    def written(self, prompt: str, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Return what a user says to the model."""
        return conversation(prompt, tokenizer, thinking=False)

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return the three hidden states side by side."""
        import torch

        found = text_encoders["text_encoder"](
            input_ids=tokens_UL["text_encoder"],
            attention_mask=tokens_UL.get(MASK),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return {CONTEXT: torch.cat([found[layer] for layer in _LAYERS], dim=-1)}

    def exponent(
        self,
        config: Any,  # noqa: ANN401
        *,
        num_tokens: int,
        num_steps: int | None = None,
    ) -> float:
        """Return the exponent that was fitted to the picture's tokens and the number of steps.

        For large pictures the number of steps has no effect.
        """
        many = 0.00016927 * num_tokens + 0.45666666
        if num_tokens > 4300:
            return many
        few = 8.73809524e-05 * num_tokens + 1.89833333
        slope = (many - few) / 190.0
        return slope * (num_steps or _TRAINING_STEPS) + (many - 200.0 * slope)

    def is_guided(self, model: "DiffusionParts", *, scale: float) -> bool:
        """Return whether a guidance scale has an effect."""
        return super().is_guided(model, scale=scale) and not model.index.get("is_distilled", False)

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
        count, (height, width) = len(noisy_BCHW), noisy_BCHW.shape[2:]
        tokens = packed(noisy_BCHW)
        context = conditioning[CONTEXT]
        (velocity,) = denoiser(
            hidden_states=tokens,
            timestep=timesteps.expand(count).to(tokens.dtype) / TIMESTEPS,
            encoder_hidden_states=context,
            txt_ids=_places(1, 1, context.shape[1], like=tokens),
            img_ids=_places(height // 2, width // 2, 1, like=tokens),
            return_dict=False,
        )
        return unpacked(velocity, height=height, width=width)


def _places(rows: int, columns: int, length: int, *, like: "torch.Tensor") -> "torch.Tensor":
    """Return (0, row, column, number in a text) of each token: (rows x columns x length, 4)."""
    import torch

    sides = [torch.arange(side, device=like.device) for side in (1, rows, columns, length)]
    return torch.cartesian_prod(*sides)


FLUX2_KLEIN = Flux2Klein()
