"""Samples one shard of the class pictures from the base model, once for all runs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from boothline.components.generate_prior import ABOUT
from boothline.config import RunConfig
from boothline.config.sampling import PriorConfig
from boothline.data.class_pictures import CLASS_FOLDER
from boothline.diffusion.base_model import BaseModel, model_of
from boothline.doctor.libraries import missing, refuse
from boothline.errors import DataError
from boothline.pictures.making import generate, png_of
from boothline.pictures.parts import IMAGES, Part, Parts
from boothline.pictures.plan import PlannedPicture
from boothline.results import Prior, PriorChunk
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import FileEntry, ManifestDraft, ManifestRef, layout
from boothline.subjects import Files, each_subject

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts


@dataclass(frozen=True, kw_only=True)
class Series:
    """All class pictures that one base model, prompt list and sampler can give.

    Picture i of a series is always the same. They are made in aligned chunks, each committed as its
    own part `priors/<series>/<first index>-<number>`: more pictures top a series up, chunks of
    another size count too, and none is ever made twice.

    Attributes:
        base_model_digest: the model that makes them.
        prior: prompts and sampling.
        class_noun: noun of the class.
        num_images: how many of its pictures are wanted.
        resolution_px: side of the pictures, in pixels.
    """

    base_model_digest: str
    prior: PriorConfig
    class_noun: str
    resolution_px: int
    num_images: int

    @classmethod
    def of(
        cls, config: RunConfig, *, base_model_digest: str, num_images: int | None = None
    ) -> "Series":
        """Return the series that a run's configuration asks for; of other length if given."""
        return cls(
            base_model_digest=base_model_digest,
            prior=config.prior,
            class_noun=config.subject.class_noun,
            resolution_px=config.subject.resolution_px,
            num_images=config.prior.num_images if num_images is None else num_images,
        )

    @property
    def digest(self) -> str:
        """Digest of all that a picture depends on; the batch size is not among it."""
        return layout.key_of(self.facts())

    def facts(self) -> dict[str, object]:
        """Return what a picture depends on, as JSON."""
        prompts = self.prior.prompts or (self.prior.prompt,)
        return {
            "base_model": self.base_model_digest,
            "prompts": [self.caption(number) for number in range(len(prompts))],
            "sampling": self.prior.sampling.model_dump(mode="json", exclude={"batch_size"}),
            "resolution_px": self.resolution_px,
        }

    def caption(self, index: int) -> str:
        """Return the prompt of picture `index`."""
        return self.prior.prompt_of(index, self.class_noun)

    def picture(self, index: int) -> PlannedPicture:
        """Return the plan of picture `index`."""
        return PlannedPicture.square(
            f"{index:06d}.png",
            prompt=self.caption(index),
            index=index,
            sampling=self.prior.sampling,
            side_px=self.resolution_px,
        )

    def parts(self, shard: int) -> list[Part]:
        """Return the chunks of a shard: every `num_shards`-th of those that hold the pictures.

        Pictures past the last wanted one serve later runs.
        """
        size = self.prior.sampling.batch_size
        starts = range(0, self.num_images, size)
        return [
            Part(
                path=layout.chunk(self.digest, first=first, size=size),
                pictures=tuple(self.picture(index) for index in range(first, first + size)),
                result=PriorChunk(series=self.digest, first=first, num_images=size),
            )
            for first in starts[shard :: self.prior.num_shards]
        ]

    def wanted(self, part: Part) -> list[PlannedPicture]:
        """Return those pictures of a chunk that are not past the last wanted one."""
        return [picture for picture in part.pictures if picture.index < self.num_images]


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
    series = Series.of(
        context.config, base_model_digest=model_of(context.config, context.settings).digest
    )
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
    """Sample the chunks of this shard that the store lacks, and list all of its pictures.

    Raises:
        ConfigError: the image lacks a library that the training will ask for.
    """
    refuse(missing(context.config, context.settings))
    num_images = _num_sampled(context, inputs)
    if not num_images:
        noun = context.config.subject.class_noun
        none = Prior(series="", num_images=0, class_noun=noun, base_model_digest="")
        return none.draft({"captions.jsonl": b""})
    base = model_of(context.config, context.settings)
    series = Series.of(context.config, base_model_digest=base.digest, num_images=num_images)
    pictures, files = _made(context, series, base, shard=inputs.shard)
    captions = [
        {"image": f"{IMAGES}{picture.name}", "caption": picture.prompt, "index": picture.index}
        for picture in pictures
    ]
    lines = "".join(json.dumps(caption, sort_keys=True) + "\n" for caption in captions)
    prior = Prior(
        series=series.digest,
        num_images=len(pictures),
        class_noun=series.class_noun,
        base_model_digest=base.digest,
    )
    return prior.draft({**files, "captions.jsonl": lines.encode()})


def _made(
    context: StepContext, series: Series, base: BaseModel, *, shard: int
) -> tuple[list[PlannedPicture], dict[str, FileEntry]]:
    """Return the pictures of a shard and their files; makes those that the store lacks."""

    @cache
    def load() -> "DiffusionParts":
        from boothline.diffusion.devices import device_of, share_cores
        from boothline.diffusion.loading import load_pipeline

        share_cores(series.prior.num_shards, settings=context.settings)
        device = device_of(shard, settings=context.settings)
        precision = series.prior.sampling.precision
        return load_pipeline(base.path, device=device, for_sampling=True, precision=precision)

    chunks = series.parts(shard)
    wanted = [picture for chunk in chunks for picture in series.wanted(chunk)]
    parts = Parts(context.store)
    parts.find(layout.chunks(series.digest), wanted)
    done = len(wanted) - len(parts.lacking(wanted))
    note = "found" if done else ""
    context.progress.update(done, len(wanted), unit="images", note=note)
    for chunk in chunks:
        if lacking := parts.lacking(series.wanted(chunk)):
            parts.keep(chunk, _sampled(load(), chunk))
            done += len(lacking)
            context.progress.update(done, len(wanted), unit="images")
    return wanted, parts.files(wanted)


def _sampled(pipeline: "DiffusionParts", chunk: Part) -> Iterator[tuple[PlannedPicture, bytes]]:
    """Yield the pictures of a chunk as PNG.

    Raises:
        DataError: all are black, as a model gives whose numbers are not finite.
    """
    num_black = 0
    for picture, image in generate(pipeline, chunk.pictures):
        num_black += image.getbbox() is None
        yield picture, png_of(image)
    if num_black == len(chunk.pictures):
        raise DataError(
            f"All {num_black} class pictures of {chunk.pictures[0].prompt!r} are black.",
            remedy="The base model gives numbers that are not finite: check its weights, above "
            "all the autoencoder's.",
        )


def _num_sampled(context: StepContext, inputs: Inputs) -> int:
    """Return how many class pictures all shards sample: those that the dataset itself lacks."""
    own = context.store.read(inputs.dataset).under(f"{CLASS_FOLDER}/images/")
    return context.config.prior.num_sampled(len(own))


def gather(context: StepContext, parts: Mapping[str, ManifestRef]) -> tuple[Prior, Files]:
    """Return what the class pictures of several subjects come to."""
    found = [context.store.read_as(Prior, ref) for ref in parts.values()]
    base = next((one.base_model_digest for one in found if one.base_model_digest), "")
    num_images = sum(one.num_images for one in found)
    return Prior(num_images=num_images, base_model_digest=base), {}


STEP = each_subject(
    Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce), gather=gather
)
run = STEP.run
