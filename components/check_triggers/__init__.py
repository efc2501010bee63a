"""Step check_triggers: says whether to train again and claims the reason."""

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Decision

ABOUT = StepDescription(
    name="check_triggers",
    place=20,
    image=TOOLS,
    result=Decision,
    runs="always",
    pipelines=("retrain",),
)
