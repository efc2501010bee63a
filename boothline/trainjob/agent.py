"""torchrun's agent of one node: `python -m boothline.trainjob.agent PARENT_PROCESS JOB.json`.

Which node this is, how many there are and where the first one listens comes from the PET_*
variables that Kubeflow Trainer sets, as torchrun itself reads them.
"""

import dataclasses
import sys
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig
from torch.distributed.run import config_from_args, parse_args

from boothline.training.elastic import SHUTDOWN_SECONDS, start


def one_node(job_file: Path) -> LaunchConfig:
    """Return torchrun's own reading of PET_*, with our way to start and stop the ranks."""
    arguments = parse_args(["--max-restarts=0", "job"])  # type: ignore[no-untyped-call]
    config, _, _ = config_from_args(arguments)
    return dataclasses.replace(
        config, monitor_interval=0.1, start_method="fork", shutdown_timeout=SHUTDOWN_SECONDS
    )


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), Path(sys.argv[2]), configure=one_node))
