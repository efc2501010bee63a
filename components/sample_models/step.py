"""Samples one shard of the pictures that the evaluation compares, of every contender."""

from collections.abc import Mapping

from boothline.components.sample_models import ABOUT
from boothline.evaluation.contenders import (
    PictureSet,
    Priors,
    champion_of,
    contenders_of,
    picture_sets_of,
)
from boothline.pictures.parts import Parts
from boothline.results import EvaluationShard
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import FileEntry, ManifestDraft, ManifestRef
from boothline.subjects import Files, each_subject


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        model: reference of the model to judge.
        priors: references of the prior manifests; may be empty.
        shard: number of this shard, from 0.
    """

    model: str
    priors: list[str]
    shard: int


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the shard's pictures depend on: models, prompts and sampling, by their sets."""
    num_shards = context.config.evaluation.num_shards
    if num_shards == 1:
        return StepKey(config={"num_shards": 1})
    sets = [pictures.key for pictures in _picture_sets(context, inputs)]
    return StepKey(
        config={"sets": sets, "shard": inputs.shard, "num_shards": num_shards},
        inputs=(ManifestRef.parse(inputs.model),),
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Sample the parts of this shard that the store lacks, and name all of its pictures.

    With one shard there is nothing to share: the evaluation samples everything itself.
    """
    num_shards = context.config.evaluation.num_shards
    files: dict[str, FileEntry] = {}
    parts: dict[ManifestRef, None] = {}
    if num_shards > 1:
        mine = _share(_picture_sets(context, inputs), inputs.shard, num_shards)
        for done, (pictures, number) in enumerate(mine):
            context.progress.update(done, len(mine), unit="batches", note=pictures.contender.name)
            made = Parts(context.store)
            pictures.ensure_part(made, number)
            for name, picture in made.stored.items():
                files[f"images/{pictures.folder}/{name}"] = picture.entry
                parts[picture.part] = None
        context.progress.update(len(mine), len(mine), unit="batches")
    result = EvaluationShard(shard=inputs.shard, num_shards=num_shards, num_images=len(files))
    return result.draft(
        files, inputs=(ManifestRef.parse(inputs.model), *parts) if num_shards > 1 else ()
    )


def _picture_sets(context: StepContext, inputs: Inputs) -> list[PictureSet]:
    """Return the sets of pictures that all contenders make."""

    def device_for() -> str:
        from boothline.diffusion.devices import device_of, share_cores

        share_cores(context.config.evaluation.num_shards, settings=context.settings)
        return device_of(inputs.shard, settings=context.settings)

    model = ManifestRef.parse(inputs.model)
    contenders = contenders_of(
        context, model=model, champion=champion_of(context, model), device_for=device_for
    )
    priors = Priors(context.store, [ManifestRef.parse(ref) for ref in inputs.priors])
    return [
        pictures for one in contenders for pictures in picture_sets_of(context.config, one, priors)
    ]


def _share(sets: list[PictureSet], shard: int, num_shards: int) -> list[tuple[PictureSet, int]]:
    """Return the parts of one shard: neighbours, so that it loads few models."""
    parts = [(pictures, n) for pictures in sets for n in range(pictures.plan.num_parts)]
    first, last = (len(parts) * edge // num_shards for edge in (shard, shard + 1))
    return parts[first:last]


def gather(context: StepContext, parts: Mapping[str, ManifestRef]) -> tuple[EvaluationShard, Files]:
    """Return what the shards of several subjects come to."""
    found = [context.store.read_as(EvaluationShard, ref) for ref in parts.values()]
    num_images = sum(one.num_images for one in found)
    first = found[0]
    whole = EvaluationShard(shard=first.shard, num_shards=first.num_shards, num_images=num_images)
    return whole, {}


STEP = each_subject(
    Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce), gather=gather
)
run = STEP.run
