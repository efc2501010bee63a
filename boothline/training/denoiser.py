"""`Denoiser`: the trained networks as one module, so that DDP synchronises them together."""

from typing import cast

import torch
from torch import nn


class Denoiser(nn.Module):
    """Predicts from noisy latents and captions.

    Args:
        unet: a UNet2DConditionModel.
        text_encoder: the CLIP text encoder when it is trained; None: captions come as embeddings.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module | None) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(
        self,
        noisy_BCHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        captions: torch.Tensor,
        caption_rows_B: torch.Tensor,
    ) -> torch.Tensor:
        """Return the prediction: (B, C, H, W).

        Args:
            noisy_BCHW: noisy latents, float32.
            timesteps_B: int64.
            captions: the distinct captions: tokens (U, L) int64 when the text encoder is
                trained, else embeddings (U, L, D) float32.
            caption_rows_B: which caption each sample has, int64 in [0, U).
        """
        hidden = captions if self.text_encoder is None else self.text_encoder(captions)[0]
        conditioning = hidden.index_select(0, caption_rows_B)
        prediction = self.unet(noisy_BCHW, timesteps_B, encoder_hidden_states=conditioning)
        return cast(torch.Tensor, prediction.sample)

    def networks(self) -> dict[str, nn.Module]:
        """Return the trained networks by the name their weights are stored under."""
        networks = {"unet": self.unet}
        if self.text_encoder is not None:
            networks["text_encoder"] = self.text_encoder
        return networks
