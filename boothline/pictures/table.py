"""The table of pictures that a model in MLflow takes: its columns, and the row of each line."""

import re
from collections.abc import Mapping
from typing import Final, TypedDict

from pydantic import ValidationError

from boothline.config.sampling import SamplerName
from boothline.errors import ConfigError, DataError
from boothline.pictures.prompts import PromptRow

COLUMNS: Final[Mapping[str, str]] = {
    "prompt": "string",
    "seed": "long",
    "steps": "long",
    "guidance": "double",
    "sampler": "string",
    "negative": "string",
    "size": "string",
}
"""Types of the columns as MLflow names them; all but the prompt may be left out."""


class PictureSettings(TypedDict, total=False):
    """Settings of a picture in Python: the columns but for the prompt."""

    seed: int
    steps: int
    guidance: float
    sampler: SamplerName
    negative: str
    size: str


EXAMPLE: Final[Mapping[str, object]] = {"seed": 0, "steps": 30, "guidance": 7.5}
_FIELDS: Final = {"steps": "num_steps", "guidance": "guidance_scale", "negative": "negative_prompt"}


def row_of(line: Mapping[str, object]) -> PromptRow:
    """Return the row of one line; a cell that is empty or missing is unset, the seed then 0.

    Raises:
        ConfigError: a column is unknown, or the size cannot be used.
        DataError: another cell cannot be used.
    """
    if unknown := line.keys() - COLUMNS.keys():
        raise ConfigError(
            f"There is no setting {min(unknown)!r} of a picture.",
            remedy=f"There are {', '.join(COLUMNS)}.",
        )
    # An empty cell of a table with numbers is NaN, the only value that is not equal to itself.
    cells = {name: value for name, value in line.items() if value is not None and value == value}
    size = cells.pop("size", None)
    values = {_FIELDS.get(name, name): value for name, value in cells.items()}
    if size is not None:
        values["width_px"], values["height_px"] = size_of(str(size))
    try:
        return PromptRow.model_validate({"seed": 0, **values})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        name = next((column for column, its in _FIELDS.items() if its == field), field)
        raise DataError(f"The picture's {name} cannot be used: {first['msg']}.") from error


def size_of(text: str, *, name: str = "The size") -> tuple[int, int]:
    """Return width and height in pixels of `WIDTHxHEIGHT`.

    Args:
        text: the size.
        name: what messages call it.

    Raises:
        ConfigError: it is not a size that pictures can have.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(8 <= side <= 4096 and side % 8 == 0 for side in (width, height)):
        raise ConfigError(
            f"{name} {text} is not a size.",
            remedy="Write WIDTHxHEIGHT in pixels, both multiples of 8 up to 4096: 768x512.",
        )
    return width, height
