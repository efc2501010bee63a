"""Step evaluate: judges the fine-tuned model against the base model and the champion."""

from boothline.catalogue import TORCH, StepDescription
from boothline.results import Evaluation

ABOUT = StepDescription(
    name="evaluate",
    place=70,
    image=TORCH,
    result=Evaluation,
    unit="picture judged",
    in_trials=True,
)
