"""`WeightAverage`: the exponential moving average of the trained weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class WeightAverage:
    """Averages parameters: average <- decay x average + (1 - decay) x parameter.

    The decay is held below (1 + n) / (10 + n) in update n, so that the start is forgotten soon.

    Args:
        parameters: the trained parameters by name.
        decay: weight of the former average, in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], *, decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimizer step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.averages.values()),
            [p.detach() for p in self._parameters.values()],
            1 - decay,
        )

    @torch.no_grad()
    def restore(self, averages: Mapping[str, torch.Tensor]) -> None:
        """Take over stored averages."""
        for name, average in self.averages.items():
            average.copy_(averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            current = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(current)
