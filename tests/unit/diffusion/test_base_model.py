"""Where a model comes from, and what its digest covers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boothline.diffusion.base_model import digest_folder, resolve
from boothline.errors import ConfigError, ModelNotFoundError
from boothline.settings import Settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models_dir=tmp_path / "models")


@pytest.fixture
def model(settings: Settings) -> Path:
    """A folder in the diffusers layout; its weights are not real."""
    folder = settings.models_dir / "tiny-one"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    return folder


def test_resolve_builtin_name_gives_folder_and_digest(settings: Settings, model: Path) -> None:
    found = resolve("builtin:tiny-one", settings=settings)
    assert (found.path, found.source, len(found.digest)) == (model, "builtin:tiny-one", 64)


def test_resolve_folder_and_builtin_of_equal_content_have_equal_digest(
    settings: Settings, model: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    by_name = resolve("builtin:tiny-one", settings=settings)
    assert resolve(str(copy), settings=settings).digest == by_name.digest


def test_resolve_relative_folder_is_found(
    settings: Settings, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert resolve("tiny-one", settings=settings).path == model.resolve()


def test_resolve_encoder_folder_with_config_is_found(settings: Settings) -> None:
    folder = settings.models_dir / "clip"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert resolve("builtin:clip", settings=settings).path == folder


def test_resolve_misspelt_builtin_names_path_and_nearest(settings: Settings, model: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("builtin:tiny-on", settings=settings)
    assert str(settings.models_dir / "tiny-on") in caught.value.message
    assert "builtin:tiny-one" in caught.value.remedy


@pytest.mark.parametrize("name", ["../models/tiny-one", "..", "", "a/b"])
def test_resolve_builtin_that_leaves_the_folder_is_refused(
    settings: Settings, model: Path, name: str
) -> None:
    with pytest.raises(ModelNotFoundError):
        resolve(f"builtin:{name}", settings=settings)


@pytest.mark.parametrize(
    "source",
    ["/nowhere/model", "./nowhere", "http://169.254.169.254/x", "~nobody-here", "x" * 5000],
)
def test_resolve_missing_source_is_named(settings: Settings, source: str) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        resolve(source, settings=settings, allow_hub=True)
    assert source in caught.value.message


def test_resolve_folder_without_index_says_what_lacks(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"model_index\.json"):
        resolve(str(tmp_path / "empty"), settings=settings)


def test_resolve_file_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"pickle")
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve(str(tmp_path / "model.ckpt"), settings=settings)


def test_resolve_hub_id_without_permission_names_the_switch(settings: Settings) -> None:
    with pytest.raises(ModelNotFoundError, match="allow_hub"):
        resolve(f"someone/model@{COMMIT}", settings=settings)


@pytest.mark.parametrize("source", ["someone/model", "someone/model@main", "someone/model@0123abc"])
def test_resolve_unpinned_hub_id_is_refused(settings: Settings, source: str) -> None:
    with pytest.raises(ConfigError, match="not pinned"):
        resolve(source, settings=settings, allow_hub=True)


def test_digest_changed_weight_differs(settings: Settings, model: Path) -> None:
    before = digest_folder(model, settings=settings)
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weightz")
    assert digest_folder(model, settings=settings) != before


def test_digest_files_that_are_never_loaded_do_not_count(settings: Settings, model: Path) -> None:
    before = digest_folder(model, settings=settings)
    (model / "README.md").write_text("card")
    (model / "all-in-one.safetensors").write_bytes(b"not a part")
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    (model / "unet" / "picture.png").write_bytes(b"png")
    (model / "safety_checker").mkdir()
    (model / "safety_checker" / "model.safetensors").write_bytes(b"unused")
    assert digest_folder(model, settings=settings) == before


def test_digest_known_file_is_taken_from_the_cache(settings: Settings, model: Path) -> None:
    before = digest_folder(model, settings=settings)
    (cache,) = (settings.home / "cache" / "digests").glob("*.json")
    known = json.loads(cache.read_text())
    assert len(known) == 3
    weights = next(name for name in known if name.endswith(".safetensors"))
    known[weights][1] = "0" * 64
    cache.write_text(json.dumps(known))
    assert digest_folder(model, settings=settings) != before


def test_digest_file_written_a_moment_ago_is_not_cached(settings: Settings, model: Path) -> None:
    (model / "model_index.json").write_text("{ }")
    digest_folder(model, settings=settings)
    (cache,) = (settings.home / "cache" / "digests").glob("*.json")
    assert not any(name.endswith("model_index.json") for name in json.loads(cache.read_text()))


@pytest.mark.parametrize("damage", ["", "no json", "[]"])
def test_digest_damaged_cache_is_made_anew(settings: Settings, model: Path, damage: str) -> None:
    before = digest_folder(model, settings=settings)
    (cache,) = (settings.home / "cache" / "digests").glob("*.json")
    cache.write_text(damage)
    assert digest_folder(model, settings=settings) == before


def test_modules_of_reused_steps_import_without_torch() -> None:
    code = (
        "import sys\n"
        "import boothline.diffusion.base_model, boothline.pictures.making\n"
        "import boothline.components.generate_prior.step\n"
        "import boothline.components.publish_checkpoint.step\n"
        "import boothline.components.batch_infer.step\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
