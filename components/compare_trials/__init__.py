"""Step compare_trials: ranks the trials of a sweep and names the best."""

from boothline.catalogue import TOOLS, StepDescription
from boothline.results import Leaderboard

ABOUT = StepDescription(
    name="compare_trials",
    place=80,
    image=TOOLS,
    result=Leaderboard,
    pipelines=("sweep",),
)
