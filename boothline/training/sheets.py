"""Sample sheets during training: fixed prompts and seeds, the pictures shared over the ranks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from boothline.buckets import Size, sizes_of
from boothline.config import RunConfig
from boothline.diffusion.sampling import SampleRequest, sample
from boothline.pictures.sheets import contact_sheet
from boothline.training.inputs_sheet import make_inputs_sheet
from boothline.training.pictures import Picture
from boothline.training.ranks import Ranks
from boothline.training.surroundings import Surroundings

MAX_PROMPTS = 8
MAX_SAMPLING_STEPS = 10


class SheetMaker:
    """Samples the prompts of `evaluation.prompts` with the networks as they are now.

    With aspect buckets the prompts are shared out over their sizes.

    Args:
        surroundings: lend the model that holds the networks in training.
        config: prompts, sampling and picture sizes.
        ranks: who shares the work.
    """

    def __init__(self, surroundings: Surroundings, *, config: RunConfig, ranks: Ranks) -> None:
        self._surroundings = surroundings
        self._ranks = ranks
        self._sizes = sizes_of(config.subject)
        self.prompts = [config.subject.fill(p) for p in config.evaluation.prompts[:MAX_PROMPTS]]
        sampling = config.evaluation.sampling
        per_rank = -(-len(self.prompts) // ranks.world_size)
        self._sampling = sampling.model_copy(
            update={
                "num_steps": min(sampling.num_steps, MAX_SAMPLING_STEPS),
                "batch_size": min(sampling.batch_size, per_rank),
            }
        )

    def make(self, path: Path) -> list[Image.Image]:
        """Sample all prompts and, on rank 0, save them side by side as a PNG.

        Every rank must call it.

        Returns:
            One picture a prompt, on every rank.
        """
        prompts = range(len(self.prompts))
        mine = list(prompts[self._ranks.rank :: self._ranks.world_size])
        sampled = dict(zip(mine, self._sampled(mine), strict=True))
        pictures = []
        for index in prompts:
            width_px, height_px = self._size(index)
            pixels_HWC = torch.zeros(height_px, width_px, 3, dtype=torch.uint8)
            if index in sampled:
                pixels_HWC = torch.from_numpy(np.array(sampled[index].convert("RGB")))
            pictures.append(Image.fromarray(self._ranks.sum(pixels_HWC).numpy()))
        if self._ranks.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            contact_sheet(pictures, num_columns=len(pictures), gap_px=0).save(path)
        return pictures

    def show_inputs(self, path: Path, *, pictures: Sequence[Picture]) -> None:
        """Save on rank 0 what the training takes in, as a PNG; no part of its result.

        Args:
            path: the PNG.
            pictures: instance pictures, at least one.
        """
        if self._ranks.is_main:
            with self._surroundings.whole() as pipeline:
                make_inputs_sheet(path, pictures, sizes=self._sizes, pipeline=pipeline)

    def _size(self, index: int) -> Size:
        """Return (width, height) in pixels of a prompt's picture; neighbours share batches."""
        return self._sizes[index * len(self._sizes) // len(self.prompts)]

    def _sampled(self, indices: list[int]) -> Iterator[Image.Image]:
        requests = [
            SampleRequest(
                prompt=self.prompts[index],
                seed=self._sampling.seed,
                index=index,
                negative_prompt=self._sampling.negative_prompt,
                width_px=self._size(index)[0],
                height_px=self._size(index)[1],
            )
            for index in indices
        ]
        with self._surroundings.whole() as pipeline:
            yield from sample(pipeline, requests, sampling=self._sampling)
