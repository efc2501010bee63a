"""Turns prompt rows into named pictures: what batch inference and `boothline generate` share."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from boothline.config.sampling import SamplingConfig
from boothline.diffusion.prompts import PromptRow

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts
    from boothline.diffusion.sampling import OnProgress

# Pictures of a row are numbered so far apart that images_per_prompt never changes one of them.
_STRIDE = 1000


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """One picture to make, with all that it depends on besides the model.

    Attributes:
        row, number: which prompt row, and which of its pictures.
        prompt, negative_prompt: texts, empty for none.
        seed, index: name the picture's noise.
        sampling: settings of this row.
        height_px, width_px: size; unset: the model's own.
    """

    row: int
    number: int
    prompt: str
    negative_prompt: str
    seed: int
    index: int
    sampling: SamplingConfig
    height_px: int | None = None
    width_px: int | None = None

    @property
    def name(self) -> str:
        """File name: prompt row and number, e.g. `00003-00.png`."""
        return f"{self.row:05d}-{self.number:02d}.png"

    def facts(self) -> dict[str, Any]:
        """Return the settings that a reader needs to make the picture again."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "index": self.index,
            "num_steps": self.sampling.num_steps,
            "guidance_scale": self.sampling.guidance_scale,
            "sampler": self.sampling.sampler,
            "eta": self.sampling.eta,
        }


def plan_pictures(
    rows: Sequence[PromptRow],
    *,
    sampling: SamplingConfig,
    images_per_prompt: int = 1,
    resolution_px: int | None = None,
    shard: int = 0,
    num_shards: int = 1,
) -> list[PlannedPicture]:
    """Return the pictures of the rows whose number is `shard` modulo `num_shards`.

    A row with a seed of its own gives the same pictures wherever it stands; another row's pictures
    depend on the run's seed and the row's number.

    Args:
        rows: all rows of the prompt file, whatever the shard.
        sampling: settings of rows that set none.
        images_per_prompt: pictures a row, at most 1000.
        resolution_px: side of pictures whose row sets no size; unset: the model's own.
        shard: number of this shard, from 0.
        num_shards: number of shards.
    """
    return [
        PlannedPicture(
            row=row_number,
            number=number,
            prompt=row.prompt,
            negative_prompt=row.negative_prompt
            if row.negative_prompt is not None
            else sampling.negative_prompt,
            seed=sampling.seed if row.seed is None else row.seed,
            index=number if row.seed is not None else row_number * _STRIDE + number,
            sampling=row.sampling(sampling),
            height_px=row.height_px or resolution_px,
            width_px=row.width_px or resolution_px,
        )
        for row_number, row in enumerate(rows)
        if row_number % num_shards == shard
        for number in range(images_per_prompt)
    ]


def generate(
    pipeline: "DiffusionParts",
    pictures: Sequence[PlannedPicture],
    *,
    on_progress: "OnProgress | None" = None,
) -> Iterator[tuple[PlannedPicture, Image.Image]]:
    """Yield each planned picture and its RGB image; pictures of equal settings share batches."""
    from boothline.diffusion.sampling import SampleRequest, sample

    done = 0

    def report(_done: int, _total: int) -> None:
        if on_progress:
            on_progress(done + _done, len(pictures))

    def settings_of(picture: PlannedPicture) -> str:
        sampling = picture.sampling.model_dump(mode="json", exclude={"seed", "negative_prompt"})
        return json.dumps([sampling, picture.height_px, picture.width_px], sort_keys=True)

    for _, group in groupby(sorted(pictures, key=settings_of), key=settings_of):
        alike = list(group)
        requests = [
            SampleRequest(
                prompt=picture.prompt,
                negative_prompt=picture.negative_prompt,
                seed=picture.seed,
                index=picture.index,
                height_px=picture.height_px,
                width_px=picture.width_px,
            )
            for picture in alike
        ]
        # The plan has settled each negative prompt; an empty one must not fall back to the run's.
        sampling = alike[0].sampling.model_copy(update={"negative_prompt": ""})
        images = sample(pipeline, requests, sampling=sampling, on_progress=report)
        yield from zip(alike, images, strict=True)
        done += len(alike)


def save_picture(
    image: Image.Image, picture: PlannedPicture, path: Path, *, model_digest: str
) -> None:
    """Write a PNG with its provenance as text: the model's digest and the settings."""
    info = PngInfo()
    for name, value in {"model": model_digest, **picture.facts()}.items():
        info.add_text(name, str(value))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG", pnginfo=info)
