"""Draws the timesteps of a training: numbers of a noise schedule, or levels of flow matching.

Flow matching has noise levels s in (0, 1), and 1000 s is the timestep that the network reads:

    uniform        s = u, uniform
    logit_normal   s = 1 / (1 + exp(-n)), n standard normal     (Esser et al., "Scaling rectified
    shifted        a s / (1 + (a - 1) s) of a logit-normal s     flow transformers", 2024,
                   a grows with the picture or is the model's    sections 3.1 and 5.3.2)
"""

import math
from dataclasses import dataclass
from typing import Protocol

from boothline.diffusion import counters
from boothline.diffusion.counters import Index
from boothline.diffusion.families.flow import Density

FLOW_TIMESTEPS = 1000


class Timesteps(Protocol):
    """Where the timesteps of a training come from."""

    def draw(self, *, seed: int, stream: str, index: Index) -> float:
        """Return the timestep of one sample; the draw is named as in `counters`."""


@dataclass(frozen=True, kw_only=True)
class UniformTimesteps:
    """Every number of a noise schedule alike.

    Attributes:
        count: timesteps of the schedule.
    """

    count: int

    def draw(self, *, seed: int, stream: str, index: Index) -> int:
        """Return a number in [0, count)."""
        if self.count == 1:
            return 0
        return int(counters.integers((), high=self.count, seed=seed, stream=stream, index=index))


@dataclass(frozen=True, kw_only=True)
class FlowTimesteps:
    """Noise levels of flow matching, times 1000.

    Attributes:
        density: how they are spread.
        shift: a, used by `shifted` alone.
    """

    density: Density
    shift: float = 1.0

    def draw(self, *, seed: int, stream: str, index: Index) -> float:
        """Return a timestep in [0, 1000]."""
        if self.density == "uniform":
            level = float(counters.uniform((), seed=seed, stream=stream, index=index))
            return level * FLOW_TIMESTEPS
        number = float(counters.normal((), seed=seed, stream=stream, index=index))
        level = 1 / (1 + math.exp(-number))
        if self.density == "shifted":
            level = self.shift * level / (1 + (self.shift - 1) * level)
        return level * FLOW_TIMESTEPS
