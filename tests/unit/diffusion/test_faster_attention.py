"""Attention takes the kernel that is faster for its shape, and computes the same."""

import math

import pytest
import torch
from torch.nn import functional

from boothline.diffusion.devices import SHORT_PLACES, faster_attention

SHORT = math.isqrt(SHORT_PLACES)


def fused_kernels(side: int, *, precision: str, device: str = "cpu") -> set[str]:
    """Return the names of fused attention kernels in a pass and its gradient."""
    latents = torch.zeros(1, 1, side, side, device="cpu" if device == "cpu" else "meta")
    query = torch.randn(1, 1, side * side, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.profiler.profile() as profile, faster_attention(latents, precision=precision):
        functional.scaled_dot_product_attention(query, query, query).sum().backward()
    return {event.key for event in profile.key_averages() if "flash" in event.key}


def test_short_sequences_in_bf16_take_the_plain_kernel_on_a_cpu() -> None:
    assert fused_kernels(SHORT, precision="bf16") == set()


@pytest.mark.parametrize(
    ("side", "precision", "device"),
    [(SHORT + 1, "bf16", "cpu"), (SHORT, "fp32", "cpu"), (SHORT, "bf16", "elsewhere")],
)
def test_all_else_keeps_the_fused_kernel(side: int, precision: str, device: str) -> None:
    assert fused_kernels(side, precision=precision, device=device)


def gradient_error(inputs: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Return the largest relative error of attention's gradients in bf16."""
    low = [one.detach().bfloat16().requires_grad_() for one in inputs]
    functional.scaled_dot_product_attention(*low).square().sum().backward()
    errors = []
    for one, reference in zip(low, expected, strict=True):
        assert one.grad is not None
        errors.append(float((one.grad - reference).norm() / reference.norm()))
    return max(errors)


def test_gradients_of_the_plain_kernel_are_as_near_to_float64_as_those_of_the_fused_one() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 4, 64, 32).bfloat16().double().requires_grad_() for _ in range(3)]
    query, key, value = inputs
    weights = ((query @ key.transpose(-1, -2)) / math.sqrt(32)).softmax(dim=-1)
    (weights @ value).square().sum().backward()
    expected = [one.grad for one in inputs if one.grad is not None]
    fused = gradient_error(inputs, expected)
    with faster_attention(torch.zeros(1, 1, 8, 8), precision="bf16"):
        plain = gradient_error(inputs, expected)
    assert plain < max(1.2 * fused, 0.01)
    assert plain < 0.03
