"""Adapters: put in without a change, written so that diffusers reads the same back, merged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from boothline.config.training import LoraConfig
from boothline.diffusion.export import check_diffusers, save_diffusers
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.diffusion.lora import (
    adapter_layers,
    adapter_weights,
    add_adapters,
    load_adapters,
)
from boothline.diffusion.lora_export import (
    DIFFUSERS_FILE,
    KOHYA_FILE,
    check_adapters,
    merge_checked,
    save_adapters,
)
from boothline.errors import ConfigError, DataError, IntegrityError, TrainingError

PROMPT = "a photo of sks bear"
WIDE = {
    "targets": ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in",
                "proj_out", "conv1", "conv2", "time_emb_proj", "conv_shortcut"),
    "text_encoder_targets": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}  # fmt: skip


@pytest.fixture
def parts(tiny_pipeline: Path) -> DiffusionParts:
    return load_pipeline(tiny_pipeline, device="cpu")


def trained(parts: DiffusionParts, *, text_encoder: bool = True, **settings: Any) -> LoraConfig:
    """Give a model adapters that look trained: no weight is zero."""
    lora = LoraConfig(**{"rank": 2, "alpha": 3.0, **settings})
    torch.manual_seed(0)
    for name in add_adapters(parts, lora, text_encoder=text_encoder):
        for key, parameter in getattr(parts, name).named_parameters():
            if parameter.requires_grad and "magnitude" not in key:
                torch.nn.init.normal_(parameter, std=0.3)
            elif parameter.requires_grad:
                parameter.data.mul_(1.1)
    return lora


def test_add_adapters_changes_nothing_and_trains_nothing_else(tiny_pipeline: Path) -> None:
    first, second = (load_pipeline(tiny_pipeline, device="cpu") for _ in range(2))
    tokens = torch.arange(12)[None]
    before = first.text_encoder(tokens)[0]
    for parts in (first, second):
        assert add_adapters(parts, LoraConfig(), text_encoder=True) == ["unet", "text_encoder"]
    assert torch.equal(first.text_encoder(tokens)[0], before)
    names = [name for name, p in first.unet.named_parameters() if p.requires_grad]
    assert names
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    ours, theirs = adapter_weights(first.unet), adapter_weights(second.unet)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_add_adapters_target_without_a_layer_names_layers_that_exist(parts: DiffusionParts) -> None:
    with pytest.raises(ConfigError, match=r"training\.lora\.targets \['query'\].*attn1\.to_k"):
        add_adapters(parts, LoraConfig(targets=("query",)), text_encoder=False)


@pytest.mark.proves("F22/settings", "F24/lora")
@pytest.mark.parametrize(
    ("settings", "files"),
    [
        ({}, [DIFFUSERS_FILE, KOHYA_FILE]),
        ({"text_encoder": False}, [DIFFUSERS_FILE, KOHYA_FILE]),
        (WIDE, [DIFFUSERS_FILE, KOHYA_FILE]),
        ({"dora": True}, [DIFFUSERS_FILE]),
    ],
    ids=["attention", "unet-only", "all-layers", "dora"],
)
def test_save_adapters_diffusers_loads_the_same_model_from_each_file(
    parts: DiffusionParts,
    tiny_pipeline: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    files: list[str],
) -> None:
    lora = trained(parts, **settings)
    written = save_adapters(parts, tmp_path, lora=lora)
    assert [path.name for path in written] == files
    for path in written:
        assert check_adapters(path, parts, base=tiny_pipeline, prompt=PROMPT) <= 1e-5


@pytest.mark.parametrize("file", [DIFFUSERS_FILE, KOHYA_FILE])
def test_check_adapters_changed_weight_is_noticed(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path, file: str
) -> None:
    save_adapters(parts, tmp_path, lora=trained(parts))
    weights = load_file(tmp_path / file)
    key = next(key for key in weights if key.endswith("weight") and "text_model" in key)
    weights[key][0, 0] += 1e-4
    with safe_open(tmp_path / file, framework="pt") as stream:
        metadata = stream.metadata()
    save_file(weights, tmp_path / file, metadata=metadata)
    with pytest.raises(IntegrityError, match="gives the text_encoder other adapters"):
        check_adapters(tmp_path / file, parts, base=tiny_pipeline, prompt=PROMPT)


@pytest.mark.proves("F22/settings")
def test_check_adapters_other_alpha_is_noticed(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    lora = trained(parts)
    save_adapters(parts, tmp_path, lora=lora.model_copy(update={"alpha": 4.0}))
    for file in (DIFFUSERS_FILE, KOHYA_FILE):
        with pytest.raises(IntegrityError, match="scales the adapters"):
            check_adapters(tmp_path / file, parts, base=tiny_pipeline, prompt=PROMPT)


@pytest.mark.parametrize("dora", [False, True])
def test_merge_checked_leaves_a_plain_model_that_exports(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path, dora: bool
) -> None:
    before = parts.unet.state_dict().keys()
    trained(parts, dora=dora)
    assert merge_checked(parts, prompt=PROMPT) <= 1e-4
    assert not list(adapter_layers(parts.unet))
    assert parts.unet.state_dict().keys() == before
    save_diffusers(parts, tmp_path / "export", base=tiny_pipeline, trained=["unet", "text_encoder"])
    check_diffusers(tmp_path / "export", parts, prompt=PROMPT)


def test_load_adapters_takes_over_a_state_and_its_averages(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    lora = trained(parts)
    states = {
        name: {k: p.detach() for k, p in getattr(parts, name).named_parameters() if p.requires_grad}
        for name in ("unet", "text_encoder")
    }
    for name, weights in states.items():
        save_file(weights, tmp_path / f"{name}_lora.safetensors")
    key = next(iter(states["unet"]))
    save_file({f"unet.{key}": states["unet"][key] * 2}, tmp_path / "ema.safetensors")
    loaded = load_pipeline(tiny_pipeline, device="cpu")
    assert load_adapters(loaded, tmp_path, lora=lora) == ["unet", "text_encoder"]
    got = dict(loaded.unet.named_parameters())
    assert torch.equal(got[key], states["unet"][key] * 2)
    others = [name for name in states["unet"] if name != key]
    assert all(torch.equal(got[name], states["unet"][name]) for name in others)


def test_load_adapters_that_do_not_fit_or_are_not_finite_are_refused(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    save_file({"x.lora_A.default.weight": torch.ones(1)}, tmp_path / "unet_lora.safetensors")
    with pytest.raises(DataError, match="do not fit the unet"):
        load_adapters(parts, tmp_path, lora=LoraConfig())
    save_file({"x": torch.full((1,), torch.nan)}, tmp_path / "unet_lora.safetensors")
    with pytest.raises(TrainingError, match=r"unet\.x holds values that are not finite"):
        load_adapters(parts, tmp_path, lora=LoraConfig())
