"""Single files become folders without network: every weight arrives, and damage is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from boothline.diffusion.conversion import convert_single_file
from boothline.diffusion.export import save_single_file
from boothline.diffusion.loading import load_pipeline
from boothline.errors import DataError


@pytest.fixture(scope="module")
def file(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file of Stable Diffusion 1.x."""
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    assert save_single_file(load_pipeline(tiny_pipeline, device="cpu"), path, dtype=torch.float32)
    return path


def bare(layout: Path, target: Path) -> Path:
    """Copy a model's folder without its weights."""
    import shutil

    return shutil.copytree(layout, target, ignore=shutil.ignore_patterns("*.safetensors"))


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_single_file_becomes_the_folder_that_it_came_from(
    family_folders: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    base = family_folders(name)
    parts = load_pipeline(base, device="cpu")
    save_single_file(parts, tmp_path / "model.safetensors", dtype=torch.float32)
    layout = bare(base, tmp_path / "layout")
    convert_single_file(tmp_path / "model.safetensors", tmp_path / "converted", layout=layout)
    converted = load_pipeline(tmp_path / "converted", device="cpu")
    assert converted.family is parts.family
    for part in parts.family.stems:
        wanted, got = parts.part(part).state_dict(), converted.part(part).state_dict()
        assert wanted.keys() == got.keys()
        assert all(torch.equal(weight, got[key]) for key, weight in wanted.items()), part
    assert not (tmp_path / "converted.partial").exists()


def test_single_file_in_half_precision_stays_so(
    tiny_pipeline: Path, file: Path, tmp_path: Path
) -> None:
    halves = {key: weight.half() for key, weight in load_file(file).items()}
    save_file(halves, tmp_path / "half.safetensors")
    convert_single_file(tmp_path / "half.safetensors", tmp_path / "made", layout=tiny_pipeline)
    weights = load_file(tmp_path / "made" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}


def test_single_file_without_a_weight_is_refused_and_leaves_nothing(
    tiny_pipeline: Path, file: Path, tmp_path: Path
) -> None:
    weights = load_file(file)
    del weights["model.diffusion_model.out.2.weight"]
    save_file(weights, tmp_path / "cut.safetensors")
    with pytest.raises(DataError):
        convert_single_file(tmp_path / "cut.safetensors", tmp_path / "made", layout=tiny_pipeline)
    assert [path.name for path in tmp_path.iterdir()] == ["cut.safetensors"]


def test_single_file_of_another_architecture_is_refused(
    family_folders: Callable[[str], Path], file: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="cannot be converted"):
        convert_single_file(file, tmp_path / "made", layout=family_folders("sdxl"))
    with pytest.raises(DataError, match=r"FLUX\.1 are not converted") as caught:
        convert_single_file(file, tmp_path / "made", layout=family_folders("flux"))
    assert "SDXL" in str(caught.value.remedy)


def test_pickled_or_damaged_single_file_is_refused(tiny_pipeline: Path, tmp_path: Path) -> None:
    for name, pattern in (("model.ckpt", "can run code"), ("model.safetensors", "cannot be read")):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(DataError, match=pattern):
            convert_single_file(tmp_path / name, tmp_path / "made", layout=tiny_pipeline)
