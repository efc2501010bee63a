"""Turns pictures into posterior moments and captions into tokens or embeddings, once or anew.

Everything is encoded alone, never as part of a batch, so that a cached encoding has the same bits
as a fresh one. With a cache the ranks share the work.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from boothline.buckets import Size
from boothline.training.pictures import Crops, Picture, load_pixels
from boothline.training.ranks import Ranks


def share(count: int, encode: Callable[[int], torch.Tensor], *, ranks: Ranks) -> torch.Tensor:
    """Return `encode` of 0 to count - 1 stacked on the CPU, the work split over the ranks."""
    first = encode(0).cpu()
    encoded = torch.zeros(count, *first.shape, dtype=first.dtype)
    for index in range(ranks.rank, count, ranks.world_size):
        encoded[index] = encode(index).cpu()
    return ranks.sum(encoded)


class MomentSource:
    """Posterior moments (mean and log variance of the latents) of pictures.

    Args:
        vae: the frozen AutoencoderKL.
        pictures: what to encode.
        size_px: (width, height) that they have, or get.
        fit: cut and scale pictures of another size.
        flips: whether mirrored pictures will be asked for.
        crops: random crops that stand for each picture; None: the whole picture.
        cached: encode each once, now.
        ranks: who shares the work.
    """

    def __init__(
        self,
        vae: nn.Module,
        pictures: Sequence[Picture],
        *,
        size_px: Size,
        flips: bool,
        cached: bool,
        ranks: Ranks,
        crops: Crops | None = None,
        fit: bool = False,
    ) -> None:
        self._crops = crops
        self._vae: nn.Module | None = vae
        self._pictures = pictures
        self._size_px, self._fit = size_px, fit
        self._device = ranks.device
        self._cache: torch.Tensor | None = None
        if cached:
            count = len(pictures) * (2 if flips else 1) * self._num_variants
            self._cache = share(count, self._encode, ranks=ranks)
            self._vae = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    @property
    def _num_variants(self) -> int:
        return self._crops.count if self._crops is not None else 1

    def moments(self, index: int, *, flip: bool, crop: int = 0) -> torch.Tensor:
        """Return moments_CHW of a picture: float32 on the CPU, (2 x latent channels, H, W).

        Args:
            index: which picture.
            flip: mirrored.
            crop: which of its crops, where there are crops.
        """
        row = index + len(self._pictures) * (crop + self._num_variants * flip)
        return self._encode(row).cpu() if self._cache is None else self._cache[row]

    @torch.no_grad()
    def _encode(self, row: int) -> torch.Tensor:
        """Encode one row: all pictures in their first crop, then the next; mirrored ones last."""
        variant, index = divmod(row, len(self._pictures))
        flip, crop = divmod(variant, self._num_variants)
        crops = self._crops
        pixels = load_pixels(
            self._pictures[index],
            size_px=self._size_px,
            fit=self._fit,
            flip=bool(flip),
            cut=None if crops is None else partial(crops.cut, picture=index, crop=crop),
        )
        posterior = cast(Any, self._vae).encode(pixels[None].to(self._device)).latent_dist
        return cast(torch.Tensor, posterior.parameters[0].float())


class CaptionSource:
    """The distinct captions as tokens, or as embeddings of a frozen text encoder.

    Args:
        captions: captions of all pictures; repeats are kept once.
        tokenizer: the base model's CLIPTokenizer.
        frozen_text_encoder: given, captions become embeddings; None: they stay tokens.
        cached: embed each once, now.
        ranks: who shares the work.
    """

    def __init__(
        self,
        captions: Sequence[str],
        *,
        tokenizer: Callable[..., Any],
        frozen_text_encoder: nn.Module | None,
        cached: bool,
        ranks: Ranks,
    ) -> None:
        distinct = sorted(set(captions))
        self._rows = {caption: row for row, caption in enumerate(distinct)}
        self._tokens: torch.Tensor = tokenizer(
            distinct,
            padding="max_length",
            max_length=cast(Any, tokenizer).model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        self._text_encoder = frozen_text_encoder
        self._device = ranks.device
        self._cache: torch.Tensor | None = None
        if frozen_text_encoder is not None and cached:
            self._cache = share(len(distinct), self._embed, ranks=ranks)
            self._text_encoder = None

    def row(self, caption: str) -> int:
        """Return the row of a caption."""
        return self._rows[caption]

    def encoded(self, rows: Sequence[int]) -> torch.Tensor:
        """Return the captions of rows on the CPU: tokens (U, L) or embeddings (U, L, D)."""
        if self._cache is not None:
            return self._cache[list(rows)]
        if self._text_encoder is None:
            return self._tokens[list(rows)]
        return torch.stack([self._embed(row).cpu() for row in rows])

    @torch.no_grad()
    def _embed(self, row: int) -> torch.Tensor:
        """Embed one caption: (L, D) float32."""
        assert self._text_encoder is not None  # noqa: S101 - a fact for the type checker
        hidden = self._text_encoder(self._tokens[row : row + 1].to(self._device))[0]
        return cast(torch.Tensor, hidden[0].float())
