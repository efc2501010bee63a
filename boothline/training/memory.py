"""Tells how much memory this process has needed at most."""

import resource
import sys

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """Return the highest memory use so far: of a CUDA device what torch reserved on it, else RSS.

    Args:
        device: what the process trains on.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
