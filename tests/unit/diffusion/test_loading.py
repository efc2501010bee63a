"""What is loaded from a model folder, and what is refused."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from boothline.diffusion.layout import names_in
from boothline.diffusion.loading import DiffusionParts, load_pipeline
from boothline.errors import DataError, MachineError

UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_pipeline, tmp_path / "model")


class _Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def _change_index(folder: Path, **changes: object) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_pipeline_gives_float32_parts_in_evaluation_mode(tiny_parts: DiffusionParts) -> None:
    for part in (tiny_parts.unet, tiny_parts.vae, tiny_parts.text_encoder):
        assert part.dtype == torch.float32
        assert not part.training
    assert (tiny_parts.resolution_px, tiny_parts.vae_scale) == (32, 2)


@pytest.mark.parametrize(
    "text",
    [
        'pool INTERNAL ASSERT FAILED at "ParallelOpenMP.cpp":64, please report a bug to PyTorch.',
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory. Tried to allocate 20.00 MiB.",
    ],
)
def test_load_pipeline_that_the_machine_fails_is_no_verdict_on_the_files(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError(text)

    monkeypatch.setattr(CLIPTextModel, "from_pretrained", fail)
    with pytest.raises(MachineError, match="could not be loaded here") as caught:
        load_pipeline(tiny_pipeline, device="cpu")
    assert "damaged" not in caught.value.remedy


@pytest.mark.parametrize(
    ("number", "kind"), [(5, MachineError), (13, MachineError), (2, DataError)]
)
def test_header_of_weights_that_cannot_be_read_is_no_verdict_on_them(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(kind, match="cannot be read" if kind is MachineError else "is missing"):
        names_in(tiny_pipeline / UNET_WEIGHTS)


def test_load_pipeline_leaves_trainable_networks_unless_for_sampling(copy: Path) -> None:
    parts = load_pipeline(copy, device="cpu")
    assert all(p.requires_grad for p in parts.unet.parameters())
    assert not any(p.requires_grad for p in parts.vae.parameters())
    frozen = load_pipeline(copy, device="cpu", for_sampling=True)
    assert not any(p.requires_grad for p in frozen.unet.parameters())


def test_load_pipeline_scheduler_without_clip_sample_does_not_clip(copy: Path) -> None:
    path = copy / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["clip_sample"]
    path.write_text(json.dumps({**config, "_class_name": "PNDMScheduler"}))
    scheduler = load_pipeline(copy, device="cpu").scheduler
    assert type(scheduler).__name__ == "DDPMScheduler"
    assert scheduler.config.clip_sample is False


def test_load_pipeline_half_precision_variant_is_loaded_as_float32(copy: Path) -> None:
    weights = {key: w.half() for key, w in load_file(copy / UNET_WEIGHTS).items()}
    (copy / UNET_WEIGHTS).unlink()
    path = copy / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    unet = load_pipeline(copy, device="cpu").unet
    assert unet.dtype == torch.float32
    assert torch.equal(unet.conv_in.weight, weights["conv_in.weight"].float())


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "weights.pkl"])
def test_load_pipeline_pickle_only_is_refused_by_name_and_never_opened(
    copy: Path, tmp_path: Path, name: str
) -> None:
    canary = tmp_path / "canary"
    (copy / UNET_WEIGHTS).unlink()
    (copy / "unet" / name).write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(DataError, match="pickle") as caught:
        load_pipeline(copy)
    assert name in caught.value.message
    assert not canary.exists()


def test_load_pipeline_pickle_beside_safetensors_is_ignored(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(_Canary(canary)))
    load_pipeline(copy, device="cpu")
    assert not canary.exists()


@pytest.mark.parametrize(
    "pipeline", ["MyPipeline", ["pipeline", "MyPipeline"], "StableDiffusionUpscalePipeline", None]
)
def test_load_pipeline_custom_pipeline_is_refused_by_name(copy: Path, pipeline: object) -> None:
    _change_index(copy, _class_name=pipeline)
    with pytest.raises(DataError, match="custom pipelines are refused"):
        load_pipeline(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_load_pipeline_custom_part_is_refused_by_name(copy: Path, part: str) -> None:
    _change_index(copy, **{part: ["my_code", "MyModel"]})
    (copy / part / "my_code.py").write_text("raise SystemExit")
    with pytest.raises(DataError, match="MyModel"):
        load_pipeline(copy)


def test_load_pipeline_missing_weights_are_named(copy: Path) -> None:
    (copy / UNET_WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"holds no diffusion_pytorch_model\.safetensors"):
        load_pipeline(copy)


def test_load_pipeline_missing_part_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    with pytest.raises(DataError, match="vae"):
        load_pipeline(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_load_pipeline_damaged_weights_are_named(copy: Path, part: str, damage: str) -> None:
    (path,) = (copy / part).glob("*.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"\xff" * len(data))
    with pytest.raises(DataError, match=rf"{part}/.* is (cut off|not a safetensors file)"):
        load_pipeline(copy)


def test_load_pipeline_broken_index_is_named(copy: Path) -> None:
    (copy / "model_index.json").write_text("{")
    with pytest.raises(DataError, match=r"model_index\.json"):
        load_pipeline(copy)


def test_load_pipeline_is_quiet_and_restores_verbosity(
    copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = diffusers_logging.get_verbosity()
    load_pipeline(copy, device="cpu")
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    assert diffusers_logging.get_verbosity() == before
