"""Step `publish_checkpoint`: exports the trained model, loads it back and registers it."""

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Model

ABOUT = StepDescription(
    name="publish_checkpoint",
    place=50,
    image=TORCH,
    result=Model,
    in_trials=True,
)
