"""The retrain pipeline: looks for a reason to train, and then does what dreambooth does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kfp import dsl

from boothline.components.check_triggers.component import check_triggers
from boothline.pipelines.stages import WHOLE, Begun, Shape, titled
from boothline.pipelines.training import training_pipeline

NAME = "retrain"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""
    return training_pipeline(
        NAME,
        "Train again for a reason, at most once per reason.",
        shape=shape,
        around=_where_triggered,
    )


@contextmanager
def _where_triggered(run_id: str, begun: Begun) -> Iterator[None]:
    """Look for a reason to train; what is surrounded happens where there is one."""
    triggers = titled(
        check_triggers(run_id=run_id, config=begun.config, dataset=begun.task.outputs["Output"]),
        "Check triggers",
    )
    with dsl.If(triggers.outputs["Output"] == "train", name="train"):
        yield


retrain = shaped(WHOLE)
