"""`training.deterministic`: its kernels, and gradients that add in a fixed order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from boothline.config import RunConfig
from boothline.diffusion.loading import load_pipeline
from boothline.settings import Settings
from boothline.training import launch
from boothline.training.assembly import trained_networks
from boothline.training.denoiser import RowsOf
from boothline.training.job import SubjectFolders, TrainingJob
from boothline.training.worker import deterministic_kernels

UNORDERED_ON_CUDA = ("index_add", "index_select_backward", "scatter_add", "index_put")


class Operations(TorchDispatchMode):
    """Notes the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def training_step(base: Path) -> set[str]:
    """Return the operations of one pass, forward and backward, of the tiny model."""
    training = RunConfig.model_validate({"training": {"train_text_encoder": True}}).training
    denoiser = trained_networks(load_pipeline(base), training)
    tokens = {"text_encoder": torch.zeros(2, 12, dtype=torch.int64)}
    with Operations() as operations:
        prediction = denoiser(
            torch.ones(3, 4, 16, 16), torch.tensor([1, 2, 3]), tokens, torch.tensor([0, 1, 0])
        )
        prediction.square().mean().backward()
    return operations.names


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_rows_of_a_table_have_the_gradient_of_index_select_to_the_bit(dtype: torch.dtype) -> None:
    for seed in range(20):
        draws = torch.Generator().manual_seed(seed)
        table_ULD = torch.randn(4, 5, 3, generator=draws).to(dtype)
        rows_B = torch.randint(0, 4, (9,), generator=draws)
        upstream_BLD = torch.randn(9, 5, 3, generator=draws).to(dtype)
        upstream_BLD[0, 0] = -0.0
        ours, theirs = (table_ULD.clone().requires_grad_() for _ in range(2))
        picked = RowsOf.apply(ours, rows_B)
        expected = theirs.index_select(0, rows_B)
        assert torch.equal(picked, expected)
        picked.backward(upstream_BLD)
        expected.backward(upstream_BLD)
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad.view(torch.uint8), theirs.grad.view(torch.uint8))


def test_rows_nobody_asks_for_have_no_gradient() -> None:
    table_ULD = torch.ones(3, 1, 1, requires_grad=True)
    RowsOf.apply(table_ULD, torch.tensor([2, 2])).sum().backward()
    assert table_ULD.grad is not None
    assert table_ULD.grad.flatten().tolist() == [0, 0, 2]


@pytest.mark.proves("F59/kernels")
def test_pass_of_the_networks_has_no_operation_whose_order_cuda_leaves_open(
    tiny_pipeline: Path,
) -> None:
    with deterministic_kernels(enabled=True):
        names = training_step(tiny_pipeline)
    assert "aten::native_layer_norm_backward" in names
    unordered = [name for name in names for part in UNORDERED_ON_CUDA if part in name]
    fused = [name for name in names if "scaled_dot_product" in name and "math" not in name]
    assert unordered + fused == []


def test_pass_without_the_setting_keeps_its_fused_attention(tiny_pipeline: Path) -> None:
    with deterministic_kernels(enabled=False):
        names = training_step(tiny_pipeline)
    assert any("scaled_dot_product" in name and "backward" in name for name in names)


def test_deterministic_kernels_are_on_inside_the_block_alone() -> None:
    def enabled() -> tuple[bool, bool, bool]:
        cuda = torch.backends.cuda
        return (
            torch.are_deterministic_algorithms_enabled(),
            cuda.flash_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
        )

    assert enabled() == (False, True, True)
    seen = []

    def fail_inside() -> None:
        with deterministic_kernels(enabled=True):
            seen.append(enabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert seen == [(True, False, False)]
    assert enabled() == (False, True, True)


@pytest.mark.proves("F59/kernels")
@pytest.mark.parametrize("deterministic", [False, True])
def test_ranks_find_what_cublas_needs_in_their_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    """cuBLAS reads the variable when CUDA starts, which is before a rank could set it."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    job = TrainingJob(
        config=RunConfig.model_validate({"training": {"deterministic": deterministic}}),
        world_size=2,
        base_model=tmp_path,
        base_model_digest="b",
        pictures=[SubjectFolders(instance=tmp_path)],
        data_digest="d",
        states="training/k",
        folder=tmp_path,
    )
    environment = launch._environment(job, Settings(home=tmp_path), num_ranks=2)
    assert environment.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
