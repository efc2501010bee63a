"""Weights files are known to be whole from their header, before a step loads them."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from boothline.diffusion.layout import check_weights, names_in
from boothline.errors import DataError

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3, 4), "b.c": torch.ones(5)}, path, metadata={"format": "pt"})
    return path


def test_names_in_whole_file_are_those_of_its_tensors(weights: Path) -> None:
    assert names_in(weights) == {"a", "b.c"}


def test_names_in_file_cut_anywhere_is_refused(weights: Path) -> None:
    data = weights.read_bytes()
    for size in (0, 1, 7, 8, 9, len(data) // 2, len(data) - 1):
        weights.write_bytes(data[:size])
        with pytest.raises(DataError, match=r"cut off|not a safetensors file") as caught:
            names_in(weights)
        assert str(weights) in caught.value.message


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (POINTER, "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>" * 9, "not a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "not a safetensors file"),
        (struct.pack("<Q", 7) + b'{"a":1}', "not a safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
    ],
    ids=["lfs", "page", "zip", "list", "no-tensor", "huge-header"],
)
def test_names_in_another_kind_of_file_is_refused(weights: Path, data: bytes, reason: str) -> None:
    weights.write_bytes(data)
    with pytest.raises(DataError, match=reason):
        names_in(weights)


def test_check_weights_of_shards_wants_each_of_them(weights: Path) -> None:
    folder = weights.parent
    weights.rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b.c": names[1]}}))
    with pytest.raises(DataError, match="00002-of-00002"):
        check_weights(folder, "model")
    save_file({"b.c": torch.ones(5)}, folder / names[1])
    check_weights(folder, "model")
    index.write_text("{}")
    with pytest.raises(DataError, match="not an index of weights"):
        check_weights(folder, "model")
