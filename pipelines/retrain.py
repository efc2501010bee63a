"""The retrain pipeline: looks for a reason to train, and then does what dreambooth does."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.check_triggers.component import check_triggers
from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import WHOLE, Shape, dataset, personalised_model, titled
from boothline.runs import JOB

NAME = "retrain"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(name=NAME, description="Train again where there is a reason to, once for each.")
    def retrain(  # noqa: PLR0913 (a form has many fields)
        run_id: str = f"{NAME}-{JOB}",
        preset: str = "",
        pictures: str = "",
        subject: str = "",
        class_noun: str = "",
        base_model: str = "",
        method: str = "",
        steps: int = 0,
        learning_rate: float = 0.0,
        seed: int = -1,
        config: str = "{}",
    ) -> None:
        """Chain the steps.

        Args:
            run_id: name of the run; @job in it becomes Kubeflow's id of the run.
            preset: settings to begin with: sd15-full, sd15-lora, sd21-full or sd21-lora.
            pictures: 3 to 5 pictures of the subject: an s3:// prefix, or an archive there.
            subject: name of the subject, in small letters; names the registered model.
            class_noun: noun of the class that the subject belongs to, such as bear.
            base_model: model to start from, such as base:sd15.
            method: full or lora.
            steps: training steps; 0: as the preset or the defaults say.
            learning_rate: highest learning rate; 0: as the preset or the defaults say.
            seed: seed of the training; -1: as the defaults say.
            config: further settings as YAML or JSON; they override the other parameters.
        """
        with dsl.ExitHandler(titled(finish_run(run_id=run_id, config=config), "Finish run"), "all"):
            data, whole = dataset(
                run_id,
                config,
                pipeline=NAME,
                shape=shape,
                preset=preset,
                pictures=pictures,
                subject=subject,
                class_noun=class_noun,
                base_model=base_model,
                method=method,
                steps=steps,
                learning_rate=learning_rate,
                seed=seed,
            )
            triggers = titled(
                check_triggers(run_id=run_id, config=whole, dataset=data.outputs["Output"]),
                "Check triggers",
            )
            with dsl.If(triggers.outputs["Output"] == "train", name="train"):
                personalised_model(run_id, whole, data=data, shape=shape)

    return retrain  # type: ignore[no-any-return]


retrain = shaped(WHOLE)
