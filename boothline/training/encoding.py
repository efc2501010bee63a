"""Turns pictures into posterior moments and captions into tokens or embeddings, once or each time.

Everything is encoded alone, never as part of a batch, so that a cached encoding has the same bits
as a fresh one. With a cache the ranks share the work.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import torch

from boothline.buckets import Size
from boothline.diffusion.families import Tensors
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
        encode: returns moments_BCHW of pixels_BCHW: the frozen autoencoder.
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
        encode: Callable[[torch.Tensor], torch.Tensor],
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
        self._encoder: Callable[[torch.Tensor], torch.Tensor] | None = encode
        self._pictures = pictures
        self._size_px, self._fit = size_px, fit
        self._device = ranks.device
        self._cache: torch.Tensor | None = None
        if cached:
            count = len(pictures) * (2 if flips else 1) * self._num_variants
            self._cache = share(count, self._encode, ranks=ranks)
            self._encoder = None

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
        assert self._encoder is not None  # noqa: S101 - a fact for the type checker
        return self._encoder(pixels[None].to(self._device))[0].float()


class CaptionSource:
    """The distinct captions as tokens, or as what a frozen text encoder makes of them.

    Args:
        captions: captions of all pictures; repeats are kept once.
        tokenize: returns tokens_L of a caption for each text encoder.
        embed: given, captions become conditionings: (U, L) tokens to tensors of U rows; None: they
            stay tokens.
        cached: embed each once, now.
        ranks: who shares the work.
        dropped: samples may get the empty prompt instead of their caption.
        without_text: returns the conditioning of no text, given that of an empty one.
    """

    def __init__(
        self,
        captions: Sequence[str],
        *,
        tokenize: Callable[[str], Tensors],
        embed: Callable[[Tensors], Tensors] | None,
        cached: bool,
        ranks: Ranks,
        dropped: bool = False,
        without_text: Callable[[Tensors], Tensors] = lambda conditioning: conditioning,
    ) -> None:
        # None, the dropped one, is not the caption of any picture: an empty caption is another.
        distinct: list[str | None] = [*sorted(set(captions)), *([None] if dropped else [])]
        self._rows = {caption: row for row, caption in enumerate(distinct)}
        self._without_text = without_text
        tokens = [tokenize(caption or "") for caption in distinct]
        self._tokens = {name: torch.stack([row[name] for row in tokens]) for name in tokens[0]}
        self._embedder = embed
        self._device = ranks.device
        self._cache: dict[str, torch.Tensor] | None = None
        if embed is not None and cached:
            shapes = {name: value.shape for name, value in self._embed(0).items()}
            flat = share(len(distinct), lambda row: _flat(self._embed(row)), ranks=ranks)
            self._cache = _unflattened(flat, shapes)
            self._embedder = None

    def row(self, caption: str | None) -> int:
        """Return the row of a caption; None: of the dropped one."""
        return self._rows[caption]

    def encoded(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return captions on the CPU: tokens (U, L) of each text encoder, or conditionings."""
        if self._cache is not None:
            return {name: value[list(rows)] for name, value in self._cache.items()}
        if self._embedder is None:
            return {name: value[list(rows)] for name, value in self._tokens.items()}
        found = [self._embed(row) for row in rows]
        return {name: torch.stack([row[name].cpu() for row in found]) for name in found[0]}

    @torch.no_grad()
    def _embed(self, row: int) -> dict[str, torch.Tensor]:
        """Return the conditioning of one caption, float32."""
        assert self._embedder is not None  # noqa: S101 - a fact for the type checker
        tokens = {name: t[row : row + 1].to(self._device) for name, t in self._tokens.items()}
        conditioning = self._embedder(tokens)
        if row == self._rows.get(None):
            conditioning = self._without_text(conditioning)
        return {name: value[0].float() for name, value in conditioning.items()}


def _flat(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the numbers of some tensors in a row."""
    return torch.cat([value.flatten() for value in tensors.values()])


def _unflattened(rows: torch.Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Return tensors of the given shapes from rows of numbers; the first dimension is the row."""
    pieces = torch.split(rows, [prod(shape) for shape in shapes.values()], dim=1)
    return {
        name: piece.reshape(len(rows), *shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }
