"""Puts pictures together for those who read them: sheets, MLflow's tables, WebDataset tars."""

import io
import json
import math
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from boothline.pictures.making import png_of
from boothline.pictures.plan import PlannedPicture

if TYPE_CHECKING:
    from boothline.tracking import StepTracker

_BACKGROUND = (255, 255, 255)
# What MLflow reads of a run to find its tables, and where it puts the pictures of one.
TABLES_TAG: Final = "mlflow.loggedArtifacts"
_PICTURES: Final = "table_images"
_QUALITY: Final = 90

Cell = str | float | int | bytes | None
ReadPicture = Callable[[str], bytes]


def contact_sheet(
    images: Sequence[Image.Image], *, num_columns: int | None = None, gap_px: int = 4
) -> Image.Image:
    """Return one RGB picture with all pictures in rows, left to right and top to bottom.

    Args:
        images: at least one; cells have the size of the largest.
        num_columns: pictures per row; about square when unset.
        gap_px: white space between and around pictures, in pixels.

    Raises:
        ValueError: there are no pictures.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    columns = num_columns or math.ceil(math.sqrt(len(images)))
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    width_px = max(image.width for image in images) + gap_px
    height_px = max(image.height for image in images) + gap_px
    size = (columns * width_px + gap_px, rows * height_px + gap_px)
    sheet = Image.new("RGB", size, _BACKGROUND)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        sheet.paste(image, (gap_px + column * width_px, gap_px + row * height_px))
    return sheet


def track_sheet(
    tracker: "StepTracker",
    pictures: Sequence[bytes],
    *,
    path: Path,
    folder: str,
    num_columns: int | None = None,
) -> None:
    """Save pictures as one sheet and hand it to the tracker; nothing happens without pictures.

    Args:
        tracker: of the step.
        pictures: what to show, as PNG.
        path: file to write.
        folder: where the tracker puts it.
        num_columns: pictures per row; about square when unset.
    """
    if pictures:
        images = [Image.open(io.BytesIO(picture), formats=("PNG",)) for picture in pictures]
        contact_sheet(images, num_columns=num_columns).save(path)
        tracker.artifact(path, folder=folder)


def track_table(
    tracker: "StepTracker", rows: Sequence[Mapping[str, Cell]], *, name: str, folder: Path
) -> None:
    """Log a table whose cells may be pictures, as MLflow shows it; nothing happens without rows.

    It is written here, since the images of the steps have no pandas.

    Args:
        tracker: of the step.
        rows: what each column says, the same columns in every row; a picture is a PNG.
        name: of the table.
        folder: scratch folder.
    """
    if not rows:
        return
    columns = list(rows[0])
    data = [
        [_written(tracker, row[column], folder / f"{number:04d}-{place}.webp", table=name)
         for place, column in enumerate(columns)]
        for number, row in enumerate(rows)
    ]  # fmt: skip
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"columns": columns, "data": data}), encoding="utf-8")
    tracker.artifact(path)
    tracker.tags({TABLES_TAG: json.dumps([{"path": path.name, "type": "table"}])})


def _written(tracker: "StepTracker", cell: Cell, path: Path, *, table: str) -> object:
    """Return a cell as the table names it; a picture is logged on its own, as a small copy."""
    if not isinstance(cell, bytes):
        return cell
    with Image.open(io.BytesIO(cell), formats=("PNG",)) as image:
        image.convert("RGB").save(path, quality=_QUALITY)
    folder = f"{_PICTURES}/{table}"
    tracker.artifact(path, folder=folder)
    place = f"{folder}/{path.name}"
    return {"type": "image", "filepath": place, "compressed_filepath": place}


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
        yield png_of(contact_sheet(images, num_columns=num_columns))
