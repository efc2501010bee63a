"""Which device a shard samples on, and with how many threads."""

import pytest
import torch

from boothline.diffusion.devices import device_of, share_cores
from boothline.diffusion.loading import load_pipeline
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


@pytest.mark.parametrize(
    ("cores", "num_shards", "local", "expected"),
    [(8, 2, True, 4), (8, 2, False, 8), (1, 2, True, 1), (3, 1, True, 3)],
)
def test_share_cores_gives_each_shard_its_part(
    monkeypatch, tmp_path, cores, num_shards, local, expected
):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr("boothline.diffusion.devices.available_cores", lambda: cores)
    settings = Settings(run_dir=tmp_path if local else None)
    assert share_cores(num_shards, settings=settings) == expected
    assert given == [expected]


def test_pipeline_for_sampling_gives_the_same_bits_with_any_number_of_threads(tiny_pipeline):
    before = torch.get_num_threads()
    parts = load_pipeline(tiny_pipeline, device="cpu", for_sampling=True)
    draws = torch.Generator().manual_seed(1)
    latents = torch.randn(4, parts.unet.config.in_channels, 16, 16, generator=draws)
    context = torch.randn(4, 12, parts.unet.config.cross_attention_dim, generator=draws)
    found = []
    try:
        for num_threads in (1, 2, 3, 4):
            torch.set_num_threads(num_threads)
            with torch.no_grad():
                noise = parts.unet(latents, 10, context).sample
                found.append((noise, parts.vae.decode(latents).sample))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    for noise, pictures in found[1:]:
        assert torch.equal(noise, found[0][0])
        assert torch.equal(pictures, found[0][1])
