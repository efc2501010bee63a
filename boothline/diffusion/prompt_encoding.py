"""Turns prompts into the text features that condition the UNet."""

import logging
from typing import Any

import torch

from boothline.diffusion.loading import DiffusionParts

logger = logging.getLogger(__name__)


def max_tokens(pipeline: DiffusionParts) -> int:
    """Return the length of a tokenised prompt, start and end tokens included."""
    positions = int(pipeline.text_encoder.config.max_position_embeddings)
    return min(int(pipeline.tokenizer.model_max_length), positions)


def tokenize(pipeline: DiffusionParts, prompt: str) -> torch.Tensor:
    """Return tokens_L: int64, padded or cut to the model's length; cutting is logged."""
    length = max_tokens(pipeline)
    tokenizer: Any = pipeline.tokenizer
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    num_tokens = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
    if num_tokens > length:
        logger.warning(
            "The prompt %r has %d tokens; the text encoder reads %d, so its end is left out.",
            prompt,
            num_tokens,
            length,
        )
    return torch.tensor(tokens, dtype=torch.int64)


def encode_prompt(pipeline: DiffusionParts, prompt: str) -> torch.Tensor:
    """Return context_LD: the text encoder's last hidden state for one prompt.

    Each prompt goes through alone, so that its features do not depend on its neighbours.
    """
    tokens_BL = tokenize(pipeline, prompt)[None].to(pipeline.device)
    features_BLD: torch.Tensor = pipeline.text_encoder(tokens_BL, return_dict=False)[0]
    return features_BLD[0]
