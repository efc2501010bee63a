"""Exports: both forms load back equal in plain diffusers; damage is noticed."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file, save_file

from boothline.diffusion import single_file
from boothline.diffusion.export import (
    apply_trained_weights,
    check_diffusers,
    check_single_file,
    save_diffusers,
    save_single_file,
    stored_dtype,
)
from boothline.diffusion.families import FAMILIES
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.errors import DataError, IntegrityError, TrainingError

PROMPT = "a sks bear"
BOTH = ["unet", "text_encoder"]


def _write_state(folder: Path, parts: DiffusionParts, *, scale: float = 1.5) -> Path:
    """Write a training state whose weights are the base's times `scale`."""
    folder.mkdir()
    for name in BOTH:
        weights = {key: w * scale for key, w in getattr(parts, name).state_dict().items()}
        save_file(weights, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def parts(tiny_pipeline: Path) -> DiffusionParts:
    """The tiny model, loaded anew: tests change its weights."""
    return load_pipeline(tiny_pipeline, device="cpu")


@pytest.fixture
def exported(parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path) -> Path:
    """The export of a fine-tuned tiny model, whose weights `parts` has afterwards."""
    trained = apply_trained_weights(parts, _write_state(tmp_path / "state", parts))
    save_diffusers(parts, tmp_path / "export", base=tiny_pipeline, trained=trained)
    return tmp_path / "export"


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_apply_trained_weights_replaces_both_networks(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    before = parts.unet.conv_in.weight.clone()
    assert apply_trained_weights(parts, _write_state(tmp_path / "state", parts)) == BOTH
    assert torch.equal(parts.unet.conv_in.weight, before * 1.5)


@pytest.mark.proves("F15/export")
def test_apply_trained_weights_average_goes_before_the_last_weights(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    before = parts.unet.conv_in.weight.clone()
    state = _write_state(tmp_path / "state", parts)
    save_file({"unet.conv_in.weight": before * 3}, state / "ema.safetensors")
    apply_trained_weights(parts, state)
    assert torch.equal(parts.unet.conv_in.weight, before * 3)


def test_apply_trained_weights_unet_only_leaves_the_text_encoder(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    state = _write_state(tmp_path / "state", parts)
    (state / "text_encoder.safetensors").unlink()
    assert apply_trained_weights(parts, state) == ["unet"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_apply_trained_weights_not_finite_is_refused_by_name(
    parts: DiffusionParts, tmp_path: Path, value: float
) -> None:
    state = _write_state(tmp_path / "state", parts)
    weights = load_file(state / "unet.safetensors")
    weights["conv_out.bias"][1] = value
    save_file(weights, state / "unet.safetensors")
    with pytest.raises(TrainingError, match=r"unet\.conv_out\.bias"):
        apply_trained_weights(parts, state)


def test_apply_trained_weights_of_another_model_are_refused(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    state = _write_state(tmp_path / "state", parts)
    save_file({"conv_in.weight": torch.zeros(1)}, state / "unet.safetensors")
    with pytest.raises(DataError, match="do not fit the base model"):
        apply_trained_weights(parts, state)


def test_apply_trained_weights_empty_state_is_refused(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="holds no weights"):
        apply_trained_weights(parts, tmp_path)


def test_save_diffusers_unchanged_files_are_byte_equal(exported: Path, tiny_pipeline: Path) -> None:
    ours, base = _digests(exported), _digests(tiny_pipeline)
    changed = {"unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"}
    assert ours.keys() == base.keys()
    assert {path for path in ours if ours[path] != base[path]} == changed


def test_save_diffusers_twice_gives_equal_bytes(
    exported: Path, parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    save_diffusers(parts, tmp_path / "again", base=tiny_pipeline, trained=BOTH)
    assert _digests(tmp_path / "again") == _digests(exported)


def test_save_diffusers_text_encoder_keys_have_the_prefix_that_all_releases_read(
    exported: Path,
) -> None:
    keys = load_file(exported / "text_encoder" / "model.safetensors")
    assert all(key.startswith("text_model.") for key in keys)


def test_save_diffusers_optional_parts_of_the_base_are_left_out(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_pipeline, tmp_path / "base")
    index = json.loads((base / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (base / "model_index.json").write_text(json.dumps({**index, "_name_or_path": "/home/me"}))
    (base / "safety_checker").mkdir()
    (base / "safety_checker" / "model.safetensors").write_bytes(b"unused")
    save_diffusers(parts, tmp_path / "export", base=base, trained=["unet"])
    written = json.loads((tmp_path / "export" / "model_index.json").read_text())
    assert written["safety_checker"] == [None, None]
    assert "_name_or_path" not in written
    assert not (tmp_path / "export" / "safety_checker").exists()
    check_diffusers(tmp_path / "export", parts, prompt=PROMPT)


def test_save_diffusers_half_precision_base_gives_half_precision_that_loads_back(
    parts: DiffusionParts, tiny_pipeline: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_pipeline, tmp_path / "base")
    for path in list(base.rglob("*.safetensors")):
        half = {key: w.half() for key, w in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    assert stored_dtype(base) == torch.float16
    trained = apply_trained_weights(parts, _write_state(tmp_path / "state", parts))
    loaded = load_pipeline(base, device="cpu")
    apply_trained_weights(loaded, tmp_path / "state")
    save_diffusers(loaded, tmp_path / "export", base=base, trained=trained)
    weights = load_file(tmp_path / "export" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16}
    _, difference = check_diffusers(tmp_path / "export", loaded, prompt=PROMPT)
    assert difference == 0


@pytest.mark.proves("F24/diffusers")
def test_check_diffusers_good_export_gives_the_same_picture(
    exported: Path, parts: DiffusionParts
) -> None:
    picture, difference = check_diffusers(exported, parts, prompt=PROMPT)
    assert (picture.size, difference) == ((32, 32), 0)


@pytest.mark.proves("F24/diffusers")
def test_check_diffusers_changed_weight_is_named(exported: Path, parts: DiffusionParts) -> None:
    path = exported / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"][0] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"unet weight conv_in\.bias"):
        check_diffusers(exported, parts, prompt=PROMPT)


def test_check_diffusers_weights_that_are_not_finite_are_named_and_no_bug(
    exported: Path, parts: DiffusionParts
) -> None:
    with torch.no_grad():
        parts.unet.conv_in.bias[0] = float("nan")
    with pytest.raises(DataError, match=r"unet weight conv_in\.bias has numbers") as caught:
        check_diffusers(exported, parts, prompt=PROMPT)
    assert "bug" not in str(caught.value)


def test_check_diffusers_changed_configuration_is_noticed_in_the_picture(
    exported: Path, parts: DiffusionParts
) -> None:
    path = exported / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scaling_factor": 0.7}))
    with pytest.raises(IntegrityError, match="produces a different image"):
        check_diffusers(exported, parts, prompt=PROMPT)


@pytest.mark.proves("F24/single_file", "F26/single_out")
def test_save_single_file_loads_back_equal_in_diffusers(
    exported: Path, parts: DiffusionParts, tmp_path: Path
) -> None:
    path = tmp_path / "single" / "model.safetensors"
    assert save_single_file(parts, path, dtype=torch.float32)
    check_single_file(path, parts, config=exported)
    loaded = StableDiffusionPipeline.from_single_file(
        str(path), config=str(exported), local_files_only=True
    )
    loaded.set_progress_bar_config(disable=True)
    folder = StableDiffusionPipeline.from_pretrained(exported)
    folder.set_progress_bar_config(disable=True)
    pictures = [
        pipeline(
            PROMPT,
            num_inference_steps=2,
            output_type="np",
            generator=torch.Generator().manual_seed(1),
        ).images
        for pipeline in (loaded, folder)
    ]
    assert abs(pictures[0] - pictures[1]).max() <= 1e-6


def test_check_single_file_changed_weight_is_named(
    exported: Path, parts: DiffusionParts, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_single_file(parts, path, dtype=torch.float32)
    weights = load_file(path)
    weights["model.diffusion_model.middle_block.1.proj_in.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=r"mid_block\.attentions\.0\.proj_in\.bias"):
        check_single_file(path, parts, config=exported)


def test_save_single_file_of_stable_diffusion_2_loads_back_equal_in_diffusers(
    tiny_sd2: Path, tmp_path: Path
) -> None:
    parts = load_pipeline(tiny_sd2, device="cpu")
    path = tmp_path / "model.safetensors"
    assert save_single_file(parts, path, dtype=torch.float32)
    check_single_file(path, parts, config=tiny_sd2)


def test_save_single_file_architecture_without_names_writes_nothing(
    parts: DiffusionParts, tmp_path: Path
) -> None:
    other = replace(parts, family=FAMILIES["FluxPipeline"])
    assert not save_single_file(other, tmp_path / "model.safetensors", dtype=torch.float32)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.proves("F24/single_file")
def test_single_file_stable_diffusion_1_names_convert_back() -> None:
    """The names of the full-size architecture, without its weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
    names = single_file.unet_weights(unet.state_dict(), layers_per_block=2)
    assert "model.diffusion_model.output_blocks.11.0.skip_connection.weight" in names
    assert "model.diffusion_model.output_blocks.2.1.conv.weight" in names
    assert "model.diffusion_model.output_blocks.5.2.conv.weight" in names
    back = convert_ldm_unet_checkpoint(dict(names), unet.config)
    assert {k: w.shape for k, w in back.items()} == {
        k: w.shape for k, w in unet.state_dict().items()
    }
    names = single_file.vae_weights(vae.state_dict(), num_levels=4)
    assert names["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (512, 512, 1, 1)
    assert convert_ldm_vae_checkpoint(dict(names), vae.config).keys() == vae.state_dict().keys()


def test_single_file_unknown_weight_is_an_error() -> None:
    with pytest.raises(KeyError):
        single_file.unet_weights({"extra.weight": torch.zeros(1)}, layers_per_block=1)
