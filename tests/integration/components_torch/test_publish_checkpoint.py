"""Publishing: what is exported, compared and registered, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from integration.components_torch.workshop import TEXT_ENCODER, UNET, Workshop
from safetensors.torch import load_file

from boothline.components.publish_checkpoint import step
from boothline.components.publish_checkpoint.step import Inputs
from boothline.config import RunConfig
from boothline.config.training import LoraConfig
from boothline.errors import ConfigError, NotFoundError, TrainingError
from boothline.registry import versions
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import ManifestRef, Store

pytestmark = pytest.mark.services

MakeContext = Callable[[RunConfig], StepContext]


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


def test_publish_checkpoint_of_a_deleted_state_says_how_to_train_again(
    make_context: MakeContext,
    run_config: RunConfig,
    workshop: Workshop,
    store: Store,
    store_settings: Settings,
) -> None:
    training = workshop.training()
    (state,) = (text for text in store.read(training).inputs if text.startswith("training/"))
    store.bucket.delete(f"{ManifestRef.parse(state).path}/manifest.json")
    later = replace(make_context(run_config), store=Store.connect(store_settings))
    with pytest.raises(NotFoundError, match=r"of the training .* was deleted") as refused:
        step.produce(later, _inputs(run_config, training))
    assert f"{training.path}/manifest.json" in refused.value.remedy


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
@pytest.mark.parametrize("method", ["full", "lora", "lora and a token"])
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
    token = "token" in method
    training = workshop.training()
    if method != "full":
        training = workshop.adapter_training(lora, with_token=token)
    draft = step.produce(make_context(run_config), _inputs(run_config, training))
    assert (step.SINGLE_FILE in draft.files) is not token
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
    comfyui = exported("comfyui")
    if not token:
        file = exported("single-file") / f"{name}-v1.safetensors"
        assert (comfyui / f"checkpoints/{name}-v1.safetensors").read_bytes() == file.read_bytes()
    if method != "full":
        adapters = exported("lora")
        names = [f"{name}-v1.safetensors", "pytorch_lora_weights.safetensors"]
        for weights in names:  # kohya's names, which A1111 and ComfyUI read, and diffusers' own
            pipeline = StableDiffusionPipeline.from_pretrained(workshop.base)
            assert abs(_picture(pipeline) - wanted).max() > 1e-3
            pipeline.load_lora_weights(adapters, weight_name=weights, local_files_only=True)
            if token:
                assert abs(_picture(pipeline) - wanted).max() > 1e-3
                pipeline.load_textual_inversion(str(adapters / "embeddings/sks.safetensors"))
            assert abs(_picture(pipeline) - wanted).max() < 1 / 255
