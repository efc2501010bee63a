"""Prompts as text features."""

import pytest
import torch

from boothline.diffusion.loading import DiffusionParts
from boothline.diffusion.prompt_encoding import encode_prompt, tokenize


def test_tokenize_pads_to_the_model_and_keeps_the_identifier_whole(
    tiny_parts: DiffusionParts,
) -> None:
    tokens = tokenize(tiny_parts, "a sks bear")["text_encoder"]
    tokenizer = tiny_parts.tokenizer
    words = tokenizer.convert_ids_to_tokens(tokens.tolist())
    assert words[:5] == ["<|startoftext|>", "a</w>", "sks</w>", "bear</w>", "<|endoftext|>"]
    assert (tokens.dtype, tuple(tokens.shape)) == (torch.int64, (12,))
    assert set(words[5:]) == {tokenizer.pad_token}


def test_tokenize_long_prompt_is_cut_and_says_so(
    tiny_parts: DiffusionParts, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = tokenize(tiny_parts, "a bear " * 10)["text_encoder"]
    assert len(tokens) == 12
    assert "has 22 tokens; the text encoder reads 12" in caplog.text


def test_tokenize_prompt_that_fits_says_nothing(
    tiny_parts: DiffusionParts, caplog: pytest.LogCaptureFixture
) -> None:
    tokenize(tiny_parts, "a bear " * 5)
    assert caplog.text == ""


@torch.inference_mode()
def test_encode_prompt_equals_the_text_encoder_on_a_batch(tiny_parts: DiffusionParts) -> None:
    prompts = ["a bear", "a sks dog on the beach"]
    tokens = torch.stack([tokenize(tiny_parts, prompt)["text_encoder"] for prompt in prompts])
    together = tiny_parts.text_encoder(tokens)[0]
    alone = torch.stack([encode_prompt(tiny_parts, prompt)["context"] for prompt in prompts])
    torch.testing.assert_close(alone, together)
    assert tuple(alone.shape) == (2, 12, 16)
