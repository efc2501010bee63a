"""Precisions that the device of a training lacks: refused, or said."""

from collections.abc import Callable
from typing import Any

import pytest

from boothline.errors import ConfigError
from boothline.store import Store
from boothline.training.job import TrainingJob

pytestmark = pytest.mark.services

JobMaker = Callable[..., TrainingJob]
Runner = Callable[..., dict[str, Any]]


def test_training_in_fp16_without_an_accelerator_is_refused(
    make_job: JobMaker, run_here: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        run_here(make_job(precision="fp16"))


@pytest.mark.proves("F57/bf16")
def test_training_over_frozen_weights_in_bf16_ends_with_the_bits_of_float32(
    make_job: JobMaker, run_here: Runner, store: Store
) -> None:
    settings = {
        "method": "lora",
        "lora": {"rank": 2},
        "precision": "bf16",
        "num_steps": 2,
        "validation": {"every_steps": 1},
    }
    ends = []
    for kind in ("fp32", "bf16"):
        job = make_job(f"training/{kind}", frozen_precision=kind, **settings)
        files = {e.path: e.sha256 for e in store.read(run_here(job)["final_state"]).files}
        ends.append({path: digest for path, digest in files.items() if path.endswith("tensors")})
    assert ends[0] == ends[1]
    assert {"unet_lora.safetensors", "optimizer.safetensors"} <= set(ends[0])


@pytest.mark.parametrize("native", [False, True])
def test_training_in_bf16_says_where_it_is_slower(
    make_job: JobMaker,
    run_here: Runner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    native: bool,
) -> None:
    monkeypatch.setattr("boothline.training.worker.has_fast_bfloat16", lambda device: native)
    run_here(make_job(precision="bf16", num_steps=1))
    assert ("fp32 is faster" in caplog.text) is not native
