"""Makes pictures with a registered model, here and now."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from boothline.config.sampling import SamplingConfig
from boothline.registry.versions import resolve
from pipelines.local.session import Session

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


def make_pictures(
    session: Session,
    rows: "Sequence[PromptRow]",
    *,
    model: tuple[str, str],
    folder: Path,
    num_images: int,
    seed: int,
) -> MadePictures:
    """Make the pictures of some prompts and write them as PNG files.

    Args:
        session: the open home folder; the model is kept in its cache.
        rows: the prompts.
        model: name and version (`champion`, `challenger` or a number).
        folder: receives the pictures.
        num_images: pictures per prompt.
        seed: picture i of prompt p depends on (seed, p, i) only.

    Raises:
        ModelNotFoundError: there is no such version.
    """
    from boothline.diffusion.batch import generate, plan_pictures, save_picture
    from boothline.diffusion.loading import load_pipeline

    version = resolve(session.store, *model)
    cached = session.home / "cache" / "models" / version.digest
    if not (cached / "complete").exists():
        session.store.fetch(version.ref, cached, prefix=MODEL_FOLDER)
        (cached / "complete").touch()
    pipeline = load_pipeline(cached / MODEL_FOLDER, for_sampling=True)
    planned = plan_pictures(rows, sampling=SamplingConfig(seed=seed), images_per_prompt=num_images)
    paths = []
    for picture, image in generate(pipeline, planned):
        path = folder / picture.name
        save_picture(image, picture, path, model_digest=version.digest)
        paths.append(str(path))
    return MadePictures(
        model=version.name,
        version=version.version,
        digest=version.digest,
        pictures=sorted(paths),
    )
