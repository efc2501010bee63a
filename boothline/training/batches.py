"""Builds the micro-batch of any (step, accumulation, rank) from counters alone, in one bucket.

The global batch of step s (counted from 0) takes positions s x B to (s + 1) x B - 1 of the instance
order and of the prior order, in which several subjects take turns. Every draw is named by (seed,
stream, step, slot), the slot being the place in the global batch, so it does not matter which rank
computes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from boothline.buckets import Size
from boothline.diffusion import counters
from boothline.diffusion.families import LatentScale
from boothline.errors import DataError
from boothline.training.encoding import CaptionSource, MomentSource
from boothline.training.masks import MaskSource
from boothline.training.objective import Timesteps
from boothline.training.pictures import Picture, epoch_order, open_picture, picture_at

Sample = tuple[torch.Tensor, torch.Tensor, float, int, torch.Tensor | None]


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one forward pass takes; the instance half comes first.

    Attributes:
        latents_BCHW: scaled latents, float32.
        noise_BCHW: noise, float32.
        timesteps_B: int64, or float32 for flow matching.
        captions: the distinct captions: tokens (U, L) by text encoder, or conditionings of U rows.
        caption_rows_B: which caption each sample has, int64.
        num_instance: size of the instance half.
        weights_BHW: weights of the latents in the loss, float32; None: all count alike.
    """

    latents_BCHW: torch.Tensor
    noise_BCHW: torch.Tensor
    timesteps_B: torch.Tensor
    captions: Mapping[str, torch.Tensor]
    caption_rows_B: torch.Tensor
    num_instance: int
    weights_BHW: torch.Tensor | None = None

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the batch on a device."""
        if device.type == "cpu":
            return self
        tensors: dict[str, Any] = {
            name: _moved(value, device)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        captions = {name: _moved(value, device) for name, value in self.captions.items()}
        return replace(self, **tensors, captions=captions)


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class Half:
    """One half of every batch: the instance images or the class images.

    Attributes:
        name: `instance` or `prior`; begins the names of its random streams.
        pictures: the pictures, those of each subject together.
        moments: their posterior moments.
        counts: pictures of each subject, who take turns; empty: all are of one.
        captions: captions that each picture may have; a sample takes one of them.
        masks: which parts of the pictures are learnt; None: all.
        flip: mirror each sample with probability one half.
        num_crops: crops of each picture; a sample takes one of them.
        repeats: times that each picture stands in an epoch.
        turn: which batch of this half a step takes; by default the step's own number.
    """

    name: str
    pictures: Sequence[Picture]
    moments: MomentSource
    captions: Sequence[tuple[str, ...]]
    counts: tuple[int, ...] = ()
    masks: MaskSource | None = None
    flip: bool = False
    num_crops: int = 1
    repeats: int = 1
    turn: Callable[[int], int] = int

    def picture_at(self, position: int, *, seed: int) -> int:
        """Return the number of the picture at a position of the endless order of this half.

        Subjects take turns from position to position, and each goes through its own pictures in an
        order of its own. So of as many positions in a row as there are subjects, each has one.

        Args:
            position: samples taken before, at least 0.
            seed: seed of the training.
        """
        counts = self.counts or (len(self.pictures),)
        turn, subject = divmod(position, len(counts))
        stream = f"{self.name}/{subject}" if subject else self.name
        count = counts[subject]
        place = picture_at(turn, count=count * self.repeats, seed=seed, stream=stream)
        return sum(counts[:subject]) + place % count


@dataclass(frozen=True, kw_only=True)
class BatchMaker:
    """Makes micro-batches.

    Attributes:
        halves: the instance half, then the prior half if there is one.
        captions: captions of all pictures.
        seed: seed of the training.
        batch_size: size of one half of the global batch.
        timesteps: draws the timesteps.
        scale: of the VAE's latents.
        noise_offset: strength of the offset noise (Guttenberg, "Diffusion with
            Offset Noise", 2023).
        caption_dropout: probability of the empty prompt in the place of a caption.
    """

    halves: tuple[Half, ...]
    captions: CaptionSource
    seed: int
    batch_size: int
    timesteps: Timesteps
    scale: LatentScale
    noise_offset: float = 0.0
    caption_dropout: float = 0.0

    def make(self, step: int, *, slots: range) -> MicroBatch:
        """Return a piece of the global batch of a step.

        Args:
            step: optimizer step, counted from 0.
            slots: places in each half of the global batch, in [0, batch_size).
        """
        samples = [self._sample(half, step, slot) for half in self.halves for slot in slots]
        latents, noise, timesteps, rows, weights = zip(*samples, strict=True)
        distinct = sorted(set(rows))
        return MicroBatch(
            latents_BCHW=torch.stack(latents),
            noise_BCHW=torch.stack(noise),
            timesteps_B=torch.tensor(timesteps),
            captions=self.captions.encoded(distinct),
            caption_rows_B=torch.tensor([distinct.index(row) for row in rows]),
            num_instance=len(slots),
            weights_BHW=stacked_weights(weights, like_BCHW=latents),
        )

    def _sample(self, half: Half, step: int, slot: int) -> Sample:
        """Return latents_CHW, noise_CHW, timestep, caption row and weights_HW of one slot."""
        index = half.picture_at(half.turn(step) * self.batch_size + slot, seed=self.seed)
        place = (step, slot)
        flip = half.flip and bool(self._choice(half, "flip", 2, place))
        crop = self._choice(half, "crop", half.num_crops, place)
        mean, log_variance = half.moments.moments(index, flip=flip, crop=crop).chunk(2)
        draw = self._normal(half, "posterior", tuple(mean.shape), place)
        latents = self.scale.scaled(mean + (0.5 * log_variance.clamp(-30, 20)).exp() * draw)
        noise = self._normal(half, "noise", tuple(mean.shape), place)
        if self.noise_offset:
            offset = self._normal(half, "offset", (mean.shape[0], 1, 1), place)
            noise = noise + self.noise_offset * offset
        stream = f"{half.name}/timestep"
        timestep = self.timesteps.draw(seed=self.seed, stream=stream, index=place)
        captions = half.captions[index]
        caption = captions[self._choice(half, "caption", len(captions), place)]
        row = self.captions.row(None if self._is_dropped(half, place) else caption)
        weights = None
        if half.masks is not None:
            height, width = latents.shape[1:]
            weights = half.masks.weights(index, shape=(height, width), flip=flip, crop=crop)
        return latents, noise, timestep, row, weights

    def _is_dropped(self, half: Half, place: tuple[int, int]) -> bool:
        """Return whether one slot gets the empty prompt instead of its caption."""
        if not self.caption_dropout:
            return False
        stream = f"{half.name}/dropout"
        drawn = counters.uniform((), seed=self.seed, stream=stream, index=place)
        return float(drawn) < self.caption_dropout

    def _choice(self, half: Half, name: str, count: int, place: tuple[int, int]) -> int:
        """Return a number below `count`, drawn for one slot in a stream of its half."""
        if count == 1:
            return 0
        stream = f"{half.name}/{name}"
        return int(counters.integers((), high=count, seed=self.seed, stream=stream, index=place))

    def _normal(
        self, half: Half, name: str, shape: tuple[int, ...], place: tuple[int, int]
    ) -> torch.Tensor:
        """Return the normal draw of one slot in a stream of its half."""
        return counters.normal(shape, seed=self.seed, stream=f"{half.name}/{name}", index=place)


def stacked_weights(
    weights: Sequence[torch.Tensor | None], *, like_BCHW: Sequence[torch.Tensor]
) -> torch.Tensor | None:
    """Return weights_BHW of samples, ones for those without masks; None where none has any.

    Args:
        weights: weights_HW of each sample; None: it has no mask.
        like_BCHW: latents_CHW of each sample.
    """
    if all(each is None for each in weights):
        return None
    return torch.stack(
        [
            torch.ones(latents.shape[-2:]) if each is None else each
            for each, latents in zip(weights, like_BCHW, strict=True)
        ]
    )


STREAM = "buckets"


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Which bucket each step trains on.

    Steps take the buckets in a shuffled order in which, over one epoch of steps (as many as there
    are instance pictures), each bucket comes as often as it has pictures. Like every draw, the
    bucket of a step depends on (seed, step) alone, so a resumed training takes the same.

    Attributes:
        counts: pictures of each bucket, at least 1.
        seed: seed of the training.
    """

    counts: tuple[int, ...]
    seed: int

    def bucket(self, step: int) -> int:
        """Return the bucket of a step, counted from 0."""
        epoch, place = divmod(step, sum(self.counts))
        return self._order(epoch)[place]

    def earlier(self, step: int) -> int:
        """Return how many steps before this one took its bucket."""
        epoch, place = divmod(step, sum(self.counts))
        order = self._order(epoch)
        return epoch * self.counts[order[place]] + order[:place].count(order[place])

    def _order(self, epoch: int) -> list[int]:
        owners = [bucket for bucket, count in enumerate(self.counts) for _ in range(count)]
        return [owners[place] for place in epoch_order(len(owners), self.seed, STREAM, epoch)]


@dataclass(frozen=True, kw_only=True)
class BucketedBatches:
    """Makes micro-batches of one bucket each.

    Attributes:
        makers: makes the batches of each bucket.
        turns: which bucket each step trains on.
        captions: captions of all pictures.
    """

    makers: Sequence[BatchMaker]
    turns: Turns
    captions: CaptionSource

    def make(self, step: int, *, slots: range) -> MicroBatch:
        """Return a piece of the global batch of a step; arguments as in `BatchMaker.make`."""
        return self.makers[self.turns.bucket(step)].make(step, slots=slots)


def sorted_by_size(pictures: Sequence[Picture], sizes: Sequence[Size]) -> list[list[Picture]]:
    """Return the pictures of each size, in their order.

    Args:
        pictures: each of exactly one of the sizes.
        sizes: (width, height) in pixels of the buckets.

    Raises:
        DataError: a picture has another size.
    """
    found: dict[Size, list[Picture]] = {size: [] for size in sizes}
    for picture in pictures:
        size = open_picture(picture).size
        if size not in found:
            raise DataError(
                f"{picture.path.name} is {size[0]} x {size[1]} pixels, which is none of "
                "subject.aspect_buckets.",
                remedy="Run validate_data again with these buckets.",
            )
        found[size].append(picture)
    return list(found.values())


Batches = BatchMaker | BucketedBatches
