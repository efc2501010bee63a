"""What dreambooth and retrain have in common: a form, the steps of a training, their end."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from kfp import dsl

from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import Begun, Shape, dataset, personalised_model, titled
from boothline.runs import JOB

Pipeline = Callable[..., object]
Around = Callable[[str, Begun], AbstractContextManager[None]]


def training_pipeline(name: str, about: str, *, shape: Shape, around: Around) -> Pipeline:
    """Return a pipeline that trains, judges, promotes and serves a model of one subject.

    Args:
        name: of the pipeline.
        about: what Kubeflow's page says of it.
        shape: how it is built.
        around: given the run id and the pictures, surrounds all that comes after them.
    """

    @dsl.pipeline(name=name, description=about)
    def pipeline(  # noqa: PLR0913 (a form has many fields)
        run_id: str = f"{name}-{JOB}",
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
            begun = dataset(
                run_id,
                config,
                pipeline=name,
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
            with around(run_id, begun):
                personalised_model(run_id, begun.config, data=begun.task, shape=shape)

    return pipeline  # type: ignore[no-any-return]
