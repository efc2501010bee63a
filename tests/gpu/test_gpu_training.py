"""Trainings on one GPU: precisions, compiled, resumed to the bit, through NCCL, within the plan."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from boothline.errors import TrainingError
from boothline.planning import ModelShapes, plan_memory
from boothline.settings import Settings
from boothline.store import Store
from boothline.training import denoiser, worker
from boothline.training.job import TrainingJob
from boothline.training.launch import train

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]
Digests = Callable[[str], dict[str, str]]
FIRST_SCALE = 2.0**16


def events_of(job: TrainingJob) -> list[dict[str, Any]]:
    """Return what a training reported."""
    return [json.loads(line) for line in (job.folder / "events.jsonl").read_text().splitlines()]


def losses_of(job: TrainingJob) -> list[float]:
    """Return the instance losses of a training."""
    lines = (job.folder / "curve.jsonl").read_text().splitlines()
    return [json.loads(line)["instance_loss"] for line in lines]


@pytest.fixture
def digests(store: Store) -> Digests:
    """Return a function that tells the sha256 of each file of a training state."""

    def read(ref: str) -> dict[str, str]:
        return {entry.path: entry.sha256 for entry in store.read(ref).files}

    return read


@pytest.fixture
def unet_of(store: Store, tmp_path: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """Return a function that loads the UNet of a training state."""

    def load(ref: str) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"state-{len(list(tmp_path.iterdir()))}"
        return dict(load_file(store.fetch(ref, folder) / "unet.safetensors"))

    return load


def half_on_a_cpu(**settings: Any) -> Accelerator:
    """Return accelerate's fp16 on a CPU, which it refuses: torch's scaler and autocast are there.

    It stands in for CUDA, whose scaler differs in its kernels alone.
    """
    assert settings["mixed_precision"] == "fp16"
    accelerator = Accelerator(**{**settings, "mixed_precision": "no"})
    accelerator.state._mixed_precision = "fp16"
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=FIRST_SCALE, growth_interval=2)
    return accelerator


@pytest.fixture
def fp16(on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """fp16 with a loss scaler, on a CPU as well."""
    if on_cpu:
        monkeypatch.setattr(worker, "_check_precision", lambda job: None)
        monkeypatch.setattr(worker, "Accelerator", half_on_a_cpu)
    return


@pytest.mark.usefixtures("fp16")
@pytest.mark.proves("F11/fp16")
def test_training_in_fp16_scales_its_loss_and_resumes_with_the_scale(
    make_job: JobMaker, run_here: Runner, store: Store, digests: Digests
) -> None:
    settings = {"precision": "fp16", "deterministic": True, "num_steps": 4}
    whole = make_job("training/whole", **settings)
    expected = run_here(whole)
    state = json.loads(store.read_bytes(expected["final_state"], "state.json"))
    assert state["scaler"]["scale"] >= 1
    assert all(math.isfinite(loss) for loss in losses_of(whole))

    first = make_job("training/cut", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boothline.training.trainer.Trainer._finish", _pulled)
        patch.setattr("boothline.training.trainer.Trainer._rescue", lambda self, error: None)
        with pytest.raises(KeyError):
            run_here(first)
    store.forget("training/cut/step-000004")
    resumed = make_job("training/cut", **settings)
    result = run_here(resumed)
    assert [e["step"] for e in events_of(resumed) if e["event"] == "start"] == [2]
    assert digests(result["final_state"]) == digests(expected["final_state"])


def _pulled(self: Any) -> None:
    self._states.wait()
    raise KeyError("a cable was pulled")


@pytest.mark.usefixtures("fp16")
def test_training_in_fp16_skips_a_step_whose_gradient_overflows(
    make_job: JobMaker, run_here: Runner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gradient is made infinite: the scale falls, and the weights stay finite."""
    backward = Accelerator.backward
    calls: list[None] = []

    def overflowing(self: Accelerator, loss: torch.Tensor, **more: Any) -> None:
        calls.append(None)
        backward(self, loss * (math.inf if len(calls) == 1 else 1.0), **more)

    monkeypatch.setattr(Accelerator, "backward", overflowing)
    result = run_here(make_job(precision="fp16", num_steps=2))
    state = json.loads(store.read_bytes(result["final_state"], "state.json"))
    assert state["scaler"]["scale"] <= FIRST_SCALE / 2


@pytest.mark.proves("F11/bf16")
def test_training_in_bf16_keeps_its_weights_in_fp32(
    make_job: JobMaker, run_here: Runner, unet_of: Callable[[str], dict[str, torch.Tensor]]
) -> None:
    plain, brain = make_job("training/fp32"), make_job("training/bf16", precision="bf16")
    expected, result = run_here(plain), run_here(brain)
    weights = unet_of(result["final_state"])
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert losses_of(brain) == pytest.approx(losses_of(plain), rel=0.05)
    assert losses_of(brain) != losses_of(plain)
    other = unet_of(expected["final_state"])
    assert any(not torch.equal(weights[name], other[name]) for name in weights)


def test_training_compiled_has_the_losses_of_one_that_is_not(
    make_job: JobMaker, run_here: Runner, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU the captured graph runs as it is: building it in C++ takes minutes."""
    if on_cpu:
        compiled = torch.compile
        monkeypatch.setattr(torch, "compile", lambda net, **_: compiled(net, backend="eager"))
    else:
        assert denoiser.can_compile(torch.device("cuda"))
    settings = {"train_text_encoder": False, "num_steps": 3}
    plain = make_job("training/plain", **settings)
    fast = make_job("training/fast", compile=True, **settings)
    run_here(plain)
    run_here(fast)
    assert losses_of(fast) == pytest.approx(losses_of(plain), rel=1e-3)


@pytest.mark.proves("F59/resume")
def test_training_killed_and_resumed_ends_with_the_same_bits(
    make_job: JobMaker, store_settings: Settings, digests: Digests
) -> None:
    settings = {"deterministic": True, "num_steps": 60, "ema_decay": 0.9}
    expected = train(make_job("training/whole", **settings), settings=store_settings)
    cut = make_job("training/cut", **settings)
    killed: list[int] = []

    def kill(event: Mapping[str, Any]) -> None:
        # The state after step 4 waits until the one after step 2 is in the store.
        if event["event"] == "step" and event["step"] >= 5 and not killed:
            killed.append(int((cut.folder / "process-0").read_text()))
            psutil.Process(killed[0]).send_signal(signal.SIGKILL)

    with pytest.raises(TrainingError):
        train(cut, settings=store_settings, on_event=kill)
    assert killed
    resumed = make_job("training/cut", **settings)
    result = train(resumed, settings=store_settings)
    (first,) = [e["step"] for e in events_of(resumed) if e["event"] == "start"]
    assert 2 <= first < 60
    assert digests(result.final_state) == digests(expected.final_state)


@pytest.mark.proves("F11/nccl")
def test_training_of_one_rank_goes_through_ddp(
    make_job: JobMaker,
    run_here: Runner,
    store_settings: Settings,
    on_cpu: bool,
    unet_of: Callable[[str], dict[str, torch.Tensor]],
) -> None:
    """One rank of a process group of one: NCCL on a GPU, gloo on a CPU."""
    settings = {"deterministic": True, "num_steps": 2}
    alone = run_here(make_job("training/alone", **settings))
    job = make_job("training/group", **settings)
    grouped = _in_a_group_of_one(job, store_settings, backend="gloo" if on_cpu else "nccl")
    ours, theirs = unet_of(grouped["final_state"]), unet_of(alone["final_state"])
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) <= 1e-6


GROUPED = """
import sys
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from boothline.training import stepping, worker

init = stepping.Stepper.__init__

def checked(self, job, **parts):
    assert dist.get_backend() == sys.argv[2], dist.get_backend()
    assert isinstance(parts["model"], DistributedDataParallel)
    init(self, job, **parts)

stepping.Stepper.__init__ = checked
sys.exit(worker.main([sys.argv[1]]))
"""


def _in_a_group_of_one(job: TrainingJob, settings: Settings, *, backend: str) -> dict[str, Any]:
    """Train as torchrun would start one rank of one node, and return the result."""
    from boothline.training import launch

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    environment = launch._environment(job, settings, num_ranks=1)
    command = [sys.executable, "-c", GROUPED, str(job.save()), backend]
    ended = subprocess.run(
        command, env={**os.environ, **environment, **variables}, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return dict(json.loads((job.folder / "result.json").read_text()))


@pytest.mark.proves("F47/cuda")
def test_peak_memory_of_a_training_is_within_its_plan(
    make_job: JobMaker, store_settings: Settings, tiny_pipeline: Path, on_cpu: bool
) -> None:
    """On a GPU the peak is what torch reserved, so the CUDA context is no part of it."""
    job = make_job(batch_size=8, num_steps=2)
    plan = plan_memory(
        job.config, ModelShapes.read(tiny_pipeline), device="cpu" if on_cpu else "cuda"
    )
    train(job, settings=store_settings)
    (peak,) = [e["peak_bytes"] for e in events_of(job) if e["event"] == "memory"]
    assert peak >= plan.weights + plan.optimizer
    if not on_cpu:  # the memory of a process depends on the build of torch more than on this model
        assert peak <= 1.1 * plan.total
