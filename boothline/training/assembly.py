"""Puts the parts of a training together: base model, pictures, captions, objective."""

from dataclasses import dataclass

from torch import nn

from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.errors import ConfigError
from boothline.training.batches import BatchMaker, Half
from boothline.training.denoiser import Denoiser
from boothline.training.encoding import CaptionSource, MomentSource
from boothline.training.job import TrainingJob
from boothline.training.objective import Objective
from boothline.training.pictures import read_pictures
from boothline.training.ranks import Ranks


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
        ConfigError: the method is not available.
        DataError: a picture is unusable.
    """
    training = job.config.training
    if training.method != "full":
        raise ConfigError(
            f"training.method {training.method!r} is not available yet.",
            remedy="Set training.method to full.",
        )
    pipeline = load_pipeline(job.base_model, device=ranks.device)
    denoiser = _trained_networks(pipeline, training)
    schedule = pipeline.scheduler
    objective = Objective(
        schedule.alphas_cumprod,
        prediction_type=schedule.config.prediction_type,
        min_snr_gamma=training.min_snr_gamma,
    )
    objective.to(ranks.device)
    return Assembly(
        pipeline=pipeline,
        denoiser=denoiser,
        batches=_batches(job, pipeline, num_timesteps=objective.num_timesteps, ranks=ranks),
        objective=objective,
    )


def _trained_networks(pipeline: DiffusionParts, training: TrainingConfig) -> Denoiser:
    """Return the networks to train; the others are frozen."""
    unet: nn.Module = pipeline.unet.requires_grad_(True).train()
    text_encoder: nn.Module = pipeline.text_encoder
    if training.gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
    if not training.train_text_encoder:
        text_encoder.requires_grad_(False).eval()
        return Denoiser(unet, None)
    if training.gradient_checkpointing:
        pipeline.text_encoder.gradient_checkpointing_enable()
    return Denoiser(unet, text_encoder.requires_grad_(True).train())


def _batches(
    job: TrainingJob, pipeline: DiffusionParts, *, num_timesteps: int, ranks: Ranks
) -> BatchMaker:
    """Read and encode the pictures of both halves."""
    training = job.config.training
    folders = {"instance": [job.instance]}
    if job.has_prior:
        folders["prior"] = list(job.priors)
    halves = []
    for name, sources in folders.items():
        pictures = read_pictures(sources)
        flip = training.horizontal_flip and name == "instance"
        moments = MomentSource(
            pipeline.vae,
            pictures,
            resolution_px=job.config.subject.resolution_px,
            flips=flip,
            cached=training.caches,
            ranks=ranks,
        )
        halves.append(Half(name=name, pictures=pictures, moments=moments, flip=flip))
    captions = CaptionSource(
        [picture.caption for half in halves for picture in half.pictures],
        tokenizer=pipeline.tokenizer,
        frozen_text_encoder=None if training.train_text_encoder else pipeline.text_encoder,
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
