"""Runs a forward pass on tensors without memory and tells what its backward pass will hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Trace:
    """What autograd keeps from the forward to the backward pass, in the order it was kept.

    Attributes:
        kept: bytes of each newly kept tensor; a negative number is a weight's gradient, which the
            backward pass makes when it comes back to that place.
        largest_block_bytes: what the largest recomputed block keeps while it is recomputed.
        largest_tensor_bytes: the largest kept tensor.
    """

    kept: list[int] = field(default_factory=list)
    largest_block_bytes: int = 0
    largest_tensor_bytes: int = 0

    @property
    def activation_bytes(self) -> int:
        """All that is kept when the forward pass ends."""
        return sum(size for size in self.kept if size > 0) + self.largest_block_bytes

    def peak_bytes(self, *, gradients_allocated: bool) -> int:
        """Return the highest sum of activations and gradients during the backward pass.

        Activations are freed as the backward pass returns, gradients are made: the sum is highest
        somewhere between.

        Args:
            gradients_allocated: the gradients' memory exists all the time (the buckets of DDP).
        """
        gradients = -sum(size for size in self.kept if size < 0)
        if gradients_allocated:
            return self.activation_bytes + gradients
        held = sum(size for size in self.kept if size > 0)
        made, highest = 0, held
        for size in reversed(self.kept):
            if size > 0:
                held -= size
            else:
                made -= size
            highest = max(highest, held + made)
        return highest + self.largest_block_bytes


class Recorder:
    """Fills a `Trace` while the forward pass runs.

    Args:
        model: whose trained weights get gradients.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.trace = Trace()
        self._seen: set[int] = set()
        self._alive: list[torch.Tensor] = []
        self._passed: set[torch.nn.Module] = set()
        for module in model.modules():
            module.register_forward_hook(self._pass)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what autograd keeps inside the block."""
        with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor):
            yield

    def checkpoint(self, function: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:  # noqa: ANN401
        """Stand in for torch's checkpoint: keep the inputs, count what recomputing would keep."""
        settings.pop("use_reentrant", None)
        for tensor in inputs:
            if isinstance(tensor, torch.Tensor):
                self._keep(tensor)
        outside, self.trace = self.trace, Trace()
        seen = self._seen.copy()
        result = function(*inputs, **settings)
        self._seen = seen
        block, self.trace = self.trace, outside
        self.trace.kept += [size for size in block.kept if size < 0]
        kept = sum(size for size in block.kept if size > 0)
        self.trace.largest_block_bytes = max(self.trace.largest_block_bytes, kept)
        return result

    def _pass(self, module: torch.nn.Module, inputs: object, output: object) -> None:
        """Note the gradients of a module's own weights at the place of its first pass."""
        own = [weight for weight in module.parameters(recurse=False) if weight.requires_grad]
        if own and module not in self._passed:
            self._passed.add(module)
            self.trace.kept.append(-sum(w.numel() * w.element_size() for w in own))

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor that autograd keeps; a storage counts once, weights do not count."""
        storage = tensor.untyped_storage()._cdata
        if storage in self._seen or isinstance(tensor, torch.nn.Parameter):
            return tensor
        self._seen.add(storage)
        self._alive.append(tensor)  # a freed storage's place could be given to another
        size = tensor.untyped_storage().nbytes()
        self.trace.largest_tensor_bytes = max(self.trace.largest_tensor_bytes, size)
        self.trace.kept.append(size)
        return tensor
