"""The stretches that pipelines are built from: data and prior, a judged model, gate and serving.

Each function is called while a pipeline is being defined and adds its tasks there.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from boothline.components.batch_infer.component import batch_infer
from boothline.components.evaluate.component import evaluate
from boothline.components.generate_prior.component import generate_prior
from boothline.components.promote.component import promote
from boothline.components.publish_checkpoint.component import publish_checkpoint
from boothline.components.sample_models.component import sample_models
from boothline.components.train.component import train
from boothline.components.validate_data.component import validate_data


class Judged(NamedTuple):
    """Outputs with the references of a model and its evaluation."""

    model: PipelineChannel
    evaluation: PipelineChannel


def titled(task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
    """Name a task for people and switch KFP's cache off: reuse goes by the store's step keys."""
    return task.set_caching_options(enable_caching=False).set_display_name(title)


def dataset(run_id: str, config: str) -> dsl.PipelineTask:
    """Add the validation of the instance pictures."""
    return titled(validate_data(run_id=run_id, config=config), "Validate data")


def class_pictures(
    run_id: str, config: str, *, data: dsl.PipelineTask, shards: list[int]
) -> dsl.PipelineTask:
    """Add the class pictures, a loop over their shards."""
    with dsl.ParallelFor(shards, name="prior") as shard:
        return titled(
            generate_prior(run_id=run_id, config=config, dataset=data.output, shard=shard),
            "Generate prior",
        )


def trained_model(
    run_id: str, config: str, *, data: dsl.PipelineTask, prior: dsl.PipelineTask
) -> dsl.PipelineTask:
    """Add training and publication of one model; the last task's output is the model.

    The class pictures are collected anew for each consumer: kfp refuses to share a collection.
    """
    training = titled(
        train(
            run_id=run_id,
            config=config,
            dataset=data.output,
            priors=dsl.Collected(prior.output),
        ),
        "Train",
    )
    return titled(
        publish_checkpoint(run_id=run_id, config=config, training=training.output),
        "Publish checkpoint",
    )


def judged_model(
    run_id: str,
    config: str,
    *,
    data: dsl.PipelineTask,
    prior: dsl.PipelineTask,
    model: dsl.PipelineTask,
    samples: dsl.Collected | list[str],
) -> Judged:
    """Add the evaluation of a model; `samples` are shards of its pictures, or none."""
    evaluation = titled(
        evaluate(
            run_id=run_id,
            config=config,
            model=model.output,
            dataset=data.output,
            priors=dsl.Collected(prior.output),
            samples=samples,
        ),
        "Evaluate",
    )
    return Judged(model=model.output, evaluation=evaluation.outputs["Output"])


def personalised_model(
    run_id: str,
    config: str,
    *,
    data: dsl.PipelineTask,
    prior_shards: list[int],
    evaluation_shards: list[int],
    inference_shards: list[int],
) -> None:
    """Add all that makes a model of a dataset, from class pictures to gate and serving."""
    prior = class_pictures(run_id, config, data=data, shards=prior_shards)
    model = trained_model(run_id, config, data=data, prior=prior)
    with dsl.If(model.output != "", name="model"):  # always true; see boothline.pipelines.sweep
        with dsl.ParallelFor(evaluation_shards, name="samples") as shard:
            sampled = titled(
                sample_models(
                    run_id=run_id,
                    config=config,
                    model=model.output,
                    priors=dsl.Collected(prior.output),
                    shard=shard,
                ),
                "Sample models",
            )
        samples = dsl.Collected(sampled.output)
        judged = judged_model(run_id, config, data=data, prior=prior, model=model, samples=samples)
        gate_and_serving(run_id, config, judged=judged, shards=inference_shards)


def gate_and_serving(run_id: str, config: str, *, judged: Judged, shards: list[int]) -> None:
    """Add the gate and, for a model that passes it, batch inference."""
    verdict = titled(
        promote(run_id=run_id, config=config, model=judged.model, evaluation=judged.evaluation),
        "Promote",
    )
    with (
        dsl.If(verdict.outputs["Output"] == "promoted", name="promoted"),
        dsl.ParallelFor(shards, name="inference") as shard,
    ):
        titled(
            batch_infer(run_id=run_id, config=config, model=judged.model, shard=shard),
            "Batch inference",
        )
