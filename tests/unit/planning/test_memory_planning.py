"""The memory plan: exact where it can be counted, ordered where it can be reasoned about."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boothline.config import RunConfig
from boothline.config.loading import resolve
from boothline.doctor import libraries
from boothline.errors import ConfigError
from boothline.planning import MemoryPlan, ModelShapes, plan_memory
from boothline.planning.memory import _savings, _with, ladder
from boothline.planning.shapes import FAMILIES

PRESETS = sorted(Path("examples/presets").glob("*.yaml"))
ADAPTED = {"method": "lora", "precision": "bf16", "train_text_encoder": False}


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
    plain, low, lower, lowest = (
        planned(shapes, **ADAPTED, frozen_precision=kind) for kind in ("fp32", "bf16", "fp8", "nf4")
    )
    assert plain.weights > low.weights > lower.weights > lowest.weights
    assert plain.weights < 2.2 * low.weights
    assert plain.num_trained == low.num_trained == lower.num_trained == lowest.num_trained
    assert low.step == lowest.step < plain.step
    assert lower.step == pytest.approx(low.step, rel=0.02)


@pytest.fixture
def deep(family_folders: Callable[[str], Path]) -> ModelShapes:
    """A tiny model of many blocks, as large ones have, of which a few are gathered at once."""
    shapes = ModelShapes.read(family_folders("flux"))
    transformer = {**shapes.configs["transformer"], "num_single_layers": 8}
    return replace(shapes, configs={**shapes.configs, "transformer": transformer})


@pytest.mark.proves("F57/planned")
def test_plan_with_shards_has_a_part_of_the_frozen_weights_on_each_rank(deep: ModelShapes) -> None:
    whole, halves, quarters, one = (
        planned(deep, **ADAPTED, frozen_precision="bf16", num_processes=ranks, shard_frozen=cut)
        for ranks, cut in ((2, False), (2, True), (4, True), (1, True))
    )
    assert whole.weights == one.weights
    frozen = whole.weights - 4 * whole.num_trained
    assert halves.weights < whole.weights
    assert halves.weights - quarters.weights == pytest.approx(frozen / 4, abs=4)
    assert halves.step == whole.step


BF16, FP8, NF4 = ({"training.frozen_precision": kind} for kind in ("bf16", "fp8", "nf4"))
CUT, WHOLE = ({"training.shard_frozen": cut} for cut in (True, False))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"num_processes": 1}, [BF16, FP8, NF4]),
        ({"num_processes": 2}, [BF16, CUT, FP8, NF4 | WHOLE]),
        ({"num_processes": 1, "shard_frozen": True}, [BF16, FP8, NF4 | WHOLE]),
        ({"num_processes": 2, "compile": True}, [BF16, FP8, NF4]),
        ({"num_processes": 2, "frozen_precision": "nf4"}, []),
    ],
    ids=["one rank", "two ranks", "asked of one rank", "compiled", "nf4"],
)
def test_frozen_weights_are_sharded_over_several_ranks_before_they_are_rounded(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], wanted: list[dict[str, object]]
) -> None:
    having(monkeypatch, "bitsandbytes", installed=True)
    config = RunConfig.model_validate({"training": {**ADAPTED, **changes}})
    found, so_far = [], {}
    for change in _savings(config, on_gpu=True):
        so_far |= change
        _with(config, so_far)  # a configuration that is valid
        found.append({key: change[key] for key in change if key in BF16 or key in CUT})
    assert [change for change in found if change] == wanted


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
