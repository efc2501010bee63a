"""The batch_inference pipeline: pictures by a registered model, whichever run made it."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.choose_model.component import choose_model
from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import WHOLE, Shape, served, titled

NAME = "batch_inference"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(name=NAME, description="Make pictures with a version of a registered model.")
    def batch_inference(run_id: str, config: str, inference_shards: list[int]) -> None:
        """Chain the steps.

        Args:
            run_id: name of the run.
            config: the resolved configuration as JSON (see `boothline.pipelines.parameters`).
            inference_shards: numbers of the inference's shards.
        """
        with dsl.ExitHandler(titled(finish_run(run_id=run_id, config=config), "Finish run"), "all"):
            model = titled(choose_model(run_id=run_id, config=config), "Choose model")
            with shape.guard(model, "model"):
                served(run_id, config, model=model.output, shards=inference_shards, shape=shape)

    return batch_inference  # type: ignore[no-any-return]


batch_inference = shaped(WHOLE)
