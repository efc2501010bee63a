"""Every number of the recipe that trains the tiny base, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from models.build.vocabulary import VOCABULARY

STAGES: Final = ("autoencoder", "clip", "image-encoder", "unet", "decoder", "vision")
"""The training stages in the order in which they run."""


@dataclass(frozen=True)
class Training:
    """How long and how fast one stage trains.

    Attributes:
        num_steps: optimiser steps; the cosine schedule ends there.
        batch_size: pictures in one step.
        learning_rate: peak, after the warm-up.
        warmup_steps: linear warm-up.
        weight_decay: of AdamW.
        ema_decay: of the averaged weights; 0 keeps none.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.0


@dataclass(frozen=True)
class AutoencoderSize:
    """Sizes of the AutoencoderKL."""

    channels: tuple[int, ...] = (32, 64, 128)
    layers_per_block: int = 1
    latent_channels: int = 8
    norm_groups: int = 16
    kl_weight: float = 2e-5


@dataclass(frozen=True)
class TransformerSize:
    """Sizes of one transformer tower."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class UnetSize:
    """Sizes of the UNet2DConditionModel; `attention` says which levels attend to the text."""

    channels: tuple[int, ...] = (64, 128, 192)
    attention: tuple[bool, ...] = (False, True, True)
    layers_per_block: int = 1
    head_width: int = 32


@dataclass(frozen=True)
class Recipe:
    """The whole recipe: the world's size, the models' sizes and each stage's training.

    Eight latent channels: with four, a face of twenty pixels loses its eyes.
    """

    seed: int = 20
    num_captioned_scenes: int = 32_000
    num_wide_scenes: int = 12_000
    num_held_out_scenes: int = 1_000
    max_tokens: int = 24
    vocabulary_size: int = 1_200
    clip_width: int = 128
    patch_px: int = 8
    text: TransformerSize = TransformerSize(width=192, layers=3, heads=6)
    vision: TransformerSize = TransformerSize(width=160, layers=4, heads=5)
    image_encoder: TransformerSize = TransformerSize(width=160, layers=4, heads=5)
    autoencoder: AutoencoderSize = AutoencoderSize()
    unet: UnetSize = UnetSize()
    training: dict[str, Training] = field(
        default_factory=lambda: {
            "autoencoder": Training(10_000, 8, 4e-4, weight_decay=0.0),
            "clip": Training(2_000, 64, 8e-4),
            "image-encoder": Training(800, 64, 6e-4),
            "unet": Training(40_000, 16, 6e-4, warmup_steps=200, ema_decay=0.999),
            "decoder": Training(6_000, 8, 6e-4, weight_decay=0.0),
            "vision": Training(1_500, 64, 5e-4),
        }
    )
    unet_nouns: tuple[str, ...] = ()
    """The nouns that the UNet learns to draw; empty means all."""
    compiled: bool = False
    bfloat16: bool = True
    """Where the processor computes it natively; with AVX-512 alone float32 may be faster."""
    num_generated: int = 1_000
    judge: Training = Training(2_000, 64, 1e-3)
    sampling_steps: int = 25
    guidance_scale: float = 4.0
    likeness_guidance_scale: float = 1.5
    """Of the pictures whose distribution is compared with that of the real scenes."""

    @property
    def drawn_nouns(self) -> tuple[str, ...]:
        """The nouns that the UNet learns to draw."""
        return self.unet_nouns or VOCABULARY.noun_names

    def with_steps(self, steps: dict[str, int]) -> Recipe:
        """Return the recipe with other numbers of steps for the named stages."""
        training = {
            name: replace(plan, num_steps=steps.get(name, plan.num_steps))
            for name, plan in self.training.items()
        }
        return replace(self, training=training)

    def with_batch_sizes(self, sizes: dict[str, int]) -> Recipe:
        """Return the recipe with other batch sizes for the named stages."""
        training = {
            name: replace(plan, batch_size=sizes.get(name, plan.batch_size))
            for name, plan in self.training.items()
        }
        return replace(self, training=training)


def quick_recipe() -> Recipe:
    """Return a recipe that walks through every stage in minutes; its pictures are noise."""
    return Recipe(
        num_captioned_scenes=512,
        num_wide_scenes=512,
        num_held_out_scenes=64,
        text=TransformerSize(width=64, layers=2, heads=2),
        vision=TransformerSize(width=64, layers=2, heads=2),
        image_encoder=TransformerSize(width=64, layers=2, heads=2),
        autoencoder=AutoencoderSize(channels=(8, 16, 32), norm_groups=8),
        unet=UnetSize(channels=(32, 64, 64)),
        training={
            "autoencoder": Training(60, 8, 2e-3, warmup_steps=10),
            "clip": Training(40, 32, 1e-3, warmup_steps=10),
            "image-encoder": Training(30, 32, 1e-3, warmup_steps=10),
            "unet": Training(60, 16, 1e-3, warmup_steps=10, ema_decay=0.9),
            "decoder": Training(10, 8, 1e-3, warmup_steps=5),
            "vision": Training(10, 32, 1e-3, warmup_steps=5),
        },
        num_generated=32,
        judge=Training(30, 32, 1e-3, warmup_steps=5),
        sampling_steps=5,
    )
