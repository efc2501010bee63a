"""Which variant of a picture each place of a batch takes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from boothline.training.batches import BatchMaker, Half
from boothline.training.pictures import Picture

NUM_PICTURES = 3


class NamedMoments:
    """Moments that name the picture, the crop and the flip, without any variance."""

    def moments(self, index: int, *, flip: bool, crop: int = 0) -> torch.Tensor:
        mean = torch.full((1, 2, 2), 100.0 * flip + 10 * crop + index)
        return torch.cat([mean, torch.full((1, 2, 2), -1e9)])


class NumberedCaptions:
    """Captions that are their own rows."""

    def row(self, caption: str) -> int:
        return int(caption)

    def encoded(self, rows: list[int]) -> torch.Tensor:
        return torch.tensor(rows)


def names_of(steps: int, *, captions: int = 1, **half: Any) -> list[tuple[int, int, int, int]]:
    """Return (picture, crop, flip, caption) of every place of the first steps."""
    moments: Any = NamedMoments()
    rows: Any = NumberedCaptions()
    pictures = [Picture(path=Path(f"{n}.png"), caption="0") for n in range(NUM_PICTURES)]
    texts = tuple(str(number) for number in range(captions))
    maker = BatchMaker(
        halves=(
            Half(name="instance", pictures=pictures, moments=moments,
                 captions=[texts] * NUM_PICTURES, **half),
        ),
        captions=rows, seed=0, batch_size=6, num_timesteps=10,
        scaling_factor=1.0,
    )  # fmt: skip
    found = []
    for step in range(steps):
        batch = maker.make(step, slots=range(6))
        for value, row in zip(batch.latents_BCHW[:, 0, 0, 0], batch.caption_rows_B, strict=True):
            flip, rest = divmod(round(float(value)), 100)
            crop, picture = divmod(rest, 10)
            found.append((picture, crop, flip, int(batch.captions[row])))
    return found


@pytest.mark.proves("F19/draws")
def test_batches_take_every_crop_flip_and_caption() -> None:
    found = names_of(20, captions=4, num_crops=3, flip=True)
    assert {name[1] for name in found} == {0, 1, 2}
    assert {name[2] for name in found} == {0, 1}
    assert {name[3] for name in found} == {0, 1, 2, 3}
    # Each is drawn by itself: no two of them go together.
    assert len(set(found)) > 50


def test_batches_by_default_take_the_whole_picture_and_its_caption() -> None:
    assert {name[1:] for name in names_of(4)} == {(0, 0, 0)}


@pytest.mark.proves("F19/repeats")
def test_batches_with_repeats_hold_each_picture_as_often_in_an_epoch() -> None:
    pictures = [name[0] for name in names_of(4, repeats=4)]
    for epoch in (pictures[:12], pictures[12:]):
        assert sorted(epoch) == sorted([0, 1, 2] * 4)
    assert any(pictures[n : n + 3] != pictures[n + 3 : n + 6] for n in range(0, 18, 6))
    assert any(len(set(pictures[n : n + 3])) < 3 for n in range(0, 24, 3))
