"""The retrain pipeline: looks for a reason to train, and then does what dreambooth does."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.check_triggers.component import check_triggers
from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import WHOLE, Shape, dataset, personalised_model, titled

NAME = "retrain"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(name=NAME, description="Train again where there is a reason to, once for each.")
    def retrain(
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
            triggers = titled(
                check_triggers(run_id=run_id, config=config, dataset=data.output), "Check triggers"
            )
            with dsl.If(triggers.outputs["Output"] == "train", name="train"):
                personalised_model(
                    run_id,
                    config,
                    data=data,
                    prior_shards=prior_shards,
                    evaluation_shards=evaluation_shards,
                    inference_shards=inference_shards,
                    shape=shape,
                )

    return retrain  # type: ignore[no-any-return]


retrain = shaped(WHOLE)
