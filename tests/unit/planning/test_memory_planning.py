"""The memory plan: exact where it can be counted, ordered where it can be reasoned about."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.config.loading import resolve
from boothline.doctor import libraries
from boothline.errors import ConfigError
from boothline.planning import MemoryPlan, ModelShapes, plan_memory
from boothline.planning.memory import ladder
from boothline.planning.shapes import FAMILIES

PRESETS = sorted(Path("examples/presets").glob("*.yaml"))


def planned(shapes: ModelShapes, **training: Any) -> MemoryPlan:
    values = {
        "subject": {"resolution_px": 32},
        "training": {"num_processes": 1, "batch_size": 4, **training},
    }
    return plan_memory(RunConfig.model_validate(values), shapes, device="cpu")


@pytest.fixture
def shapes(tiny_pipeline: Path) -> ModelShapes:
    return ModelShapes.read(tiny_pipeline)


@pytest.mark.proves("F47/counted")
def test_plan_weights_equal_those_of_the_loaded_model(
    shapes: ModelShapes, tiny_pipeline: Path
) -> None:
    from boothline.diffusion.loading import load_pipeline

    parts = load_pipeline(tiny_pipeline)
    networks = (parts.unet, parts.text_encoder, parts.vae)
    loaded = sum(4 * weight.numel() for net in networks for weight in net.parameters())
    plan = planned(shapes, caches=False)
    assert plan.weights == loaded
    vae = sum(4 * weight.numel() for weight in parts.vae.parameters())
    assert planned(shapes).weights == loaded - vae
    trained = sum(w.numel() for net in networks[:2] for w in net.parameters())
    assert plan.num_trained == trained
    assert plan.optimizer == 8 * trained


@pytest.mark.proves("F47/counted")
def test_plan_step_equals_what_autograd_keeps(shapes: ModelShapes, tiny_pipeline: Path) -> None:
    import torch

    from boothline.diffusion.loading import load_pipeline

    parts = load_pipeline(tiny_pipeline)
    unet = parts.unet.requires_grad_(True).train()
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    latents = torch.zeros(8, 4, 16, 16)
    text = torch.zeros(
        8,
        int(shapes.configs["text_encoder"]["max_position_embeddings"]),
        int(shapes.configs["unet"]["cross_attention_dim"]),
    )
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unet(latents, torch.zeros(8, dtype=torch.int64), text).sample.pow(2).mean()
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    from boothline.planning.dry_run import trace_step

    config = RunConfig.model_validate(
        {
            "subject": {"resolution_px": 16 * shapes.pixels_per_latent},
            "training": {"num_processes": 1, "batch_size": 4, "train_text_encoder": False},
        }
    )
    traced = trace_step(config, shapes).trace.activation_bytes
    assert traced == pytest.approx(real, rel=0.02)


def test_plan_with_gradient_checkpointing_needs_less(shapes: ModelShapes) -> None:
    full = planned(shapes, batch_size=64)
    saving = planned(shapes, batch_size=64, gradient_checkpointing=True)
    assert saving.step < full.step


def test_plan_with_lora_trains_and_keeps_little(shapes: ModelShapes) -> None:
    lora = planned(shapes, method="lora", lora={"rank": 2})
    full = planned(shapes)
    assert 0 < lora.num_trained < full.num_trained / 5
    assert lora.weights > full.weights  # the adapters come on top
    assert lora.snapshot < full.snapshot


def test_plan_with_a_learnt_token_keeps_the_text_encoder_and_what_its_layers_remember(
    shapes: ModelShapes,
) -> None:
    frozen = planned(shapes, train_text_encoder=False)
    learnt = planned(shapes, train_text_encoder=False, token_embedding={"enabled": True})
    width = shapes.configs["text_encoder"]["hidden_size"]
    assert learnt.num_trained == frozen.num_trained + width
    assert learnt.weights > frozen.weights
    assert learnt.step > frozen.step


@pytest.mark.proves("F57/planned")
def test_plan_with_frozen_weights_in_fewer_bytes_has_smaller_weights(shapes: ModelShapes) -> None:
    adapted = {"method": "lora", "precision": "bf16", "train_text_encoder": False}
    plain, low, lowest = (
        planned(shapes, **adapted, frozen_precision=kind) for kind in ("fp32", "bf16", "nf4")
    )
    assert plain.weights > low.weights > lowest.weights
    assert plain.weights < 2.2 * low.weights
    assert plain.num_trained == low.num_trained == lowest.num_trained
    assert low.step == lowest.step < plain.step


def test_plan_with_accumulation_needs_a_smaller_step(shapes: ModelShapes) -> None:
    assert (
        planned(shapes, batch_size=64, accumulation=16).step < planned(shapes, batch_size=64).step
    )


def test_shapes_of_a_folder_without_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ConfigError, match=r"unet/config\.json"):
        ModelShapes.read(tmp_path)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_preset_is_a_valid_configuration_of_its_family(preset: Path) -> None:
    config = resolve([preset], [])
    family = FAMILIES[preset.stem.split("-")[0]]
    assert config.training.method == preset.stem.split("-")[1]
    assert (
        config.subject.resolution_px
        == family.configs["unet"]["sample_size"] * family.pixels_per_latent
    )


def having(monkeypatch: pytest.MonkeyPatch, library: str, *, installed: bool) -> None:
    """Let a library be installed, or not, as far as the plan can see."""
    found = importlib.util.find_spec
    there = found("torch") if installed else None
    monkeypatch.setattr(
        libraries, "find_spec", lambda name: there if name == library else found(name)
    )


def test_ladder_goes_down_to_adapters(shapes: ModelShapes, monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, "bitsandbytes", installed=True)
    config = RunConfig.model_validate(
        {"subject": {"resolution_px": 32}, "training": {"num_processes": 1}}
    )
    rungs = list(ladder(config, shapes, device="cuda"))
    totals = [rung.plan.total for rung in rungs]
    assert totals == sorted(totals, reverse=True)
    assert not rungs[0].changes
    assert rungs[-1].changes["training.method"] == "lora"


@pytest.mark.parametrize(
    ("installed", "advised"), [(True, "adamw8bit"), (False, "adafactor")], ids=["there", "missing"]
)
def test_ladder_advises_the_8_bit_optimizer_only_where_its_library_is_installed(
    shapes: ModelShapes, monkeypatch: pytest.MonkeyPatch, installed: bool, advised: str
) -> None:
    having(monkeypatch, "bitsandbytes", installed=installed)
    config = RunConfig.model_validate(
        {"subject": {"resolution_px": 32}, "training": {"num_processes": 1}}
    )
    rungs = list(ladder(config, shapes, device="cuda"))
    optimizers = [rung.changes.get("training.optimizer") for rung in rungs]
    assert advised in optimizers
    assert ({"adamw8bit", "adafactor"} - {advised}).isdisjoint(optimizers)
