"""Adapters and exports of every family, read back by diffusers; and what one family touches."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import boothline
from boothline.config import RunConfig
from boothline.config.training import LoraConfig
from boothline.diffusion import families
from boothline.diffusion.export import (
    PICTURE_TOLERANCE,
    apply_trained_weights,
    check_diffusers,
    check_picture,
    check_single_file,
    plain_pipeline,
    save_diffusers,
    save_single_file,
)
from boothline.diffusion.families.stable_diffusion import StableDiffusion
from boothline.diffusion.layout import check_config, check_folder, family_of
from boothline.diffusion.loading import DiffusionParts, load_pipeline, quiet_libraries
from boothline.diffusion.lora import add_adapters, load_adapters
from boothline.diffusion.lora_export import (
    DIFFUSERS_FILE,
    KOHYA_FILE,
    check_adapters,
    merge_checked,
    save_adapters,
)
from boothline.errors import ConfigError, DataError, IntegrityError

Folders = Callable[[str], Path]
PROMPT = "a photo of sks bear"
STD = 0.3  # far beyond it the attention of a random UNet saturates, and rounding shows


def adapted(folder: Path) -> tuple[DiffusionParts, LoraConfig]:
    """Return a model with adapters that look trained."""
    parts, lora = load_pipeline(folder, device="cpu"), LoraConfig(rank=2, alpha=3.0)
    torch.manual_seed(0)
    for name in add_adapters(parts, lora, text_encoder=parts.family.trains_text_encoders):
        for parameter in parts.part(name).parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=STD)
    return parts, lora


@pytest.mark.proves("F26/adapters")
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("sdxl", [DIFFUSERS_FILE, KOHYA_FILE]),
        pytest.param("sd3", [DIFFUSERS_FILE], marks=pytest.mark.matrix),
        pytest.param("flux", [DIFFUSERS_FILE], marks=pytest.mark.matrix),
        pytest.param("klein", [DIFFUSERS_FILE], marks=pytest.mark.matrix),
        pytest.param("z_image", [DIFFUSERS_FILE, KOHYA_FILE], marks=pytest.mark.matrix),
        pytest.param("qwen_image", [DIFFUSERS_FILE, KOHYA_FILE], marks=pytest.mark.matrix),
    ],
)
def test_adapters_of_a_family_are_read_back_by_diffusers_and_merged(
    family_folders: Folders, tmp_path: Path, name: str, files: list[str]
) -> None:
    parts, lora = adapted(family_folders(name))
    saved = save_adapters(parts, tmp_path / "lora", lora=lora)
    assert [file.name for file in saved] == files
    bare = load_pipeline(family_folders(name), device="cpu")
    with quiet_libraries():
        without = check_picture(plain_pipeline(bare), PROMPT, side_px=64)
        wanted = check_picture(plain_pipeline(parts), PROMPT, side_px=64)
    assert np.abs(wanted - without).max() > 100 * PICTURE_TOLERANCE
    for file in saved:
        check_adapters(file, parts, base=family_folders(name), prompt=PROMPT)
    merge_checked(parts, prompt=PROMPT)


@pytest.mark.proves("F26/adapters")
def test_adapter_file_of_another_scale_is_refused(family_folders: Folders, tmp_path: Path) -> None:
    """diffusers takes Z-Image's scale into the weights, so it is seen in what they add."""
    parts, lora = adapted(family_folders("z_image"))
    file = save_adapters(parts, tmp_path / "lora", lora=lora)[1]
    weights = load_file(file)
    weights |= {key: value * 1.01 for key, value in weights.items() if key.endswith(".alpha")}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match="scales the adapters"):
        check_adapters(file, parts, base=family_folders("z_image"), prompt=PROMPT)


@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_state_of_adapters_of_a_family_is_taken_over(
    family_folders: Folders, tmp_path: Path, name: str
) -> None:
    parts, lora = adapted(family_folders(name))
    for network in parts.family.trainable:
        named = parts.part(network).named_parameters()
        weights = {key: p.detach() for key, p in named if p.requires_grad}
        save_file(weights, tmp_path / f"{network}_lora.safetensors")
    loaded = load_pipeline(family_folders(name), device="cpu")
    assert load_adapters(loaded, tmp_path, lora=lora) == list(parts.family.trainable)
    for network in parts.family.trainable:
        got = dict(loaded.part(network).named_parameters())
        for key, parameter in parts.part(network).named_parameters():
            if parameter.requires_grad:
                assert torch.equal(got[key], parameter), key


@pytest.mark.proves("F26/sdxl", "F26/single_out")
def test_export_of_sdxl_loads_back_equal_as_folder_and_as_single_file(
    family_folders: Folders, tmp_path: Path
) -> None:
    base = family_folders("sdxl")
    parts = load_pipeline(base, device="cpu")
    state = tmp_path / "state"
    state.mkdir()
    for network in parts.family.trainable:
        weights = {k: w * 1.5 for k, w in parts.part(network).state_dict().items()}
        save_file(weights, state / f"{network}.safetensors")
    trained = apply_trained_weights(parts, state)
    assert trained == ["unet", "text_encoder", "text_encoder_2"]
    folder = tmp_path / "diffusers"
    save_diffusers(parts, folder, base=base, trained=trained)
    _, difference = check_diffusers(folder, parts, prompt=PROMPT)
    assert difference <= PICTURE_TOLERANCE
    single = tmp_path / "model.safetensors"
    assert save_single_file(parts, single, dtype=torch.float32)
    check_single_file(single, parts, config=folder)
    parts.part("text_encoder_2").config.hidden_size = parts.text_encoder.config.hidden_size
    assert not save_single_file(parts, tmp_path / "alike.safetensors", dtype=torch.float32)
    weights = "text_encoder_2/model.safetensors"
    assert load_file(folder / weights).keys() == load_file(base / weights).keys()
    reloaded = load_pipeline(folder, device="cpu")
    got, wanted = reloaded.part("text_encoder_2"), parts.part("text_encoder_2")
    assert torch.equal(got.text_projection.weight, wanted.text_projection.weight)


def copy_of(folder: Path, target: Path, **index: Any) -> Path:
    shutil.copytree(folder, target)
    path = target / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **index}))
    return target


@pytest.mark.proves("F26/refused")
def test_folder_of_an_unknown_family_is_refused_with_those_that_are_known(
    family_folders: Folders, tmp_path: Path
) -> None:
    folder = copy_of(family_folders("sdxl"), tmp_path / "copy", _class_name="KolorsPipeline")
    with pytest.raises(DataError, match=r"'KolorsPipeline'.*StableDiffusionXLPipeline") as caught:
        check_folder(folder)
    assert "FLUX.1" in str(caught.value.remedy)


def test_folder_of_one_network_is_not_taken_for_a_model(
    family_folders: Folders, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="single network"):
        check_folder(family_folders("sdxl") / "unet")


@pytest.mark.proves("F26/refused")
@pytest.mark.parametrize(
    ("name", "part", "pattern"),
    [
        ("sdxl", "text_encoder_2", "text_encoder_2 does not exist"),
        ("sd3", "tokenizer_3", "tokenizer_3 does not exist"),
        ("flux", "scheduler", "scheduler does not exist"),
    ],
)
def test_folder_without_a_part_is_refused_by_its_name(
    family_folders: Folders, tmp_path: Path, name: str, part: str, pattern: str
) -> None:
    folder = copy_of(family_folders(name), tmp_path / "copy")
    shutil.rmtree(folder / part)
    with pytest.raises(DataError, match=pattern):
        check_folder(folder)


@pytest.mark.proves("F26/refused")
def test_folder_with_pickled_weights_is_refused_with_the_remedy(
    family_folders: Folders, tmp_path: Path
) -> None:
    folder = copy_of(family_folders("flux"), tmp_path / "copy") / "transformer"
    for file in folder.glob("*.safetensors"):
        file.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(DataError, match=r"diffusion_pytorch_model\.bin") as caught:
        check_folder(folder.parent)
    assert "Convert them" in str(caught.value.remedy)


EULER = {"sampling": {"sampler": "euler"}}
FLOW_RUN: dict[str, Any] = {
    "training": {"method": "lora", "train_text_encoder": False},
    "prior": EULER,
    "evaluation": EULER,
    "inference": EULER,
}


@pytest.mark.parametrize(
    ("section", "change", "pattern"),
    [
        ("training", {"method": "full"}, "training.method full .* FLUX.1"),
        ("training", {"train_text_encoder": True}, "training.train_text_encoder"),
        ("training", {"min_snr_gamma": 5.0}, "training.min_snr_gamma"),
        ("evaluation", {"sampling": {"sampler": "ddim"}}, "evaluation.sampling.sampler ddim"),
        ("prior", {"sampling": {"sampler": "pndm"}}, "prior.sampling.sampler pndm"),
        (
            "inference",
            {"sampling": {"sampler": "euler", "negative_prompt": "a cat"}},
            "no negative prompts",
        ),
    ],
)
def test_setting_that_a_family_cannot_do_is_refused_by_name(
    section: str, change: dict[str, Any], pattern: str
) -> None:
    flux = families.FAMILIES["FluxPipeline"]
    check_config(flux, RunConfig.model_validate(FLOW_RUN))
    changed = {**FLOW_RUN, section: {**FLOW_RUN[section], **change}}
    with pytest.raises(ConfigError, match=pattern) as caught:
        check_config(flux, RunConfig.model_validate(changed))
    assert caught.value.remedy


def test_density_of_levels_is_refused_for_a_noise_schedule() -> None:
    config = RunConfig.model_validate({"training": {"timestep_density": "uniform"}})
    with pytest.raises(ConfigError, match="timestep_density"):
        check_config(families.STABLE_DIFFUSION, config)


class Dummy(StableDiffusion):
    """A family that nobody knows: its folder is one of Stable Diffusion under another name."""

    name = "Dummy"
    pipeline = "DummyPipeline"


@pytest.mark.proves("F26/seam")
def test_new_family_is_one_file_and_one_row_of_the_registry(
    family_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the row it is loaded; and the product names no family outside the two files."""
    folder = copy_of(family_folders("sd1"), tmp_path / "copy", _class_name="DummyPipeline")
    with pytest.raises(DataError, match="DummyPipeline"):
        family_of(folder)
    dummy = Dummy()
    monkeypatch.setattr("boothline.diffusion.layout.FAMILIES", {"DummyPipeline": dummy})
    assert load_pipeline(folder, device="cpu").family is dummy


@pytest.mark.proves("F26/seam")
@pytest.mark.parametrize("name", [row.pipeline for row in families.FAMILIES.values()])
def test_file_of_a_family_is_named_by_the_registry_and_little_else(name: str) -> None:
    """Planning knows published sizes; the single file has the names of Stable Diffusion 1.x."""
    family = families.FAMILIES[name]
    module = type(family).__module__
    source = Path(boothline.__file__).parent
    naming = {
        file.relative_to(source).as_posix()
        for file in source.rglob("*.py")
        if name in file.read_text() or f"from {module} import" in file.read_text()
    }
    own = f"{module.removeprefix('boothline.').replace('.', '/')}.py"
    expected = {own, "diffusion/families/__init__.py"}
    expected.add("planning/shapes.py")
    assert naming == expected
