"""Step promote: judges a model and makes it champion if it passes."""

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Promotion

ABOUT = StepDescription(
    name="promote",
    place=90,
    image=TOOLS,
    result=Promotion,
)
