"""The sweep pipeline: several models on the same pictures, the best of which goes to the gate."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.compare_trials.component import compare_trials
from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import (
    WHOLE,
    Judged,
    Shape,
    class_pictures,
    dataset,
    gate_and_serving,
    judged_model,
    titled,
    trained_model,
)

NAME = "sweep"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(
        name=NAME, description="Train and judge several models, promote and serve the best."
    )
    def sweep(
        run_id: str,
        config: str,
        trials: list[dict[str, str]],
    ) -> None:
        """Chain the steps; dataset and class pictures are made once for all trials.

        Args:
            run_id: name of the sweep.
            config: the resolved configuration as JSON, with `sweep.trials`.
            trials: run id and configuration of each trial (see `boothline.launch.trials`).
        """
        with dsl.ExitHandler(titled(finish_run(run_id=run_id, config=config), "Finish run"), "all"):
            data, whole = dataset(run_id, config, pipeline=NAME, shape=shape)
            # The outer guard is for the dataset, the inner one for the class pictures.
            with shape.guard(data, "dataset"):
                prior = class_pictures(run_id, whole, data=data, shape=shape)
                with shape.guard(data, "class-pictures"):
                    with dsl.ParallelFor(trials, name="trials") as trial:
                        judged = judged_model(
                            trial.run_id,
                            trial.config,
                            data=data,
                            prior=prior,
                            model=trained_model(trial.run_id, trial.config, data=data, prior=prior),
                            samples=[],  # the trials run side by side as they are
                        )
                    best = titled(
                        compare_trials(
                            run_id=run_id,
                            config=whole,
                            models=dsl.Collected(judged.model),
                            evaluations=dsl.Collected(judged.evaluation),
                        ),
                        "Compare trials",
                    )
                    gate_and_serving(
                        run_id,
                        whole,
                        judged=Judged(
                            model=best.outputs["model"], evaluation=best.outputs["evaluation"]
                        ),
                        shape=shape,
                    )

    return sweep  # type: ignore[no-any-return]


sweep = shaped(WHOLE)
