"""Step `train`: fine-tunes the base model on the subject's pictures."""

from typing import TYPE_CHECKING

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Training

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef

VALIDATED = ("instance_loss", "held_out_loss", "subject", "prompt", "score")
METRICS = ("instance_loss", "prior_loss", "learning_rate", "grad_norm", "images_per_second")


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log settings, curve, validation and sheets of a training, or of a state of one."""
    import json

    from boothline.tracking import dotted

    store, tracker = context.store, context.tracker
    tracker.params(dotted(context.key_config))
    for name, kept, prefix in (
        ("curve.jsonl", METRICS, ""),
        ("validation.jsonl", VALIDATED, "validation_"),
    ):
        for entry in store.read(ref).under(name):
            for line in store.read_entry(entry).splitlines():
                row = json.loads(line)
                values = {f"{prefix}{key}": row[key] for key in kept if row.get(key) is not None}
                tracker.metrics(values, step=int(row["step"]))
    sheets = store.fetch(ref, context.folder / "shown", prefix="samples/") / "samples"
    for path in sorted(sheets.glob("*.png")):
        tracker.artifact(path, folder="samples")


ABOUT = StepDescription(
    name="train",
    place=40,
    image=TORCH,
    result=Training,
    gives="training",
    unit="optimizer step",
    in_trials=True,
    show=show,
)
