"""Packs pictures for those who read them on: WebDataset tars and sheets."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from boothline.diffusion.batch import PlannedPicture
from boothline.diffusion.sheets import contact_sheet

ReadPicture = Callable[[str], bytes]


def write_webdataset(
    path: Path, pictures: Sequence[PlannedPicture], *, read: ReadPicture, model_digest: str
) -> None:
    """Write a WebDataset tar: `<key>.png`, `<key>.txt` (the prompt), `<key>.json` (the settings).

    Equal pictures give equal bytes: members are in the order of their names and carry no time and
    no owner.

    Args:
        path: file to write; its folder is created.
        pictures: what to pack.
        read: returns the PNG of a picture by its file name.
        model_digest: of the model that made them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for picture in sorted(pictures, key=lambda picture: picture.name):
            # A key ends at the first dot; the name has one only before its suffix.
            key = picture.name.removesuffix(".png")
            facts = json.dumps({"model": model_digest, **picture.facts()}, sort_keys=True)
            _add(archive, f"{key}.json", facts.encode())
            _add(archive, f"{key}.png", read(picture.name))
            _add(archive, f"{key}.txt", picture.prompt.encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def sheets(
    pictures: Sequence[PlannedPicture], *, read: ReadPicture, num_columns: int
) -> Iterator[bytes]:
    """Yield sheets of `num_columns` x `num_columns` pictures as PNG, in the order of the prompts.

    Args:
        pictures: what to show.
        read: returns the PNG of a picture by its file name.
        num_columns: pictures a row, and rows.
    """
    ordered = sorted(pictures, key=lambda picture: picture.name)
    for start in range(0, len(ordered), num_columns**2):
        images = [
            Image.open(io.BytesIO(read(picture.name)), formats=("PNG",))
            for picture in ordered[start : start + num_columns**2]
        ]
        buffer = io.BytesIO()
        contact_sheet(images, num_columns=num_columns).save(buffer, format="PNG")
        yield buffer.getvalue()
