"""Shares the cores and GPUs of a machine between its steps, and knows which has bf16."""

import logging
from pathlib import Path

import torch
from torch import nn

from boothline.processes import available_cores
from boothline.settings import Settings

logger = logging.getLogger(__name__)


CPU_INFO = Path("/proc/cpuinfo")


def has_native_bfloat16(device: torch.device, *, cpu_info: Path = CPU_INFO) -> bool:
    """Return whether bfloat16 is fast here; otherwise a CPU is slower by it than by float32.

    `avx512_bf16` alone does not count: there matrices and convolutions of all sizes took 1.3 to 1.9
    times as long as in float32 (docs/runlog.md, 2026-11-30).

    Args:
        device: what computes.
        cpu_info: where Linux lists what the processor has (`amx_bf16`, on Arm `bf16`); elsewhere a
            CPU counts as without.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    has = cpu_info.read_text(encoding="utf-8").split() if cpu_info.is_file() else ()
    return not {"amx_bf16", "bf16"}.isdisjoint(has)


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
