"""`Ranks`: who this process is among the ranks, and the few things ranks say to each other.

`Requests`: what other processes ask of a rank by signal: stop (SIGTERM, SIGINT) or save (SIGUSR1).

Gradients go through DDP. What the loop itself exchanges (losses, requests to stop, encodings,
sheets) goes through a gloo group on the CPU, so that it never waits for the accelerator.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Self

import torch
import torch.distributed as dist
from accelerate import Accelerator

from boothline.config.training import TrainingConfig
from boothline.processes import PARENT_DEATH_SIGNAL, control

logger = logging.getLogger(__name__)


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
    group: dist.ProcessGroup | None = None

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

    def sharing(self, training: TrainingConfig) -> "Ranks":
        """Return the ranks among whom passes without gradients are shared out: all, or this alone.

        Where they hold shards of a network, each pass takes all of them: then each makes every
        pass, the same as the others.
        """
        return Ranks(device=self.device) if training.shard_frozen else self

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


STOP_DEADLINE_SECONDS = 20.0


class Requests:
    """Remembers signals until the loop reaches a place where it can answer them.

    Args:
        save_every_seconds: a training state is asked for when the last one is so old; 0: never.
        clock: seconds.

    Attributes:
        stop: a stop was asked for.
        save: a training state was asked for.
    """

    def __init__(
        self, *, save_every_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stop = False
        self.save = False
        self._save_every_seconds = save_every_seconds
        self._clock = clock
        self._saved_at = clock()
        self._answered = threading.Event()

    def install(self) -> None:
        """Listen to the signals; the death of the parent process counts as SIGTERM."""
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_save)
        control(PARENT_DEATH_SIGNAL, signal.SIGTERM)

    def answer(self) -> None:
        """Report that the loop has seen the stop, so that the process is left time to save."""
        self._answered.set()

    def take_save(self) -> bool:
        """Return, once, whether a training state was asked for or is due."""
        every = self._save_every_seconds
        asked = self.save or bool(every and self._clock() - self._saved_at >= every)
        if asked:
            self.save = False
            self.state_saved()
        return asked

    def state_saved(self) -> None:
        """Count the age of the last training state from now."""
        self._saved_at = self._clock()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if not self.stop:
            self.stop = True
            threading.Thread(target=self._give_up, args=(number,), daemon=True).start()

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True

    def _give_up(self, number: int) -> None:
        """End a process that hangs, e.g. in a collective whose peer is dead."""
        if not self._answered.wait(STOP_DEADLINE_SECONDS):
            logger.error("no step ended within %.0f s of the stop", STOP_DEADLINE_SECONDS)
            os._exit(128 + number)
