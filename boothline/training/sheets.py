"""Sample sheets during training: fixed prompts and seeds, the pictures shared over the ranks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from boothline.buckets import Size, nearest, sizes_of
from boothline.config import RunConfig
from boothline.config.subject import SubjectConfig
from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.sampling import SampleRequest, sample
from boothline.pictures.sheets import contact_sheet
from boothline.training.denoiser import Surroundings
from boothline.training.pictures import Picture, load_pixels, open_picture
from boothline.training.ranks import Ranks

MAX_PICTURES = 8


@torch.no_grad()
def make_inputs_sheet(
    path: Path, pictures: Sequence[Picture], *, sizes: Sequence[Size], pipeline: DiffusionParts
) -> None:
    """Save the first pictures as a PNG, each above its reconstruction.

    No training can draw finer than these reconstructions.

    Args:
        path: the PNG.
        pictures: instance pictures, at least one.
        sizes: (width, height) in pixels that they are trained at.
        pipeline: the base model, whose autoencoder is frozen.
    """
    shown = [_shown(picture, sizes, pipeline) for picture in pictures[:MAX_PICTURES]]
    originals, kept = zip(*shown, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet([*originals, *kept], num_columns=len(shown), gap_px=0).save(path)


def _shown(
    picture: Picture, sizes: Sequence[Size], pipeline: DiffusionParts
) -> tuple[Image.Image, Image.Image]:
    """Return a picture at its training size, and its reconstruction."""
    size = nearest(open_picture(picture).size, sizes)
    pixels_CHW = load_pixels(picture, size_px=size)
    vae = pipeline.vae
    mean = pipeline.moments(pixels_CHW[None].to(vae.device)).chunk(2, dim=1)[0]
    return _image(pixels_CHW), _image(pipeline.family.pixels(vae, mean)[0].float().cpu())


def _image(pixels_CHW: torch.Tensor) -> Image.Image:
    """Return the picture of float32 pixels in -1 to 1; what lies beyond is cut off."""
    scaled_CHW = ((pixels_CHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(scaled_CHW.permute(1, 2, 0).numpy())


MAX_PROMPTS = 8
MAX_SAMPLING_STEPS = 10


def is_due(config: TrainingConfig, step: int) -> bool:
    """Return whether there is a sheet after a step that is not the last: each Nth one, and early.

    Early are 1, 2, 4, 8, ... below N.
    """
    every = config.sample_every_steps
    if every and step % every == 0:
        return True
    return config.sample_early and step & (step - 1) == 0 and (not every or step < every)


def sheet_prompts(config: RunConfig) -> list[tuple[SubjectConfig, str]]:
    """Return the prompt templates of a sheet; several subjects share the room on it."""
    subjects = [one.subject for one in config.by_subject.values()]
    templates = config.evaluation.prompts[: MAX_PROMPTS // len(subjects) or 1]
    return [(subject, template) for subject in subjects for template in templates]


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
        self._sharing = ranks.sharing(config.training)
        self._is_lowered = config.training.frozen_precision != "fp32"
        self._sizes = sizes_of(config.subject)
        self.prompts = [subject.fill(p) for subject, p in sheet_prompts(config)]
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
        mine = list(prompts[self._sharing.rank :: self._sharing.world_size])
        sampled = dict(zip(mine, self._sampled(mine), strict=True))
        pictures = []
        for index in prompts:
            width_px, height_px = self._size(index)
            pixels_HWC = torch.zeros(height_px, width_px, 3, dtype=torch.uint8)
            if index in sampled:
                pixels_HWC = torch.from_numpy(np.array(sampled[index].convert("RGB")))
            pictures.append(Image.fromarray(self._sharing.sum(pixels_HWC).numpy()))
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
        with self._surroundings.whole() as pipeline, self._computing():
            yield from sample(pipeline, requests, sampling=self._sampling)

    def _computing(self) -> torch.autocast:
        """Compute in bf16 where the networks have weights in it."""
        return torch.autocast(self._ranks.device.type, torch.bfloat16, enabled=self._is_lowered)
