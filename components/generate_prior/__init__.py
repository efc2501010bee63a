"""Step `generate_prior`: samples class pictures from the base model."""

from pathlib import PurePath
from typing import TYPE_CHECKING

from boothline.catalogue import TORCH, Shards, StepDescription
from boothline.results import Prior

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

_SHEET_IMAGES = 16
_OF_THE_SHARD = ("num_images", "shard", "num_shards", "batch_size")


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the settings of the class pictures of each subject and a sheet of the first."""
    from boothline.subjects import of_each

    for one, part in of_each(context, ref):
        _show(one, part)


def _show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the class pictures of one subject."""
    from boothline.pictures.sheets import track_sheet

    entries = context.store.read(ref).under("images/")
    if entries:
        settings = {k: v for k, v in context.key_config.items() if k not in _OF_THE_SHARD}
        context.tracker.params({f"prior.{name}": value for name, value in settings.items()})
        path = context.folder / f"class-images-{int(PurePath(entries[0].path).stem):06d}.png"
        pictures = [context.store.read_entry(entry) for entry in entries[:_SHEET_IMAGES]]
        track_sheet(context.tracker, pictures, path=path, folder="prior")


ABOUT = StepDescription(
    name="generate_prior",
    place=30,
    image=TORCH,
    result=Prior,
    gives="priors",
    unit="picture",
    shards=Shards(
        setting="prior.num_shards",
        count=lambda config: config.prior.num_shards if config.prior.enabled else 1,
    ),
    show=show,
)
