"""Samples pictures: picture (seed, index) is the same in any batch, shard or run.

Shapes: B pictures, C latent channels, H and W latent sides, L tokens, D text features.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
from diffusers import SchedulerMixin
from PIL import Image

from boothline.config.sampling import SamplingConfig
from boothline.diffusion import counters
from boothline.diffusion.editing import Canvas, Edit, start_level
from boothline.diffusion.families import Tensors
from boothline.diffusion.layout import check_sampler
from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.prompt_encoding import encode_prompt, stacked
from boothline.diffusion.samplers import step_arguments
from boothline.errors import ConfigError

OnProgress = Callable[[int, int], None]
_MAX_CACHED_PROMPTS = 256


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One picture to sample.

    Attributes:
        prompt: what it shows.
        seed, index: name the start noise and the step noise.
        negative_prompt: what it should not show; empty: the sampling settings' negative prompt.
        height_px, width_px: size, multiples of the model's pixels per latent; unset: the model's.
        edit: picture to start from; unset: from noise alone.
    """

    prompt: str
    seed: int
    index: int
    negative_prompt: str = ""
    height_px: int | None = None
    width_px: int | None = None
    edit: Edit | None = None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width, in pixels."""
        return self.height_px, self.width_px

    @property
    def kind(self) -> tuple[object, ...]:
        """What requests of one batch must have in common."""
        return (*self.size, self.edit.kind if self.edit else None)


def sample(
    pipeline: DiffusionParts,
    requests: Sequence[SampleRequest],
    *,
    sampling: SamplingConfig,
    on_progress: OnProgress | None = None,
) -> Iterator[Image.Image]:
    """Yield an RGB picture for each request, in order.

    Every batch has exactly `sampling.batch_size` rows (the last is padded with repeats), because
    float results depend on the batch shape but not on the place in the batch. With guidance, the
    conditional and unconditional halves go through the network together; at a guidance scale of 1
    or less, or with a guidance that the network reads, there is no unconditional half.

    Args:
        pipeline: the model; its training mode is restored after each batch.
        requests: what to sample; neighbours of equal kind share batches.
        sampling: sampler, steps, guidance, batch size; its `seed` is unused, requests have theirs.
        on_progress: called after each batch with pictures done and all pictures.
    """

    @lru_cache(maxsize=_MAX_CACHED_PROMPTS)
    def encode(prompt: str, negative: bool) -> Tensors:
        return encode_prompt(pipeline, prompt, negative=negative)

    _check_sampling(pipeline, requests, sampling)
    done = 0
    for _, group in groupby(requests, key=lambda request: request.kind):
        alike = list(group)
        for start in range(0, len(alike), sampling.batch_size):
            batch = alike[start : start + sampling.batch_size]
            padded = batch + batch[-1:] * (sampling.batch_size - len(batch))
            with _evaluating(pipeline), torch.inference_mode():
                pixels = _sample_batch(pipeline, padded, sampling=sampling, encode=encode)
            done += len(batch)
            if on_progress:
                on_progress(done, len(requests))
            for row in pixels[: len(batch)].numpy():
                yield Image.fromarray(row)


def _check_sampling(
    pipeline: DiffusionParts, requests: Sequence[SampleRequest], sampling: SamplingConfig
) -> None:
    """Raise `ConfigError` for what the model's family cannot do."""
    check_sampler(pipeline.family, sampling)
    embedded = pipeline.family.guidance == "embedded"
    if embedded and any(request.negative_prompt for request in requests):
        raise ConfigError(
            f"{pipeline.family.name} has no negative prompts: its guidance is an input of the "
            "network.",
            remedy="Leave the negative prompt out.",
        )


def _sample_batch(
    pipeline: DiffusionParts,
    batch: Sequence[SampleRequest],
    *,
    sampling: SamplingConfig,
    encode: Callable[[str, bool], Tensors],
) -> torch.Tensor:
    """Return pixels_BHWC: uint8, on the CPU."""
    family = pipeline.family
    guided = family.is_guided(pipeline, scale=sampling.guidance_scale)
    texts = [(request.prompt, False) for request in batch]
    if guided:
        texts = [(r.negative_prompt or sampling.negative_prompt, True) for r in batch] + texts
    conditioning = stacked([encode(*text) for text in texts])
    noise_BCHW = start_noise(pipeline, batch)
    height, width = noise_BCHW.shape[2:]
    scheduler = family.sampling_scheduler(
        pipeline.scheduler,
        sampling,
        num_tokens=family.num_tokens(pipeline, height=height, width=width),
        device=pipeline.device,
    )
    names = [(request.seed, request.index) for request in batch]
    arguments = step_arguments(scheduler, sampling, names=names)
    canvas = _canvas(pipeline, scheduler, batch, noise_BCHW=noise_BCHW)
    latents_BCHW = canvas.start() if canvas else noise_BCHW * start_level(scheduler)
    for position, timestep in enumerate(canvas.timesteps if canvas else scheduler.timesteps):
        predicted = _predict(
            pipeline,
            _model_input(scheduler, latents_BCHW, timestep),
            timestep,
            conditioning,
            guidance_scale=sampling.guidance_scale,
            guided=guided,
        )
        latents_BCHW = scheduler.step(
            predicted, timestep, latents_BCHW, **arguments, return_dict=False
        )[0]
        if canvas:
            latents_BCHW = canvas.keep(latents_BCHW, position=position)
    pixels_BHWC = decode(pipeline, latents_BCHW)
    return canvas.finish(pixels_BHWC) if canvas else pixels_BHWC


def _canvas(
    pipeline: DiffusionParts,
    scheduler: SchedulerMixin,
    batch: Sequence[SampleRequest],
    *,
    noise_BCHW: torch.Tensor,
) -> Canvas | None:
    """Return the pictures that a batch edits, or None when it starts from noise alone."""
    edits = [request.edit for request in batch if request.edit is not None]
    return Canvas(pipeline, scheduler, edits=edits, noise_BCHW=noise_BCHW) if edits else None


def _predict(
    pipeline: DiffusionParts,
    latents_BCHW: torch.Tensor,
    timestep: torch.Tensor,
    conditioning: Tensors,
    *,
    guidance_scale: float,
    guided: bool,
) -> torch.Tensor:
    """Return the (guided) prediction in one forward."""
    dtype = pipeline.denoiser.dtype
    rows = torch.cat([latents_BCHW] * 2) if guided else latents_BCHW
    predicted: torch.Tensor = pipeline.family.predict(
        pipeline.denoiser,
        rows.to(dtype),
        timestep,
        {name: value.to(dtype) for name, value in conditioning.items()},
        pixels_per_latent=pipeline.vae_scale,
        guidance_scale=guidance_scale,
    ).float()
    if not guided:
        return predicted
    return pipeline.family.guided(*predicted.chunk(2), scale=guidance_scale)


def _model_input(
    scheduler: SchedulerMixin, latents_BCHW: torch.Tensor, timestep: torch.Tensor
) -> torch.Tensor:
    """Return the latents as the network reads them; flow schedulers have nothing to scale."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents_BCHW
    scaled: torch.Tensor = scheduler.scale_model_input(latents_BCHW, timestep)
    return scaled


def start_noise(pipeline: DiffusionParts, batch: Sequence[SampleRequest]) -> torch.Tensor:
    """Return latents_BCHW: standard normal, float32, on the model's device, one row a request."""
    scale = pipeline.vae_scale
    # A UNet pads sides that it cannot halve; a transformer cuts latents into whole tokens.
    multiple = pipeline.family.side_multiple(pipeline) if pipeline.family.is_flow else scale
    height_px, width_px = (side or pipeline.resolution_px for side in batch[0].size)
    if height_px % multiple or width_px % multiple:
        raise ConfigError(
            f"{width_px} x {height_px} pixels cannot be made: this model's sides are multiples of "
            f"{multiple}.",
            remedy=f"Round the sides to multiples of {multiple}.",
        )
    channels = pipeline.family.latent_channels(pipeline)
    shape = (channels, height_px // scale, width_px // scale)
    rows = [
        counters.normal(shape, seed=request.seed, stream="sampling/start", index=request.index)
        for request in batch
    ]
    return torch.stack(rows).to(pipeline.device)


def decode(pipeline: DiffusionParts, latents_BCHW: torch.Tensor) -> torch.Tensor:
    """Return pixels_BHWC: uint8 on the CPU, from latents_BCHW in the denoiser's scale."""
    vae = pipeline.vae
    unscaled = pipeline.latent_scale.unscaled(latents_BCHW).to(vae.dtype)
    pixels_BCHW = pipeline.family.pixels(vae, unscaled).float()
    levels: torch.Tensor = (pixels_BCHW / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu()


@contextmanager
def _evaluating(pipeline: DiffusionParts) -> Iterator[None]:
    """Put the models into evaluation mode inside the block."""
    networks = (pipeline.denoiser, pipeline.vae, *pipeline.text_encoders.values())
    models = [network for network in networks if network.training]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model in models:
            model.train()
