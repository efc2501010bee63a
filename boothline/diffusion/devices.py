"""Shares the cores and GPUs of a machine between its steps, and knows which has bf16."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from boothline.processes import available_cores
from boothline.settings import Settings

logger = logging.getLogger(__name__)


_PROBE_SIDE: Final = 512
_PROBE_TURNS: Final = 5


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32 here.

    On a CPU matrices are multiplied in both types, which takes some ten milliseconds: what the
    processor lists does not decide it. Two processors with `avx512_bf16` and without `amx_bf16`
    took 0.5 and 1.3 to 1.9 times as long as in float32 (docs/runlog.md).

    Args:
        device: what computes.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return _seconds_of_a_product(torch.bfloat16) < _seconds_of_a_product(torch.float32)


def _seconds_of_a_product(dtype: torch.dtype) -> float:
    """Return the shortest of a few processor times of one product of square matrices."""
    matrix = torch.ones(_PROBE_SIDE, _PROBE_SIDE, dtype=dtype)
    return min(_seconds_of(lambda: matrix @ matrix) for _ in range(_PROBE_TURNS))


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


SHORT_PLACES: Final = 256
"""Up to so many places of a latent, CPUs compute attention in bf16 faster without the fused kernel:
with 64 places in 0.4 of its time, with 256 in as much, with 1024 in 2.4 times (docs/runlog.md)."""


def faster_attention(latents_BCHW: torch.Tensor, *, precision: str) -> AbstractContextManager[None]:
    """Return the context for a pass and its gradient in which attention takes the faster kernel.

    It may differ from device to device and hence the last bits of a result, which differ between
    devices in any case; on one device it is a function of the shape alone.

    Args:
        latents_BCHW: what the pass works on.
        precision: in which it computes, as `training.precision`.
    """
    short = math.prod(latents_BCHW.shape[-2:]) <= SHORT_PLACES
    if precision == "bf16" and latents_BCHW.device.type == "cpu" and short:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def share_cores(num_shards: int, *, settings: Settings) -> int:
    """Set torch's threads so that the shards of a step do not fight for cores, and return them.

    With a local run folder the shards run side by side on this machine, each with its share of the
    cores; without one each has a machine (a pod) of its own. Pictures do not depend on it.
    """
    num_cores = available_cores()
    sharing = num_shards if settings.run_dir is not None else 1
    num_threads = max(1, num_cores // sharing)
    torch.set_num_threads(num_threads)
    logger.info("%d of %d cores", num_threads, num_cores)
    return num_threads


def fix_bits(model: nn.Module) -> None:
    """Let a model give the same bits with any number of threads on a CPU.

    Two kernels part a sum among the threads, so that its rounding depends on how many there are:
    oneDNN's 1 x 1 convolution for processors without AVX-512, and group normalisation in the layout
    channels last. They are a small part of a UNet's work and run in one thread here; all else uses
    the threads that it is given.
    """
    for module in model.modules():
        pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if pointwise or isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_enter_one_thread)
            module.register_forward_hook(_leave_one_thread, always_call=True)


def _enter_one_thread(module: nn.Module, inputs: object) -> None:
    module._boothline_threads = torch.get_num_threads()  # type: ignore[assignment]
    torch.set_num_threads(1)


def _leave_one_thread(module: nn.Module, inputs: object, output: object) -> None:
    torch.set_num_threads(int(module._boothline_threads))  # type: ignore[arg-type]


def device_of(shard: int, *, settings: Settings) -> str:
    """Return the device that a shard samples on: `cpu`, `cuda`, or `cuda:<number>`.

    With a local run folder the shards run side by side on this machine and take its GPUs in turn;
    without one each has a machine (a pod) of its own. Pictures of equal GPUs are equal.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if settings.run_dir is None:
        return "cuda"
    return f"cuda:{shard % torch.cuda.device_count()}"
