"""`Surroundings`: the frozen networks around a training, in memory only while they are needed.

Once the pictures and captions are encoded, only sample sheets need the autoencoder and the frozen
text encoders. Between sheets they would take memory from the training (0.8 GB for Stable Diffusion
1.5).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from boothline.diffusion.loading import DiffusionParts, load_frozen


class Surroundings:
    """Lends the whole base model, with the networks in training as they are.

    Args:
        pipeline: the base model, whole.
        folder: where it was loaded from.
        text_encoder_trained: the text encoders are no surroundings then, and stay.
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
