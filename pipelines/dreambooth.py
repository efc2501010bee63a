"""The dreambooth pipeline: from instance pictures to a gated model and its pictures."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import WHOLE, Shape, dataset, personalised_model, titled

NAME = "dreambooth"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(
        name=NAME, description="Fine-tune, judge, promote and serve a model of one subject."
    )
    def dreambooth(
        run_id: str,
        config: str,
        prior_shards: list[int],
        evaluation_shards: list[int],
        inference_shards: list[int],
    ) -> None:
        """Chain the steps.

        Args:
            run_id: name of the run.
            config: the resolved configuration as JSON (see `boothline.pipelines.parameters`).
            prior_shards: numbers of the prior's shards.
            evaluation_shards: numbers of the shards that sample what the model is judged by.
            inference_shards: numbers of the inference's shards.
        """
        with dsl.ExitHandler(titled(finish_run(run_id=run_id, config=config), "Finish run"), "all"):
            data = dataset(run_id, config)
            with shape.guard(data, "dataset"):
                personalised_model(
                    run_id,
                    config,
                    data=data,
                    prior_shards=prior_shards,
                    evaluation_shards=evaluation_shards,
                    inference_shards=inference_shards,
                    shape=shape,
                )

    return dreambooth  # type: ignore[no-any-return]


dreambooth = shaped(WHOLE)
