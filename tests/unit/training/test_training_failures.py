"""The error that stopped a training is told, not what followed from it."""

import errno
from pathlib import Path

import pytest

from boothline.errors import (
    ConfigError,
    DiskFullError,
    IntegrityError,
    NonFiniteLossError,
    TrainingError,
)
from boothline.training.failures import failure_of, mark_done, write_failure

PEER_LOST = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1")


def test_failure_of_typed_error_comes_back_as_its_class(tmp_path: Path) -> None:
    write_failure(tmp_path, PEER_LOST, rank=0)
    write_failure(tmp_path, IntegrityError("bytes differ", remedy="fetch again"), rank=1)
    error = failure_of(tmp_path, world_size=2)
    assert type(error) is IntegrityError
    assert str(error) == "bytes differ fetch again"


def test_failure_of_killed_rank_is_named(tmp_path: Path) -> None:
    write_failure(tmp_path, PEER_LOST, rank=0)
    mark_done(tmp_path, rank=2)
    error = failure_of(tmp_path, world_size=3)
    assert type(error) is TrainingError
    assert "Rank 1 of 3" in error.message


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        (RuntimeError("CUDA out of memory"), TrainingError, "ran out of memory"),
        (RuntimeError("could not create a primitive"), TrainingError, "ran out of memory"),
        (RuntimeError("could not create a primitive descriptor"), TrainingError, "failed: Runtime"),
        (OSError(errno.ENOSPC, "No space left"), DiskFullError, "no space"),
        (KeyError("weight"), TrainingError, "KeyError: 'weight'"),
        (NonFiniteLossError("nan"), NonFiniteLossError, "nan"),
    ],
)
def test_failure_of_other_errors_says_what_happened(
    tmp_path: Path, raised: Exception, expected: type, said: str
) -> None:
    write_failure(tmp_path, raised, rank=0)
    error = failure_of(tmp_path, world_size=1)
    assert type(error) is expected
    assert said in error.message


def test_failure_of_everyone_losing_each_other_says_so(tmp_path: Path) -> None:
    for rank in range(2):
        write_failure(tmp_path, PEER_LOST, rank=rank)
    assert "lost each other" in failure_of(tmp_path, world_size=2).message


def test_write_failure_keeps_a_config_error_that_mentions_gloo(tmp_path: Path) -> None:
    write_failure(tmp_path, ConfigError("gloo is missing"), rank=0)
    assert type(failure_of(tmp_path, world_size=1)) is ConfigError
