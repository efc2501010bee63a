"""A table with pictures, as MLflow's pages show it: written here, since steps have no pandas."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from boothline.tracking.base import StepTracker

# What MLflow reads of a run to find its tables, and where it puts the pictures of one.
TABLES_TAG: Final = "mlflow.loggedArtifacts"
_PICTURES: Final = "table_images"
_QUALITY: Final = 90

Cell = str | float | int | bytes | None


def track_table(
    tracker: StepTracker, rows: Sequence[Mapping[str, Cell]], *, name: str, folder: Path
) -> None:
    """Log a table whose cells may be pictures; nothing happens without rows.

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


def _written(tracker: StepTracker, cell: Cell, path: Path, *, table: str) -> object:
    """Return a cell as the table names it; a picture is logged on its own, as a small copy."""
    if not isinstance(cell, bytes):
        return cell
    with Image.open(io.BytesIO(cell), formats=("PNG",)) as image:
        image.convert("RGB").save(path, quality=_QUALITY)
    folder = f"{_PICTURES}/{table}"
    tracker.artifact(path, folder=folder)
    place = f"{folder}/{path.name}"
    return {"type": "image", "filepath": place, "compressed_filepath": place}
