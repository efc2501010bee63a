"""Turns prompts into the text features that condition the denoiser."""

import logging
from typing import Any

import torch

from boothline.diffusion.families import Tensors
from boothline.diffusion.families.family import MASK
from boothline.diffusion.loading import DiffusionParts

logger = logging.getLogger(__name__)


def tokenize(pipeline: DiffusionParts, prompt: str) -> dict[str, torch.Tensor]:
    """Return tokens_L for each text encoder: int64, padded or cut to its length.

    Families with a mask get it too, of the only text encoder that they have. What no text encoder
    reads to its end is logged.
    """
    tokens: dict[str, torch.Tensor] = {}
    cut: list[tuple[int, int]] = []
    for name, length in pipeline.family.token_lengths(pipeline).items():
        tokenizer: Any = pipeline.tokenizer_of(name)
        text = pipeline.family.written(prompt, tokenizer)
        found = tokenizer(text, padding="max_length", max_length=length, truncation=True)
        tokens[name] = torch.tensor(found.input_ids, dtype=torch.int64)
        if pipeline.family.masked:
            tokens[MASK] = torch.tensor(found.attention_mask, dtype=torch.int64)
        cut.append((len(tokenizer(text, truncation=False, verbose=False).input_ids), length))
    if all(num_tokens > length for num_tokens, length in cut):
        num_tokens, length = max(cut, key=lambda pair: pair[1])
        logger.warning(
            "The prompt %r has %d tokens; the text encoder reads %d, so its end is left out.",
            prompt,
            num_tokens,
            length,
        )
    return tokens


def encode_prompt(
    pipeline: DiffusionParts, prompt: str, *, negative: bool = False
) -> dict[str, torch.Tensor]:
    """Return the conditioning of one prompt: `context` (L, D) and, for some, `pooled` (P,).

    Each prompt goes through alone, so that its features do not depend on its neighbours.

    Args:
        pipeline: the model.
        prompt: the text.
        negative: it is what a picture should not show; empty, some families take zeros for it.
    """
    tokens_UL = {
        name: tokens_L[None].to(pipeline.device)
        for name, tokens_L in tokenize(pipeline, prompt).items()
    }
    features = pipeline.family.embed(pipeline.text_encoders, tokens_UL)
    if negative and not prompt:
        features = pipeline.family.without_text(pipeline, features)
    return {name: value[0] for name, value in features.items()}


def stacked(rows: list[Tensors]) -> dict[str, torch.Tensor]:
    """Return the conditioning of several prompts, a row each."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
