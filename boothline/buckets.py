"""Aspect-ratio buckets: the few sizes that pictures of other shapes than squares are cut to."""

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boothline.config.subject import SubjectConfig

Size = tuple[int, int]


def sizes_of(subject: "SubjectConfig") -> tuple[Size, ...]:
    """Return the sizes that training pictures have: the buckets, or the one square.

    Returns:
        (width, height) in pixels each.
    """
    side_px = subject.resolution_px
    return tuple(size_of(bucket) for bucket in subject.aspect_buckets) or ((side_px, side_px),)


def size_of(bucket: str) -> Size:
    """Return (width, height) in pixels of a bucket written as `96x64`."""
    width_px, height_px = bucket.split("x")
    return int(width_px), int(height_px)


def nearest(size: Size, sizes: Sequence[Size]) -> Size:
    """Return the size that is most alike in shape, the first of equals.

    Shapes differ by the ratio of their aspect ratios, so that 2:1 is as far from 1:1 as 1:2 is.

    Args:
        size: (width, height) of a picture.
        sizes: to choose from, at least one.
    """
    shape = math.log(size[0] / size[1])
    return min(sizes, key=lambda other: abs(math.log(other[0] / other[1]) - shape))


def empty_buckets(found: Collection[Size], subject: "SubjectConfig") -> list[str]:
    """Return the buckets without a picture.

    Args:
        found: sizes that pictures were cut to; none: there is no picture at all, which is no
            matter of buckets.
        subject: names the buckets.
    """
    return [bucket for bucket in subject.aspect_buckets if found and size_of(bucket) not in found]
