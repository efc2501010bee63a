"""Which frozen weights a rank keeps, on a process group that stands in for its peers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import load_pipeline
from boothline.training.assembly import trained_networks
from boothline.training.ranks import Ranks
from boothline.training.sharding import GATHERED_BLOCKS, place, sharded_bytes

Folders = Callable[[str], Path]
FAMILIES = ("sd1", "sdxl", "sd3", "flux", "klein", "z_image", "qwen_image")


@contextmanager
def second_of_three() -> Iterator[Ranks]:
    """A rank whose peers answer nothing; the libraries let it save no model."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=3)
    yield Ranks(rank=1, world_size=3)
    dist.destroy_process_group()


@pytest.mark.proves("F57/sharded")
@pytest.mark.parametrize("name", FAMILIES)
def test_rank_keeps_its_part_of_each_frozen_weight_and_all_adapters(
    family_folders: Folders, name: str
) -> None:
    training = TrainingConfig(method="lora", train_text_encoder=False, shard_frozen=True)
    parts = load_pipeline(family_folders(name), device="cpu")
    trained_networks(parts, training)
    network = parts.denoiser
    whole = {key: weight.detach().clone() for key, weight in network.named_parameters()}
    counted = sharded_bytes(network, num_ranks=3)
    with second_of_three() as ranks:
        place(parts, training, ranks=ranks)
    held = 0
    for key, weight in network.named_parameters():
        assert isinstance(weight, DTensor) is not weight.requires_grad, key
        held += (own := weight.to_local() if isinstance(weight, DTensor) else weight).numel()
        rows = whole[key].chunk(3)[1:2] if isinstance(weight, DTensor) else (whole[key],)
        assert own.equal(rows[0]) if rows else own.numel() == 0, key
    assert held < 0.5 * sum(w.numel() for w in whole.values())
    assert counted > 4 * held


def test_bytes_of_a_sharded_network_are_its_part_the_adapters_and_what_is_gathered(
    family_folders: Folders,
) -> None:
    training = TrainingConfig(method="lora", train_text_encoder=False)
    parts = load_pipeline(family_folders("flux"), device="cpu")
    trained_networks(parts, training)
    network = parts.denoiser

    def count(module: object, *, trained: bool = False) -> int:
        return 4 * sum(w.numel() for w in module.parameters() if w.requires_grad is trained)

    blocks = [*network.transformer_blocks, *network.single_transformer_blocks]
    rest = count(network) - sum(map(count, blocks))
    gathered = rest + sum(sorted(map(count, blocks))[-GATHERED_BLOCKS:])
    wanted = count(network, trained=True) + count(network) // 2 + gathered
    assert sharded_bytes(network, num_ranks=2) == pytest.approx(wanted, abs=4)


def test_weights_are_not_sharded_on_one_rank_or_unasked(family_folders: Folders) -> None:
    """Else they would ask for peers, and there is no process group here."""
    for asked, world_size in ((True, 1), (False, 2)):
        training = TrainingConfig(method="lora", train_text_encoder=False, shard_frozen=asked)
        parts = load_pipeline(family_folders("flux"), device="cpu")
        trained_networks(parts, training)
        place(parts, training, ranks=Ranks(world_size=world_size))
        assert not any(isinstance(w, DTensor) for w in parts.denoiser.parameters())
