"""Step promote: judges a model and makes it champion if it passes."""

from typing import TYPE_CHECKING

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Promotion

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log the verdict."""
    context.tracker.tags({"boothline.verdict": context.store.read_as(Promotion, ref).verdict})


ABOUT = StepDescription(
    name="promote",
    place=90,
    image=TOOLS,
    result=Promotion,
    show=show,
)
