"""Kernels whose results depend on their inputs alone (`training.deterministic`)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def deterministic_kernels(*, enabled: bool) -> Iterator[None]:
    """Inside the block, use only kernels that give the same bits each time.

    An operation that has no such kernel raises. Attention takes torch's plain formulation: the
    backward passes of the fused ones add in an order that CUDA leaves open. What cuBLAS needs
    stands in the environment before CUDA starts (`launch`).

    Args:
        enabled: False: change nothing.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
