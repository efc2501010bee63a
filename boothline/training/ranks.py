"""`Ranks`: who this process is among the ranks, and the few things ranks say to each other.

Gradients go through DDP. What the loop itself exchanges (losses, requests to stop, encodings,
sheets) goes through a gloo group on the CPU, so that it never waits for the accelerator.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from accelerate import Accelerator

CONTROL_TIMEOUT = timedelta(minutes=30)
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This rank and its peers.

    Attributes:
        rank: number of this process, in [0, world_size).
        local_rank: its number on this machine.
        world_size: number of processes.
        device: where it computes.
        group: the gloo group of all ranks; None for one rank.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    device: torch.device = CPU
    group: Any = None

    @classmethod
    def of(cls, accelerator: Accelerator) -> Self:
        """Return this process's place according to accelerate's Accelerator."""
        world_size = int(accelerator.num_processes)
        return cls(
            rank=int(accelerator.process_index),
            local_rank=int(accelerator.local_process_index),
            world_size=world_size,
            device=accelerator.device,
            group=dist.new_group(backend="gloo", timeout=CONTROL_TIMEOUT)
            if world_size > 1
            else None,
        )

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes files and talks to the store."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a CPU tensor over all ranks; every rank must call it."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def broadcast(self, value: int) -> int:
        """Return rank 0's number on every rank; every rank must call it."""
        return int(self.sum(torch.tensor(value if self.is_main else 0, dtype=torch.int64)).item())

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.sum(torch.zeros(1))
