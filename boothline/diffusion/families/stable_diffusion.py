"""Stable Diffusion 1.x and 2.x, the layout that the others grew from.

Rombach et al., "High-resolution image synthesis with latent diffusion models", 2022.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from boothline.diffusion.families.clip_unet import UnetFamily
from boothline.diffusion.families.family import AUTOENCODER, CLIP_TOKENIZER, CONTEXT, Part, Tensors

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel


class StableDiffusion(UnetFamily):
    """One CLIP text encoder, of which the last hidden state conditions the UNet."""

    name = "Stable Diffusion 1.x / 2.x"
    pipeline = "StableDiffusionPipeline"
    parts = (
        Part("unet", "denoiser", ("UNet2DConditionModel",)),
        AUTOENCODER,
        Part("text_encoder", "text_encoder", ("CLIPTextModel",)),
        Part("tokenizer", "tokenizer", CLIP_TOKENIZER),
    )
    usual_guidance = 7.5
    single_file = "sd"
    kohya_prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}  # noqa: RUF012
    extras = {  # noqa: RUF012
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return the last hidden state."""
        encoder = text_encoders["text_encoder"]
        return {CONTEXT: encoder(tokens_UL["text_encoder"], return_dict=False)[0]}

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
        """Return the UNet's prediction of the noise, the picture or v."""
        (prediction,) = denoiser(
            noisy_BCHW, timesteps, encoder_hidden_states=conditioning[CONTEXT], return_dict=False
        )
        return cast("torch.Tensor", prediction)


STABLE_DIFFUSION = StableDiffusion()
