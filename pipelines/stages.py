"""The stretches that pipelines are built from: data and prior, a judged model, gate and serving.

Each function is called while a pipeline is being defined and adds its tasks there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from boothline.catalogue import steps
from boothline.components.batch_infer.component import batch_infer
from boothline.components.evaluate.component import evaluate
from boothline.components.generate_prior.component import generate_prior
from boothline.components.promote.component import promote
from boothline.components.publish_checkpoint.component import publish_checkpoint
from boothline.components.sample_models.component import sample_models
from boothline.components.train.component import train
from boothline.components.validate_data.component import validate_data
from boothline.config import RunConfig
from boothline.reusing import REUSED


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a pipeline is built; each loop and each condition costs a pod of Kubeflow's and its time.

    Attributes:
        loops: number of shards of each step that is looped over; any other has one and is a plain
            task.
        guarded: whether conditions that are always true surround loops. kfp.local hands the loop's
            item, instead of the output of a task outside, to tasks of a loop; inside a condition
            that output is an input, which it passes as it is.
    """

    loops: Mapping[str, int]
    guarded: bool

    @classmethod
    def of(cls, config: RunConfig | None, *, guarded: bool = False) -> Self:
        """Return the shape for a configuration; None: one shard of each step."""
        loops = {}
        for step in steps():
            if config is not None and step.shards and (count := step.shards.count(config)) > 1:
                loops[step.name] = count
        return cls(loops=loops, guarded=guarded)

    @contextmanager
    def guard(self, data: dsl.PipelineTask, name: str) -> Iterator[None]:
        """Surround loops with a condition that is always true, where that is needed."""
        if not self.guarded:
            yield
            return
        with dsl.If(data.outputs["Output"] != "", name=name):
            yield

    @contextmanager
    def unless_reused(self, step: "Gathered") -> Iterator[None]:
        """Surround what comes after a step, which Kubeflow need not start where all of it stands.

        Of several shards none knows of the others. kfp.local is not asked: before it is started,
        the launcher looks whether the whole run stands.
        """
        if self.guarded or step.looped:
            yield
            return
        with dsl.If(step.task.outputs["rest"] != REUSED, name="rest"):
            yield

    @contextmanager
    def shard_of(self, step: str, name: str) -> Iterator[int | PipelineChannel]:
        """Yield the number of a shard inside a loop over a step's shards; 0 without a loop."""
        if step not in self.loops:
            yield 0
            return
        with dsl.ParallelFor(list(range(self.loops[step])), name=name) as shard:
            yield shard


WHOLE = Shape.of(RunConfig(), guarded=True)
"""For the default configuration, as it runs everywhere."""


class Gathered(NamedTuple):
    """The task of a step that may be cut into shards."""

    task: dsl.PipelineTask
    looped: bool

    def references(self) -> dsl.Collected | list[PipelineChannel]:
        """Return the references of all shards; kfp refuses to share a collection."""
        return (
            dsl.Collected(self.task.outputs["Output"])
            if self.looped
            else [self.task.outputs["Output"]]
        )


class Judged(NamedTuple):
    """Outputs with the references of a model and its evaluation."""

    model: PipelineChannel
    evaluation: PipelineChannel


def titled(task: dsl.PipelineTask, title: str) -> dsl.PipelineTask:
    """Name a task for people and switch KFP's cache off: reuse goes by the store's step keys."""
    return task.set_caching_options(enable_caching=False).set_display_name(title)


class Begun(NamedTuple):
    """The first task of a pipeline and what all others are given."""

    task: dsl.PipelineTask
    config: PipelineChannel


def dataset(
    run_id: str, config: str, *, pipeline: str, shape: Shape, **form: PipelineChannel
) -> Begun:
    """Add the validation of the instance pictures, which completes the configuration."""
    task = validate_data(
        run_id=run_id, config=config, pipeline=pipeline, loops=dict(shape.loops), **form
    )
    return Begun(titled(task, "Validate data"), task.outputs["config"])


def class_pictures(run_id: str, config: str, *, data: dsl.PipelineTask, shape: Shape) -> Gathered:
    """Add the class pictures, a loop over their shards."""
    with shape.shard_of("generate_prior", "prior") as shard:
        task = titled(
            generate_prior(
                run_id=run_id, config=config, dataset=data.outputs["Output"], shard=shard
            ),
            "Generate prior",
        )
    return Gathered(task, "generate_prior" in shape.loops)


def trained_model(
    run_id: str, config: str, *, data: dsl.PipelineTask, prior: Gathered
) -> dsl.PipelineTask:
    """Add training and publication of one model; the last task's output is the model."""
    training = titled(
        train(
            run_id=run_id,
            config=config,
            dataset=data.outputs["Output"],
            priors=prior.references(),
        ),
        "Train",
    )
    return titled(
        publish_checkpoint(run_id=run_id, config=config, training=training.output),
        "Publish checkpoint",
    )


def sampled(
    run_id: str, config: str, *, model: dsl.PipelineTask, prior: Gathered, shape: Shape
) -> dsl.Collected | list[PipelineChannel]:
    """Add the sampling of a model's pictures, a loop over its shards, and return their references.

    One shard would leave all to the evaluation: on a cluster it costs two pods for nothing.
    """
    if not shape.guarded and "sample_models" not in shape.loops:
        return []
    with shape.shard_of("sample_models", "samples") as shard:
        task = titled(
            sample_models(
                run_id=run_id,
                config=config,
                model=model.outputs["Output"],
                priors=prior.references(),
                shard=shard,
            ),
            "Sample models",
        )
    return Gathered(task, "sample_models" in shape.loops).references()


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
            model=model.outputs["Output"],
            dataset=data.outputs["Output"],
            priors=prior.references(),
            samples=samples,
        ),
        "Evaluate",
    )
    return Judged(model=model.outputs["Output"], evaluation=evaluation.outputs["Output"])


def personalised_model(
    run_id: str,
    config: str,
    *,
    data: dsl.PipelineTask,
    shape: Shape,
) -> None:
    """Add all that makes a model of a dataset, from class pictures to gate and serving."""
    prior = class_pictures(run_id, config, data=data, shape=shape)
    with shape.unless_reused(prior):
        model = trained_model(run_id, config, data=data, prior=prior)
        with shape.guard(model, "model"):
            samples = sampled(run_id, config, model=model, prior=prior, shape=shape)
            judged = judged_model(
                run_id, config, data=data, prior=prior, model=model, samples=samples
            )
            gate_and_serving(run_id, config, judged=judged, shape=shape)


def gate_and_serving(run_id: str, config: str, *, judged: Judged, shape: Shape) -> None:
    """Add the gate and, for a model that passes it, batch inference."""
    verdict = titled(
        promote(run_id=run_id, config=config, model=judged.model, evaluation=judged.evaluation),
        "Promote",
    )
    with dsl.If(verdict.outputs["Output"] == "promoted", name="promoted"):
        served(run_id, config, model=judged.model, shape=shape)


def served(run_id: str, config: str, *, model: PipelineChannel, shape: Shape) -> None:
    """Add batch inference with a model, a loop over its shards."""
    with shape.shard_of("batch_infer", "inference") as shard:
        titled(
            batch_infer(run_id=run_id, config=config, model=model, shard=shard), "Batch inference"
        )
