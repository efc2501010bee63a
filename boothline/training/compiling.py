"""Tells whether `torch.compile` can work here, before a training relies on it."""

import logging

import torch

logger = logging.getLogger(__name__)


def can_compile(device: torch.device) -> bool:
    """Tell whether a network can be compiled for a device; warn if not.

    On a CPU that takes a C++ compiler, on CUDA the library triton.

    Args:
        device: where the network runs.
    """
    missing = _missing(device)
    if missing:
        logger.warning(
            "training.compile is on, but %s: the training goes on without; its numbers differ from "
            "those of a compiled training by rounding",
            missing,
        )
    return not missing


def _missing(device: torch.device) -> str:
    """Return what is missing, in words; empty if nothing is."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return "" if has_triton() else "triton is not installed"
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        logger.debug("no C++ compiler: %s", error)
        return "there is no C++ compiler"
    return ""
