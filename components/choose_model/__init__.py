"""Step choose_model: pins the version of a registered model that a batch inference serves."""

from typing import TYPE_CHECKING

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Choice

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log which version was chosen."""
    choice = context.store.read_as(Choice, ref)
    context.tracker.tags(
        {"boothline.model": choice.model_name, "boothline.version": str(choice.version)}
    )


ABOUT = StepDescription(
    name="choose_model",
    place=15,
    image=TOOLS,
    result=Choice,
    runs="always",
    pipelines=("batch_inference",),
    show=show,
)
