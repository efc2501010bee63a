"""Tells which number formats a device computes in by itself."""

from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")


def has_native_bfloat16(device: torch.device, *, cpu_info: Path = CPU_INFO) -> bool:
    """Return whether bfloat16 is fast here; emulated on a CPU it is slower than float32.

    Args:
        device: what computes.
        cpu_info: where Linux lists what the processor has (`avx512_bf16`, `amx_bf16`, on Arm
            `bf16`); elsewhere a CPU counts as without.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return cpu_info.is_file() and "bf16" in cpu_info.read_text(encoding="utf-8")
