"""The dreambooth pipeline: from instance pictures to a gated model and its pictures."""

from collections.abc import Callable

from boothline.pipelines.stages import WHOLE, Shape
from boothline.pipelines.training import training_pipeline

NAME = "dreambooth"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""
    return training_pipeline(
        NAME,
        "Fine-tune, judge, promote and serve a model of one subject.",
        shape=shape,
        around=lambda run_id, begun: shape.guard(begun.task, "dataset"),
    )


dreambooth = shaped(WHOLE)
