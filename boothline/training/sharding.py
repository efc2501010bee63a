"""Frozen weights shared out over the ranks (FSDP2), where one device cannot hold them.

Only weights beneath adapters are: adapters stay whole on every rank and go through DDP, as without
sharding. So do their optimizer and their states, which know nothing of it.

FSDP: Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel", 2023.
"""

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from boothline.config.training import TrainingConfig
from boothline.diffusion.loading import DiffusionParts
from boothline.training.frozen import move
from boothline.training.ranks import Ranks

GATHERED_BLOCKS = 3
"""Blocks that lie on a device whole at the same time: the one that computes, and of the next one,
which is fetched meanwhile, what arrives and what it is copied into."""


def place(parts: DiffusionParts, training: TrainingConfig, *, ranks: Ranks) -> None:
    """Move all networks of a model to the device of a rank, of the denoiser its shard where asked.

    Args:
        parts: the model, with adapters, on the CPU where its frozen weights are sharded.
        training: says whether they are.
        ranks: who holds the shards.
    """
    if training.shard_frozen and ranks.world_size > 1:
        _shard(parts.denoiser, ranks)
    move(parts, ranks.device)


def _shard(network: nn.Module, ranks: Ranks) -> None:
    """Leave each rank its part of every frozen weight; a block gathers its own while it computes.

    A block goes to the device, and leaves it again but for its shard, before the next one.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    kept = {weight for weight in network.parameters() if weight.requires_grad}
    for block in _blocks(network):
        fully_shard(block, mesh=mesh, ignored_params=kept)


def prepared(accelerator: Accelerator, model: nn.Module, optimizer: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return a model and its optimizer as accelerate prepares them, sharded weights outside DDP.

    accelerate refuses DDP for a model with shards, even where DDP leaves them alone.
    """
    from torch.distributed.tensor import DTensor

    shards = [name for name, w in model.named_parameters() if isinstance(w, DTensor)]
    if not shards:
        both: tuple[Any, Any] = accelerator.prepare(model, optimizer)
        return both
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, shards)  # type: ignore[no-untyped-call]
    inner = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    settings = accelerator.ddp_handler.to_kwargs()
    return DistributedDataParallel(inner, **settings), accelerator.prepare(optimizer)


def sharded_bytes(network: nn.Module, *, num_ranks: int) -> int:
    """Return what a network takes at most on one of several ranks that share its frozen weights.

    Args:
        network: with adapters, not sharded yet.
        num_ranks: that share them.
    """
    groups, taken = [], set()
    for block in _blocks(network):
        own = [w for w in block.parameters() if not (w.requires_grad or w in taken)]
        taken.update(own)
        groups.append(_num_bytes(own))
    *blocks, rest = groups
    whole = _num_bytes([w for w in network.parameters() if w not in taken])
    return whole + sum(groups) // num_ranks + rest + sum(sorted(blocks)[-GATHERED_BLOCKS:])


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield what is gathered at once, inner blocks first, the network itself last."""
    names: Any = network._no_split_modules  # of diffusers' models
    for module in reversed(list(network.modules())):
        if type(module).__name__ in names or module is network:
            yield module


def _num_bytes(weights: list[nn.Parameter]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)
