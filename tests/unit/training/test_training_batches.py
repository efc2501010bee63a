"""Which variant of a picture each place of a batch takes, and what is drawn there."""

from collections import Counter
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boothline.diffusion import counters
from boothline.diffusion.families import LatentScale
from boothline.training.batches import BatchMaker, BucketedBatches, Half, MicroBatch, Turns
from boothline.training.objective import UniformTimesteps
from boothline.training.pictures import Picture
from boothline.training.stepping import StepSums

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

    def encoded(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(rows)}


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
        captions=rows, seed=0, batch_size=6, timesteps=UniformTimesteps(count=10),
        scale=LatentScale(factor=1.0),
    )  # fmt: skip
    found = []
    for step in range(steps):
        batch = maker.make(step, slots=range(6))
        for value, row in zip(batch.latents_BCHW[:, 0, 0, 0], batch.caption_rows_B, strict=True):
            flip, rest = divmod(round(float(value)), 100)
            crop, picture = divmod(rest, 10)
            found.append((picture, crop, flip, int(batch.captions["number"][row])))
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


SEED, SCALE, OFFSET = 3, 0.25, 0.5
SHAPE = (3, 2, 4)  # C, H, W
LOG_VARIANCES = {"instance": 0.8, "prior": -1.2}


class KnownMoments:
    """Moments of three channels whose mean is the number of the picture, from 1, or 0."""

    def __init__(self, log_variance: float, *, centred: bool = False) -> None:
        self._log_variance, self._centred = log_variance, centred

    def moments(self, index: int, *, flip: bool, crop: int = 0) -> torch.Tensor:
        assert (flip, crop) == (False, 0)
        mean = 0.0 if self._centred else 1.0 + index
        return torch.cat([torch.full(SHAPE, mean), torch.full(SHAPE, self._log_variance)])


class HalfMasks:
    """Weights that say the picture, the mirroring and the crop that were asked for."""

    def weights(
        self, index: int, *, shape: tuple[int, int], flip: bool = False, crop: int = 0
    ) -> torch.Tensor:
        return torch.full(shape, 0.1 * (1 + index) + flip + 10 * crop)


def known_maker(**settings: Any) -> BatchMaker:
    """Return a maker of batches of 4 instance pictures, and as many class pictures."""
    log_variances = settings.pop("log_variances", LOG_VARIANCES)
    centred = settings.pop("centred", False)
    masks: Any = HalfMasks() if settings.pop("masked", False) else None
    halves = []
    for name, count in (("instance", 3), ("prior", 5)):
        moments: Any = KnownMoments(log_variances[name], centred=centred)
        pictures = [Picture(path=Path(f"{n}.png"), caption="") for n in range(count)]
        captions = [(str(7 if name == "prior" else 4 - n),) for n in range(count)]
        own = masks if name == "instance" else None
        halves.append(
            Half(name=name, pictures=pictures, moments=moments, captions=captions, masks=own)
        )
    rows: Any = NumberedCaptions()
    return BatchMaker(
        halves=tuple(halves), captions=rows, seed=SEED, batch_size=4,
        timesteps=UniformTimesteps(count=50), scale=LatentScale(factor=SCALE), **settings,
    )  # fmt: skip


def drawn(half: str, name: str, step: int, slot: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return a normal draw of a place, float64."""
    draw = counters.normal(shape, seed=SEED, stream=f"{half}/{name}", index=(step, slot))
    return draw.double().numpy()


def picture_of(half: str, count: int, step: int, slot: int) -> int:
    """Return the picture at a place: each epoch is a permutation of its own."""
    epoch, place = divmod(4 * step + slot, count)
    return counters.permutation(count, seed=SEED, stream=f"{half}/order", index=epoch)[place]


@pytest.mark.parametrize("settings", [{}, {"noise_offset": OFFSET}])
@pytest.mark.parametrize(("step", "slots"), [(0, range(4)), (2, range(1, 3))])
def test_batch_holds_the_draws_of_its_places(settings, step, slots) -> None:
    batch = known_maker(**settings).make(step, slots=slots)
    places = [("instance", 3, slot) for slot in slots] + [("prior", 5, slot) for slot in slots]
    for row, (half, count, slot) in enumerate(places):
        picture = picture_of(half, count, step, slot)
        deviation = np.exp(LOG_VARIANCES[half]) ** 0.5
        latents = SCALE * (1 + picture + deviation * drawn(half, "posterior", step, slot))
        offset = drawn(half, "offset", step, slot, (3, 1, 1)) if settings else 0.0
        noise = drawn(half, "noise", step, slot) + OFFSET * offset
        np.testing.assert_allclose(batch.latents_BCHW[row], latents, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.noise_BCHW[row], noise, rtol=1e-5, atol=1e-6)
        timestep = counters.integers(
            (), high=50, seed=SEED, stream=f"{half}/timestep", index=(step, slot)
        )
        assert batch.timesteps_B[row] == timestep
        caption = 7 if half == "prior" else 4 - picture
        assert batch.captions["number"][batch.caption_rows_B[row]] == caption
    assert batch.latents_BCHW.dtype == batch.noise_BCHW.dtype == torch.float32
    assert batch.num_instance == len(slots)
    numbers = batch.captions["number"].tolist()
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(("log_variance", "deviation"), [(100.0, np.exp(10)), (-90.0, np.exp(-15))])
def test_batch_bounds_the_posterior_as_the_autoencoder_does(log_variance, deviation) -> None:
    maker = known_maker(log_variances={"instance": log_variance, "prior": 0.0}, centred=True)
    latents = maker.make(0, slots=range(1)).latents_BCHW[0].double().numpy() / SCALE
    wanted = deviation * drawn("instance", "posterior", 0, 0)
    np.testing.assert_allclose(latents, wanted, rtol=1e-5)


def test_batch_draws_flip_crop_and_caption_in_streams_of_their_own() -> None:
    found = names_of(2, captions=4, num_crops=3, flip=True)
    for number, (_, crop, flip, caption) in enumerate(found):
        for name, count, value in (("flip", 2, flip), ("crop", 3, crop), ("caption", 4, caption)):
            draw = counters.integers(
                (), high=count, seed=0, stream=f"instance/{name}", index=divmod(number, 6)
            )
            assert value == draw


def test_batch_of_a_half_with_turns_takes_the_pictures_of_its_turn() -> None:
    turned = [name[0] for name in names_of(4, turn=lambda step: step // 2)]
    plain = [name[0] for name in names_of(2)]
    assert turned == plain[:6] * 2 + plain[6:] * 2


@pytest.mark.proves("F56/masks")
def test_batch_weighs_each_sample_by_the_mask_of_its_own_picture_flip_and_crop() -> None:
    masks: Any = HalfMasks()
    moments: Any = NamedMoments()
    rows: Any = NumberedCaptions()
    half = Half(
        name="instance", moments=moments, captions=[("0",)] * NUM_PICTURES, masks=masks,
        pictures=[Picture(path=Path("x.png"), caption="0")] * NUM_PICTURES, flip=True, num_crops=3,
    )  # fmt: skip
    maker = BatchMaker(
        halves=(half,), captions=rows, seed=0, batch_size=6, timesteps=UniformTimesteps(count=10),
        scale=LatentScale(factor=1.0),
    )  # fmt: skip
    for step in range(5):
        batch = maker.make(step, slots=range(6))
        assert batch.weights_BHW is not None
        for named, weight in zip(
            batch.latents_BCHW[:, 0, 0, 0].tolist(),
            batch.weights_BHW[:, 0, 0].tolist(),
            strict=True,
        ):
            flip, rest = divmod(round(named), 100)
            crop, picture = divmod(rest, 10)
            assert weight == pytest.approx(0.1 * (1 + picture) + flip + 10 * crop)


@pytest.mark.proves("F56/masks")
def test_batch_with_masks_weighs_the_class_pictures_alike() -> None:
    batch = known_maker(masked=True).make(0, slots=range(2))
    assert batch.weights_BHW is not None
    assert batch.weights_BHW.shape == (4, *SHAPE[1:])
    assert batch.weights_BHW[2:].unique().tolist() == [1]
    assert known_maker().make(0, slots=range(2)).weights_BHW is None


def test_batch_goes_to_another_device_with_all_its_tensors(monkeypatch) -> None:
    batch = known_maker(masked=True).make(0, slots=range(2))
    assert batch.to(torch.device("cpu")) is batch
    waits: list[bool] = []
    move = torch.Tensor.to

    def noted(self: torch.Tensor, device: Any, *, non_blocking: bool) -> torch.Tensor:
        waits.append(not non_blocking)
        return move(self, device, non_blocking=non_blocking)

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(torch.Tensor, "to", noted)
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, MicroBatch)
    assert moved.num_instance == 2
    assert waits == [False] * 6
    tensors = {**vars(moved), **moved.captions}
    for name, value in tensors.items():
        if name not in ("num_instance", "captions"):
            assert value.device.type == "meta"
            assert value.shape == {**vars(batch), **batch.captions}[name].shape


@pytest.mark.parametrize("kind", [MicroBatch, Half, BatchMaker])
def test_parts_of_a_batch_are_named_and_cannot_be_changed(kind) -> None:
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(kind))


@pytest.mark.parametrize(
    "kind",
    [MicroBatch, Half, BatchMaker, Turns, BucketedBatches, StepSums],
    ids=lambda k: k.__name__,
)
def test_parts_of_a_step_are_given_by_name_and_never_changed(kind: type) -> None:
    values = dict.fromkeys((field.name for field in fields(kind)), 1)
    with pytest.raises(TypeError, match="positional"):
        kind(*values.values())
    made = kind(**values)
    with pytest.raises(FrozenInstanceError):
        setattr(made, next(iter(values)), 2)


@pytest.mark.proves("F27/balance")
@pytest.mark.parametrize("counts", [(2, 5), (1, 3, 4)])
@pytest.mark.parametrize("repeats", [1, 2])
def test_subjects_take_turns_and_each_goes_through_its_own_pictures(
    counts: tuple[int, ...], repeats: int
) -> None:
    pictures = [Picture(path=Path(f"{n}.png"), caption="0") for n in range(sum(counts))]
    moments: Any = NamedMoments()
    half = Half(name="instance", pictures=pictures, moments=moments, captions=[],
                counts=counts, repeats=repeats)  # fmt: skip
    drawn = [half.picture_at(n, seed=3) for n in range(len(counts) * 120 * repeats)]
    owners = [subject for subject, count in enumerate(counts) for _ in range(count)]
    for start in range(0, len(drawn), len(counts)):
        of_turn = [owners[picture] for picture in drawn[start : start + len(counts)]]
        assert of_turn == list(range(len(counts)))
    for subject, count in enumerate(counts):
        own = [picture for picture in drawn if owners[picture] == subject]
        epoch = count * repeats
        for start in range(0, len(own) - epoch + 1, epoch):
            times = Counter(own[start : start + epoch])
            assert set(times.values()) == {repeats}
            assert len(times) == count


def test_batches_of_two_subjects_are_the_same_whatever_the_cut() -> None:
    whole = names_of(4, counts=(1, 2))
    assert [picture for picture, *_ in whole][::2] == [0] * 12
    assert set(picture for picture, *_ in whole[1::2]) == {1, 2}
