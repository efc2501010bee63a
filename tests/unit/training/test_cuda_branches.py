"""What a training does on CUDA alone, on stand-ins of torch's functions: no GPU is needed.

`make test-gpu` runs the real ones.
"""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from boothline.config.training import TrainingConfig
from boothline.diffusion.devices import has_fast_bfloat16
from boothline.diffusion.loading import load_pipeline
from boothline.training import denoiser, worker
from boothline.training.denoiser import Denoiser, can_compile
from boothline.training.optimizing import build_optimizer
from boothline.training.ranks import Ranks, Requests
from boothline.training.reporting import Exchange, peak_memory_bytes
from boothline.training.states import HostBuffers
from boothline.training.stepping import Stepper

CUDA = torch.device("cuda")


class Event:
    """Stands in for torch.cuda.Event: the n-th that is recorded happens at n times 250 ms."""

    recorded: list["Event"]
    synchronized = 0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.recorded.append(self)

    def synchronize(self) -> None:
        Event.synchronized += 1

    def elapsed_time(self, end: "Event") -> float:
        return 250.0 * (Event.recorded.index(end) - Event.recorded.index(self))


def test_step_on_cuda_is_timed_by_the_devices_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Event, "recorded", [], raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    exchange = Exchange(ranks=Ranks(device=CUDA), half_size=1, requests=Requests())
    exchange.begin()
    exchange.post(
        1,
        sums=torch.zeros(2, dtype=torch.float64),
        grad_norm=torch.tensor(1.0),
        learning_rate=1e-4,
    )
    report = exchange.collect()
    assert report is not None
    assert report.seconds == 0.25
    assert Event.synchronized == 1


def test_peak_memory_on_cuda_is_what_torch_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 12345)
    assert peak_memory_bytes(CUDA) == 12345
    assert peak_memory_bytes(torch.device("cpu")) > 10**7


@pytest.mark.parametrize("supported", [True, False])
def test_bfloat16_on_cuda_is_native_where_torch_says_so(
    monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    assert has_fast_bfloat16(CUDA) is supported


@pytest.mark.parametrize("has_triton", [True, False])
def test_compiling_on_cuda_takes_triton(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has_triton: bool
) -> None:
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: has_triton)
    assert can_compile(CUDA) is has_triton
    assert ("triton is not installed" in caplog.text) is not has_triton


def test_snapshot_of_cuda_tensors_lies_in_pinned_memory_and_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pinned: list[bool] = []
    waits: list[None] = []
    empty = torch.empty

    def noted(shape: Any, *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        pinned.append(pin_memory)
        return empty(shape, dtype=dtype)

    monkeypatch.setattr(torch, "empty", noted)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(None))
    value = torch.arange(3.0)
    there: Any = SimpleNamespace(
        device=CUDA, shape=value.shape, dtype=value.dtype, detach=lambda: value
    )
    buffers = HostBuffers()
    here = buffers.fill("a", {"w": value})
    buffers.settle()
    assert (pinned, waits) == ([False], [])
    copies = buffers.fill("b", {"w": there})
    buffers.settle()
    assert (pinned, waits) == ([False, True], [None])
    assert torch.equal(copies["w"], here["w"])


def test_pass_that_ran_out_of_memory_on_cuda_gives_back_what_torch_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    sizes = []
    for device in (CUDA, torch.device("cpu")):
        stepper = Stepper.__new__(Stepper)
        stepper._optimizer = SimpleNamespace(zero_grad=lambda set_to_none: None)
        stepper._ranks, stepper._pass_size = Ranks(device=device), 5
        stepper._on_smaller = lambda step, size: sizes.append((step, size))
        stepper._shrink(7)
    assert sizes == [(7, 3), (7, 3)]
    assert emptied == [None]


def test_frozen_parts_lent_on_cuda_leave_the_memory_again(
    monkeypatch: pytest.MonkeyPatch, tiny_pipeline: Path
) -> None:
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    whole = load_pipeline(tiny_pipeline)
    monkeypatch.setattr(denoiser, "load_frozen", lambda folder, names, device: {"vae": whole.vae})
    frozen = denoiser.Surroundings(whole, folder=tiny_pipeline, text_encoder_trained=True)
    frozen.release()
    on_cuda: Any = SimpleNamespace(device=CUDA)
    frozen._pipeline = frozen._pipeline.changed({"unet": on_cuda})
    with frozen.whole() as lent:
        assert lent.vae is whole.vae
        assert emptied == []
    assert emptied == [None]


def test_kernels_of_cudnn_are_chosen_without_timing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    worker._be_reproducible()
    assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.deterministic


def test_eight_bit_optimizer_gets_groups_betas_and_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def optimizer(groups: Any, **settings: Any) -> torch.optim.Optimizer:
        made.append(settings)
        return torch.optim.SGD(groups)

    library = ModuleType("bitsandbytes")
    library.optim = SimpleNamespace(AdamW8bit=optimizer)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = TrainingConfig(optimizer="adamw8bit", beta1=0.8, beta2=0.9, weight_decay=0.3)
    built = build_optimizer(Denoiser(nn.Linear(2, 2), None), config)
    assert made == [{"betas": (0.8, 0.9), "weight_decay": 0.3}]
    assert built.param_groups[0]["names"] == ["unet.weight", "unet.bias"]
