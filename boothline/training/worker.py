"""Entry point of one rank: forked by `elastic`, or started by torchrun with the job file."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch.nn.attention import SDPBackend, sdpa_kernel

from boothline import logs
from boothline import settings as environment
from boothline.diffusion.devices import has_fast_bfloat16
from boothline.errors import BoothlineError, ConfigError
from boothline.settings import Settings
from boothline.store import Store
from boothline.telemetry import observing
from boothline.training.failures import mark_done, start_beating, write_failure
from boothline.training.job import PROCESS_FILE, RESULT_FILE, TrainingJob
from boothline.training.ranks import Ranks, Requests
from boothline.training.state_store import StateStore
from boothline.training.trainer import Outcome, Trainer

logger = logging.getLogger(__name__)


@contextmanager
def deterministic_kernels(*, enabled: bool) -> Iterator[None]:
    """Inside the block, use only kernels that give the same bits each time.

    An operation that has no such kernel raises. Attention takes torch's plain formulation: the
    backward passes of the fused ones add in an order that CUDA leaves open. What cuBLAS needs
    stands in the environment before CUDA starts (`launch`).

    Args:
        enabled: False: change nothing.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


CUDA = "cuda"


def run_rank(job: TrainingJob, *, settings: Settings, requests: Requests) -> None:
    """Train a job on this rank; rank 0 writes the result into the job's folder.

    Raises:
        BoothlineError: training stopped for an expected reason.
    """
    accelerator = start_accelerator(job)
    ranks = Ranks.of(accelerator)
    states = None
    if ranks.local_rank == 0:
        states = StateStore(Store.connect(settings), job=job)
    with deterministic_kernels(enabled=job.config.training.deterministic):
        trainer = Trainer(
            job, accelerator=accelerator, ranks=ranks, requests=requests, states=states
        )
        outcome = trainer.run()
    if ranks.is_main:
        _write_result(job, outcome)
    accelerator.end_training()


def start_accelerator(job: TrainingJob) -> Accelerator:
    """Return accelerate's Accelerator for a job on this rank, its kernels chosen.

    Raises:
        ConfigError: the machine cannot compute in the job's precision.
    """
    _check_precision(job)
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision={"fp32": "no"}.get(
            job.config.training.precision, job.config.training.precision
        ),
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)
        ],
    )
    if accelerator.is_main_process:
        _warn_of_slow_bfloat16(job, device=accelerator.device)
    if accelerator.device.type == CUDA:
        _be_reproducible()
    return accelerator


def main(arguments: list[str]) -> int:
    """Run this rank and return its exit code; failures are recorded in the job's folder."""
    settings = environment.current()
    rank = int(os.environ.get("RANK", "0"))  # set by torchrun
    log_format = "%(levelname)s %(name)s: %(message)s"
    logs.configure(
        settings.log_format, run=settings.run_id, step="train", rank=rank, text=log_format
    )
    # accelerate has no word yet for the option that replaces this one.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
    requests = Requests(save_every_seconds=settings.state_every_seconds)
    requests.install()
    job = TrainingJob.load(Path(arguments[0]))
    (job.folder / PROCESS_FILE.format(rank=rank)).write_text(str(os.getpid()), encoding="utf-8")
    start_beating(job.folder, rank=rank)
    try:
        with observing(run_id=settings.run_id, step="train", rank=rank):
            run_rank(job, settings=settings, requests=requests)
    except BoothlineError as error:
        logger.error("rank %d: %s", rank, error)
        write_failure(job.folder, error, rank=rank)
        return error.exit_code
    except BaseException as error:
        logger.exception("rank %d failed", rank)
        write_failure(job.folder, error, rank=rank)
        return 1
    mark_done(job.folder, rank=rank)
    return 0


def forked(job_file: str) -> None:
    """Run this rank in a process forked by torchrun's agent; a failure ends the process."""
    code = main([job_file])
    if code:
        _end(code)


def _check_precision(job: TrainingJob) -> None:
    """Refuse fp16 where accelerate would silently train in fp32, and NF4, which is made on CUDA.

    Raises:
        ConfigError: there is no CUDA device for it.
    """
    if torch.cuda.is_available():
        return
    if job.config.training.precision == "fp16":
        raise ConfigError(
            "training.precision fp16 needs a CUDA device, and there is none.",
            remedy="Set training.precision to fp32, or to bf16 where the processor has it.",
        )
    if job.config.training.frozen_precision == "nf4":
        raise ConfigError(
            "training.frozen_precision nf4 needs a CUDA device, and there is none.",
            remedy="Set training.frozen_precision to bf16.",
        )


def _warn_of_slow_bfloat16(job: TrainingJob, *, device: torch.device) -> None:
    """Say when bf16 will cost time instead of saving it."""
    if job.config.training.precision == "bf16" and not has_fast_bfloat16(device):
        logger.warning(
            "training.precision is bf16, for which this %s has no fast instructions: fp32 is "
            "faster",
            "processor" if device.type == "cpu" else "device",
        )


def _be_reproducible() -> None:
    """Choose kernels whose sums do not depend on timing."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _write_result(job: TrainingJob, outcome: Outcome) -> None:
    """Leave what the step needs to know, atomically."""
    value = {
        "final_state": str(outcome.final_state),
        "num_parameters_trained": outcome.num_parameters_trained,
        "chosen_step": outcome.chosen_step,
        "last_step": outcome.last_step,
        "pass_size": outcome.pass_size,
    }
    partial = job.folder / f"{RESULT_FILE}.partial"
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(job.folder / RESULT_FILE)


def _end(code: int) -> None:
    """Leave at once: after a failure, the teardown of a broken process group may hang."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
