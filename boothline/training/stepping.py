"""`Stepper`: one optimizer step of one rank, in smaller pieces where the memory is short."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator

from boothline.diffusion import counters
from boothline.diffusion.devices import faster_attention
from boothline.training.batches import Batches, MicroBatch
from boothline.training.failures import is_out_of_memory
from boothline.training.job import TrainingJob
from boothline.training.objective import Objective, total_loss
from boothline.training.optimizing import WeightAverage, set_learning_rate
from boothline.training.ranks import Ranks

if TYPE_CHECKING:
    from accelerate.optimizer import AcceleratedOptimizer

OnSmaller = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class StepSums:
    """What a step leaves for the report.

    Attributes:
        sums: float64 (2,): loss sums over this rank's instance and prior samples.
        grad_norm: norm of the synchronised gradient before clipping, a scalar.
        learning_rate: of the UNet.
    """

    sums: torch.Tensor
    grad_norm: torch.Tensor
    learning_rate: float


class Stepper:
    """Takes optimizer steps.

    A step changes nothing before its last gradient is there. So when a pass runs out of memory, the
    step begins again with passes of half the size: same samples, same weights, same global batch,
    and a result that differs by rounding alone. The size stays from then on. Where several ranks
    already exchange the gradients of the pass, it is too late: the error goes up. With sharded
    weights they exchange something in every pass.

    Args:
        job: what is trained.
        accelerator: accelerate's Accelerator.
        ranks: this rank and its peers.
        model: the denoiser as accelerate prepared it.
        optimizer: the optimizer as accelerate prepared it.
        batches: makes every batch.
        objective: the loss.
        on_smaller: called with the step and the samples of a half that a pass now takes.

    Attributes:
        done: steps behind the weights; None while they change, and before the first.
    """

    def __init__(
        self,
        job: TrainingJob,
        *,
        accelerator: Accelerator,
        ranks: Ranks,
        model: torch.nn.Module,
        optimizer: "AcceleratedOptimizer",
        batches: Batches,
        objective: Objective,
        on_smaller: OnSmaller = lambda step, size: None,
    ) -> None:
        self._job = job
        self._config = job.config.training
        self._accelerator = accelerator
        self._ranks = ranks
        self._model, self._optimizer = model, optimizer
        self._batches, self._objective = batches, objective
        self._on_smaller = on_smaller
        self._pass_size = job.micro_batch_size
        self._exchanging = False
        self.done: int | None = None
        groups = optimizer.param_groups
        self._parameters = [weight for group in groups for weight in group["params"]]

    def take(self, step: int, *, average: WeightAverage | None) -> StepSums:
        """Take optimizer step `step`, counted from 0.

        Args:
            step: which step.
            average: takes in the weights after the step.
        """
        rate = set_learning_rate(self._optimizer, step=step, config=self._config)
        sums = self._gradient(step)
        norm = self._accelerator.clip_grad_norm_(self._parameters, self._config.max_grad_norm)
        self.done = None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if average is not None:
            average.update(step)
        self.done = step + 1
        return StepSums(sums=sums, grad_norm=norm, learning_rate=rate)

    def settle_buckets(self) -> None:
        """Let DDP arrange its buckets before the first step.

        DDP rearranges them after the first backward pass of a process. With more than two ranks the
        arrangement decides the order of additions, so a resumed run would differ in its first step.
        """
        self._backward(0, self._passes()[0])
        self._optimizer.zero_grad(set_to_none=True)

    def _gradient(self, step: int) -> torch.Tensor:
        """Make the gradient of a step and return the loss sums, with less at once if need be."""
        while True:
            try:
                return self._accumulate(step)
            except (RuntimeError, MemoryError) as error:
                if not self._may_shrink(error):
                    raise
            # Only here, behind the handler, the failed pass lets go of its memory.
            self._shrink(step)

    def _may_shrink(self, error: BaseException) -> bool:
        together = self._config.shard_frozen and self._ranks.world_size > 1
        alone = not (together or self._exchanging)
        return is_out_of_memory(error) and alone and self._pass_size > 1

    def _shrink(self, step: int) -> None:
        """Halve the passes from this step on."""
        self._optimizer.zero_grad(set_to_none=True)
        if self._ranks.device.type == "cuda":
            torch.cuda.empty_cache()
        self._pass_size = -(-self._pass_size // 2)
        self._on_smaller(step, self._pass_size)

    def _accumulate(self, step: int) -> torch.Tensor:
        """Add up the gradients of all passes; the ranks exchange theirs in the last one."""
        sums = torch.zeros(2, dtype=torch.float64, device=self._ranks.device)
        passes = self._passes()
        for slots in passes[:-1]:
            with self._accelerator.no_sync(self._model):
                sums += self._backward(step, slots)
        sums += self._backward(step, passes[-1], exchange=True)
        return sums

    def _passes(self) -> list[range]:
        """Return the slots of the global batch that each pass of this rank takes."""
        size, micro = self._pass_size, self._job.micro_batch_size
        passes = []
        for accumulated in range(self._config.accumulation):
            first = (accumulated * self._ranks.world_size + self._ranks.rank) * micro
            end = first + micro
            passes += [range(at, min(at + size, end)) for at in range(first, end, size)]
        return passes

    def _backward(self, step: int, slots: range, *, exchange: bool = False) -> torch.Tensor:
        """Add the gradient of one pass and return its loss sums, float64 (2,)."""
        batch = self._batches.make(step, slots=slots).to(self._ranks.device)
        self._seed_layers(step, slots)
        with faster_attention(batch.latents_BCHW, precision=self._config.precision):
            return self._pass(batch, exchange=exchange)

    def _pass(self, batch: MicroBatch, *, exchange: bool) -> torch.Tensor:
        """Run the networks forward and backward and return the loss sums, float64 (2,)."""
        noisy = self._objective.noisy(batch.latents_BCHW, batch.noise_BCHW, batch.timesteps_B)
        prediction = self._model(noisy, batch.timesteps_B, batch.captions, batch.caption_rows_B)
        losses = self._objective.losses(
            prediction,
            latents_BCHW=batch.latents_BCHW,
            noise_BCHW=batch.noise_BCHW,
            timesteps_B=batch.timesteps_B,
            weights_BHW=batch.weights_BHW,
        )
        loss, sums = total_loss(
            losses,
            num_instance=batch.num_instance,
            half_size=self._config.batch_size,
            prior_weight=self._job.config.prior.weight,
            scale=self._ranks.world_size,
        )
        self._exchanging = exchange and self._ranks.world_size > 1
        self._accelerator.backward(loss)
        self._exchanging = False
        return sums

    def _seed_layers(self, step: int, slots: range) -> None:
        """Make what layers draw by themselves (dropout) a function of step and slots."""
        part, place = divmod(slots.start, self._job.micro_batch_size)
        index = (step, part, place) if place else (step, part)
        draw = counters.integers(
            (), high=2**31, seed=self._config.seed, stream="layers", index=index
        )
        torch.manual_seed(int(draw))
