"""Which number formats a device computes in by itself."""

from pathlib import Path

import pytest
import torch

from boothline.diffusion.devices import has_native_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("fpu avx2 avx512f avx512_bf16 amx_tile", True),
        ("fpu avx2 avx512f amx_bf16", True),
        ("fp asimd svebf16 i8mm bf16", True),
        ("fpu avx2 avx512f avx512_vnni", False),
    ],
)
def test_bfloat16_is_native_where_the_processor_lists_it(
    tmp_path: Path, flags: str, native: bool
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(f"processor : 0\nflags : {flags}\n", encoding="utf-8")
    assert has_native_bfloat16(CPU, cpu_info=cpu_info) is native


def test_a_processor_that_lists_nothing_counts_as_without(tmp_path: Path) -> None:
    assert not has_native_bfloat16(CPU, cpu_info=tmp_path / "absent")
