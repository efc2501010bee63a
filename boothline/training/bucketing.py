"""Batches of one shape each: pictures sorted into aspect buckets, and the bucket of every step.

Steps take the buckets in a shuffled order in which, over one epoch of steps (as many as there are
instance pictures), each bucket comes as often as it has pictures. Like every draw, the bucket of a
step depends on (seed, step) alone, so a resumed training takes the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from boothline.buckets import Size
from boothline.errors import DataError
from boothline.training.batches import BatchMaker, MicroBatch
from boothline.training.encoding import CaptionSource
from boothline.training.pictures import Picture, epoch_order, open_picture

STREAM = "buckets"


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Whose turn it is in each step.

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
        turns: whose turn it is.
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
