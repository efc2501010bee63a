"""Shares the cores and GPUs of a machine between steps that run on it at the same time."""

import logging

import torch

from boothline.cores import available_cores
from boothline.settings import Settings

logger = logging.getLogger(__name__)


def share_cores(num_shards: int, *, settings: Settings) -> int:
    """Set torch's threads so that the shards of a step do not fight for cores, and return them.

    With a local run folder the shards run side by side on this machine, each with its share of the
    cores; without one each has a machine (a pod) of its own. Pictures do not depend on it.
    """
    num_cores = available_cores()
    sharing = num_shards if settings.run_dir is not None else 1
    num_threads = max(1, num_cores // sharing)
    torch.set_num_threads(num_threads)
    logger.info("%d of %d cores", num_threads, num_cores)
    return num_threads


def device_of(shard: int, *, settings: Settings) -> str:
    """Return the device that a shard samples on: `cpu`, `cuda`, or `cuda:<number>`.

    With a local run folder the shards run side by side on this machine and take its GPUs in turn;
    without one each has a machine (a pod) of its own. Pictures of equal GPUs are equal.
    """
    if not torch.cuda.is_available():
        return "cpu"
    if settings.run_dir is None:
        return "cuda"
    return f"cuda:{shard % torch.cuda.device_count()}"
