"""Step `publish_checkpoint`: exports the trained model, loads it back and registers it."""

from typing import TYPE_CHECKING

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Model

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log what the model is."""
    context.tracker.params(context.store.read_as(Model, ref).facts())


ABOUT = StepDescription(
    name="publish_checkpoint",
    place=50,
    image=TORCH,
    result=Model,
    gives="model",
    in_trials=True,
    signs=True,
    show=show,
)
