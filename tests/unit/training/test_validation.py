"""The history of validations, the fixed draws, and the pictures that are held out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from boothline.diffusion.families import LatentScale
from boothline.errors import ConfigError
from boothline.training.objective import ScheduleObjective
from boothline.training.pictures import Picture, split_off
from boothline.training.ranks import Ranks
from boothline.training.validation import FixedDraws, History, ValidationSet

PICTURES = [Picture(path=Path(f"{n}.png"), caption=f"caption {n}") for n in range(3)]


def history(*scores: float, patience: int = 0) -> History:
    """Return a history of validations every ten steps."""
    made = History(patience=patience)
    for number, score in enumerate(scores, start=1):
        made.add(10 * number, {"score": score})
    return made


def test_history_best_step_is_the_first_of_the_highest() -> None:
    assert history().best_step is None
    assert history(0.1, 0.7, 0.3, 0.7).best_step == 20


def test_history_add_tells_whether_the_score_is_the_best() -> None:
    made = history(0.5)
    assert not made.add(20, {"score": 0.5})
    assert made.add(30, {"score": 0.6})


@pytest.mark.parametrize(
    ("scores", "exhausted"),
    [((), False), ((0.5, 0.4), False), ((0.5, 0.4, 0.5), True), ((0.5, 0.4, 0.6, 0.1), False)],
)
def test_history_is_exhausted_after_patience_validations_without_a_better(
    scores: tuple[float, ...], exhausted: bool
) -> None:
    assert history(*scores, patience=2).is_exhausted is exhausted
    assert not history(*scores).is_exhausted


def test_split_off_holds_out_the_last_and_never_all() -> None:
    assert split_off(PICTURES, 0) == (PICTURES, [])
    assert split_off(PICTURES, 1) == (PICTURES[:2], PICTURES[2:])
    with pytest.raises(ConfigError, match=r"hold_out \(3\) leaves none of 3"):
        split_off(PICTURES, 3)


class FixedMoments:
    """Moments that tell the picture's number; the log variance is large, and must not be used."""

    def moments(self, index: int, *, flip: bool) -> torch.Tensor:
        assert not flip
        return torch.cat([torch.full((1, 2, 2), float(index)), torch.full((1, 2, 2), 9.0)])


class FixedCaptions:
    """Captions as their own numbers."""

    def row(self, caption: str) -> int:
        return int(caption.split()[1])

    def encoded(self, rows: list[int]) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(rows)}


class Recorder(nn.Module):
    """A denoiser that predicts zero noise and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []
        self.modes: set[bool] = set()

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, captions: dict[str, torch.Tensor],
        rows: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        self.asked += list(zip(captions["number"][rows].tolist(), timesteps.tolist(), strict=True))
        self.modes.add(self.training)
        return torch.zeros_like(noisy)


def draws(**changes: Any) -> FixedDraws:
    moments: Any = FixedMoments()
    captions: Any = FixedCaptions()
    settings: dict[str, Any] = {
        "sets": [
            ValidationSet(name="instance", stream="instance", pictures=PICTURES, moments=moments)
        ],
        "captions": captions,
        "objective": ScheduleObjective(
            torch.linspace(0.999, 0.001, 100), prediction_type="epsilon"
        ),
        "num_draws": 5,
        "seed": 0,
        "scale": LatentScale(factor=1.0),
        "batch_size": 4,
        "ranks": Ranks(),
        **changes,
    }
    return FixedDraws(**settings)


def test_fixed_draws_are_the_same_every_time_and_spread_over_the_timesteps() -> None:
    denoiser: Any = Recorder()
    first = draws().losses(denoiser)
    asked, denoiser.asked = denoiser.asked, []
    assert draws().losses(denoiser) == first
    assert denoiser.asked == asked
    assert denoiser.modes == {False}
    assert denoiser.training
    for picture in range(3):
        stretches = [timestep // 20 for row, timestep in asked if row == picture]
        assert stretches == [0, 1, 2, 3, 4]


def test_fixed_draws_loss_is_that_of_the_noise_whatever_the_batch() -> None:
    """The prediction is zero, so that the loss is the mean square of standard normal noise."""
    denoiser: Any = Recorder()
    loss = draws(num_draws=60).losses(denoiser)["instance_loss"]
    assert loss == pytest.approx(1.0, abs=0.1)
    alone = draws(num_draws=60, batch_size=1).losses(denoiser)["instance_loss"]
    assert alone == pytest.approx(loss, rel=1e-6)


def test_fixed_draws_of_several_shapes_have_one_loss_and_draws_of_their_own() -> None:
    moments: Any = FixedMoments()
    sets = [
        ValidationSet(name="instance", stream=f"instance/{n}", pictures=some, moments=moments)
        for n, some in enumerate((PICTURES[:1], PICTURES[1:]))
    ]
    denoiser: Any = Recorder()
    (square,), (wide,) = (draws(sets=[part]).losses(denoiser).values() for part in sets)
    denoiser.asked = []
    both = draws(sets=sets).losses(denoiser)
    # One picture is square and two are wide.
    assert both == {"instance_loss": pytest.approx((square + 2 * wide) / 3)}
    timesteps = [timestep for _, timestep in denoiser.asked]
    assert timesteps[:5] != timesteps[5:10]
