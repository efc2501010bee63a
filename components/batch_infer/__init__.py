"""Step `batch_infer`: makes the pictures that a prompt file asks for."""

from typing import TYPE_CHECKING

from boothline.catalogue import PIPELINES, TORCH, Shards, StepDescription
from boothline.results import Images

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

_SHEET_IMAGES = 64


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log a contact sheet of the first pictures."""
    import json

    from boothline.pictures.sheets import track_sheet

    store, manifest = context.store, context.store.read(ref)
    shard = Images.of(manifest, name=str(ref)).shard
    lines = store.read_entry(manifest.entry("index.jsonl")).splitlines()[:_SHEET_IMAGES]
    pictures = [store.read_entry(manifest.entry(json.loads(line)["image"])) for line in lines]
    path = context.folder / f"contact-sheet-{shard:03d}.png"
    track_sheet(context.tracker, pictures, path=path, folder="images")


ABOUT = StepDescription(
    name="batch_infer",
    place=100,
    image=TORCH,
    result=Images,
    unit="picture",
    runs="promoted",
    pipelines=PIPELINES,
    verifies=True,
    shards=Shards(setting="inference.num_shards", count=lambda config: config.inference.num_shards),
    show=show,
)
