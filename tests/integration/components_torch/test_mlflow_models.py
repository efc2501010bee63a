"""A registered version as MLflow loads it: a real server, and the pictures of `generate`."""

import base64
import io
import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from integration.components_torch.mlflow_registry import LINE, Registry, pixels
from integration.components_torch.workshop import Workshop
from PIL import Image

from boothline import settings as environment
from boothline.config.training import LoraConfig
from boothline.errors import IntegrityError, ServiceError
from boothline.registry.loaded import LoadedModel
from boothline.settings import Settings
from boothline.store import layout
from boothline.tracking.identity import recorded

pytestmark = pytest.mark.services


@pytest.mark.proves("F52/load")
def test_loaded_champion_draws_what_generate_draws_and_follows_the_rollback(
    registry: Registry, workshop: Workshop, tmp_path: Path
) -> None:
    full = registry.publish(workshop.training())
    adapted = registry.publish(workshop.adapter_training(LoraConfig(rank=2, alpha=4.0)))
    drawn = {}
    for version in (full, adapted):
        registry.promote(version)
        table = [{**LINE, "prompt": "a cat", "seed": 1}, LINE]
        drawn[version.version] = registry.loaded().predict(table)
        generated = registry.generated(tmp_path / str(version.version))
        assert np.array_equal(pixels(drawn[version.version][1]), generated)
    with Image.open(io.BytesIO(drawn[2][1]), formats=("PNG",)) as image:
        assert image.text["model"] == adapted.digest
    assert not np.array_equal(pixels(drawn[1][1]), pixels(drawn[2][1]))

    registry.roll_back()

    assert registry.loaded().predict([LINE]) == drawn[1][1:]
    assert registry.loaded("/2").predict([LINE]) == drawn[2][1:]


def test_version_names_its_run_what_it_is_and_what_it_takes(
    registry: Registry, workshop: Workshop
) -> None:
    version = registry.publish(workshop.training())
    shown = registry.client.get_model_version(registry.name, "1")
    parent = recorded(registry.store, "20260101-000000-abcd")
    assert parent is not None
    assert shown.run_id == parent.mlflow_run_id
    assert shown.tags["boothline.manifest_digest"] == version.digest
    assert (shown.tags["subject"], shown.tags["method"]) == ("sks bear", "full")
    assert shown.tags["base_model"] == str(workshop.base)
    assert "`sks bear`" in shown.description
    logged = registry.client.get_logged_model(shown.source.removeprefix("models:/"))
    assert (logged.source_run_id, str(logged.status)) == (parent.mlflow_run_id, "READY")
    info = mlflow.models.get_model_info(f"models:/{registry.name}/1")
    assert info.signature.inputs.required_input_names() == ["prompt"]
    assert info.signature.inputs.input_names()[:4] == ["prompt", "seed", "steps", "guidance"]


def test_files_in_mlflow_are_small_and_the_example_is_answered(
    registry: Registry, workshop: Workshop, tmp_path: Path
) -> None:
    registry.publish(workshop.training())
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{registry.name}/1"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000
    model = mlflow.pyfunc.load_model(str(folder))
    example = model.input_example
    example["steps"] = 1
    assert pixels(model.predict(example)[0]).ndim == 3
    assert "boothline[torch]==" in (folder / "requirements.txt").read_text()


@pytest.mark.proves("F52/diffusers")
def test_adapters_are_loaded_by_mlflows_own_diffusers_flavour(
    registry: Registry, workshop: Workshop
) -> None:
    version = registry.publish(workshop.adapter_training(LoraConfig(rank=2, alpha=4.0)))
    adapted = mlflow.diffusers.load_model(f"models:/{registry.name}/1")
    assert (adapted.base_model, adapted.adapter_type) == (str(workshop.base), "lora")
    (file,) = Path(adapted.adapter_path).iterdir()
    stored = registry.store.read_bytes(version.ref, "lora/pytorch_lora_weights.safetensors")
    assert file.read_bytes() == stored

    ours = LoadedModel.load(registry.store, registry.settings, version).pipeline.unet
    theirs = adapted.load_pipeline(torch_dtype=torch.float32, device="cpu").unet
    base = DiffusionPipeline.from_pretrained(workshop.base).unet
    size = (1, base.config.in_channels, 8, 8)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(3))
    text = torch.ones(1, 77, base.config.cross_attention_dim)
    with torch.no_grad():
        merged, loaded, plain = (unet(noise, 10, text).sample for unet in (ours, theirs, base))
    torch.testing.assert_close(loaded, merged, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(plain, merged, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("with_token", [False, True], ids=["full", "adapters and a token"])
def test_what_adapters_alone_do_not_draw_has_none_in_mlflow(
    registry: Registry, workshop: Workshop, with_token: bool
) -> None:
    lora = LoraConfig(rank=2, alpha=4.0)
    adapted = workshop.adapter_training(lora, with_token=True) if with_token else None
    registry.publish(adapted or workshop.training())
    info = mlflow.models.get_model_info(f"models:/{registry.name}/1")
    assert set(info.flavors) == {"python_function"}


@pytest.mark.proves("F52/serve")
def test_scoring_server_of_mlflow_answers_with_pictures(
    registry: Registry, workshop: Workshop
) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    registry.publish(workshop.training())
    model = registry.loaded("/1")
    client = TestClient(init(model))
    answer = client.post("/invocations", json={"dataframe_records": [LINE]})
    assert base64.decodebytes(answer.json()["predictions"][0].encode()) == model.predict([LINE])[0]
    refused = client.post("/invocations", json={"dataframe_records": [{**LINE, "size": "9x9"}]})
    assert (refused.status_code, "9x9 is not a size" in refused.text) == (400, True)


@pytest.mark.proves("F52/tampered")
def test_tampered_blob_is_refused_at_load(
    registry: Registry, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = registry.publish(workshop.training())
    entry = registry.store.read(version.ref).entry("diffusers/unet/config.json")
    registry.store.bucket.put(layout.blob(entry.sha256), b"x" * entry.size_bytes)
    elsewhere = registry.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    monkeypatch.setattr(environment, "current", lambda: elsewhere)
    with pytest.raises(IntegrityError, match="other bytes than its digest says"):
        registry.loaded("/1")


def test_changed_copy_in_the_cache_is_not_what_is_loaded(
    registry: Registry, workshop: Workshop
) -> None:
    version = registry.publish(workshop.training())
    before = registry.loaded("/1").predict([LINE])
    folder = registry.settings.home / "cache" / "models" / version.digest / "diffusers"
    cached = folder / "scheduler" / "scheduler_config.json"
    changed = json.loads(cached.read_text()) | {"num_train_timesteps": 10}
    cached.unlink()
    cached.write_text(json.dumps(changed))
    assert registry.loaded("/1").predict([LINE]) == before


def test_load_without_a_store_says_what_to_set(
    registry: Registry, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry.publish(workshop.training())
    nowhere = Settings(home=tmp_path / "nowhere", mlflow_uri=registry.settings.mlflow_uri)
    monkeypatch.setattr(environment, "current", lambda: nowhere)
    with pytest.raises(ServiceError, match="BOOTHLINE_S3_ENDPOINT is not set"):
        registry.loaded("/1")
