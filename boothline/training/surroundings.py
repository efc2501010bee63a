"""`Surroundings`: the frozen networks around a training, in memory only while they are needed.

Once the pictures and captions are encoded, only sample sheets need the autoencoder and a frozen
text encoder. Between sheets they would take memory from the training (0.8 GB for Stable Diffusion
1.5).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from boothline.diffusion.loading import DiffusionParts, load_text_encoder, load_vae


class Surroundings:
    """Lends the whole base model, with the networks in training as they are.

    Args:
        pipeline: the base model, whole.
        folder: where it was loaded from.
        text_encoder_trained: the text encoder is no surrounding then, and stays.
    """

    def __init__(
        self, pipeline: DiffusionParts, *, folder: Path, text_encoder_trained: bool
    ) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._text_encoder_trained = text_encoder_trained
        self._released = False

    def release(self) -> None:
        """Let go of the frozen networks from now on, except while the whole is lent."""
        self._released = True
        nothing: Any = None
        self._pipeline = replace(self._pipeline, vae=nothing)
        if not self._text_encoder_trained:
            self._pipeline = replace(self._pipeline, text_encoder=nothing)

    @contextmanager
    def whole(self) -> Iterator[DiffusionParts]:
        """Lend the whole base model inside the block.

        Raises:
            DataError: the base model's folder is gone or damaged.
        """
        if not self._released:
            yield self._pipeline
            return
        device = self._pipeline.unet.device
        lent = replace(self._pipeline, vae=load_vae(self._folder, device=device))
        if not self._text_encoder_trained:
            lent = replace(lent, text_encoder=load_text_encoder(self._folder, device=device))
        yield lent
        del lent
        if device.type == "cuda":
            torch.cuda.empty_cache()
