"""The batch_inference pipeline: pictures by a registered model, whichever run made it."""

from collections.abc import Callable

from kfp import dsl

from boothline.components.choose_model.component import choose_model
from boothline.components.finish_run.component import finish_run
from boothline.pipelines.stages import WHOLE, Shape, served, titled
from boothline.runs import JOB

NAME = "batch_inference"


def shaped(shape: Shape) -> Callable[..., object]:
    """Return the pipeline in a shape."""

    @dsl.pipeline(name=NAME, description="Make pictures with a version of a registered model.")
    def batch_inference(
        run_id: str = f"{NAME}-{JOB}",
        subject: str = "",
        version: str = "",
        prompts: str = "",
        images_per_prompt: int = 0,
        seed: int = -1,
        config: str = "{}",
    ) -> None:
        """Chain the steps.

        Args:
            run_id: name of the run; @job in it becomes Kubeflow's id of the run.
            subject: name of the subject; its registered model makes the pictures.
            version: of the model: champion, challenger or a number; empty: champion.
            prompts: s3:// address of a .txt, .csv or .jsonl file; empty: the evaluation's prompts.
            images_per_prompt: pictures a prompt; 0: one.
            seed: seed of the first picture; -1: as the defaults say.
            config: further settings as YAML or JSON; they override the other parameters.
        """
        with dsl.ExitHandler(titled(finish_run(run_id=run_id, config=config), "Finish run"), "all"):
            model = titled(
                choose_model(
                    run_id=run_id,
                    config=config,
                    loops=dict(shape.loops),
                    subject=subject,
                    version=version,
                    prompts=prompts,
                    images_per_prompt=images_per_prompt,
                    seed=seed,
                ),
                "Choose model",
            )
            with shape.guard(model, "model"):
                served(
                    run_id,
                    model.outputs["config"],
                    model=model.outputs["Output"],
                    shape=shape,
                )

    return batch_inference  # type: ignore[no-any-return]


batch_inference = shaped(WHOLE)
