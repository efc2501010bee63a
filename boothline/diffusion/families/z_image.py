"""Z-Image: Tongyi's single-stream flow transformer, 2025, as diffusers' pipeline runs it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from boothline.diffusion.families.chat import (
    QWEN_TOKENIZER,
    TIMESTEPS,
    ChatFamily,
    conversation,
    hidden_state,
    texts,
)
from boothline.diffusion.families.family import AUTOENCODER, Part, Tensors

if TYPE_CHECKING:
    import torch
    from diffusers import ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ZImage(ChatFamily):
    """Qwen3's hidden state before its last layer; the transformer predicts from noise to picture.

    diffusers' pipeline counts guidance from 0: its scale is ours less one.
    """

    name = "Z-Image"
    pipeline = "ZImagePipeline"
    density = "shifted"
    kohya_prefixes = {"transformer": "lora_unet_"}  # noqa: RUF012
    longest = 512
    parts = (
        Part("transformer", "denoiser", ("ZImageTransformer2DModel",)),
        AUTOENCODER,
        Part("text_encoder", "text_encoder", ("Qwen3Model", "Qwen3ForCausalLM")),
        Part("tokenizer", "tokenizer", QWEN_TOKENIZER),
    )

    def written(self, prompt: str, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Return what a user says to the model."""
        return conversation(prompt, tokenizer, thinking=True)

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return the hidden state before the last layer."""
        return hidden_state(text_encoders["text_encoder"], tokens_UL, layer=-2)

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
        """Return the transformer's velocity, negated: its time is the share of the picture."""
        import torch

        done_B = 1 - timesteps.expand(len(noisy_BCHW)).to(noisy_BCHW.dtype) / TIMESTEPS
        rows = []
        for row, context_LD in enumerate(texts(conditioning)):
            ((found_CFHW,),) = denoiser(
                [noisy_BCHW[row, :, None]], done_B[row, None], [context_LD], return_dict=False
            )
            rows.append(-found_CFHW[:, 0])
        return torch.stack(rows)


Z_IMAGE = ZImage()
