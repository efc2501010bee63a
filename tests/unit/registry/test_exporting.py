"""What `boothline export` writes, and what it refuses; a real model is loaded in integration."""

import hashlib
import json
from pathlib import Path

import pytest

from boothline.errors import ConfigError, IntegrityError, ModelNotFoundError
from boothline.registry.exporting import KOHYA, SINGLE, export_model
from boothline.registry.recipes import loading_lines
from boothline.registry.versions import check_known, ensure_version
from boothline.results import Dataset, Model, ModelBase
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store

NAME = "boothline-teddy"
UNET = "diffusers/unet/diffusion_pytorch_model.safetensors"
FULL = {"diffusers/model_index.json": b"{}", UNET: b"unet", SINGLE: b"all weights"}
LORA = {KOHYA: b"kohya", "lora/pytorch_lora_weights.safetensors": b"peft", **FULL}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path / "blobs")


def published(store: Store, label: str, files: dict[str, bytes], method: str) -> ManifestRef:
    """Register a model with these files, made from one picture."""
    pictures = Dataset(identifier="sks", class_noun="bear")
    dataset = store.commit(f"steps/validate_data/{label}", pictures.draft({"images/0.png": b"0"}))
    model = Model(
        model_name=NAME,
        identifier="sks",
        class_noun="bear",
        method=method,
        base_model=ModelBase(source="/models/sd15", digest="b" * 64),
    )
    ref = store.commit(f"steps/publish_checkpoint/{label}", model.draft(files, inputs=(dataset,)))
    ensure_version(store, Settings(), model_name=NAME, ref=ref)
    return ref


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("diffusers", {"model_index.json": b"{}", UNET.removeprefix("diffusers/"): b"unet"}),
        (
            "single-file",
            {
                f"{NAME}-v1.safetensors": b"all weights",
                f"{NAME}-v1-settings/model_index.json": b"{}",
            },
        ),
        (
            "lora",
            {
                f"{NAME}-v1.safetensors": b"kohya",
                "pytorch_lora_weights.safetensors": b"peft",
            },
        ),
    ],
)
def test_export_writes_the_files_of_a_format_with_readme_and_provenance(
    store: Store, tmp_path: Path, form: str, files: dict[str, bytes]
) -> None:
    published(store, "a", LORA, "lora")
    folder = tmp_path / "out"

    done = export_model(store, Settings(), model=(NAME, "1"), folder=folder, form=form)

    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*files, "README.md", "provenance.json"} == set(done.files)
    assert all((folder / name).read_bytes() == data for name, data in files.items())
    written = json.loads((folder / "provenance.json").read_text())
    assert written["files"] == {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}
    assert written["pictures"] == {"images/0.png": hashlib.sha256(b"0").hexdigest()}
    assert (written["version"], written["base_model"]["source"]) == (1, "/models/sd15")
    text = (folder / "README.md").read_text()
    assert all(len(lines) == 3 for lines in done.loading.values())
    assert all(line in text for lines in done.loading.values() for line in lines)
    (folder / next(iter(files))).write_bytes(b"a copy of one's own, not of the cache")


def test_export_for_comfyui_goes_next_to_other_models(store: Store, tmp_path: Path) -> None:
    published(store, "a", LORA, "lora")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "other.safetensors").write_bytes(b"other")

    export_model(store, Settings(), model=(NAME, "1"), folder=tmp_path, form="comfyui")

    assert (tmp_path / f"checkpoints/{NAME}-v1.safetensors").read_bytes() == b"all weights"
    assert (tmp_path / f"loras/{NAME}-v1.safetensors").read_bytes() == b"kohya"
    assert (tmp_path / f"{NAME}-v1.README.md").is_file()
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        export_model(store, Settings(), model=(NAME, "1"), folder=tmp_path, form="comfyui")


def test_export_into_a_folder_with_files_is_refused(store: Store, tmp_path: Path) -> None:
    published(store, "a", FULL, "full")
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"holds .*; nothing is overwritten"):
        export_model(store, Settings(), model=(NAME, "1"), folder=tmp_path, form="diffusers")


def test_readme_of_a_single_file_names_the_class_that_reads_it(
    store: Store, tmp_path: Path
) -> None:
    index = b'{"_class_name": "StableDiffusionXLPipeline"}'
    files = {"diffusers/model_index.json": index, "single_file/model.safetensors": b"weights"}
    published(store, "a", files, "full")
    made = export_model(
        store, Settings(), model=(NAME, "1"), folder=tmp_path / "out", form="single-file"
    )
    assert made.loading["diffusers"][0] == "from diffusers import StableDiffusionXLPipeline"


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("/models/sd15", "'/models/sd15'"),
        (f"o/m@{'a' * 40}", f"'o/m', revision='{'a' * 40}'"),
        ("base:sd15", "'FOLDER OF base:sd15'"),
        ("builtin:tiny", "'FOLDER OF builtin:tiny'"),
    ],
)
def test_readme_of_adapters_names_a_base_that_diffusers_can_load(
    source: str, arguments: str
) -> None:
    model = Model(model_name=NAME, base_model=ModelBase(source=source))
    lines = loading_lines(
        model, pipeline="X", form="lora", folder="out", stem="x", files=["x.safetensors"]
    )
    assert f"DiffusionPipeline.from_pretrained({arguments}); " in lines["diffusers"][1]


@pytest.mark.parametrize(
    ("form", "files", "why"),
    [
        ("lora", FULL, "without adapters"),
        ("single-file", {"diffusers/model_index.json": b"{}"}, "no names for its architecture"),
        ("comfyui", {"diffusers/model_index.json": b"{}"}, "no names for its architecture"),
    ],
)
def test_export_of_a_form_that_the_model_has_not_says_why_and_writes_nothing(
    store: Store, tmp_path: Path, form: str, files: dict[str, bytes], why: str
) -> None:
    published(store, "a", files, "full")

    with pytest.raises(ConfigError, match=why) as caught:
        export_model(store, Settings(), model=(NAME, "1"), folder=tmp_path / "out", form=form)

    assert "--format diffusers" in caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_export_of_damaged_bytes_is_refused_and_leaves_nothing(
    store: Store, tmp_path: Path
) -> None:
    published(store, "a", FULL, "full")
    objects = store.bucket.objects  # type: ignore[attr-defined]
    blob = next(path for path in objects if hashlib.sha256(b"unet").hexdigest() in path)
    objects[blob] = b"UNET"

    with pytest.raises(IntegrityError):
        export_model(
            store, Settings(), model=(NAME, "1"), folder=tmp_path / "out", form="diffusers"
        )

    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_model_is_named_with_those_like_it(store: Store) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no model 'teddy'") as caught:
        check_known(store, "teddy")
    assert "No model is registered yet" in caught.value.remedy
    published(store, "a", FULL, "full")

    for typed in ("teddy", "boothline-tedy"):
        with pytest.raises(ModelNotFoundError) as caught:
            check_known(store, typed)
        assert caught.value.remedy == f"Did you mean {NAME}?"
    with pytest.raises(ModelNotFoundError) as caught:
        check_known(store, "something")
    assert caught.value.remedy == f"The registered models are {NAME}."


EMBEDDING = "embeddings/sks.safetensors"
LEARNT = {**LORA, EMBEDDING: b"row"}
del LEARNT[SINGLE]


def test_export_of_adapters_has_the_learnt_token_and_the_lines_that_load_it(
    store: Store, tmp_path: Path
) -> None:
    published(store, "a", LEARNT, "lora")
    folder = tmp_path / "out"

    done = export_model(store, Settings(), model=(NAME, "1"), folder=folder, form="lora")

    assert (folder / EMBEDDING).read_bytes() == b"row"
    place = f"{folder}/{EMBEDDING}"
    assert done.loading["diffusers"][1].endswith(f"; pipeline.load_textual_inversion('{place}')")
    assert f"; cp {place} stable-diffusion-webui/embeddings/" in next(
        lines[0] for tool, lines in done.loading.items() if tool.startswith("A1111")
    )
    assert "a photo of embedding:sks bear" in done.loading["ComfyUI"][2]


def test_export_for_comfyui_has_the_learnt_token_in_its_folder(
    store: Store, tmp_path: Path
) -> None:
    published(store, "a", LEARNT, "lora")

    done = export_model(
        store, Settings(), model=(NAME, "1"), folder=tmp_path / "models", form="comfyui"
    )

    assert {EMBEDDING, f"loras/{NAME}-v1.safetensors"} <= set(done.files)


def test_export_of_a_learnt_token_as_a_single_file_is_refused(store: Store, tmp_path: Path) -> None:
    published(store, "a", LEARNT, "lora")
    with pytest.raises(ConfigError, match="no place for its learnt token"):
        export_model(
            store, Settings(), model=(NAME, "1"), folder=tmp_path / "out", form="single-file"
        )


def test_loading_lines_of_a_token_with_two_text_encoders_load_it_into_each() -> None:
    model = Model(
        identifier="sks",
        class_noun="bear",
        method="lora",
        base_model=ModelBase(source="/models/sdxl", digest="b" * 64),
    )
    lines = loading_lines(
        model, pipeline="StableDiffusionXLPipeline", form="lora", folder="out", stem="m",
        files=[EMBEDDING, "pytorch_lora_weights.safetensors"],
    )["diffusers"]  # fmt: skip
    assert lines[0].startswith("import safetensors.torch; ")
    assert "rows[\"clip_l\"], 'sks')" in lines[1]
    assert "rows[\"clip_g\"], 'sks', pipeline.tokenizer_2, pipeline.text_encoder_2)" in lines[1]
