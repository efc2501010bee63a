"""Step check_triggers: says whether to train again and claims the reason."""

from typing import TYPE_CHECKING

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Decision

if TYPE_CHECKING:
    from boothline.steps import StepContext
    from boothline.store import ManifestRef


def show(context: "StepContext", ref: "ManifestRef") -> None:
    """Log whether to train."""
    context.tracker.tags({"boothline.retrain": context.store.read_as(Decision, ref).decision})


ABOUT = StepDescription(
    name="check_triggers",
    place=20,
    image=TOOLS,
    result=Decision,
    runs="always",
    pipelines=("retrain",),
    show=show,
)
