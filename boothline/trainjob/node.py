"""What a TrainJob's pod runs: `python -m boothline.trainjob.node JOB_REFERENCE [RUN_ID]`."""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from boothline import logs
from boothline import settings as environment
from boothline.errors import BoothlineError, ConfigError
from boothline.settings import Settings
from boothline.store import Store
from boothline.telemetry import observing
from boothline.training.launch import run_ranks
from boothline.trainjob.files import (
    EVENT_MARK,
    receive_job,
    report_failure,
    result_place,
    send_result,
)

logger = logging.getLogger(__name__)
AGENT = "boothline.trainjob.agent"


def local_ranks() -> tuple[int, range]:
    """Return this node's number and its ranks, from the variables that Trainer sets.

    Raises:
        ConfigError: they are missing: this is not a pod of a TrainJob.
    """
    try:
        node, each = int(os.environ["PET_NODE_RANK"]), int(os.environ["PET_NPROC_PER_NODE"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"PET_NODE_RANK and PET_NPROC_PER_NODE are not set as Kubeflow Trainer does: {error}.",
            remedy="Start this through a TrainJob; on one machine use boothline run.",
        ) from error
    return node, range(node * each, (node + 1) * each)


def run_node(job_ref: str, folder: Path, *, settings: Settings) -> None:
    """Train this node's share of a job; the first node leaves the result in the store.

    Args:
        job_ref: reference of the job.
        folder: receives its files.
        settings: the environment that the ranks run in.

    Raises:
        BoothlineError: what stopped the ranks.
    """
    store = Store.connect(settings)
    node, ranks = local_ranks()
    try:
        job = receive_job(store, job_ref, folder, settings=settings)
        with observing(run_id=settings.run_id, step="train", node=node):
            run_ranks(job, settings=settings, on_event=_say, agent=AGENT, ranks=ranks)
    except BoothlineError as error:
        report_failure(store, job_ref, error, node=node)
        raise
    if node == 0:
        send_result(store, job, place=result_place(job_ref))


def _say(event: Mapping[str, object]) -> None:
    """Write an event as a line of the pod's log, which the train step reads."""
    sys.stdout.write(f"{EVENT_MARK}{json.dumps(event)}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run this node and return its exit code."""
    job_ref, run_id, *_ = (*arguments, "")
    settings = environment.current().model_copy(update={"run_id": run_id})
    log_format = "%(levelname)s %(name)s: %(message)s"
    logs.configure(settings.log_format, run=run_id, step="train", text=log_format)
    with tempfile.TemporaryDirectory(prefix="boothline-node-") as folder:
        try:
            run_node(job_ref, Path(folder), settings=settings)
        except BoothlineError as error:
            logger.error("%s", error)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
