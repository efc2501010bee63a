"""Step validate_data: from a folder of pictures to a checked dataset."""

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Dataset

ABOUT = StepDescription(
    name="validate_data",
    place=10,
    image=TOOLS,
    result=Dataset,
    runs="always",
)
