"""Builds a training's networks without memory and traces one micro-batch through them."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from boothline.buckets import sizes_of
from boothline.config import RunConfig
from boothline.config.training import TrainingConfig
from boothline.diffusion.families import Part, Tensors
from boothline.diffusion.loading import DiffusionParts, class_of
from boothline.diffusion.tokens import put_rows
from boothline.planning.shapes import ModelShapes
from boothline.training.assembly import trained_networks
from boothline.training.denoiser import Denoiser
from boothline.training.frozen import frozen_bytes
from boothline.training.job import words_of
from boothline.training.sharding import sharded_bytes


@dataclass
class Trace:
    """What autograd keeps from the forward to the backward pass, in the order it was kept.

    Attributes:
        kept: bytes of each newly kept tensor; a negative number is a weight's gradient, which the
            backward pass makes when it comes back to that place.
        largest_block_bytes: what the largest recomputed block keeps while it is recomputed.
        largest_tensor_bytes: the largest kept tensor.
    """

    kept: list[int] = field(default_factory=list)
    largest_block_bytes: int = 0
    largest_tensor_bytes: int = 0

    @property
    def activation_bytes(self) -> int:
        """All that is kept when the forward pass ends."""
        return sum(size for size in self.kept if size > 0) + self.largest_block_bytes

    def peak_bytes(self, *, gradients_allocated: bool) -> int:
        """Return the highest sum of activations and gradients during the backward pass.

        Activations are freed as the backward pass returns, gradients are made: the sum is highest
        somewhere between.

        Args:
            gradients_allocated: the gradients' memory exists all the time (the buckets of DDP).
        """
        gradients = -sum(size for size in self.kept if size < 0)
        if gradients_allocated:
            return self.activation_bytes + gradients
        held = sum(size for size in self.kept if size > 0)
        made, highest = 0, held
        for size in reversed(self.kept):
            if size > 0:
                held -= size
            else:
                made -= size
            highest = max(highest, held + made)
        return highest + self.largest_block_bytes


class Recorder:
    """Fills a `Trace` while the forward pass runs.

    Args:
        model: whose trained weights get gradients.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.trace = Trace()
        self._seen: set[int] = set()
        self._alive: list[torch.Tensor] = []
        self._passed: set[torch.nn.Module] = set()
        for module in model.modules():
            module.register_forward_hook(self._pass)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what autograd keeps inside the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def checkpoint(
        self, function: Callable[..., object], *inputs: object, **settings: object
    ) -> object:
        """Stand in for torch's checkpoint: keep the inputs, count what recomputing would keep."""
        settings.pop("use_reentrant", None)
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):
                self._keep(tensor)
        outside, self.trace = self.trace, Trace()
        seen = self._seen.copy()
        result = function(*inputs, **settings)
        self._seen = seen
        block, self.trace = self.trace, outside
        self.trace.kept += [size for size in block.kept if size < 0]
        kept = sum(size for size in block.kept if size > 0)
        self.trace.largest_block_bytes = max(self.trace.largest_block_bytes, kept)
        return result

    def _pass(self, module: torch.nn.Module, inputs: object, output: object) -> None:
        """Note the gradients of a module's own weights at the place of its first pass."""
        own = [weight for weight in module.parameters(recurse=False) if weight.requires_grad]
        if own and module not in self._passed:
            self._passed.add(module)
            self.trace.kept.append(-sum(w.numel() * w.element_size() for w in own))

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor that autograd keeps; a storage counts once, weights do not count."""
        storage = tensor.untyped_storage()._cdata
        if storage in self._seen or isinstance(tensor, torch.nn.Parameter):
            return tensor
        self._seen.add(storage)
        self._alive.append(tensor)  # a freed storage's place could be given to another
        size = tensor.untyped_storage().nbytes()
        self.trace.largest_tensor_bytes = max(self.trace.largest_tensor_bytes, size)
        self.trace.kept.append(size)
        return tensor


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


@dataclass(frozen=True)
class _Question:
    """What is traced, equal where the settings that play a part are.

    Attributes:
        text: those settings.
        config, shapes: what they come from.
    """

    text: str
    config: RunConfig = field(compare=False)
    shapes: ModelShapes = field(compare=False)


def trace_step(config: RunConfig, shapes: ModelShapes) -> TracedStep:
    """Trace the forward pass of one micro-batch of one rank; an equal one is traced once."""
    settings = config.model_dump(
        mode="json",
        include={"subject": True, "prior": True, "training": True},
        exclude={"training": {"optimizer"}},
    )
    networks = {name: dict(values) for name, values in shapes.configs.items()}
    text = json.dumps([shapes.family.name, networks, settings], sort_keys=True, default=str)
    return _traced(_Question(text, config, shapes))


@lru_cache(maxsize=64)
def _traced(question: _Question) -> TracedStep:
    config, shapes = question.config, question.shapes
    with FakeTensorMode(), _quiet():
        networks = _networks(shapes)
        training = config.training
        if training.frozen_precision == "nf4":
            # What NF4 keeps for the backward pass is what bf16 keeps.
            training = training.model_copy(update={"frozen_precision": "bf16"})
        denoiser = trained_networks(networks, training, rows=_rows(networks, config))
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
            weight_bytes=_denoiser_bytes(networks.denoiser, config.training)
            + sum(_num_bytes(network) for network in _beside(networks, config)),
            num_trained=sum(w.numel() for w in denoiser.parameters() if w.requires_grad),
        )


def _denoiser_bytes(network: torch.nn.Module, training: TrainingConfig) -> int:
    """Return what the denoiser takes on one rank; a network for NF4 is in bf16 here."""
    if training.shard_frozen and training.num_ranks() > 1:
        return sharded_bytes(network, num_ranks=training.num_ranks())
    return frozen_bytes(network, training.frozen_precision)


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


def _rows(networks: DiffusionParts, config: RunConfig) -> torch.nn.ParameterDict | None:
    """Return the learnt rows of tokens, put into the text encoders, if there are any."""
    words = words_of(config)
    tables = {
        name: encoder.get_input_embeddings().weight
        for name, encoder in networks.text_encoders.items()
    }
    return put_rows(networks, {n: t[: len(words)] for n, t in tables.items()}) if words else None


def _beside(networks: DiffusionParts, config: RunConfig) -> list[torch.nn.Module]:
    """Return what stays in memory next to the denoiser: with caches, frozen networks do not."""
    resident: list[torch.nn.Module] = []
    if not config.training.caches or config.training.runs_text_encoder:
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


def _micro_batch(config: RunConfig, networks: DiffusionParts) -> tuple[object, ...]:
    """Return noisy latents, timesteps, captions and their rows as one rank gets them at once."""
    training, family = config.training, networks.family
    has_prior = config.prior.enabled and config.prior.weight > 0
    count = training.batch_size // (training.num_ranks() * training.accumulation)
    count *= 2 if has_prior else 1
    width_px, height_px = max(sizes_of(config.subject), key=prod)
    scale, channels = networks.vae_scale, family.latent_channels(networks)
    distinct = (2 if has_prior else 1) * len(config.by_subject)
    distinct += bool(config.training.caption_dropout)
    num_captions = min(count, distinct)
    captions: Tensors = {
        name: torch.zeros(num_captions, length, dtype=torch.int64)
        for name, length in family.token_lengths(networks).items()
    }
    if not training.runs_text_encoder:
        captions = family.embed(networks.text_encoders, captions)
    return (
        torch.zeros(count, channels, height_px // scale, width_px // scale),
        torch.zeros(count, dtype=torch.float32 if family.is_flow else torch.int64),
        captions,
        torch.zeros(count, dtype=torch.int64),
    )


def _public(settings: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def _num_bytes(network: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in network.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries from moving tensors without memory, and from warning of them."""
    moving = torch.nn.Module._apply
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # torch cannot swap the weights of a module while the mode refers to them.
        torch.nn.Module._apply = lambda self, *_, **__: self  # type: ignore[method-assign]
        try:
            yield
        finally:
            torch.nn.Module._apply = moving  # type: ignore[method-assign]
