"""The stretches that pipelines are built from: data and prior, a judged model, gate and serving.

Each function is called while a pipeline is being defined and adds its tasks there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a pipeline is built; each loop and each condition costs a pod of Kubeflow's and its time.

    Attributes:
        loops: the arguments with lists of shards that are looped over; of another list, which has
            one shard, the step is a plain task.
        guarded: whether conditions that are always true surround loops. kfp.local hands the loop's
            item, instead of the output of a task outside, to tasks of a loop; inside a condition
            that output is an input, which it hands on as it is.
    """

    loops: frozenset[str]
    guarded: bool

    @contextmanager
    def guard(self, data: dsl.PipelineTask, name: str) -> Iterator[None]:
        """Surround loops with a condition that is always true, where that is needed."""
        if not self.guarded:
            yield
            return
        with dsl.If(data.output != "", name=name):
            yield


WHOLE = Shape(
    loops=frozenset({"prior_shards", "evaluation_shards", "inference_shards"}), guarded=True
)
"""Runs everywhere, whatever the number of shards."""


class Gathered(NamedTuple):
    """The task of a step that may be cut into shards."""

    task: dsl.PipelineTask
    looped: bool

    def references(self) -> dsl.Collected | list[PipelineChannel]:
        """Return the references of all shards; kfp refuses to share a collection."""
        return dsl.Collected(self.task.output) if self.looped else [self.task.output]


@contextmanager
def shard_of(
    shards: list[int], argument: str, name: str, *, shape: Shape
) -> Iterator[int | PipelineChannel]:
    """Yield the number of a shard inside a loop over them; 0 without a loop."""
    if argument not in shape.loops:
        yield 0
        return
    with dsl.ParallelFor(shards, name=name) as shard:
        yield shard


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
    run_id: str, config: str, *, data: dsl.PipelineTask, shards: list[int], shape: Shape
) -> Gathered:
    """Add the class pictures, a loop over their shards."""
    with shard_of(shards, "prior_shards", "prior", shape=shape) as shard:
        task = titled(
            generate_prior(run_id=run_id, config=config, dataset=data.output, shard=shard),
            "Generate prior",
        )
    return Gathered(task, "prior_shards" in shape.loops)


def trained_model(
    run_id: str, config: str, *, data: dsl.PipelineTask, prior: Gathered
) -> dsl.PipelineTask:
    """Add training and publication of one model; the last task's output is the model."""
    training = titled(
        train(
            run_id=run_id,
            config=config,
            dataset=data.output,
            priors=prior.references(),
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
    prior: Gathered,
    model: dsl.PipelineTask,
    samples: dsl.Collected | list[PipelineChannel],
) -> Judged:
    """Add the evaluation of a model; `samples` are shards of its pictures, or none."""
    evaluation = titled(
        evaluate(
            run_id=run_id,
            config=config,
            model=model.output,
            dataset=data.output,
            priors=prior.references(),
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
    shape: Shape,
) -> None:
    """Add all that makes a model of a dataset, from class pictures to gate and serving."""
    prior = class_pictures(run_id, config, data=data, shards=prior_shards, shape=shape)
    model = trained_model(run_id, config, data=data, prior=prior)
    with shape.guard(model, "model"):
        with shard_of(evaluation_shards, "evaluation_shards", "samples", shape=shape) as shard:
            sampled = titled(
                sample_models(
                    run_id=run_id,
                    config=config,
                    model=model.output,
                    priors=prior.references(),
                    shard=shard,
                ),
                "Sample models",
            )
        samples = Gathered(sampled, "evaluation_shards" in shape.loops).references()
        judged = judged_model(run_id, config, data=data, prior=prior, model=model, samples=samples)
        gate_and_serving(run_id, config, judged=judged, shards=inference_shards, shape=shape)


def gate_and_serving(
    run_id: str, config: str, *, judged: Judged, shards: list[int], shape: Shape
) -> None:
    """Add the gate and, for a model that passes it, batch inference."""
    verdict = titled(
        promote(run_id=run_id, config=config, model=judged.model, evaluation=judged.evaluation),
        "Promote",
    )
    with dsl.If(verdict.outputs["Output"] == "promoted", name="promoted"):
        served(run_id, config, model=judged.model, shards=shards, shape=shape)


def served(
    run_id: str, config: str, *, model: PipelineChannel, shards: list[int], shape: Shape
) -> None:
    """Add batch inference with a model, a loop over its shards."""
    with shard_of(shards, "inference_shards", "inference", shape=shape) as shard:
        titled(
            batch_infer(run_id=run_id, config=config, model=model, shard=shard), "Batch inference"
        )
