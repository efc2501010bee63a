"""Makes planned pictures: samples them, and encodes them as PNG with their provenance."""

import io
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from boothline.pictures.plan import PlannedPicture

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts
    from boothline.diffusion.sampling import OnProgress


def generate(
    pipeline: "DiffusionParts",
    pictures: Sequence[PlannedPicture],
    *,
    on_progress: "OnProgress | None" = None,
) -> Iterator[tuple[PlannedPicture, Image.Image]]:
    """Yield each planned picture and its RGB image; pictures of equal settings share batches."""
    from boothline.diffusion.editing import Edit
    from boothline.diffusion.sampling import SampleRequest, sample

    done = 0

    def report(_done: int, _total: int) -> None:
        if on_progress:
            on_progress(done + _done, len(pictures))

    for alike in of_equal_settings(pictures):
        requests = [
            SampleRequest(
                prompt=picture.prompt,
                negative_prompt=picture.negative_prompt,
                seed=picture.seed,
                index=picture.index,
                height_px=picture.height_px,
                width_px=picture.width_px,
                edit=Edit(
                    image=picture.start.image,
                    mask=picture.start.mask,
                    strength=picture.start.strength,
                )
                if picture.start
                else None,
            )
            for picture in alike
        ]
        # The plan has settled each negative prompt; an empty one must not fall back to the run's.
        sampling = alike[0].sampling.model_copy(update={"negative_prompt": ""})
        images = sample(pipeline, requests, sampling=sampling, on_progress=report)
        yield from zip(alike, images, strict=True)
        done += len(alike)


def of_equal_settings(pictures: Sequence[PlannedPicture]) -> Iterator[list[PlannedPicture]]:
    """Yield pictures in groups that can share batches."""

    def settings_of(picture: PlannedPicture) -> str:
        sampling = picture.sampling.model_dump(mode="json", exclude={"seed", "negative_prompt"})
        kind = (picture.start.strength, bool(picture.start.mask)) if picture.start else None
        return json.dumps([sampling, picture.height_px, picture.width_px, kind], sort_keys=True)

    for _, group in groupby(sorted(pictures, key=settings_of), key=settings_of):
        yield list(group)


def png_of(image: Image.Image, picture: PlannedPicture | None = None, **provenance: str) -> bytes:
    """Return an image as PNG; of a planned picture, settings and provenance are its texts.

    Args:
        image: the pixels.
        picture: what it was planned as; unset: no texts.
        provenance: further texts, as the digest of the `model` that made it; empty ones are none.
    """
    info = PngInfo()
    texts = {name: text for name, text in provenance.items() if text}
    for name, value in {**texts, **(picture.facts() if picture else {})}.items():
        info.add_text(name, str(value))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def save_picture(
    image: Image.Image, picture: PlannedPicture, path: Path, *, model_digest: str
) -> None:
    """Write a PNG that names its model and has its settings as text; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of(image, picture, model=model_digest))
