"""`Denoiser`: the trained networks as one module, so that DDP synchronises them together."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from boothline.diffusion.lora import STATE_SUFFIX


class RowsOf(torch.autograd.Function):
    """Rows of a table, as index_select gives them; samples that share a row add their gradients.

    They are added in the order of the samples, as index_select's own backward pass does on a CPU.
    On CUDA that one adds atomically, in an order that differs from run to run.
    """

    @staticmethod
    def forward(ctx: Any, table_ULD: torch.Tensor, rows_B: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        """Return (B, L, D): row `rows_B[i]` of the table for sample i."""
        ctx.save_for_backward(rows_B)
        ctx.num_rows = table_ULD.shape[0]
        return table_ULD.index_select(0, rows_B)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ANN401
        """Return the table's gradient, (U, L, D); nothing waits for the device."""
        (rows_B,), (gradient_BLD,) = ctx.saved_tensors, gradients
        numbers_U = torch.arange(ctx.num_rows, device=rows_B.device)
        is_row_BU11 = (rows_B[:, None] == numbers_U)[:, :, None, None]
        wide = torch.promote_types(gradient_BLD.dtype, torch.float32)  # a half's sum rounds once
        total_ULD = gradient_BLD.new_zeros(ctx.num_rows, *gradient_BLD.shape[1:], dtype=wide)
        for is_row_U11, gradient_LD in zip(is_row_BU11, gradient_BLD, strict=True):
            total_ULD += torch.where(is_row_U11, gradient_LD, 0)
        return total_ULD.to(gradient_BLD.dtype), None


class Denoiser(nn.Module):
    """Predicts from noisy latents and captions.

    Args:
        unet: a UNet2DConditionModel.
        text_encoder: the CLIP text encoder when it is trained; None: captions come as embeddings.
        adapted: the networks carry adapters, and these alone are trained.
        compiled: compile the UNet for its training; evaluation, whose shapes vary, runs it as is.
    """

    def __init__(
        self,
        unet: nn.Module,
        text_encoder: nn.Module | None,
        *,
        adapted: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        # In a tuple, so that its weights are not listed a second time.
        self._compiled = (torch.compile(unet, dynamic=False),) if compiled else ()
        self.unet = unet
        self.text_encoder = text_encoder
        self._adapted = adapted

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
        conditioning: torch.Tensor = RowsOf.apply(hidden, caption_rows_B)  # type: ignore[no-untyped-call]
        unet = self._compiled[0] if self._compiled and self.training else self.unet
        (prediction,) = unet(
            noisy_BCHW, timesteps_B, encoder_hidden_states=conditioning, return_dict=False
        )
        return cast(torch.Tensor, prediction)

    def networks(self) -> dict[str, nn.Module]:
        """Return the trained networks by the name their weights are stored under."""
        networks = {"unet": self.unet}
        if self.text_encoder is not None:
            networks["text_encoder"] = self.text_encoder
        return networks

    def trained_weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the weights that a training state keeps, by the name of their file.

        These are all weights of the networks, or their adapters alone (`unet_lora.safetensors`).
        """
        if not self._adapted:
            return {f"{n}.safetensors": net.state_dict() for n, net in self.networks().items()}
        return {
            f"{name}{STATE_SUFFIX}.safetensors": {
                key: p.detach() for key, p in network.named_parameters() if p.requires_grad
            }
            for name, network in self.networks().items()
        }

    @torch.no_grad()
    def take_over(self, weights: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Put stored weights in the place of the present ones.

        Args:
            weights: what `trained_weights` returned.

        Raises:
            ValueError: the names or shapes of the weights differ.
        """
        for file, present in self.trained_weights().items():
            if _shapes(present) != _shapes(weights[file]):
                raise ValueError(f"{file} holds other weights than this training")
            for key, weight in present.items():
                weight.copy_(weights[file][key])


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}
