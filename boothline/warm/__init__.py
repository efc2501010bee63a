"""A process that has loaded the libraries and forks what it is asked to run."""

from boothline.warm.client import (
    STEP_LIBRARIES,
    TORCH_LIBRARIES,
    TRACKING_LIBRARIES,
    Child,
    Warm,
    warm_process,
)

__all__ = [
    "STEP_LIBRARIES",
    "TORCH_LIBRARIES",
    "TRACKING_LIBRARIES",
    "Child",
    "Warm",
    "warm_process",
]
