"""Sample sheets during training: fixed prompts and seeds, the pictures shared over the ranks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from boothline.buckets import sizes_of
from boothline.config import RunConfig
from boothline.diffusion.sampling import SampleRequest, sample
from boothline.training.inputs_sheet import make_inputs_sheet
from boothline.training.pictures import Picture
from boothline.training.ranks import Ranks
from boothline.training.surroundings import Surroundings

MAX_PROMPTS = 8
MAX_SAMPLING_STEPS = 10


class SheetMaker:
    """Samples the prompts of `evaluation.prompts` with the networks as they are now.

    Args:
        surroundings: lend the model that holds the networks in training.
        config: prompts, sampling and picture size.
        ranks: who shares the work.
    """

    def __init__(self, surroundings: Surroundings, *, config: RunConfig, ranks: Ranks) -> None:
        self._surroundings = surroundings
        self._ranks = ranks
        self._sizes = sizes_of(config.subject)
        self._side_px = config.subject.resolution_px
        self.prompts = [config.subject.fill(p) for p in config.evaluation.prompts[:MAX_PROMPTS]]
        sampling = config.evaluation.sampling
        per_rank = -(-len(self.prompts) // ranks.world_size)
        self._sampling = sampling.model_copy(
            update={
                "num_steps": min(sampling.num_steps, MAX_SAMPLING_STEPS),
                "batch_size": min(sampling.batch_size, per_rank),
            }
        )

    def make(self, path: Path) -> torch.Tensor:
        """Sample all prompts and, on rank 0, save them side by side as a PNG.

        Every rank must call it.

        Returns:
            pixels_NHWC: uint8, one picture a prompt, on every rank.
        """
        pictures = torch.zeros(
            len(self.prompts), self._side_px, self._side_px, 3, dtype=torch.uint8
        )
        mine = list(range(self._ranks.rank, len(self.prompts), self._ranks.world_size))
        for index, picture in zip(mine, self._sampled(mine), strict=True):
            pictures[index] = torch.from_numpy(np.array(picture.convert("RGB")))
        self._ranks.sum(pictures)
        if self._ranks.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.concatenate(list(pictures.numpy()), axis=1)).save(path)
        return pictures

    def show_inputs(self, path: Path, *, pictures: Sequence[Picture]) -> None:
        """Save on rank 0 what the training takes in, as a PNG; no part of its result.

        Args:
            path: the PNG.
            pictures: instance pictures, at least one.
        """
        if self._ranks.is_main:
            with self._surroundings.whole() as pipeline:
                make_inputs_sheet(path, pictures, sizes=self._sizes, vae=pipeline.vae)

    def _sampled(self, indices: list[int]) -> Iterator[Image.Image]:
        requests = [
            SampleRequest(
                prompt=self.prompts[index],
                seed=self._sampling.seed,
                index=index,
                negative_prompt=self._sampling.negative_prompt,
                height_px=self._side_px,
                width_px=self._side_px,
            )
            for index in indices
        ]
        with self._surroundings.whole() as pipeline:
            yield from sample(pipeline, requests, sampling=self._sampling)
