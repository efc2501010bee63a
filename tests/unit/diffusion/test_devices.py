"""Which device a shard samples on."""

import pytest
import torch

from boothline.diffusion.threads import device_of
from boothline.settings import Settings


@pytest.fixture
def gpus(monkeypatch):
    def have(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


def test_device_of_local_shards_takes_the_gpus_in_turn(gpus, tmp_path):
    gpus(2)
    here = Settings(run_dir=tmp_path)
    assert [device_of(shard, settings=here) for shard in range(4)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
        "cuda:1",
    ]


def test_device_of_a_shard_with_its_own_machine_is_the_first_gpu(gpus):
    gpus(2)
    assert device_of(1, settings=Settings(run_dir=None)) == "cuda"


def test_device_of_without_gpu_is_the_processor(gpus, tmp_path):
    gpus(0)
    assert device_of(1, settings=Settings(run_dir=tmp_path)) == "cpu"
