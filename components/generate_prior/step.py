"""Samples one shard of the class pictures from the base model, once for all runs."""

import io
import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from boothline.components.generate_prior import ABOUT
from boothline.components.generate_prior.series import (
    Chunk,
    Series,
    StoredPicture,
    file_name,
    pictures_of,
    stored_pictures,
)
from boothline.data.class_pictures import CLASS_FOLDER
from boothline.diffusion.base_model import BaseModel, resolve
from boothline.errors import DataError
from boothline.results import Prior, PriorChunk
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        dataset: reference of the dataset; its own class pictures need not be sampled.
        shard: number of this shard, from 0.
    """

    dataset: str
    shard: int


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the shard's pictures depend on."""
    prior = context.config.prior
    num_images = _num_sampled(context, inputs)
    if not num_images:
        return StepKey(config={"enabled": False})
    series = Series.of(context.config, base_model_digest=_base_model(context).digest)
    return StepKey(
        config={
            **series.facts(),
            "num_images": num_images,
            "shard": inputs.shard,
            "num_shards": prior.num_shards,
            "batch_size": prior.sampling.batch_size,
        }
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Sample the chunks of this shard that the store lacks, and list all of its pictures."""
    num_images = _num_sampled(context, inputs)
    if not num_images:
        noun = context.config.subject.class_noun
        none = Prior(series="", num_images=0, class_noun=noun, base_model_digest="")
        return none.draft({"captions.jsonl": b""})
    base = _base_model(context)
    series = Series.of(context.config, base_model_digest=base.digest, num_images=num_images)
    pictures = _Maker(context, series=series, base=base).make(inputs.shard)
    captions = [
        {"image": file_name(index), "caption": series.caption(index), "index": index}
        for index in sorted(pictures)
    ]
    lines = "".join(json.dumps(caption, sort_keys=True) + "\n" for caption in captions)
    prior = Prior(
        series=series.digest,
        num_images=len(pictures),
        class_noun=series.class_noun,
        base_model_digest=base.digest,
    )
    return prior.draft(
        {
            **{file_name(index): picture.entry for index, picture in pictures.items()},
            "captions.jsonl": lines.encode(),
        }
    )


class _Maker:
    """Makes the missing pictures of a series, chunk by chunk; loads the model only if any is."""

    def __init__(self, context: StepContext, *, series: Series, base: BaseModel) -> None:
        self._context = context
        self._series = series
        self._base = base
        self._shard = 0

    def make(self, shard: int) -> dict[int, StoredPicture]:
        """Return all pictures of a shard by index."""
        self._shard = shard
        num_images = self._series.num_images
        chunks = self._series.chunks(shard)
        wanted = [i for chunk in chunks for i in chunk.indices if i < num_images]
        pictures = stored_pictures(self._context.store, self._series, wanted)
        self._report(len(pictures), len(wanted), note="found" if pictures else "")
        for chunk in chunks:
            lacking = [i for i in chunk.indices if i < num_images and i not in pictures]
            if lacking:
                pictures.update(self._commit(chunk, lacking))
                self._report(len(pictures), len(wanted))
        return dict(sorted(pictures.items()))

    def _commit(self, chunk: Chunk, indices: list[int]) -> dict[int, StoredPicture]:
        """Sample a whole chunk, commit it, and return the asked-for pictures of it."""
        store, series = self._context.store, self._series
        images = zip(chunk.indices, self._sample(chunk), strict=True)
        made = PriorChunk(series=series.digest, first=chunk.first, num_images=chunk.size)
        draft = made.draft({file_name(index): data for index, data in images})
        return pictures_of(store, store.commit(series.path(chunk), draft), indices)

    def _sample(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the chunk's pictures as PNG; those past the last wanted one serve later runs.

        Raises:
            DataError: all are black, as a model gives whose numbers are not finite.
        """
        from boothline.diffusion.sampling import SampleRequest, sample

        series = self._series
        requests = [
            SampleRequest(
                prompt=series.caption(index),
                seed=series.prior.sampling.seed,
                index=index,
                height_px=series.resolution_px,
                width_px=series.resolution_px,
            )
            for index in chunk.indices
        ]
        num_black = 0
        for image in sample(self._pipeline, requests, sampling=series.prior.sampling):
            num_black += image.getbbox() is None
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            yield buffer.getvalue()
        if num_black == chunk.size:
            raise DataError(
                f"All {num_black} class pictures of {series.caption(chunk.first)!r} are black.",
                remedy="The base model gives numbers that are not finite: check its weights, above "
                "all the autoencoder's.",
            )

    @cached_property
    def _pipeline(self) -> "DiffusionParts":
        from boothline.diffusion.loading import load_pipeline
        from boothline.diffusion.threads import device_of, share_cores

        settings = self._context.settings
        share_cores(self._series.prior.num_shards, settings=settings)
        device = device_of(self._shard, settings=settings)
        return load_pipeline(self._base.path, device=device, for_sampling=True)

    def _report(self, done: int, total: int, *, note: str = "") -> None:
        self._context.progress.update(done, total, unit="images", note=note)


def _num_sampled(context: StepContext, inputs: Inputs) -> int:
    """Return how many class pictures all shards sample: those that the dataset itself lacks."""
    own = context.store.read(inputs.dataset).under(f"{CLASS_FOLDER}/images/")
    return context.config.prior.num_sampled(len(own))


def _base_model(context: StepContext) -> BaseModel:
    """Return the configured base model."""
    base = context.config.base_model
    return resolve(base.source, settings=context.settings, allow_hub=base.allow_hub)


STEP = Step(
    name=ABOUT.name,
    inputs=Inputs,
    version=1,
    key=key,
    produce=produce,
)
run = STEP.run
