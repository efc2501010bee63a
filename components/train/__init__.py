"""Step `train`: fine-tunes the base model on the subject's pictures."""

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Training

ABOUT = StepDescription(
    name="train",
    place=40,
    image=TORCH,
    result=Training,
    unit="optimizer step",
    in_trials=True,
)
