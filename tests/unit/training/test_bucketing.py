"""Aspect buckets: each step takes one, each as often as it has pictures, none may be empty."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from boothline.buckets import empty_buckets, nearest, size_of
from boothline.config.subject import SubjectConfig
from boothline.errors import DataError
from boothline.training.batches import Turns, sorted_by_size
from boothline.training.pictures import Picture

TURNS = Turns(counts=(3, 1, 4), seed=5)


def test_turns_take_each_bucket_as_often_as_it_has_pictures() -> None:
    for epoch in range(3):
        taken = Counter(TURNS.bucket(8 * epoch + place) for place in range(8))
        assert taken == {0: 3, 1: 1, 2: 4}
    assert [TURNS.bucket(n) for n in range(8)] != [TURNS.bucket(8 + n) for n in range(8)]


def test_turns_count_the_earlier_steps_of_a_bucket() -> None:
    seen: Counter[int] = Counter()
    for step in range(30):
        bucket = TURNS.bucket(step)
        assert TURNS.earlier(step) == seen[bucket]
        seen[bucket] += 1


@pytest.mark.parametrize(
    ("size", "bucket"), [((100, 100), "64x64"), ((300, 200), "96x64"), ((90, 200), "64x96")]
)
def test_nearest_is_the_bucket_most_alike_in_shape(size: tuple[int, int], bucket: str) -> None:
    assert nearest(size, [size_of(b) for b in ("64x64", "96x64", "64x96")]) == size_of(bucket)


def pictures(folder: Path, *sizes: tuple[int, int]) -> list[Picture]:
    found = []
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(folder / f"{number}.png")
        found.append(Picture(path=folder / f"{number}.png", caption="a bear"))
    return found


def test_sorted_by_size_keeps_the_order_of_the_pictures(tmp_path: Path) -> None:
    made = pictures(tmp_path, (96, 64), (64, 64), (96, 64))
    assert sorted_by_size(made, [(64, 64), (96, 64)]) == [[made[1]], [made[0], made[2]]]


def test_sorted_by_size_names_a_picture_of_no_bucket(tmp_path: Path) -> None:
    made = pictures(tmp_path, (96, 64))
    assert sorted_by_size(made, [(64, 64), (96, 64)]) == [[], made]
    with pytest.raises(DataError, match=r"0\.png is 96 x 64 pixels"):
        sorted_by_size(made, [(64, 64)])


def test_empty_buckets_names_every_bucket_without_pictures() -> None:
    subject = SubjectConfig(aspect_buckets=("64x64", "96x64", "64x96"))
    assert empty_buckets({(64, 64)}, subject) == ["96x64", "64x96"]
    assert empty_buckets({(64, 64), (96, 64), (64, 96)}, subject) == []
    assert empty_buckets(set(), subject) == []


@pytest.mark.parametrize("bucket", ["64", "60x64", "x64", "64x64x3"])
def test_bucket_that_is_no_size_is_refused(bucket: str) -> None:
    with pytest.raises(ValueError, match="aspect_buckets"):
        SubjectConfig(aspect_buckets=(bucket,))
