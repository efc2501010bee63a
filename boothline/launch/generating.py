"""Makes pictures with a registered model, here and now."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from boothline.config.sampling import SamplingConfig
from boothline.data.captions import names
from boothline.launch.local.session import Session
from boothline.registry.loaded import LoadedModel
from boothline.registry.versions import resolve
from boothline.results import Model

if TYPE_CHECKING:
    from boothline.pictures.prompts import PromptRow

_NAME = re.compile(r"(?:sheet-)?(\d{5,})[-.]")
_SPEAKERS = ("prompt_encoding", "editing")


class MadePictures(BaseModel):
    """Pictures and the model they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    digest: str
    pictures: list[str]
    sheet: str = ""
    remarks: list[str] = Field(
        default_factory=list, description="What had to be decided about prompts and pictures."
    )


class _Collector(logging.Handler):
    """Keeps what is logged, each line once."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines[record.getMessage()] = None


@contextmanager
def _collected() -> Iterator[_Collector]:
    """Collect what is said about prompts and about pictures to start from."""
    collector = _Collector()
    loggers = [logging.getLogger(f"boothline.diffusion.{name}") for name in _SPEAKERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield collector
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(collector)
            logger.setLevel(level)
            logger.propagate = True


def make_pictures(
    session: Session,
    rows: "Sequence[PromptRow]",
    *,
    model: tuple[str, str],
    folder: Path,
    num_images: int,
    sampling: SamplingConfig,
    sheet: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadePictures:
    """Make the pictures of some prompts and write them as PNG files.

    Rows that name a picture start from it, at their strength or 0.8. Nothing is overwritten: file
    names are numbered on from those that are there.

    Args:
        session: the open home folder; the model is kept in its cache.
        rows: the prompts.
        model: name and version (`champion`, `challenger` or a number).
        folder: receives the pictures.
        num_images: pictures per prompt.
        sampling: of rows that set none; picture i of prompt p depends on (seed, p, i) only.
        sheet: write a sheet with all pictures too, a row for each prompt.
        on_progress: called with pictures done and all pictures.

    Raises:
        ModelNotFoundError: there is no such version.
        IntegrityError: a verification key is set and the model's signature is invalid.
    """
    from boothline.pictures.making import generate, save_picture

    version = resolve(session.store, *model)
    loaded = LoadedModel.load(
        session.store, session.settings, version, precision=sampling.precision
    )
    planned = loaded.plan(rows, sampling=sampling, num_images=num_images)
    paths: list[str] = []
    first = _next_number(folder)
    with _collected() as said:
        for picture, image in generate(loaded.pipeline, planned, on_progress=on_progress):
            path = folder / _moved(picture.name, by=first)
            save_picture(image, picture, path, model_digest=version.digest)
            paths.append(str(path))
    paths.sort()
    return MadePictures(
        model=version.name,
        version=version.version,
        digest=version.digest,
        pictures=paths,
        sheet=_write_sheet(paths, folder, num_columns=num_images) if sheet else "",
        remarks=[*_unnamed(loaded.facts, rows), *said.lines],
    )


def _moved(name: str, *, by: int) -> str:
    """Return a file name of a plan, such as 00003-00.png, with its row numbered on."""
    row, rest = name.split("-", 1)
    return f"{int(row) + by:05d}-{rest}"


def _next_number(folder: Path) -> int:
    """Return the number after that of the last picture in a folder."""
    numbers = [int(match[1]) for path in folder.glob("*.png") if (match := _NAME.match(path.name))]
    return max(numbers, default=-1) + 1


def _unnamed(model: Model, rows: "Sequence[PromptRow]") -> list[str]:
    """Return a sentence about prompts without the words that the model knows its subject by."""
    known = [phrase for phrase in model.phrases if phrase]
    lacking = [row.prompt for row in rows if not any(names(row.prompt, one) for one in known)]
    if not lacking or not (model.identifier or model.subjects):
        return []
    phrase = " or ".join(map(repr, known))
    others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return [
        f"Warning: the prompt {lacking[0]!r}{others} lacks {phrase}: by these words the model "
        "knows its subject."
    ]


def _write_sheet(paths: Sequence[str], folder: Path, *, num_columns: int) -> str:
    """Write one sheet with all pictures and return its path."""
    from PIL import Image

    from boothline.pictures.sheets import contact_sheet

    images = [Image.open(path, formats=("PNG",)) for path in paths]
    columns = num_columns if num_columns > 1 else None
    path = folder / f"sheet-{Path(paths[0]).stem.partition('-')[0]}.png"
    contact_sheet(images, num_columns=columns).save(path)
    return str(path)
