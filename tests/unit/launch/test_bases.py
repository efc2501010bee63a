"""Base models and encoders in the store: added once, checked, fetched in parts, verified."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from boothline.diffusion import bases
from boothline.diffusion.base_model import digest_folder, resolve
from boothline.diffusion.export import save_single_file
from boothline.diffusion.loading import load_pipeline
from boothline.errors import ConfigError, DataError, IntegrityError, ModelNotFoundError
from boothline.launch.bases import add_base
from boothline.settings import Settings
from boothline.store import Store, layout
from boothline.store.memory import MemoryBucket, memory_store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", models_dir=tmp_path / "models")


@pytest.fixture
def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that everything connects to."""
    made = memory_store(settings.blob_cache)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: made)
    return made


@pytest.fixture
def folder(family_folders: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a tiny model of Stable Diffusion 1.x, with files that do not count."""
    made = shutil.copytree(family_folders("sd1"), tmp_path / "sd1")
    (made / "README.md").write_text("---\nlicense: openrail\ntags: [x]\n---\nA model.\n")
    (made / "unet" / "preview.png").write_bytes(b"no picture")
    return made


def objects(store: Store) -> dict[str, bytes]:
    bucket = store.bucket
    assert isinstance(bucket, MemoryBucket)
    return bucket.objects


def files_of(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


@pytest.mark.proves("F50/added")
def test_added_model_resolves_to_the_same_files_and_digest(
    store: Store, settings: Settings, folder: Path
) -> None:
    added = add_base(store, str(folder), name="sd15", settings=settings)
    found = resolve("base:sd15", settings=settings)
    wanted = files_of(folder)
    del wanted["README.md"], wanted["unet/preview.png"]
    assert files_of(found.path) == wanted
    assert found.digest == added.digest == digest_folder(folder, settings=settings)
    assert found.source == "base:sd15"
    assert (added.facts.family, added.facts.license) == ("Stable Diffusion 1.x / 2.x", "openrail")
    assert resolve(f"base:{added.digest[:8]}", settings=settings).path == found.path


@pytest.mark.proves("F50/parts")
def test_resolve_fetches_no_more_than_is_needed(
    store: Store, settings: Settings, folder: Path
) -> None:
    add_base(store, str(folder), name="sd15", settings=settings)
    fetched = resolve("base:sd15", settings=settings, need="tokenizer").path
    kept = set(files_of(fetched))
    assert "tokenizer/tokenizer_config.json" in kept
    assert {name.partition("/")[0] for name in kept} == {"model_index.json", "tokenizer"}
    resolve("base:sd15", settings=settings, need="settings")
    kept = set(files_of(fetched))
    assert "unet/config.json" in kept
    assert not any(name.endswith(".safetensors") for name in kept)
    resolve("base:sd15", settings=settings)
    assert "unet/diffusion_pytorch_model.safetensors" in files_of(fetched)


@pytest.mark.proves("F50/cached")
def test_resolve_of_a_warm_cache_reads_no_blob(
    store: Store, settings: Settings, folder: Path
) -> None:
    add_base(store, str(folder), name="sd15", settings=settings)
    resolve("base:sd15", settings=settings)
    for key in [key for key in objects(store) if key.startswith(layout.BLOBS)]:
        del objects(store)[key]
    shutil.rmtree(settings.home / "cache" / "bases")
    assert resolve("base:sd15", settings=settings).path.is_dir()


@pytest.mark.proves("F50/verified")
def test_resolve_with_a_flipped_byte_in_the_store_is_refused(
    store: Store, settings: Settings, folder: Path
) -> None:
    added = add_base(store, str(folder), name="sd15", settings=settings)
    entry = next(e for e in added.files if e.path.startswith("unet/diff"))
    data = bytearray(objects(store)[layout.blob(entry.sha256)])
    data[len(data) // 2] ^= 1
    objects(store)[layout.blob(entry.sha256)] = bytes(data)
    with pytest.raises(IntegrityError, match="unet/diffusion_pytorch_model"):
        resolve("base:sd15", settings=settings)


def test_same_model_takes_further_names_and_another_cannot_have_one_of_them(
    store: Store, settings: Settings, folder: Path
) -> None:
    first = add_base(store, str(folder), name="sd15", settings=settings)
    assert add_base(store, str(folder), name="sd15", settings=settings).ref == first.ref
    assert add_base(store, "base:sd15", name="house", settings=settings).ref == first.ref
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "DDIMScheduler", "num_train_timesteps": 9})
    )
    with pytest.raises(ConfigError, match="base:sd15 is another model already"):
        add_base(store, str(folder), name="sd15", settings=settings)
    other = add_base(store, str(folder), name="other", settings=settings)
    assert [model.names for model in bases.listed(store)] == [("house", "sd15"), ("other",)]
    bases.remove(store, "sd15")
    assert bases.find(store, "house").ref == first.ref
    bases.remove(store, "house")
    assert [model.ref for model in bases.listed(store)] == [other.ref]
    with pytest.raises(ModelNotFoundError, match="'hous'") as caught:
        resolve("base:hous", settings=settings)
    assert caught.value.remedy == "It has base:other."


def test_name_given_to_another_model_at_the_same_moment_is_a_conflict(
    store: Store, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put_record

    def beaten(self: Store, path: str, value: dict[str, object], *, if_absent: bool) -> None:
        put(self, path, {"manifest": f"bases/{'0' * 32}@sha256:{'0' * 64}"})
        put(self, path, value, if_absent=if_absent)

    monkeypatch.setattr(Store, "put_record", beaten)
    with pytest.raises(ConfigError, match="base:sd15 was given to another model meanwhile"):
        add_base(store, str(folder), name="sd15", settings=settings)


@pytest.mark.parametrize("name", ["", "SD15", "a/b", "deadbeef", "../x", "x" * 64, "ä"])
def test_name_that_is_no_name_is_refused_before_anything_is_read(
    store: Store, settings: Settings, name: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a base model"):
        add_base(store, "/nowhere", name=name, settings=settings)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("pickle", "holds only pickle weights"),
        ("missing", "text_encoder does not exist"),
        ("unknown", "only .* are loaded"),
    ],
)
def test_model_that_cannot_be_loaded_is_refused_and_not_stored(
    store: Store, settings: Settings, folder: Path, damage: str, message: str
) -> None:
    if damage == "pickle":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
    elif damage == "missing":
        shutil.rmtree(folder / "text_encoder")
    else:
        (folder / "model_index.json").write_text('{"_class_name": "NobodyKnowsPipeline"}')
    with pytest.raises(DataError, match=message):
        add_base(store, str(folder), name="sd15", settings=settings)
    assert objects(store) == {}


def test_model_that_changes_while_it_is_sent_is_not_kept(
    store: Store, settings: Settings, folder: Path
) -> None:
    files = {"config.json": folder / "unet" / "config.json"}
    with pytest.raises(DataError, match="was changed while it was read"):
        bases.add(
            store,
            files=files,
            facts=bases.Base(digest="0" * 64, source="folder"),
            name="sd15",
        )
    assert store.manifests(layout.BASES) == []


def test_encoders_are_stored_alike(
    store: Store, settings: Settings, tiny_clip: Path, tiny_dino: Path
) -> None:
    for name, encoder in (("clip", tiny_clip), ("dino", tiny_dino)):
        added = add_base(store, str(encoder), name=name, settings=settings)
        assert added.facts.family == ""
        found = resolve(f"base:{name}", settings=settings)
        assert found.digest == resolve(str(encoder), settings=settings).digest


@pytest.mark.proves("F26/single_in", "F50/single")
def test_single_file_is_stored_as_a_model_with_the_rest_of_another(
    store: Store, settings: Settings, folder: Path, tmp_path: Path
) -> None:
    parts = load_pipeline(folder, device="cpu")
    with torch.no_grad():
        for weight in parts.unet.parameters():
            weight.mul_(1.5)
    file = tmp_path / "mix.safetensors"
    save_single_file(parts, file, dtype=torch.float32)
    with pytest.raises(ConfigError, match="is a single file, which has weights alone"):
        add_base(store, str(file), name="mix", settings=settings)
    add_base(store, str(folder), name="sd15", settings=settings)
    added = add_base(store, str(file), name="mix", settings=settings, like="base:sd15")
    assert added.facts.source == str(file)
    mixed = load_pipeline(resolve("base:mix", settings=settings).path, device="cpu")
    for part in ("unet", "vae", "text_encoder"):
        wanted, got = parts.part(part).state_dict(), mixed.part(part).state_dict()
        assert all(torch.equal(weight, got[key]) for key, weight in wanted.items()), part
    assert not list(settings.home.glob("converted-*"))
