"""Publishing: what is exported, compared and registered, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from boothline.components.publish_checkpoint import step
from boothline.components.publish_checkpoint.step import Inputs
from boothline.config import RunConfig
from boothline.config.training import LoraConfig
from boothline.diffusion.base_model import resolve
from boothline.errors import ConfigError, TrainingError
from boothline.registry import versions
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services

MakeContext = Callable[[RunConfig], StepContext]
UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "text_encoder/model.safetensors"


class Workshop:
    """Commits trainings of the tiny model without training."""

    def __init__(self, store: Store, settings: Settings, base: Path) -> None:
        self.store = store
        self.base = base
        self.digest = resolve(str(base), settings=settings).digest
        self.dataset = store.commit(
            "steps/validate_data/d", ManifestDraft(kind="dataset", files={})
        )

    def training(self, *, scale: float = 1.5, base_model_digest: str = "") -> ManifestRef:
        """Commit a training whose weights are the base's times `scale`."""
        files: dict[str, Path | bytes] = {
            "optimizer.safetensors": b"not a model",
            "state.json": b"{}",
        }
        for name, path in (("unet", UNET), ("text_encoder", TEXT_ENCODER)):
            weights = {key: w * scale for key, w in load_file(self.base / path).items()}
            files[f"{name}.safetensors"] = save(weights)
        path = f"training/{scale}/step-000007"
        state = self.store.commit(path, ManifestDraft(kind="training_state", files=files))
        return self.store.commit(
            f"steps/train/{scale}{base_model_digest}",
            ManifestDraft(
                kind="training",
                files={},
                inputs=(self.dataset, state),
                metadata={
                    "final_state": self.store.read(state).content_digest,
                    "base_model_digest": base_model_digest or self.digest,
                },
            ),
        )

    def adapter_training(self, lora: LoraConfig) -> ManifestRef:
        """Commit a training of adapters whose every weight is 0.1."""
        from boothline.diffusion.loading import load_pipeline
        from boothline.diffusion.lora import add_adapters

        parts = load_pipeline(self.base, device="cpu")
        files: dict[str, Path | bytes] = {}
        for name in add_adapters(parts, lora, text_encoder=True):
            weights = {
                key: torch.full_like(p, 0.1)
                for key, p in getattr(parts, name).named_parameters()
                if p.requires_grad
            }
            files[f"{name}_lora.safetensors"] = save(weights)
        draft = ManifestDraft(
            kind="training_state", files=files, metadata={"lora": lora.model_dump(mode="json")}
        )
        state = self.store.commit("training/lora/step-000007", draft)
        metadata = {
            "final_state": self.store.read(state).content_digest,
            "base_model_digest": self.digest,
        }
        draft = ManifestDraft(
            kind="training", files={}, inputs=(self.dataset, state), metadata=metadata
        )
        return self.store.commit("steps/train/lora", draft)


@pytest.fixture
def workshop(store: Store, store_settings: Settings, tiny_pipeline: Path) -> Workshop:
    return Workshop(store, store_settings, tiny_pipeline)


def _inputs(config: RunConfig, training: ManifestRef) -> Inputs:
    return Inputs(run_id="r", config=config.model_dump_json(), training=str(training))


def test_publish_checkpoint_exports_both_forms_with_lineage(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    training = workshop.training()
    draft = step.produce(make_context(run_config), _inputs(run_config, training))
    assert draft.kind == "model"
    assert {"diffusers/model_index.json", f"diffusers/{UNET}", step.SINGLE_FILE} <= set(draft.files)
    assert draft.inputs == (training, workshop.dataset)
    assert draft.metadata == {
        "model_name": run_config.model_name,
        "identifier": "sks",
        "class_noun": "bear",
        "base_model": {"source": str(workshop.base), "digest": workshop.digest},
        "method": "full",
        "state": workshop.store.read(training).metadata["final_state"],
        "single_file": True,
    }


def test_publish_checkpoint_exports_the_trained_weights(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    context = make_context(run_config)
    draft = step.produce(context, _inputs(run_config, workshop.training()))
    path = draft.files[f"diffusers/{UNET}"]
    assert isinstance(path, Path)
    base = load_file(workshop.base / UNET)["conv_in.weight"]
    assert torch.equal(load_file(path)["conv_in.weight"], base * 1.5)


def test_publish_checkpoint_adapters_are_published_merged_and_as_files(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    lora = LoraConfig(rank=2, alpha=4.0)
    training = workshop.adapter_training(lora)
    draft = step.produce(make_context(run_config), _inputs(run_config, training))
    adapters = {"lora/lora.safetensors", "lora/pytorch_lora_weights.safetensors"}
    assert {f"diffusers/{UNET}", step.SINGLE_FILE, *adapters} <= set(draft.files)
    assert draft.metadata["method"] == "lora"
    assert draft.metadata["lora"] == lora.model_dump(mode="json")
    path = draft.files[f"diffusers/{UNET}"]
    assert isinstance(path, Path)
    merged, base = load_file(path), load_file(workshop.base / UNET)
    key = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    # Scale alpha / rank = 2, each entry of B A is 2 x 0.1 x 0.1.
    assert torch.allclose(merged[key], base[key] + 0.04, atol=1e-6)
    assert torch.equal(merged["conv_in.weight"], base["conv_in.weight"])


def test_publish_checkpoint_twice_gives_equal_content(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop, store: Store
) -> None:
    inputs = _inputs(run_config, workshop.training())
    refs = [
        store.commit(f"steps/publish/{n}", step.produce(make_context(run_config), inputs))
        for n in range(2)
    ]
    first, second = (store.read(ref) for ref in refs)
    assert first.content_digest == second.content_digest


def test_publish_checkpoint_unchanged_parts_are_the_same_blobs(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop, store: Store
) -> None:
    drafts = [
        step.produce(make_context(run_config), _inputs(run_config, workshop.training(scale=scale)))
        for scale in (1.5, 2.0)
    ]
    first, second = (
        {e.path: e.sha256 for e in store.read(store.commit(f"steps/publish/{n}", d)).files}
        for n, d in enumerate(drafts)
    )
    changed = {path for path in first if first[path] != second[path]}
    assert changed == {f"diffusers/{UNET}", f"diffusers/{TEXT_ENCODER}", step.SINGLE_FILE}


def test_publish_checkpoint_weights_that_are_not_finite_are_refused(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        step.produce(
            make_context(run_config), _inputs(run_config, workshop.training(scale=float("nan")))
        )


def test_publish_checkpoint_other_base_model_is_refused(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    training = workshop.training(base_model_digest="0" * 64)
    with pytest.raises(ConfigError, match="the training used 000000000000"):
        step.produce(make_context(run_config), _inputs(run_config, training))


def test_publish_checkpoint_finish_registers_one_version(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop, store: Store
) -> None:
    context = make_context(run_config)
    inputs = _inputs(run_config, workshop.training())
    ref = store.commit("steps/publish/1", step.produce(context, inputs))
    step.finish(context, inputs, ref)
    step.finish(context, inputs, ref)
    registered = versions.versions(store, run_config.model_name)
    assert [(version.version, version.ref) for version in registered] == [(1, ref)]


def test_publish_checkpoint_tracks_the_check_picture(
    make_context: MakeContext, run_config: RunConfig, workshop: Workshop
) -> None:
    context = make_context(run_config)
    step.produce(context, _inputs(run_config, workshop.training()))
    assert context.tracker.logged_artifacts == ["publish/check.png"]  # type: ignore[attr-defined]


def _picture(pipeline: Any) -> Any:
    """Return pixels of one small picture at a fixed seed."""
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(7)
    return pipeline(
        "a photo of a sks bear",
        height=32,
        width=32,
        num_inference_steps=3,
        generator=seed,
        output_type="np",
    ).images


@pytest.mark.proves("F66/export")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_exported_model_loads_elsewhere_and_draws_the_same(
    make_context: MakeContext,
    run_config: RunConfig,
    workshop: Workshop,
    store: Store,
    store_settings: Settings,
    tmp_path: Path,
    method: str,
) -> None:
    from diffusers import StableDiffusionPipeline

    from boothline.registry.exporting import export_model

    lora = LoraConfig(rank=2, alpha=4.0)
    training = workshop.adapter_training(lora) if method == "lora" else workshop.training()
    draft = step.produce(make_context(run_config), _inputs(run_config, training))
    name = run_config.model_name
    ref = store.commit("steps/publish_checkpoint/1", draft)
    versions.ensure_version(store, store_settings, model_name=name, ref=ref)
    ours = store.fetch(ref, tmp_path / "ours", prefix="diffusers/") / "diffusers"
    wanted = _picture(StableDiffusionPipeline.from_pretrained(ours))

    def exported(form: Any) -> Path:
        folder = tmp_path / form
        model = (name, "1")
        made = export_model(store, store_settings, model=model, folder=folder, form=form)
        if form != "comfyui":  # the lines that it prints, as they are
            names: dict[str, Any] = {}
            exec("\n".join(made.loading["diffusers"][:2]), names)  # noqa: S102 - our own lines
            assert abs(_picture(names["pipeline"]) - wanted).max() < 1 / 255
        return folder

    exported("diffusers")
    file = exported("single-file") / f"{name}-v1.safetensors"
    comfyui = exported("comfyui")
    assert (comfyui / f"checkpoints/{name}-v1.safetensors").read_bytes() == file.read_bytes()
    if method == "lora":
        adapters = exported("lora")
        names = [f"{name}-v1.safetensors", "pytorch_lora_weights.safetensors"]
        for weights in names:  # kohya's names, which A1111 and ComfyUI read, and diffusers' own
            pipeline = StableDiffusionPipeline.from_pretrained(workshop.base)
            assert abs(_picture(pipeline) - wanted).max() > 1e-3
            pipeline.load_lora_weights(adapters, weight_name=weights, local_files_only=True)
            assert abs(_picture(pipeline) - wanted).max() < 1 / 255
