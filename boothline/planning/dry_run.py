"""Builds a training's networks without memory and traces one micro-batch through them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from boothline.buckets import sizes_of
from boothline.config import RunConfig
from boothline.diffusion.families import Part, Tensors
from boothline.diffusion.loading import DiffusionParts, class_of
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
        batch = _micro_batch(config, networks)
        with recorder.recording(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            prediction = denoiser(*batch)
            prediction.float().pow(2).mean()
        return TracedStep(
            trace=recorder.trace,
            weight_bytes=sum(_num_bytes(network) for network in _resident(networks, config)),
            num_trained=sum(w.numel() for w in denoiser.parameters() if w.requires_grad),
        )


def _networks(shapes: ModelShapes) -> DiffusionParts:
    """Return the networks of the base model, frozen; nothing else takes part in a step."""
    return DiffusionParts(
        family=shapes.family,
        modules={
            part.name: built(part, shapes.configs[part.name]).requires_grad_(False)
            for part in shapes.family.parts
            if part.stem is not None
        },
    )


def built(part: Part, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - neither has types
    """Return a network of given settings."""
    cls = class_of(part)
    if part.library == "diffusers":
        return cls.from_config(_public(settings))
    known = {k: v for k, v in settings.items() if k not in ("architectures", "dtype")}
    return cls(cls.config_class(**known))


def _resident(networks: DiffusionParts, config: RunConfig) -> list[torch.nn.Module]:
    """Return the networks that stay in memory: with caches, the frozen ones do not."""
    resident: list[torch.nn.Module] = [networks.denoiser]
    if not config.training.caches or config.training.trains_text_encoder:
        resident += networks.text_encoders.values()
    if not config.training.caches:
        resident.append(networks.vae)
    return resident


def _checkpoint(denoiser: Denoiser, recorder: Recorder) -> None:
    """Let the blocks that would be recomputed report to the recorder."""
    network: Any = denoiser.network
    network.enable_gradient_checkpointing(recorder.checkpoint)
    text_encoders: dict[str, Any] = denoiser.text_encoders
    for text_encoder in text_encoders.values():
        text_encoder._set_gradient_checkpointing(
            enable=True, gradient_checkpointing_func=recorder.checkpoint
        )


def _micro_batch(config: RunConfig, networks: DiffusionParts) -> tuple[Any, ...]:
    """Return noisy latents, timesteps, captions and their rows as one rank gets them at once."""
    training, family = config.training, networks.family
    has_prior = config.prior.enabled and config.prior.weight > 0
    count = training.batch_size // (training.num_processes * training.accumulation)
    count *= 2 if has_prior else 1
    width_px, height_px = max(sizes_of(config.subject), key=prod)
    scale, channels = networks.vae_scale, family.latent_channels(networks)
    num_captions = min(count, 2 if has_prior else 1)
    captions: Tensors = {
        name: torch.zeros(num_captions, length, dtype=torch.int64)
        for name, length in family.token_lengths(networks).items()
    }
    if not training.trains_text_encoder:
        captions = family.embed(networks.text_encoders, captions)
    return (
        torch.zeros(count, channels, height_px // scale, width_px // scale),
        torch.zeros(count, dtype=torch.float32 if family.is_flow else torch.int64),
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
