"""Measures the exported tiny base on held-out scenes and seeds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from models.build.autoencoder import psnr, to_tensor
from models.build.clip import embed_pictures, embed_texts
from models.build.generation import generate, pixels_of
from models.build.image_encoder import embed_subjects
from models.build.judge import Judge, judge_pictures
from models.build.recipe import Recipe
from models.build.scenes import SceneSet
from models.build.vocabulary import VOCABULARY, plain_caption

logger = logging.getLogger(__name__)

SAMPLE_SEED: Final = 990_001
"""Seed of the judged pictures; no training stage uses it."""


@torch.no_grad()
def measure_autoencoder(model: AutoencoderKL, scenes: SceneSet) -> float:
    """Return the mean PSNR in dB of reconstructed scenes."""
    device = next(model.parameters()).device
    pixels = to_tensor(np.array(scenes.pixels_NHWC))
    values = []
    for part in torch.split(pixels, 64):
        latents = model.encode(part.to(device)).latent_dist.mean
        values.append(psnr(model.decode(latents).sample, part.to(device)) * len(part))
    return sum(values) / len(pixels)


def measure_clip(
    model: CLIPModel,
    *,
    tokenizer: CLIPTokenizer,
    scenes: SceneSet,
) -> dict[str, float]:
    """Return the zero-shot top-1 rates of nouns (among all) and of backgrounds (among all)."""
    pictures = embed_pictures(model, to_tensor(np.array(scenes.pixels_NHWC)))
    names, places = VOCABULARY.noun_names, VOCABULARY.backgrounds
    noun_texts = [plain_caption(noun) for noun in names]
    nouns = pictures @ embed_texts(model, noun_texts, tokenizer=tokenizer).T
    texts = [plain_caption(noun, place) for noun in names for place in places]
    joint = pictures @ embed_texts(model, texts, tokenizer=tokenizer).T
    own = joint.view(len(pictures), len(names), len(places))[
        torch.arange(len(pictures)), torch.from_numpy(scenes.nouns)
    ]
    return {
        "noun_top1": _rate(nouns.argmax(dim=1), scenes.nouns),
        "background_top1": _rate(own.argmax(dim=1), scenes.backgrounds),
    }


def measure_judge(model: Judge, scenes: SceneSet) -> dict[str, float]:
    """Return how often the judge names real scenes rightly."""
    nouns, backgrounds = judge_pictures(model, to_tensor(np.array(scenes.pixels_NHWC)))
    return {
        "noun_top1": _rate(nouns, scenes.nouns),
        "background_top1": _rate(backgrounds, scenes.backgrounds),
    }


@dataclass(frozen=True)
class Exam:
    """Prompts with the labels that a right picture shows."""

    prompts: list[str]
    nouns: list[int]
    backgrounds: list[int]


def set_exam(num_pictures: int, *, nouns: Sequence[str]) -> Exam:
    """Return prompts that go evenly through the given nouns and all backgrounds."""
    names, grounds = VOCABULARY.noun_names, VOCABULARY.backgrounds
    labels = [label for label, name in enumerate(names) if name in nouns]
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(labels) * len(grounds))
    places = [divmod(int(order[n % len(order)]), len(grounds)) for n in range(num_pictures)]
    pairs = [(labels[place], background) for place, background in places]
    return Exam(
        prompts=[plain_caption(names[n], grounds[b]) for n, b in pairs],
        nouns=[noun for noun, _ in pairs],
        backgrounds=[background for _, background in pairs],
    )


def draw(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    recipe: Recipe,
    guidance_scale: float | None = None,
) -> list[Image.Image]:
    """Return a judged picture of each prompt; the guidance is the recipe's unless it is given."""
    return generate(
        pipeline,
        prompts,
        seed=SAMPLE_SEED,
        num_steps=recipe.sampling_steps,
        guidance_scale=recipe.guidance_scale if guidance_scale is None else guidance_scale,
    )


def measure_generation(
    pipeline: StableDiffusionPipeline, *, judge: Judge, recipe: Recipe
) -> tuple[dict[str, float], list[Image.Image]]:
    """Return how often the judge names pictures of an exam rightly, and the pictures."""
    exam = set_exam(recipe.num_generated, nouns=recipe.drawn_nouns)
    pictures = draw(pipeline, exam.prompts, recipe=recipe)
    nouns, backgrounds = judge_pictures(judge, pixels_of(pictures))
    figures = {
        "num_pictures": len(pictures),
        "noun_top1": _rate(nouns, exam.nouns),
        "background_top1": _rate(backgrounds, exam.backgrounds),
    }
    return figures, pictures


def measure_likeness(
    pipeline: StableDiffusionPipeline, *, encoder: Dinov2Model, scenes: SceneSet, recipe: Recipe
) -> dict[str, float]:
    """Return how far pictures of the scenes' own captions are from the scenes.

    The Fréchet distance is that of FID (Heusel et al. 2017) in the space of the self-supervised
    encoder; the floor is the distance between two halves of the real scenes. Guidance sharpens a
    distribution, so pictures are drawn with little of it, as figures of FID usually are (Ho and
    Salimans, "Classifier-free diffusion guidance", 2022).
    """
    guidance_scale = recipe.likeness_guidance_scale
    pictures = draw(pipeline, scenes.captions, recipe=recipe, guidance_scale=guidance_scale)
    real = embed_subjects(encoder, to_tensor(np.array(scenes.pixels_NHWC)))
    half = len(real) // 2
    return {
        "num_pictures": len(pictures),
        "frechet_distance": frechet_distance(embed_subjects(encoder, pixels_of(pictures)), real),
        "frechet_distance_real_halves": frechet_distance(real[:half], real[half:]),
    }


def frechet_distance(first_ND: torch.Tensor, second_ND: torch.Tensor) -> float:
    """Return the Fréchet distance of two clouds of points, each as a normal distribution."""
    first, second = first_ND.double(), second_ND.double()
    first_cov, second_cov = torch.cov(first.T), torch.cov(second.T)
    root = _root(first_cov)
    cross = torch.linalg.eigvalsh(root @ second_cov @ root).clamp_min(0).sqrt().sum()
    shift = (first.mean(dim=0) - second.mean(dim=0)).pow(2).sum()
    return float(shift + first_cov.trace() + second_cov.trace() - 2 * cross)


def _root(matrix: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def _rate(found: torch.Tensor, expected: Sequence[int] | npt.NDArray[np.int64]) -> float:
    return float((found == torch.as_tensor(np.asarray(expected))).float().mean())
