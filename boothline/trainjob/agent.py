"""torchrun's agent of one node: `python -m boothline.trainjob.agent PARENT_PROCESS JOB.json`.

Which node this is, how many there are and where the first one listens comes from the PET_*
variables that Kubeflow Trainer sets, as torchrun itself reads them.
"""

import dataclasses
import os
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.distributed.run import config_from_args, parse_args

from boothline.training import worker
from boothline.training.elastic import SHUTDOWN_SECONDS
from boothline.training.requests import die_with_parent


def launch_config() -> LaunchConfig:
    """Return torchrun's own reading of PET_*, with our way to start and stop the ranks."""
    arguments = parse_args(["--max-restarts=0", "job"])  # type: ignore[no-untyped-call]
    config, _, _ = config_from_args(arguments)
    return dataclasses.replace(
        config, monitor_interval=0.1, start_method="fork", shutdown_timeout=SHUTDOWN_SECONDS
    )


def start(parent: int, job_file: Path) -> int:
    """Run this node's ranks of a job and return the exit code.

    Args:
        parent: process id of the starter; without it nothing is started.
        job_file: the job.
    """
    die_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    try:
        elastic_launch(launch_config(), worker.forked)(str(job_file))
    except ChildFailedError:
        return 1
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), Path(sys.argv[2])))
