"""SDXL, with two text encoders and the size of the picture as inputs.

Podell et al., "SDXL: improving latent diffusion models for high-resolution image synthesis", 2023.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from boothline.diffusion.families.clip_unet import UnetFamily
from boothline.diffusion.families.family import (
    AUTOENCODER,
    CLIP_TOKENIZER,
    CONTEXT,
    POOLED,
    Part,
    Tensors,
)

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel

    from boothline.diffusion.loading import DiffusionParts


class Sdxl(UnetFamily):
    """Two CLIP text encoders; the UNet is conditioned on picture size and crop too.

    Every picture counts as one of its bucket's size, cut at the upper left corner: the size ids
    follow from the latents, in training as in sampling.
    """

    name = "SDXL"
    pipeline = "StableDiffusionXLPipeline"
    parts = (
        Part("unet", "denoiser", ("UNet2DConditionModel",)),
        AUTOENCODER,
        Part("text_encoder", "text_encoder", ("CLIPTextModel",)),
        Part("text_encoder_2", "text_encoder", ("CLIPTextModelWithProjection",)),
        Part("tokenizer", "tokenizer", CLIP_TOKENIZER),
        Part("tokenizer_2", "tokenizer", CLIP_TOKENIZER),
    )
    kohya_prefixes = {  # noqa: RUF012
        "unet": "lora_unet_",
        "text_encoder": "lora_te1_text_model_",
        "text_encoder_2": "lora_te2_text_model_",
    }
    extras = {"add_watermarker": False}  # noqa: RUF012
    single_file = "sdxl"
    index_settings = ("force_zeros_for_empty_prompt",)
    empty_is_text = False

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return both hidden states before the last side by side, and the second projection."""
        import torch

        hidden, pooled = [], None
        for name in self.text_encoders:
            found = text_encoders[name](tokens_UL[name], output_hidden_states=True)
            hidden.append(found.hidden_states[-2])
            pooled = found[0]
        return {CONTEXT: torch.cat(hidden, dim=-1), POOLED: cast("torch.Tensor", pooled)}

    def without_text(self, model: "DiffusionParts", conditioning: Tensors) -> Tensors:
        """Return zeros, where the model says so; SDXL was trained with them for no text."""
        if not model.index.get("force_zeros_for_empty_prompt", True):
            return conditioning
        return {name: value.new_zeros(value.shape) for name, value in conditioning.items()}

    def unread(self, text_encoders: "Mapping[str, PreTrainedModel]") -> "Sequence[torch.nn.Module]":
        """Return the first encoder's end: its hidden state before the last layer is read."""
        encoder = text_encoders["text_encoder"]
        model = getattr(encoder, "text_model", encoder)
        return [model.encoder.layers[-1], model.final_layer_norm]

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
        """Return the UNet's prediction for an uncropped picture of its own size."""
        height, width = (side * pixels_per_latent for side in noisy_BCHW.shape[2:])
        ids = noisy_BCHW.new_tensor([height, width, 0, 0, height, width])
        (prediction,) = denoiser(
            noisy_BCHW,
            timesteps,
            encoder_hidden_states=conditioning[CONTEXT],
            added_cond_kwargs={
                "text_embeds": conditioning[POOLED],
                "time_ids": ids.expand(len(noisy_BCHW), -1),
            },
            return_dict=False,
        )
        return cast("torch.Tensor", prediction)


SDXL = Sdxl()
