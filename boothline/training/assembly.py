"""Puts the parts of a training together: base model, pictures, captions, objective."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from boothline.buckets import Size, size_of, sizes_of
from boothline.config.subject import SubjectConfig
from boothline.config.training import TrainingConfig
from boothline.diffusion.layout import check_config, family_of
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.lora import add_adapters, freeze_unread
from boothline.diffusion.prompt_encoding import tokenize
from boothline.diffusion.tokens import start_rows
from boothline.errors import ConfigError
from boothline.training.batches import (
    Batches,
    BatchMaker,
    BucketedBatches,
    Half,
    Turns,
    sorted_by_size,
)
from boothline.training.denoiser import Denoiser, can_compile
from boothline.training.encoding import CaptionSource, MomentSource
from boothline.training.frozen import first_device, lower_frozen
from boothline.training.job import TrainingJob, words_of
from boothline.training.masks import masks_of
from boothline.training.objective import Objective, objective_of, timesteps_of
from boothline.training.pictures import (
    Crops,
    Picture,
    captions_of,
    open_picture,
    read_pictures,
    split_off,
)
from boothline.training.ranks import Ranks
from boothline.training.sharding import place
from boothline.training.validation import (
    FixedDraws,
    History,
    SheetJudge,
    ValidationSet,
    Validator,
)


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """What a training works on.

    Attributes:
        pipeline: the base model, whose networks are trained in place.
        denoiser: the trained networks.
        batches: makes every batch.
        objective: the loss.
    """

    pipeline: DiffusionParts
    denoiser: Denoiser
    batches: Batches
    objective: Objective


def assemble(job: TrainingJob, *, ranks: Ranks) -> Assembly:
    """Load the base model and the pictures of a job, and fill the caches.

    Raises:
        ConfigError: an adapter fits no layer of the base model.
        DataError: a picture is unusable.
    """
    training = job.config.training
    check_config(family_of(job.base_model), job.config)
    pipeline = load_pipeline(job.base_model, device=first_device(training, ranks.device))
    compiled = training.compile and can_compile(ranks.device)
    rows = start_rows(pipeline, words_of(job.config))
    denoiser = trained_networks(pipeline, training, rows=rows, compiled=compiled)
    place(pipeline, training, ranks=ranks)
    objective = objective_of(pipeline, training)
    objective.to(ranks.device)
    return Assembly(
        pipeline=pipeline,
        denoiser=denoiser,
        batches=_Loader(job, pipeline, ranks=ranks).batches(),
        objective=objective,
    )


def assemble_validator(
    job: TrainingJob, assembly: Assembly, *, num_prompts: int, ranks: Ranks
) -> Validator | None:
    """Return what validates the training of a job, or None where it asks for no validation.

    Args:
        job: what is trained.
        assembly: its parts.
        num_prompts: prompts on the sample sheet.
        ranks: who shares the work.

    Raises:
        ConfigError: an encoder cannot be loaded.
    """
    config = job.config
    if not config.training.validation.every_steps:
        return None
    if job.dino_model is None or job.clip_model is None:
        raise ConfigError("A training with validation needs the encoders of evaluation.")
    from boothline.evaluation.encoders import ClipEncoder, DinoEncoder

    by_subject = _instance_pictures(job)
    kept = [picture for pictures, _ in by_subject for picture in pictures]
    held_out = [picture for _, pictures in by_subject for picture in pictures]
    judge = SheetJudge(
        config,
        real=[[open_picture(one) for one in (*own, *out)] for own, out in by_subject],
        num_prompts=num_prompts,
        dino=DinoEncoder(job.dino_model),
        clip=ClipEncoder(job.clip_model),
        ranks=ranks,
    )
    draws = FixedDraws(
        sets=_validation_sets(
            job, assembly, parts={"instance": kept, "held_out": held_out}, ranks=ranks
        ),
        captions=assembly.batches.captions,
        objective=assembly.objective,
        num_draws=config.training.validation.num_draws,
        seed=config.training.seed,
        scale=assembly.pipeline.latent_scale,
        batch_size=job.micro_batch_size * (2 if job.has_prior else 1),
        ranks=ranks.sharing(config.training),
    )
    history = History(patience=config.training.validation.patience)
    return Validator(draws=draws, judge=judge, history=history)


def _validation_sets(
    job: TrainingJob, assembly: Assembly, *, parts: Mapping[str, list[Picture]], ranks: Ranks
) -> list[ValidationSet]:
    """Return the pictures to measure the loss on, those of each bucket by themselves."""
    sizes = sizes_of(job.config.subject)
    return [
        ValidationSet(
            name=name,
            stream=name if len(sizes) == 1 else f"{name}/{size[0]}x{size[1]}",
            pictures=members,
            moments=MomentSource(
                assembly.pipeline.moments,
                members,
                size_px=size,
                flips=False,
                cached=job.config.training.caches,
                ranks=ranks,
            ),
            masks=masks_of(members),
        )
        for name, pictures in parts.items()
        for size in sizes
        if (members := [p for p in pictures if len(sizes) == 1 or open_picture(p).size == size])
    ]


def _crops(training: TrainingConfig) -> Crops | None:
    """Return the random crops of the instance pictures, if there are any."""
    if not training.random_crops:
        return None
    return Crops(
        count=training.random_crops,
        smallest=training.crop_scale,
        interpolation=training.interpolation,
        seed=training.seed,
    )


def _instance_pictures(job: TrainingJob) -> list[tuple[list[Picture], list[Picture]]]:
    """Return the instance pictures of each subject to train on and those held out."""
    hold_out = job.config.training.validation.hold_out
    return [split_off(read_pictures([one.instance]), hold_out) for one in job.pictures]


def trained_networks(
    pipeline: DiffusionParts,
    training: TrainingConfig,
    *,
    rows: nn.ParameterDict | None = None,
    compiled: bool = False,
) -> Denoiser:
    """Return the networks to train; the others are frozen.

    Args:
        pipeline: the base model, changed in place.
        training: what is trained and how.
        rows: learnt rows, which are in the text encoders already.
        compiled: compile the denoiser.
    """
    family = pipeline.family
    network: nn.Module = pipeline.denoiser
    text_encoders = pipeline.text_encoders
    if training.gradient_checkpointing:
        pipeline.denoiser.enable_gradient_checkpointing()
        for text_encoder in text_encoders.values() if training.runs_text_encoder else ():
            text_encoder.gradient_checkpointing_enable()
    adapted = training.method == "lora"
    if adapted:
        add_adapters(
            pipeline,
            training.lora,
            text_encoder=training.trains_text_encoder,
            seed=training.seed,
        )
    else:
        network.requires_grad_(True)
    lower_frozen(network, training.frozen_precision)
    network.train()
    on_cpu = pipeline.denoiser.device.type == "cpu" and not training.shard_frozen
    if family.convolutional and on_cpu and training.precision == "fp32":
        # Measured there alone: most convolutions take a quarter less time or better.
        pipeline.denoiser.to(memory_format=torch.channels_last)
    for text_encoder in text_encoders.values():
        if not training.trains_text_encoder:
            text_encoder.requires_grad_(False)
        elif not adapted:
            text_encoder.requires_grad_(True)
        text_encoder.train(training.runs_text_encoder)
    if training.trains_text_encoder:
        freeze_unread(pipeline)
    return Denoiser(
        network,
        text_encoders if training.runs_text_encoder else None,
        rows=rows,
        family=family,
        pixels_per_latent=pipeline.vae_scale,
        adapted=adapted,
        compiled=compiled,
    )


class _Loader:
    """Reads and encodes the pictures and captions of a job.

    Args:
        job: what is trained.
        pipeline: the base model.
        ranks: who shares the work.
    """

    def __init__(self, job: TrainingJob, pipeline: DiffusionParts, *, ranks: Ranks) -> None:
        self._job, self._pipeline, self._ranks = job, pipeline, ranks
        self._training = job.config.training
        by_subject = _instance_pictures(job)
        self._counts = tuple(len(kept) for kept, _ in by_subject)
        self._kept = [picture for kept, _ in by_subject for picture in kept]
        self._held_out = [picture for _, held_out in by_subject for picture in held_out]
        self._own_captions = {
            picture: captions_of(picture, self._training.caption_templates, phrase=subject.phrase)
            for subject, (kept, _) in zip(job.subjects, by_subject, strict=True)
            for picture in kept
        }
        priors = [read_pictures(one.priors) for one in job.pictures] if job.has_prior else []
        self._prior_counts = tuple(map(len, priors))
        self._prior = [picture for pictures in priors for picture in pictures]

    def batches(self) -> Batches:
        """Return what makes the batches, of one shape or of several.

        Raises:
            ConfigError: the base model cannot work on a bucket's shape.
            DataError: a picture is unusable.
        """
        subject = self._job.config.subject
        sizes = sizes_of(subject)
        captions = self._captions()
        check_shapes(self._pipeline, subject)
        if not subject.aspect_buckets:
            halves = self._halves(self._kept, sizes[0], turn=int)
            return self._maker(halves, captions=captions, size=sizes[0])
        filled = [
            (size, pictures)
            for size, pictures in zip(sizes, sorted_by_size(self._kept, sizes), strict=True)
            if pictures
        ]
        members = [pictures for _, pictures in filled]
        turns = Turns(counts=tuple(map(len, members)), seed=self._training.seed)
        makers = [
            self._maker(
                self._halves(pictures, size, turn=turns.earlier),
                captions=captions,
                size=size,
            )
            for size, pictures in filled
        ]
        return BucketedBatches(makers=makers, turns=turns, captions=captions)

    def _maker(
        self, halves: tuple[Half, ...], *, captions: CaptionSource, size: Size
    ) -> BatchMaker:
        return BatchMaker(
            halves=halves,
            captions=captions,
            seed=self._training.seed,
            batch_size=self._training.batch_size,
            timesteps=timesteps_of(self._pipeline, self._training, size=size),
            scale=self._pipeline.latent_scale,
            noise_offset=self._training.noise_offset,
            caption_dropout=self._training.caption_dropout,
        )

    def _halves(
        self, pictures: list[Picture], size: Size, *, turn: Callable[[int], int]
    ) -> tuple[Half, ...]:
        """Encode the instance pictures of one shape, and the prior cut to it."""
        training = self._training
        crops = _crops(training)
        own = Half(
            name="instance",
            pictures=pictures,
            moments=self._moments(pictures, size, flips=training.horizontal_flip, crops=crops),
            captions=[self._own_captions[picture] for picture in pictures],
            counts=self._counts if pictures is self._kept else (),
            masks=masks_of(pictures, crops=crops),
            flip=training.horizontal_flip,
            num_crops=crops.count if crops is not None else 1,
            repeats=training.repeats,
            turn=turn,
        )
        if not self._prior:
            return (own,)
        prior = Half(
            name="prior",
            pictures=self._prior,
            moments=self._moments(self._prior, size, fit=turn is not int),
            captions=[(picture.caption,) for picture in self._prior],
            counts=self._prior_counts,
        )
        return (own, prior)

    def _moments(
        self,
        pictures: list[Picture],
        size: Size,
        *,
        flips: bool = False,
        crops: Crops | None = None,
        fit: bool = False,
    ) -> MomentSource:
        return MomentSource(
            self._pipeline.moments,
            pictures,
            size_px=size,
            flips=flips,
            cached=self._training.caches,
            ranks=self._ranks,
            crops=crops,
            fit=fit,
        )

    def _captions(self) -> CaptionSource:
        """Return every caption that a batch or a validation may ask for."""
        pictures = [*self._kept, *self._prior, *self._held_out]
        used = [caption for captions in self._own_captions.values() for caption in captions]
        pipeline = self._pipeline
        embed = None
        if not self._training.runs_text_encoder:
            embed = partial(pipeline.family.embed, pipeline.text_encoders)
        return CaptionSource(
            used + [picture.caption for picture in pictures],
            tokenize=partial(tokenize, pipeline),
            embed=embed,
            cached=self._training.caches,
            ranks=self._ranks,
            dropped=self._training.caption_dropout > 0,
            without_text=partial(pipeline.family.without_text, pipeline),
        )


def check_shapes(pipeline: DiffusionParts, subject: SubjectConfig) -> None:
    """Check that the base model cuts the latents of every size without a rest.

    A UNet alone pads a single size that it cannot halve, and takes it.

    Raises:
        ConfigError: a side is not a multiple of what the networks need.
    """
    multiple = pipeline.family.side_multiple(pipeline)
    sizes = subject.aspect_buckets
    if not sizes and pipeline.family.is_flow:
        sizes = (f"{subject.resolution_px}x{subject.resolution_px}",)
    odd = [size for size in sizes if any(side % multiple for side in size_of(size))]
    if odd:
        setting = "aspect_buckets" if subject.aspect_buckets else "resolution_px"
        raise ConfigError(
            f"This base model needs sides that are multiples of {multiple} pixels; "
            f"subject.{setting} has {', '.join(odd)}.",
            remedy=f"Round the sides to multiples of {multiple}.",
        )
