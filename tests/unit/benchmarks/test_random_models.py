"""Models with random weights: the published sizes, tiny ones that load, equal settings."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu_cases import CASES, Case, job_of, peer_arguments
from benchmarks.random_models import family_named, make_model, make_networks
from boothline.diffusion.layout import check_config
from boothline.diffusion.loading import class_of, load_pipeline, tokenizer_name
from boothline.diffusion.prompt_encoding import encode_prompt
from boothline.errors import MachineError

KEYS = [case.key for case in CASES]
BILLIONS = {"sd15": 0.860, "sdxl": 2.567, "flux": 11.90}  # of the denoiser, as published
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("toys")
    for key in KEYS:
        make_model(key, root / key, size="toy", device=CPU)
    return {key: root / key for key in KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_networks_at_full_size_have_the_published_number_of_weights(
    toys: dict[str, Path], key: str
) -> None:
    tokenizers = {
        part.name: class_of(part).from_pretrained(toys[key] / part.name)
        for part in family_named(key).parts
        if part.role == "tokenizer"
    }
    networks = make_networks(key, tokenizers, size="full", device=torch.device("meta"))
    denoiser = networks[family_named(key).denoiser]
    count = sum(weight.numel() for weight in denoiser.parameters())
    assert count / 1e9 == pytest.approx(BILLIONS[key], rel=1e-3)
    assert torch.get_default_dtype() == torch.float32
    for name, network in networks.items():
        if tokenizer_name(name) in tokenizers:  # every token has a row
            rows = network.get_input_embeddings().weight.shape[0]
            assert len(tokenizers[tokenizer_name(name)]) <= rows


@pytest.mark.parametrize("key", KEYS)
def test_toy_loads_and_encodes_texts_of_the_full_length(toys: dict[str, Path], key: str) -> None:
    parts = load_pipeline(toys[key], device=CPU)
    texts = [encode_prompt(parts, text)["context"] for text in ("a bear", "a photo of sks bear")]
    assert texts[0].shape[0] == (512 if key == "flux" else 77)
    assert torch.isfinite(texts[0]).all()
    assert not torch.equal(*texts)


@pytest.mark.parametrize("key", KEYS)
def test_model_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(MachineError, match="--scratch"):
        make_model(key, tmp_path / key, size="toy", device=CPU)
    assert not (tmp_path / key).exists()


@pytest.mark.parametrize("case", CASES, ids=KEYS)
def test_both_sides_train_with_the_same_settings(tmp_path: Path, case: Case) -> None:
    folders = {"model": tmp_path, "pictures": tmp_path, "folder": tmp_path}
    config = job_of(case, **folders).config
    theirs = peer_arguments(case, **folders)
    ours = config.training
    check_config(family_named(case.key), config)
    assert theirs["train_batch_size"] == ours.batch_size
    assert theirs["resolution"] == config.subject.resolution_px
    assert theirs["learning_rate"] == ours.learning_rate
    assert theirs["mixed_precision"] == ours.precision == "bf16"
    assert theirs.get("gradient_checkpointing", False) == ours.gradient_checkpointing
    assert "train_text_encoder" not in theirs
    assert not ours.trains_text_encoder
    if ours.method == "lora":
        assert theirs["rank"] == ours.lora.rank == ours.lora.alpha
        assert ours.frozen_precision == "bf16"
    if "lora_layers" in theirs:
        assert theirs["lora_layers"].split(",") == list(family_named(case.key).adapted(ours.lora))
