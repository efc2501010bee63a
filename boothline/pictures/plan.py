"""A plan of pictures: each with its file name and all that it depends on besides the model."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from boothline.config.sampling import SamplingConfig
from boothline.errors import DataError
from boothline.pictures.prompts import PromptRow

# Pictures of a row are numbered so far apart that images_per_prompt never changes one of them.
_STRIDE = 1000


@dataclass(frozen=True, kw_only=True)
class StartPicture:
    """A picture to start from, by file and content.

    Attributes:
        image, mask: the files; no mask: all is repainted.
        strength: share of the denoising steps that are taken, 0 to 1.
        image_sha256, mask_sha256: of the files' bytes, hexadecimal; empty without a mask.
    """

    image: Path
    mask: Path | None
    strength: float
    image_sha256: str
    mask_sha256: str

    @classmethod
    def of(cls, row: PromptRow, *, strength: float) -> "StartPicture | None":
        """Return what a row starts from, or None.

        Raises:
            DataError: a file cannot be read.
        """
        if row.image is None:
            return None
        return cls(
            image=Path(row.image),
            mask=Path(row.mask) if row.mask else None,
            strength=strength if row.strength is None else row.strength,
            image_sha256=_sha256(row.image),
            mask_sha256=_sha256(row.mask) if row.mask else "",
        )

    def facts(self) -> dict[str, object]:
        """Return what the picture depends on, by content."""
        return {
            "image_sha256": self.image_sha256,
            "mask_sha256": self.mask_sha256,
            "strength": self.strength,
        }


@lru_cache(maxsize=1024)
def _sha256(path: str) -> str:
    """Return the sha256 (hex) of a file; several rows often name the same one."""
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"The picture {path} cannot be read: {error.strerror or error}.",
            remedy="Check its path.",
        ) from error


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """One picture to make, with all that it depends on besides the model.

    Attributes:
        name: its file, e.g. `00003-00.png` for a prompt row and a number.
        prompt, negative_prompt: texts, empty for none.
        seed, index: name the picture's noise.
        sampling: settings of this row.
        height_px, width_px: size; unset: the model's own.
        start: picture to start from; unset: from noise alone.
    """

    name: str
    prompt: str
    negative_prompt: str
    seed: int
    index: int
    sampling: SamplingConfig
    height_px: int | None = None
    width_px: int | None = None
    start: StartPicture | None = None

    @classmethod
    def square(
        cls, name: str, *, prompt: str, index: int, sampling: SamplingConfig, side_px: int
    ) -> Self:
        """Return a square picture whose seed and negative prompt are those of its sampling."""
        return cls(
            name=name,
            prompt=prompt,
            negative_prompt=sampling.negative_prompt,
            seed=sampling.seed,
            index=index,
            sampling=sampling,
            height_px=side_px,
            width_px=side_px,
        )

    def facts(self) -> dict[str, object]:
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
            **({"precision": self.sampling.precision} if self.sampling.precision != "fp32" else {}),
            **(self.start.facts() if self.start else {}),
        }


def plan_pictures(
    rows: Sequence[PromptRow],
    *,
    sampling: SamplingConfig,
    images_per_prompt: int = 1,
    resolution_px: int | None = None,
    strength: float = 0.8,
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
        strength: of rows that start from a picture and set none.
        shard: number of this shard, from 0.
        num_shards: number of shards.
    """
    return [
        PlannedPicture(
            name=f"{row_number:05d}-{number:02d}.png",
            prompt=row.prompt,
            negative_prompt=row.negative_prompt
            if row.negative_prompt is not None
            else sampling.negative_prompt,
            seed=sampling.seed if row.seed is None else row.seed,
            index=number if row.seed is not None else row_number * _STRIDE + number,
            sampling=row.sampling(sampling),
            height_px=row.height_px or resolution_px,
            width_px=row.width_px or resolution_px,
            start=StartPicture.of(row, strength=strength),
        )
        for row_number, row in enumerate(rows)
        if row_number % num_shards == shard
        for number in range(images_per_prompt)
    ]
