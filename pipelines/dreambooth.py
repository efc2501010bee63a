"""The dreambooth pipeline: from instance pictures to a gated model and its pictures."""

from kfp import dsl

from components.batch_infer.component import batch_infer
from components.evaluate.component import evaluate
from components.finish_run.component import finish_run
from components.generate_prior.component import generate_prior
from components.promote.component import promote
from components.publish_checkpoint.component import publish_checkpoint
from components.train.component import train
from components.validate_data.component import validate_data

NAME = "dreambooth"


def _task(task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
    """Name a task for people and switch KFP's cache off: reuse goes by the store's step keys."""
    return task.set_caching_options(enable_caching=False).set_display_name(title)


@dsl.pipeline(name=NAME, description="Fine-tune, judge, promote and serve a model of one subject.")
def dreambooth(
    run_id: str, config: str, prior_shards: list[int], inference_shards: list[int]
) -> None:
    """Chain the steps.

    Args:
        run_id: name of the run.
        config: the resolved configuration as JSON (see `pipelines.parameters`).
        prior_shards: numbers of the prior's shards.
        inference_shards: numbers of the inference's shards.
    """
    ending = _task(finish_run(run_id=run_id, config=config), "Finish run")
    with dsl.ExitHandler(ending, name="all"):
        data = _task(validate_data(run_id=run_id, config=config), "Validate data")
        with dsl.ParallelFor(prior_shards, name="prior") as shard:
            prior = _task(
                generate_prior(run_id=run_id, config=config, shard=shard), "Generate prior"
            ).after(data)
        training = _task(
            train(
                run_id=run_id,
                config=config,
                dataset=data.output,
                priors=dsl.Collected(prior.output),
            ),
            "Train",
        )
        model = _task(
            publish_checkpoint(run_id=run_id, config=config, training=training.output),
            "Publish checkpoint",
        )
        evaluation = _task(
            evaluate(
                run_id=run_id,
                config=config,
                model=model.output,
                dataset=data.output,
                priors=dsl.Collected(prior.output),
            ),
            "Evaluate",
        ).outputs["Output"]
        verdict = _task(
            promote(run_id=run_id, config=config, model=model.output, evaluation=evaluation),
            "Promote",
        )
        with (
            dsl.If(verdict.outputs["Output"] == "promoted", name="promoted"),
            dsl.ParallelFor(inference_shards, name="inference") as shard,
        ):
            _task(
                batch_infer(run_id=run_id, config=config, model=model.output, shard=shard),
                "Batch inference",
            )
