"""Puts the parts of a training together: base model, pictures, captions, objective."""

from dataclasses import dataclass

from torch import nn

from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.lora import add_adapters
from boothline.errors import ConfigError
from boothline.training.batches import BatchMaker, Half
from boothline.training.denoiser import Denoiser
from boothline.training.encoding import CaptionSource, MomentSource
from boothline.training.job import TrainingJob
from boothline.training.objective import Objective
from boothline.training.pictures import (
    Crops,
    Picture,
    captions_of,
    open_picture,
    read_pictures,
    split_off,
)
from boothline.training.ranks import Ranks
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
    batches: BatchMaker
    objective: Objective


def assemble(job: TrainingJob, *, ranks: Ranks) -> Assembly:
    """Load the base model and the pictures of a job, and fill the caches.

    Raises:
        ConfigError: an adapter fits no layer of the base model.
        DataError: a picture is unusable.
    """
    training = job.config.training
    pipeline = load_pipeline(job.base_model, device=ranks.device)
    denoiser = trained_networks(pipeline, training)
    schedule = pipeline.scheduler
    objective = Objective(
        schedule.alphas_cumprod,
        prediction_type=schedule.config.prediction_type,
        min_snr_gamma=training.min_snr_gamma,
        huber_delta=training.huber_delta,
    )
    objective.to(ranks.device)
    return Assembly(
        pipeline=pipeline,
        denoiser=denoiser,
        batches=_batches(job, pipeline, num_timesteps=objective.num_timesteps, ranks=ranks),
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

    kept, held_out = _instance_pictures(job)
    judge = SheetJudge(
        config,
        real=[open_picture(picture) for picture in kept + held_out],
        num_prompts=num_prompts,
        dino=DinoEncoder(job.dino_model),
        clip=ClipEncoder(job.clip_model),
        ranks=ranks,
    )
    draws = FixedDraws(
        sets=_validation_sets(job, assembly, held_out=held_out, ranks=ranks),
        captions=assembly.batches.captions,
        objective=assembly.objective,
        num_draws=config.training.validation.num_draws,
        seed=config.training.seed,
        scaling_factor=assembly.batches.scaling_factor,
        batch_size=job.micro_batch_size * len(assembly.batches.halves),
        ranks=ranks,
    )
    history = History(patience=config.training.validation.patience)
    return Validator(draws=draws, judge=judge, history=history)


def _validation_sets(
    job: TrainingJob, assembly: Assembly, *, held_out: list[Picture], ranks: Ranks
) -> list[ValidationSet]:
    """Return the pictures to measure the loss on: those trained on, and those held out."""
    half = assembly.batches.halves[0]
    sets = [ValidationSet(name=half.name, pictures=half.pictures, moments=half.moments)]
    if held_out:
        moments = MomentSource(
            assembly.pipeline.vae,
            held_out,
            resolution_px=job.config.subject.resolution_px,
            flips=False,
            cached=job.config.training.caches,
            ranks=ranks,
        )
        sets.append(ValidationSet(name="held_out", pictures=held_out, moments=moments))
    return sets


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


def _all_captions(halves: list[Half], *, held_out: list[Picture]) -> list[str]:
    """Return every caption that a batch or a validation may ask for."""
    used = [caption for half in halves for captions in half.captions for caption in captions]
    own = [picture.caption for half in halves for picture in half.pictures]
    return used + own + [picture.caption for picture in held_out]


def _instance_pictures(job: TrainingJob) -> tuple[list[Picture], list[Picture]]:
    """Return the instance pictures to train on and those held out."""
    return split_off(read_pictures([job.instance]), job.config.training.validation.hold_out)


def trained_networks(pipeline: DiffusionParts, training: TrainingConfig) -> Denoiser:
    """Return the networks to train; the others are frozen."""
    unet: nn.Module = pipeline.unet
    text_encoder: nn.Module = pipeline.text_encoder
    if training.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        if training.trains_text_encoder:
            pipeline.text_encoder.gradient_checkpointing_enable()
    adapted = training.method == "lora"
    if adapted:
        add_adapters(
            pipeline,
            training.lora,
            text_encoder=training.trains_text_encoder,
            seed=training.seed,
        )
    else:
        unet.requires_grad_(True)
    unet.train()
    if not training.trains_text_encoder:
        text_encoder.requires_grad_(False).eval()
        return Denoiser(unet, None, adapted=adapted)
    if not adapted:
        text_encoder.requires_grad_(True)
    return Denoiser(unet, text_encoder.train(), adapted=adapted)


def _batches(
    job: TrainingJob, pipeline: DiffusionParts, *, num_timesteps: int, ranks: Ranks
) -> BatchMaker:
    """Read and encode the pictures of both halves."""
    training = job.config.training
    kept, held_out = _instance_pictures(job)
    sources = {"instance": kept}
    if job.has_prior:
        sources["prior"] = read_pictures(job.priors)
    halves = []
    for name, pictures in sources.items():
        own = name == "instance"
        flip = training.horizontal_flip and own
        crops = _crops(training) if own else None
        moments = MomentSource(
            pipeline.vae,
            pictures,
            resolution_px=job.config.subject.resolution_px,
            flips=flip,
            cached=training.caches,
            ranks=ranks,
            crops=crops,
        )
        templates = training.caption_templates if own else ()
        phrase = job.config.subject.phrase
        halves.append(
            Half(
                name=name,
                pictures=pictures,
                moments=moments,
                captions=[captions_of(p, templates, phrase=phrase) for p in pictures],
                flip=flip,
                num_crops=crops.count if crops is not None else 1,
                repeats=training.repeats if own else 1,
            )
        )
    captions = CaptionSource(
        _all_captions(halves, held_out=held_out),
        tokenizer=pipeline.tokenizer,
        frozen_text_encoder=None if training.trains_text_encoder else pipeline.text_encoder,
        cached=training.caches,
        ranks=ranks,
    )
    return BatchMaker(
        halves=tuple(halves),
        captions=captions,
        seed=training.seed,
        batch_size=training.batch_size,
        micro_batch_size=job.micro_batch_size,
        num_timesteps=num_timesteps,
        scaling_factor=float(pipeline.vae.config.scaling_factor),
        noise_offset=training.noise_offset,
    )
