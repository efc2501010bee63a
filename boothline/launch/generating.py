"""Makes pictures with a registered model, here and now."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from boothline.config.sampling import SamplingConfig
from boothline.launch.local.session import Session
from boothline.registry.versions import resolve

if TYPE_CHECKING:
    from boothline.diffusion.prompts import PromptRow

MODEL_FOLDER = "diffusers/"


class MadePictures(BaseModel):
    """Pictures and the model they come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    digest: str
    pictures: list[str]
    sheet: str = ""


def make_pictures(
    session: Session,
    rows: "Sequence[PromptRow]",
    *,
    model: tuple[str, str],
    folder: Path,
    num_images: int,
    seed: int,
    sheet: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadePictures:
    """Make the pictures of some prompts and write them as PNG files.

    Rows that name a picture start from it, at their strength or 0.8.

    Args:
        session: the open home folder; the model is kept in its cache.
        rows: the prompts.
        model: name and version (`champion`, `challenger` or a number).
        folder: receives the pictures.
        num_images: pictures per prompt.
        seed: picture i of prompt p depends on (seed, p, i) only.
        sheet: write `sheet.png` with all pictures too, a row for each prompt.
        on_progress: called with pictures done and all pictures.

    Raises:
        ModelNotFoundError: there is no such version.
        IntegrityError: a verification key is set and the model's signature is not right.
    """
    from boothline.diffusion.batch import generate, plan_pictures, save_picture
    from boothline.diffusion.loading import load_pipeline
    from boothline.diffusion.signatures import verify_signed

    version = resolve(session.store, *model)
    cached = session.home / "cache" / "models" / version.digest
    if not (cached / "complete").exists():
        session.store.fetch(version.ref, cached, prefix=MODEL_FOLDER)
        (cached / "complete").touch()
    verify_signed(session.store, session.settings, version.ref, cached / MODEL_FOLDER)
    pipeline = load_pipeline(cached / MODEL_FOLDER, for_sampling=True)
    planned = plan_pictures(rows, sampling=SamplingConfig(seed=seed), images_per_prompt=num_images)
    paths: list[str] = []
    for picture, image in generate(pipeline, planned, on_progress=on_progress):
        path = folder / picture.name
        save_picture(image, picture, path, model_digest=version.digest)
        paths.append(str(path))
    paths.sort()
    return MadePictures(
        model=version.name,
        version=version.version,
        digest=version.digest,
        pictures=paths,
        sheet=_write_sheet(paths, folder, num_columns=num_images) if sheet else "",
    )


def _write_sheet(paths: Sequence[str], folder: Path, *, num_columns: int) -> str:
    """Write one sheet with all pictures and return its path."""
    from PIL import Image

    from boothline.diffusion.sheets import contact_sheet

    images = [Image.open(path, formats=("PNG",)) for path in paths]
    columns = num_columns if num_columns > 1 else None
    path = folder / "sheet.png"
    contact_sheet(images, num_columns=columns).save(path)
    return str(path)
