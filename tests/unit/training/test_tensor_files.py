"""Our safetensors files are read by the library to the same bits, whatever layout went in."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from boothline.training.states import write_tensors


def test_write_tensors_is_read_back_by_the_library(tmp_path: Path) -> None:
    tensors = {
        "conv": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "half": torch.randn(3).to(torch.bfloat16),
        "count": torch.tensor(7, dtype=torch.int64),
        "flag": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
    }
    write_tensors(tmp_path / "a.safetensors", tensors)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_write_tensors_gives_equal_bytes_for_equal_tensors(tmp_path: Path) -> None:
    conv = torch.randn(2, 3, 4, 5)
    write_tensors(tmp_path / "a", {"x": conv, "y": torch.ones(2)})
    other = conv.to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "b", {"y": torch.ones(2), "x": other})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_write_tensors_never_overwrites(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"x": torch.ones(2)})
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "a", {"x": torch.ones(2)})
