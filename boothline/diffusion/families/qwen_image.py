"""Qwen-Image: Wu et al., "Qwen-Image technical report", 2025, as diffusers' pipeline runs it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boothline.diffusion.families.chat import (
    QWEN_TOKENIZER,
    TIMESTEPS,
    ChatFamily,
    hidden_state,
    texts,
)
from boothline.diffusion.families.family import MASK, ChannelScale, LatentScale, Part, Tensors
from boothline.diffusion.families.flow import packed, unpacked

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKLQwenImage, ModelMixin
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from boothline.diffusion.loading import DiffusionParts

# The conversation that the model was trained with, and how many tokens stand before the prompt.
_CONVERSATION = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_NUM_BEFORE = 34


class QwenImage(ChatFamily):
    """Qwen2.5-VL's last hidden state after the instruction; the autoencoder is one of films."""

    name = "Qwen-Image"
    pipeline = "QwenImagePipeline"
    density = "shifted"
    kohya_prefixes = {"transformer": "lora_unet_"}  # noqa: RUF012
    longest = 1024 + _NUM_BEFORE
    parts = (
        Part("transformer", "denoiser", ("QwenImageTransformer2DModel",)),
        Part("vae", "autoencoder", ("AutoencoderKLQwenImage",)),
        Part("text_encoder", "text_encoder", ("Qwen2_5_VLForConditionalGeneration",)),
        Part("tokenizer", "tokenizer", QWEN_TOKENIZER),
    )

    def pixels_per_latent(self, config: Mapping[str, Any]) -> int:
        """Return the pixels along the side of one latent."""
        return int(2 ** len(config["temperal_downsample"]))

    def moments(self, vae: "AutoencoderKLQwenImage", pixels_BCHW: "torch.Tensor") -> "torch.Tensor":
        """Return mean and log variance of the only frame's latents."""
        return super().moments(vae, pixels_BCHW[:, :, None])[:, :, 0]

    def pixels(self, vae: "AutoencoderKLQwenImage", latents_BCHW: "torch.Tensor") -> "torch.Tensor":
        """Return the only frame's pixels."""
        return super().pixels(vae, latents_BCHW[:, :, None])[:, :, 0]

    def latent_scale(self, vae: "AutoencoderKLQwenImage") -> LatentScale:
        """Return mean and deviation of each channel."""
        import torch

        config = vae.config
        mean, deviation = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        return ChannelScale(factors=1 / deviation[:, None, None], shifts=mean[:, None, None])

    def latent_channels(self, model: "DiffusionParts") -> int:
        """Return the channels before packing."""
        return int(model.denoiser.config.in_channels) // 4

    def written(self, prompt: str, tokenizer: "PreTrainedTokenizerBase") -> str:
        """Return the conversation with the prompt as what the user says."""
        return _CONVERSATION.format(prompt)

    def embed(self, text_encoders: "Mapping[str, PreTrainedModel]", tokens_UL: Tensors) -> Tensors:
        """Return the last hidden state; the instruction counts as padding."""
        found = hidden_state(text_encoders["text_encoder"], tokens_UL, layer=-1)
        if MASK not in found:
            return found
        mask = found[MASK]
        return {**found, MASK: mask * (mask.cumsum(1) > _NUM_BEFORE)}

    def guided(
        self, unconditional_BCHW: "torch.Tensor", conditional_BCHW: "torch.Tensor", *, scale: float
    ) -> "torch.Tensor":
        """Return both halves combined, each token as long as the conditional one."""
        combined = super().guided(unconditional_BCHW, conditional_BCHW, scale=scale)
        height, width = combined.shape[2:]
        tokens, wanted = packed(combined), packed(conditional_BCHW)
        length = wanted.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)
        return unpacked(tokens * length, height=height, width=width)

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
        import torch

        count, (height, width) = len(noisy_BCHW), noisy_BCHW.shape[2:]
        tokens_BTD = packed(noisy_BCHW)
        levels_B = timesteps.expand(count).to(tokens_BTD.dtype) / TIMESTEPS
        rows = []
        for row, context_LD in enumerate(texts(conditioning)):
            (velocity_1TD,) = denoiser(
                hidden_states=tokens_BTD[row, None],
                timestep=levels_B[row, None],
                encoder_hidden_states=context_LD[None],
                img_shapes=[[(1, height // 2, width // 2)]],
                return_dict=False,
            )
            rows.append(velocity_1TD)
        return unpacked(torch.cat(rows), height=height, width=width)


QWEN_IMAGE = QwenImage()
