"""The networks of a training: the `Denoiser` that is trained, and its frozen `Surroundings`."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from boothline.diffusion.families import STABLE_DIFFUSION, Family
from boothline.diffusion.loading import DiffusionParts, load_frozen
from boothline.diffusion.lora import STATE_SUFFIX
from boothline.diffusion.tokens import LEARNT

logger = logging.getLogger(__name__)


class RowsOf(torch.autograd.Function):
    """Rows of a table, as index_select gives them; samples that share a row add their gradients.

    They are added in the order of the samples, as index_select's own backward pass does on a CPU.
    On CUDA that one adds atomically, in an order that differs from run to run. A row may have any
    shape, such as (L, D) for tokens or (P,) for pooled features.
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
        is_row_BU = rows_B[:, None] == numbers_U
        wide = torch.promote_types(gradient_BLD.dtype, torch.float32)  # a half's sum rounds once
        total_ULD = gradient_BLD.new_zeros(ctx.num_rows, *gradient_BLD.shape[1:], dtype=wide)
        for is_row_U, gradient_LD in zip(is_row_BU, gradient_BLD, strict=True):
            is_row_U11 = is_row_U.reshape(-1, *(1 for _ in gradient_LD.shape))
            total_ULD += torch.where(is_row_U11, gradient_LD, 0)
        return total_ULD.to(gradient_BLD.dtype), None


class Denoiser(nn.Module):
    """Predicts from noisy latents and captions.

    Args:
        network: the family's denoiser.
        text_encoders: the text encoders by name when something in them is trained; None: captions
            come as conditionings.
        rows: learnt rows of their tables by text encoder, if there are any.
        family: how the network is called.
        pixels_per_latent: of the autoencoder, along a side.
        adapted: the networks carry adapters, and these alone are trained.
        compiled: compile the denoiser for its training; evaluation, whose shapes vary, runs it as
            is.
    """

    def __init__(
        self,
        network: nn.Module,
        text_encoders: Mapping[str, nn.Module] | None,
        *,
        rows: nn.ParameterDict | None = None,
        family: Family = STABLE_DIFFUSION,
        pixels_per_latent: int = 8,
        adapted: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        # In a tuple, so that its weights are not listed a second time.
        self._compiled = (torch.compile(network, dynamic=False),) if compiled else ()
        self._family = family
        self._pixels_per_latent = pixels_per_latent
        self._adapted = adapted
        self._text_encoders = (dict(text_encoders or {}),)
        trained = {
            name: encoder
            for name, encoder in self.text_encoders.items()
            if any(weight.requires_grad for weight in encoder.parameters())
        }
        own = {} if rows is None else {LEARNT: rows}
        self.trained = nn.ModuleDict({family.denoiser: network, **trained, **own})

    @property
    def network(self) -> nn.Module:
        """The network that denoises."""
        return self.trained[self._family.denoiser]

    @property
    def text_encoders(self) -> dict[str, nn.Module]:
        """The text encoders that are run, because something in them is trained, by name."""
        return self._text_encoders[0]

    def forward(
        self,
        noisy_BCHW: torch.Tensor,
        timesteps_B: torch.Tensor,
        captions: Mapping[str, torch.Tensor],
        caption_rows_B: torch.Tensor,
    ) -> torch.Tensor:
        """Return the prediction: (B, C, H, W).

        Args:
            noisy_BCHW: noisy latents, float32.
            timesteps_B: int64, or float32 for flow matching.
            captions: the distinct captions: tokens (U, L) int64 by text encoder where these are
                trained, else conditionings of U rows, float32.
            caption_rows_B: which caption each sample has, int64 in [0, U).
        """
        text_encoders = self.text_encoders
        features = self._family.embed(text_encoders, captions) if text_encoders else captions
        conditioning = {
            name: RowsOf.apply(value, caption_rows_B)  # type: ignore[no-untyped-call]
            for name, value in features.items()
        }
        network = self._compiled[0] if self._compiled and self.training else self.network
        return self._family.predict(
            network,
            noisy_BCHW,
            timesteps_B,
            conditioning,
            pixels_per_latent=self._pixels_per_latent,
        )

    def networks(self) -> dict[str, nn.Module]:
        """Return the trained networks by the name their weights are stored under."""
        return dict(self.trained.items())

    def trained_weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the weights that a training state keeps, by the name of their file.

        These are all weights of the networks, or their adapters alone (`unet_lora.safetensors`),
        and the learnt rows of tokens.
        """
        weights: dict[str, dict[str, torch.Tensor]] = {}
        for name, network in self.networks().items():
            if self._adapted and name != LEARNT:
                weights[f"{name}{STATE_SUFFIX}.safetensors"] = {
                    key: p.detach() for key, p in network.named_parameters() if p.requires_grad
                }
            else:
                weights[f"{name}.safetensors"] = network.state_dict()
        return weights

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


def can_compile(device: torch.device) -> bool:
    """Return whether a network can be compiled for a device; warn if not.

    On a CPU that takes a C++ compiler, on CUDA the library triton.

    Args:
        device: where the network runs.
    """
    missing = _missing(device)
    if missing:
        logger.warning(
            "training.compile is on, but %s: the training continues without; its numbers differ "
            "from those of a compiled training by rounding",
            missing,
        )
    return not missing


def _missing(device: torch.device) -> str:
    """Return what is missing, in words; empty if nothing is."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "triton is not installed"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        logger.debug("no C++ compiler: %s", error)
        return "there is no C++ compiler"
    return ""


class Surroundings:
    """Lends the whole base model, with the networks in training as they are.

    Once the pictures and captions are encoded, only sample sheets need the autoencoder and the
    frozen text encoders. Between sheets they would take memory from the training (0.8 GB for Stable
    Diffusion 1.5).

    Args:
        pipeline: the base model, whole.
        folder: where it was loaded from.
        text_encoder_trained: the text encoders are not among the frozen parts then, and stay.
    """

    def __init__(
        self, pipeline: DiffusionParts, *, folder: Path, text_encoder_trained: bool
    ) -> None:
        self._pipeline = pipeline
        self._folder = folder
        text_encoders = () if text_encoder_trained else pipeline.family.text_encoders
        self._names = [*pipeline.family.names("autoencoder"), *text_encoders]
        self._released = False

    def release(self) -> None:
        """Let go of the frozen networks from now on, except while the whole is lent."""
        self._released = True
        self._pipeline = self._pipeline.without(*self._names)

    @contextmanager
    def whole(self) -> Iterator[DiffusionParts]:
        """Lend the whole base model inside the block.

        Raises:
            DataError: the base model's folder is gone or damaged.
        """
        if not self._released:
            yield self._pipeline
            return
        device = self._pipeline.device
        lent = self._pipeline.changed(load_frozen(self._folder, self._names, device=device))
        yield lent
        del lent
        if device.type == "cuda":
            torch.cuda.empty_cache()
