"""Step finish_run: writes the report of a run and records how the run ended."""

from boothline.catalogue import PIPELINES, TOOLS, StepDescription
from boothline.results import Report

ABOUT = StepDescription(
    name="finish_run",
    place=110,
    image=TOOLS,
    result=Report,
    runs="end",
    pipelines=PIPELINES,
)
