"""torchrun for one job: `python -m boothline.training.elastic PARENT_PROCESS JOB.json`.

This is torchrun's own agent with two differences: it ends with the process that started it, and it
imports the libraries once and forks the ranks, which halves the time to the first step. Nothing
touches an accelerator or starts a thread pool before the fork.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from boothline.processes import PARENT_DEATH_SIGNAL, control
from boothline.training import worker
from boothline.training.job import TrainingJob

SHUTDOWN_SECONDS = 28


def one_machine(job_file: Path) -> LaunchConfig:
    """Return torchrun's configuration for all ranks of a job on this machine."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=TrainingJob.load(job_file).world_size,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
        shutdown_timeout=SHUTDOWN_SECONDS,
    )


def start(parent: int, job_file: Path, *, configure: Callable[[Path], LaunchConfig]) -> int:
    """Run this machine's ranks of a job and return the exit code.

    Args:
        parent: process id of the starter; without it nothing is started.
        job_file: the job.
        configure: makes torchrun's configuration for the job.
    """
    control(PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    config = configure(job_file)
    if config.max_nodes == config.nproc_per_node == 1:  # an agent would only take memory
        return worker.main([str(job_file)])
    try:
        elastic_launch(config, worker.forked)(str(job_file))
    except ChildFailedError:
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), Path(sys.argv[2]), configure=one_machine))
