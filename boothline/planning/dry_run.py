"""Builds a training's networks without memory and traces one micro-batch through them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel

from boothline.buckets import sizes_of
from boothline.config import RunConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.planning.shapes import ModelShapes
from boothline.planning.tracing import Recorder, Trace
from boothline.training.assembly import trained_networks
from boothline.training.denoiser import Denoiser

_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """One training step without memory.

    Attributes:
        trace: what its forward pass keeps.
        weight_bytes: the networks that stay in memory, trained or not.
        num_trained: trained numbers.
    """

    trace: Trace
    weight_bytes: int
    num_trained: int


def trace_step(config: RunConfig, shapes: ModelShapes) -> TracedStep:
    """Trace the forward pass of one micro-batch of one rank."""
    with FakeTensorMode(), _quiet():
        networks = _networks(shapes)
        denoiser = trained_networks(networks, config.training)
        recorder = Recorder(denoiser)
        if config.training.gradient_checkpointing:
            _checkpoint(denoiser, recorder)
        dtype = _PRECISIONS.get(config.training.precision)
        with recorder.recording(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            prediction = denoiser(*_micro_batch(config, shapes))
            prediction.float().pow(2).mean()
        return TracedStep(
            trace=recorder.trace,
            weight_bytes=sum(_num_bytes(network) for network in _resident(networks, config)),
            num_trained=sum(w.numel() for w in denoiser.parameters() if w.requires_grad),
        )


def _networks(shapes: ModelShapes) -> DiffusionParts:
    """Return the three networks of the base model, frozen."""
    text = {k: v for k, v in shapes.text_encoder.items() if k not in ("architectures", "dtype")}
    return DiffusionParts(
        unet=UNet2DConditionModel.from_config(_public(shapes.unet)).requires_grad_(False),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)).requires_grad_(False),
        vae=AutoencoderKL.from_config(_public(shapes.vae)).requires_grad_(False),
        tokenizer=None,  # neither takes part in a step
        scheduler=None,
    )


def _resident(networks: DiffusionParts, config: RunConfig) -> list[torch.nn.Module]:
    """Return the networks that stay in memory: with caches, the frozen ones do not."""
    resident: list[torch.nn.Module] = [networks.unet]
    if not config.training.caches or config.training.trains_text_encoder:
        resident.append(networks.text_encoder)
    if not config.training.caches:
        resident.append(networks.vae)
    return resident


def _checkpoint(denoiser: Denoiser, recorder: Recorder) -> None:
    """Let the blocks that would be recomputed report to the recorder."""
    unet: Any = denoiser.unet
    unet.enable_gradient_checkpointing(recorder.checkpoint)
    text_encoder: Any = denoiser.text_encoder
    if text_encoder is not None:
        text_encoder._set_gradient_checkpointing(
            enable=True, gradient_checkpointing_func=recorder.checkpoint
        )


def _micro_batch(config: RunConfig, shapes: ModelShapes) -> tuple[torch.Tensor, ...]:
    """Return noisy latents, timesteps, captions and their rows as one rank gets them at once."""
    training = config.training
    has_prior = config.prior.enabled and config.prior.weight > 0
    count = training.batch_size // (training.num_processes * training.accumulation)
    count *= 2 if has_prior else 1
    width_px, height_px = max(sizes_of(config.subject), key=prod)
    scale, channels = shapes.pixels_per_latent, int(shapes.vae["latent_channels"])
    num_captions = min(count, 2 if has_prior else 1)
    if training.trains_text_encoder:
        captions = torch.zeros(num_captions, shapes.num_tokens, dtype=torch.int64)
    else:
        width = int(shapes.unet["cross_attention_dim"])
        captions = torch.zeros(num_captions, shapes.num_tokens, width)
    return (
        torch.zeros(count, channels, height_px // scale, width_px // scale),
        torch.zeros(count, dtype=torch.int64),
        captions,
        torch.zeros(count, dtype=torch.int64),
    )


def _public(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def _num_bytes(network: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in network.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from moving tensors without memory, and from warning of them."""
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        stack.enter_context(patch.object(torch.nn.Module, "_apply", lambda self, *_, **__: self))
        yield
