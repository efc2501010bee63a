"""Batch inference: every prompt row becomes pictures with provenance, in any sharding."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from boothline.components.batch_infer import step
from boothline.components.batch_infer.step import Inputs
from boothline.config import RunConfig
from boothline.errors import ConfigError, DataError
from boothline.pictures.making import generate
from boothline.runs import read_steps
from boothline.settings import Settings
from boothline.steps import StepContext, execute
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.store.manifest import files_under

pytestmark = pytest.mark.services

MakeContext = Callable[[RunConfig], StepContext]


@pytest.fixture
def model(store: Store, tiny_pipeline: Path) -> ManifestRef:
    """The tiny model as a published model."""
    files = files_under(tiny_pipeline, prefix="diffusers/")
    return store.commit("steps/publish_checkpoint/m", ManifestDraft(kind="model", files=files))


@pytest.fixture
def config(run_config: RunConfig, tmp_path: Path) -> RunConfig:
    """The run with a prompt file of three rows."""
    path = tmp_path / "prompts.csv"
    path.write_text("prompt,seed\na photo of a {subject},\na dog,5\na {subject} on the moon,\n")
    return _changed(run_config, prompts_file=str(path))


def _changed(config: RunConfig, **inference: Any) -> RunConfig:
    value = config.model_dump(mode="json")
    value["inference"] = {**value["inference"], **inference}
    return RunConfig.model_validate(value)


def _produce(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, shard: int = 0
) -> ManifestDraft:
    inputs = Inputs(run_id="r", config=config.model_dump_json(), model=str(model), shard=shard)
    return step.produce(make_context(config), inputs)


def _pictures(store: Store, draft: ManifestDraft) -> dict[str, bytes]:
    ref = store.commit(f"steps/batch_infer/{uuid4().hex}", draft)
    return {name: store.read_bytes(ref, name) for name in draft.files if name.startswith("images/")}


def test_batch_infer_shards_make_all_pictures_and_equal_one_shard(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, store: Store
) -> None:
    shards = [_pictures(store, _produce(make_context, config, model, shard)) for shard in (0, 1)]
    assert [sorted(shard) for shard in shards] == [
        ["images/00000-00.png", "images/00002-00.png"],
        ["images/00001-00.png"],
    ]
    whole = _pictures(store, _produce(make_context, _changed(config, num_shards=1), model))
    assert shards[0] | shards[1] == whole


@pytest.mark.proves("F48/picture")
def test_batch_infer_png_tells_model_run_prompt_and_seed_and_the_index_all_but_the_run(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, store: Store
) -> None:
    draft = _produce(make_context, config, model, 1)
    (line,) = [json.loads(text) for text in bytes(draft.files["index.jsonl"]).splitlines()]
    digest = store.read(model).content_digest
    wanted = {"image": "images/00001-00.png", "model": digest, "prompt": "a dog", "seed": 5}
    assert wanted.items() <= line.items()
    assert "run" not in line
    with Image.open(io.BytesIO(_pictures(store, draft)["images/00001-00.png"])) as image:
        assert image.size == (32, 32)
        text = image.text  # type: ignore[attr-defined]
    assert (text["model"], text["prompt"], text["seed"]) == (digest, "a dog", "5")
    assert text["run"] == make_context(config).run_id
    assert draft.metadata == {"model": str(model), "num_images": 1, "shard": 1, "num_shards": 2}


@pytest.mark.proves("F10")
def test_batch_infer_without_prompt_file_takes_the_evaluation_prompts(
    make_context: MakeContext, run_config: RunConfig, model: ManifestRef
) -> None:
    config = _changed(run_config, num_shards=1, images_per_prompt=2)
    draft = _produce(make_context, config, model)
    lines = [json.loads(text) for text in bytes(draft.files["index.jsonl"]).splitlines()]
    assert len(lines) == 2 * len(config.evaluation.prompts)
    assert lines[0]["prompt"] == "a photo of a sks bear on the moon"


def test_batch_infer_shard_without_rows_loads_nothing(
    make_context: MakeContext, config: RunConfig, model: ManifestRef
) -> None:
    draft = _produce(make_context, _changed(config, num_shards=4), model, 3)
    assert draft.files == {"index.jsonl": b""}


def test_batch_infer_other_manifest_is_refused(
    make_context: MakeContext, config: RunConfig, store: Store
) -> None:
    ref = store.commit("steps/train/t", ManifestDraft(kind="training", files={}))
    with pytest.raises(ConfigError, match="'training', not a model"):
        _produce(make_context, config, ref)


def test_batch_infer_bad_prompt_line_is_named(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, tmp_path: Path
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2"):
        _produce(make_context, _changed(config, prompts_file=str(path)), model)


def test_batch_infer_progress_and_contact_sheet(
    make_context: MakeContext, config: RunConfig, model: ManifestRef
) -> None:
    context = make_context(config)
    inputs = Inputs(run_id="r", config=config.model_dump_json(), model=str(model), shard=0)
    ref = context.store.commit(context.manifest_path, step.produce(context, inputs))
    step.ABOUT.show(context, ref)
    assert context.tracker.logged_artifacts == ["images/contact-sheet-000.png"]  # type: ignore[attr-defined]


def test_key_follows_the_rows_not_the_name_of_the_prompt_file(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, tmp_path: Path
) -> None:
    def key(config: RunConfig, shard: int = 0) -> Any:
        inputs = Inputs(run_id="r", config="", model=str(model), shard=shard)
        return step.key(make_context(config), inputs)

    before = key(config)
    text = Path(str(config.inference.prompts_file)).read_text()
    (tmp_path / "moved.csv").write_text(text + "\n\n")
    moved = _changed(config, prompts_file=str(tmp_path / "moved.csv"))
    assert key(moved) == before
    (tmp_path / "moved.csv").write_text(text + "one more,\n")
    assert key(moved) != before
    assert key(config, 1) != before


def test_prompt_file_in_the_store_gives_the_result_of_the_same_file_here(
    config: RunConfig, model: ManifestRef, store: Store, store_settings: Settings
) -> None:
    def made(config: RunConfig, run_id: str) -> str:
        inputs = Inputs(run_id=run_id, config=config.model_dump_json(), model=str(model), shard=0)
        return execute(step.STEP, inputs, settings=store_settings)

    data = Path(str(config.inference.prompts_file)).read_bytes()
    store.bucket.put("data/prompts.csv", data)
    remote = _changed(config, prompts_file=store.bucket.uri("data/prompts.csv"))
    assert made(remote, "run-1") == made(config, "run-2")
    assert [record.reused for record in read_steps(store, "run-2")] == [True]


def test_batch_infer_killed_half_way_goes_on_and_gives_the_same_bytes(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, tmp_path: Path, monkeypatch
) -> None:
    """An attempt that dies after a part leaves it; the next one makes only the rest."""
    monkeypatch.setattr(step, "PART_IMAGES", 5)  # two whole batches of two
    (tmp_path / "ten.txt").write_text("".join(f"a {noun} bear\n" for noun in "abcdefghij"))
    config = _changed(config, prompts_file=str(tmp_path / "ten.txt"), num_shards=1)
    whole = _produce(make_context, config, model)
    sampled: list[str] = []

    def stop_at(limit: int) -> None:
        def dying(*arguments: Any, **options: Any) -> Any:
            for picture, image in generate(*arguments, **options):
                if len(sampled) == limit:
                    raise KeyboardInterrupt
                sampled.append(picture.name)
                yield picture, image

        monkeypatch.setattr(step, "generate", dying)

    context = make_context(config)
    inputs = Inputs(run_id="r", config="", model=str(model), shard=0)
    stop_at(7)
    with pytest.raises(KeyboardInterrupt):
        step.produce(context, inputs)
    stop_at(100)
    later = replace(make_context(config), manifest_path=context.manifest_path)
    resumed = step.produce(later, inputs)
    assert len(sampled) == 7 + 6
    assert sorted(resumed.files) == sorted(whole.files)
    first, second = (
        store_of(later, draft, path) for draft, path in ((whole, "whole"), (resumed, "resumed"))
    )
    assert first == second
    events = [json.loads(line) for line in _events(later)]
    assert (events[0]["done"], events[0]["total"]) == (4, 10)
    kept = f"batches/{context.key}/"
    assert later.store.manifests(kept)
    step.finish(later, inputs, model)
    assert later.store.manifests(kept) == []
    ref = later.store.find("steps/batch_infer/resumed")
    assert ref is not None
    assert later.store.read_bytes(ref, "images/00000-00.png")


def store_of(context: StepContext, draft: ManifestDraft, path: str) -> dict[str, str]:
    """Return the digests of a draft's files once it is committed."""
    ref = context.store.commit(f"steps/batch_infer/{path}", draft)
    return {entry.path: entry.sha256 for entry in context.store.read(ref).files}


def _events(context: StepContext) -> list[str]:
    (path,) = (context.folder / "run" / "events").glob("*.jsonl")
    return path.read_text().splitlines()


@pytest.mark.proves("F16/grids")
def test_batch_infer_webdataset_and_sheets_hold_every_picture(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, store: Store
) -> None:
    config = _changed(config, webdataset=True, grid_columns=1)
    draft = _produce(make_context, config, model)
    again = _produce(make_context, config, model)
    tar = Path(str(draft.files["webdataset/000000.tar"]))
    assert tar.read_bytes() == Path(str(again.files["webdataset/000000.tar"])).read_bytes()
    with tarfile.open(tar) as archive:
        names = archive.getnames()
        png = archive.extractfile("00002-00.png").read()
        text = archive.extractfile("00002-00.txt").read().decode()
        facts = json.loads(archive.extractfile("00002-00.json").read())
    keys = ("00000-00", "00002-00")
    assert names == [f"{key}.{suffix}" for key in keys for suffix in ("json", "png", "txt")]
    assert png == _pictures(store, draft)["images/00002-00.png"]
    assert text == facts["prompt"] == "a sks bear on the moon"
    sheets = [name for name in draft.files if name.startswith("sheets/")]
    assert sheets == ["sheets/000-0000.png", "sheets/000-0001.png"]


@pytest.mark.proves("F17/batch")
def test_batch_infer_edits_pictures_that_the_rows_name(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, store: Store, tmp_path: Path
) -> None:
    start = Image.new("RGB", (32, 32), (10, 200, 30))
    start.save(tmp_path / "start.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save(tmp_path / "mask.png")
    path = tmp_path / "edits.csv"
    path.write_text(
        "prompt,image,mask,strength\na bear,start.png,mask.png,1\na bear,start.png,,0\n"
    )
    config = _changed(config, prompts_file=str(path), num_shards=1)
    draft = _produce(make_context, config, model)
    with Image.open(io.BytesIO(_pictures(store, draft)["images/00000-00.png"])) as image:
        assert image.crop((16, 0, 32, 32)).getcolors() == [(512, (10, 200, 30))]
        assert len(image.crop((0, 0, 16, 32)).getcolors(maxcolors=1024)) > 1
    lines = [json.loads(text) for text in bytes(draft.files["index.jsonl"]).splitlines()]
    assert [line["strength"] for line in lines] == [1.0, 0.0]
    assert lines[0]["image_sha256"] == lines[1]["image_sha256"] != ""
    assert lines[1]["mask_sha256"] == ""


def test_key_follows_the_content_of_a_start_picture(
    make_context: MakeContext, config: RunConfig, model: ManifestRef, tmp_path: Path
) -> None:
    def key(name: str, colour: str) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        Image.new("RGB", (32, 32), colour).save(folder / "start.png")
        (folder / "edits.csv").write_text("prompt,image\na bear,start.png\n")
        inputs = Inputs(run_id="r", config="", model=str(model), shard=0)
        edited = _changed(config, prompts_file=str(folder / "edits.csv"))
        return step.key(make_context(edited), inputs)

    assert key("one", "red") == key("two", "red") != key("three", "blue")
