"""One optimizer step, checked with plain gradient descent on a network of two weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from boothline.config import RunConfig
from boothline.diffusion import counters
from boothline.training.batches import MicroBatch
from boothline.training.denoiser import Denoiser
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.objective import ScheduleObjective
from boothline.training.optimizing import WeightAverage
from boothline.training.ranks import Ranks
from boothline.training.stepping import Stepper, StepSums

RATE = 0.5
PRIOR_WEIGHT = 0.25
ALPHA_BAR = torch.tensor([0.9, 0.6, 0.3])
OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"


class TwoWeights(nn.Module):
    """Predicts gain x noisy + shift; notes what torch's generator draws in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.shift = nn.Parameter(torch.tensor(0.25))
        self.drawn: list[int] = []

    def forward(self, noisy: Any, timesteps: Any, **_: Any) -> tuple[torch.Tensor]:
        self.drawn.append(int(torch.randint(2**31, ())))
        return (self.gain * noisy + self.shift,)


class Places:
    """Batches whose numbers are functions of step, half and slot alone; notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, range]] = []
        self.failures: list[BaseException] = []

    def make(self, step: int, *, slots: range) -> MicroBatch:
        self.asked.append((step, slots))
        if self.failures:
            raise self.failures.pop(0)
        places = [(half, slot) for half in (1, 2) for slot in slots]
        values = torch.tensor([float(half * (slot + 1) + step) for half, slot in places])
        return MicroBatch(
            latents_BCHW=values.reshape(-1, 1, 1, 1),
            noise_BCHW=values.reshape(-1, 1, 1, 1) / 4 - 1,
            timesteps_B=torch.tensor([(half + slot) % 3 for half, slot in places]),
            captions={"context": torch.zeros(1, 1, 1)},
            caption_rows_B=torch.zeros(len(places), dtype=torch.int64),
            num_instance=len(slots),
        )


class PlainAccelerator:
    """accelerate without its processes: backward, clipping, and a note of unsynchronised passes."""

    def __init__(self) -> None:
        self.unsynchronised = 0
        self.failures: list[BaseException | None] = []
        self.losses: list[float] = []

    @contextmanager
    def no_sync(self, model: nn.Module) -> Iterator[None]:
        self.unsynchronised += 1
        yield

    def backward(self, loss: torch.Tensor) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.losses.append(float(loss))
        loss.backward()

    def clip_grad_norm_(self, parameters: Any, threshold: float) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(parameters, threshold)


class SmallTraining:
    """A stepper with everything around it in reach."""

    def __init__(self, folder: Path, *, ranks: Ranks | None = None, **training: Any) -> None:
        ranks = ranks or Ranks()
        settings = {"batch_size": 4, "num_processes": ranks.world_size, "warmup_steps": 0,
                    "max_grad_norm": 1e6, "learning_rate": RATE, **training}  # fmt: skip
        self.job = TrainingJob(
            config=RunConfig.model_validate(
                {"training": settings, "prior": {"weight": PRIOR_WEIGHT}}
            ),
            world_size=ranks.world_size, base_model=folder, base_model_digest="b",
            pictures=[SubjectFolders(instance=folder, priors=(folder,))],
            data_digest="d", states="training/k", folder=folder,
        )  # fmt: skip
        self.network = TwoWeights()
        parameters = list(self.network.parameters())
        optimizer = torch.optim.SGD([{"params": parameters, "peak_lr": RATE}], lr=RATE)
        self.places, self.accelerator = Places(), PlainAccelerator()
        self.smaller: list[tuple[int, int]] = []
        self.stepper = Stepper(
            self.job,
            accelerator=self.accelerator,  # type: ignore[arg-type]
            ranks=ranks,
            model=Denoiser(self.network, None),
            optimizer=optimizer,
            batches=self.places,  # type: ignore[arg-type]
            objective=ScheduleObjective(ALPHA_BAR, prediction_type="epsilon"),
            on_smaller=lambda step, size: self.smaller.append((step, size)),
        )

    @property
    def weights(self) -> list[float]:
        return [float(p) for p in self.network.parameters()]

    def slots(self) -> list[list[int]]:
        return [list(slots) for _, slots in self.places.asked]


def expected(step: int, *, slots: range = range(4)) -> tuple[torch.Tensor, list[float]]:
    """Return the gradient of gain and shift over the global batch, and the sums of both halves."""
    gain = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    sums = []
    for half in (1, 2):
        losses = []
        for slot in slots:
            z = half * (slot + 1) + step
            e = z / 4 - 1
            ab = float(ALPHA_BAR[(half + slot) % 3])
            losses.append((gain * (ab**0.5 * z + (1 - ab) ** 0.5 * e) + shift - e) ** 2)
        sums.append(sum(losses, torch.zeros((), dtype=torch.float64)))
    loss = (sums[0] + PRIOR_WEIGHT * sums[1]) / 4
    gradient = torch.stack(torch.autograd.grad(loss, [gain, shift]))
    return gradient, [float(value.detach()) for value in sums]


def test_step_goes_down_the_gradient_of_the_global_batch(tmp_path) -> None:
    training = SmallTraining(tmp_path)
    taken = training.stepper.take(2, average=None)
    gradient, sums = expected(2)
    wanted = [0.5 - RATE * float(gradient[0]), 0.25 - RATE * float(gradient[1])]
    assert training.weights == pytest.approx(wanted, rel=1e-6)
    assert taken.sums.dtype == torch.float64
    assert taken.sums.tolist() == pytest.approx(sums, rel=1e-6)
    assert float(taken.grad_norm) == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert taken.learning_rate == RATE
    assert all(p.grad is None for p in training.network.parameters())


@pytest.mark.parametrize(("share", "length"), [(0.5, 0.5), (2.0, 1.0)])
def test_step_clips_a_gradient_longer_than_the_threshold_to_it(tmp_path, share, length) -> None:
    gradient, _ = expected(0)
    norm = float(gradient.norm())
    training = SmallTraining(tmp_path, max_grad_norm=share * norm)
    taken = training.stepper.take(0, average=None)
    moved = [0.5 - training.weights[0], 0.25 - training.weights[1]]
    assert moved == pytest.approx((RATE * length * gradient).tolist(), rel=1e-5)
    assert float(taken.grad_norm) == pytest.approx(norm, rel=1e-6)


def test_step_takes_the_learning_rate_of_its_number(tmp_path) -> None:
    training = SmallTraining(tmp_path, warmup_steps=3)
    assert training.stepper.take(1, average=None).learning_rate == RATE / 2


def test_steps_in_a_row_start_from_no_gradient(tmp_path) -> None:
    training = SmallTraining(tmp_path)
    training.stepper.take(0, average=None)
    with torch.no_grad():
        training.network.gain.fill_(0.5)
        training.network.shift.fill_(0.25)
    norm = training.stepper.take(1, average=None).grad_norm
    assert float(norm) == pytest.approx(float(expected(1)[0].norm()), rel=1e-6)


def test_step_with_an_average_takes_the_new_weights_in(tmp_path) -> None:
    training = SmallTraining(tmp_path)
    average = WeightAverage(dict(training.network.named_parameters()), decay=0.9)
    training.stepper.take(8, average=average)
    wanted = [0.5 * old + 0.5 * new for old, new in zip((0.5, 0.25), training.weights, strict=True)]
    assert [float(value) for value in average.averages.values()] == pytest.approx(wanted)


def test_step_counts_as_done_only_when_its_weights_are_whole(tmp_path) -> None:
    training = SmallTraining(tmp_path)
    assert training.stepper.done is None
    training.stepper.take(0, average=None)
    assert training.stepper.done == 1
    average = SimpleNamespace(update=lambda step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.stepper.take(1, average=average)  # type: ignore[arg-type]
    assert training.stepper.done is None


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_step_in_pieces_equals_the_step_in_one(tmp_path, accumulation) -> None:
    training = SmallTraining(tmp_path, accumulation=accumulation)
    taken = training.stepper.take(1, average=None)
    gradient, sums = expected(1)
    assert float(taken.grad_norm) == pytest.approx(float(gradient.norm()), rel=1e-6)
    assert taken.sums.tolist() == pytest.approx(sums, rel=1e-6)
    assert training.accelerator.unsynchronised == accumulation - 1
    assert [slot for slots in training.slots() for slot in slots] == [0, 1, 2, 3]
    assert {step for step, _ in training.places.asked} == {1}


def test_ranks_share_the_global_batch_and_weigh_their_part_by_their_number(tmp_path) -> None:
    slots = []
    for rank in range(3):
        training = SmallTraining(
            tmp_path, ranks=Ranks(rank=rank, world_size=3), batch_size=12, accumulation=2
        )
        sums = training.stepper.take(0, average=None).sums
        slots.append(training.slots())
        assert training.accelerator.unsynchronised == 1
        # DDP takes the mean of the ranks' gradients, so each loss stands for three.
        loss = 3 * (float(sums[0]) + PRIOR_WEIGHT * float(sums[1])) / 12
        assert sum(training.accelerator.losses) == pytest.approx(loss, rel=1e-6)
    assert slots == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


def test_pass_out_of_memory_begins_the_step_again_in_smaller_passes(tmp_path) -> None:
    training = SmallTraining(tmp_path, batch_size=6, accumulation=2)
    training.accelerator.failures = [None, RuntimeError(OUT_OF_MEMORY), MemoryError()]
    taken = training.stepper.take(3, average=None)
    whole = SmallTraining(tmp_path, batch_size=6, accumulation=2)
    wanted = whole.stepper.take(3, average=None)
    assert training.slots() == [
        [0, 1, 2], [3, 4, 5],  # fails at the end
        [0, 1],  # fails as well
        [0], [1], [2], [3], [4], [5],
    ]  # fmt: skip
    assert training.smaller == [(3, 2), (3, 1)]
    assert training.weights == pytest.approx(whole.weights, rel=1e-5)
    assert taken.sums.tolist() == pytest.approx(wanted.sums.tolist(), rel=1e-6)


def test_smaller_passes_keep_uneven_ends_and_stay(tmp_path) -> None:
    training = SmallTraining(tmp_path, batch_size=6, accumulation=2)
    training.accelerator.failures = [RuntimeError(OUT_OF_MEMORY)]
    training.stepper.take(0, average=None)
    training.stepper.take(1, average=None)
    assert training.slots()[1:] == [[0, 1], [2], [3, 4], [5]] * 2
    assert training.smaller == [(0, 2)]


def test_single_picture_out_of_memory_is_an_error(tmp_path) -> None:
    training = SmallTraining(tmp_path, batch_size=1)
    training.accelerator.failures = [RuntimeError(OUT_OF_MEMORY)]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        training.stepper.take(0, average=None)
    assert training.smaller == []


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no memory at all")])
def test_other_errors_end_the_step(tmp_path, error) -> None:
    training = SmallTraining(tmp_path)
    training.accelerator.failures = [error]
    with pytest.raises(type(error)):
        training.stepper.take(0, average=None)
    assert len(training.places.asked) == 1


def test_pass_that_exchanges_gradients_with_ranks_is_not_repeated(tmp_path) -> None:
    ranks = Ranks(rank=0, world_size=2)
    training = SmallTraining(tmp_path, ranks=ranks, batch_size=8, accumulation=2)
    training.accelerator.failures = [None, RuntimeError(OUT_OF_MEMORY)]
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        training.stepper.take(0, average=None)


def test_pass_before_the_exchange_is_repeated_with_several_ranks_too(tmp_path) -> None:
    ranks = Ranks(rank=0, world_size=2)
    training = SmallTraining(tmp_path, ranks=ranks, batch_size=8, accumulation=2)
    training.accelerator.failures = [RuntimeError(OUT_OF_MEMORY)]
    training.stepper.take(0, average=None)
    assert training.smaller == [(0, 1)]


@pytest.mark.parametrize(("world_size", "repeated"), [(2, []), (1, [(0, 2)])])
def test_pass_that_gathers_weights_of_ranks_is_not_repeated(tmp_path, world_size, repeated) -> None:
    ranks = Ranks(rank=0, world_size=world_size)
    settings = {"method": "lora", "shard_frozen": True, "accumulation": 2}
    training = SmallTraining(tmp_path, ranks=ranks, batch_size=8, **settings)
    training.accelerator.failures = [RuntimeError(OUT_OF_MEMORY)]
    if repeated:
        training.stepper.take(0, average=None)
    else:
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            training.stepper.take(0, average=None)
    assert training.smaller == repeated


@pytest.mark.parametrize("before", [0, 1])
def test_batch_that_cannot_be_made_is_made_in_smaller_passes(tmp_path, before) -> None:
    ranks = Ranks(rank=0, world_size=2)
    training = SmallTraining(tmp_path, ranks=ranks, batch_size=8)
    for step in range(before):
        training.stepper.take(step, average=None)
    training.places.failures = [MemoryError()]
    training.stepper.take(before, average=None)
    assert training.smaller == [(before, 2)]


@pytest.mark.parametrize(("device", "emptied"), [("cuda", 1), ("cpu", 0)])
def test_smaller_passes_give_the_memory_of_an_accelerator_back(
    tmp_path, monkeypatch, device, emptied
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    ranks = Ranks(device=SimpleNamespace(type=device))  # type: ignore[arg-type]
    training = SmallTraining(tmp_path, ranks=ranks)
    training.network.gain.grad = torch.ones(())
    training.stepper._shrink(0)
    assert len(calls) == emptied
    assert training.network.gain.grad is None


def test_settled_buckets_leave_no_trace(tmp_path) -> None:
    training = SmallTraining(tmp_path, accumulation=2)
    training.stepper.settle_buckets()
    assert training.places.asked == [(0, range(2))]
    assert training.weights == [0.5, 0.25]
    assert all(p.grad is None for p in training.network.parameters())


def test_layers_draw_by_step_and_place(tmp_path) -> None:
    training = SmallTraining(tmp_path, batch_size=6, accumulation=2, seed=7)
    training.accelerator.failures = [RuntimeError(OUT_OF_MEMORY)]
    training.stepper.take(5, average=None)
    wanted = []
    for index in [(5, 0), (5, 0), (5, 0, 2), (5, 1), (5, 1, 2)]:
        seed = counters.integers((), high=2**31, seed=7, stream="layers", index=index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            wanted.append(int(torch.randint(2**31, ())))
    assert training.network.drawn == wanted


def test_sums_of_a_step_are_named_and_cannot_be_changed() -> None:
    assert StepSums.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in fields(StepSums))
