from dataclasses import replace
from pathlib import Path

import pytest
from model_fixtures import make_tiny_tokenizer
from PIL import Image

from boothline.components.validate_data import step
from boothline.config import RunConfig
from boothline.config.sampling import PriorConfig
from boothline.data import DatasetReport
from boothline.errors import ConfigError, DataError
from boothline.progress import Progress, read_events
from boothline.steps import StepContext, StepKey
from boothline.store import Store
from boothline.tracking import MemoryTracker

pytestmark = pytest.mark.services

INPUTS = step.Inputs(run_id="run", config="")


@pytest.fixture
def base_model(tmp_path) -> Path:
    folder = tmp_path / "base"
    make_tiny_tokenizer(folder / "tokenizer")
    (folder / "tokenizer/tokenizer_config.json").write_text('{"model_max_length": 77}')
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def source(tmp_path, make_picture) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        make_picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def context_for(tmp_path, source, base_model, store, store_settings):
    number = iter(range(100))

    def make(**subject: object) -> StepContext:
        folder = tmp_path / f"step-{next(number)}"
        folder.mkdir()
        config = {
            "subject": {"images": str(source), "resolution_px": 64, **subject},
            "base_model": {"source": str(base_model)},
        }
        return StepContext(
            run_id="run",
            config=RunConfig.model_validate(config),
            settings=store_settings,
            store=store,
            progress=Progress("validate_data", run_dir=folder),
            tracker=MemoryTracker(),
            folder=folder,
        )

    return make


def _key(context: StepContext) -> StepKey:
    return step.key(context, INPUTS)


def test_validate_data_good_folder_commits_the_dataset(store: Store, source, context_for):
    (source / "broken.png").write_bytes(b"")
    context = context_for()
    draft = step.produce(context, INPUTS)
    ref = store.commit("steps/validate_data/a", draft)
    manifest = store.read(ref)
    assert manifest.kind == "dataset"
    assert manifest.metadata == {
        "num_images": 4,
        "num_quarantined": 1,
        "num_warnings": 0,
        "resolution_px": 64,
        "identifier": "sks",
        "class_noun": "bear",
    }
    assert [entry.path for entry in manifest.under("images/")] == [
        f"images/{n:03d}.png" for n in range(4)
    ]
    report = DatasetReport.model_validate_json(store.read_bytes(ref, "report.json"))
    assert report.quarantined[0].source == "broken.png"
    tracker = context.tracker
    assert isinstance(tracker, MemoryTracker)
    assert tracker.logged_artifacts == ["dataset/report.json", "dataset/validation.html"]
    later = context_for()
    step.ABOUT.show(later, ref)
    assert later.tracker.logged_artifacts == tracker.logged_artifacts
    assert later.tracker.logged_metrics == tracker.logged_metrics


def test_validate_data_says_what_was_left_out_also_of_a_reused_dataset(store, source, context_for):
    for name in "abcd":
        (source / f"{name}.png").write_bytes(b"")
    ref = store.commit("steps/validate_data/b", step.produce(context_for(), INPUTS))
    context = context_for()
    step.finish(context, INPUTS, ref)
    (event,) = read_events(context.folder)
    assert event.remark == (
        "4 of 8 pictures left out: a.png is empty (0 bytes); b.png is empty (0 bytes);"
        " c.png is empty (0 bytes); 1 more"
    )


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"num_images": 7}, "2 class pictures of your own, 5 are sampled to make the 7 of prior."),
        ({"num_images": 2}, "2 class pictures of your own stand in for sampled ones"),
        ({"enabled": False}, "2 class pictures of your own are not used, as prior.enabled is"),
    ],
)
def test_validate_data_says_how_many_class_pictures_are_whose(
    store, source, make_picture, context_for, prior, words
):
    (source / "img").mkdir()
    (source / "img/2_sks bear").mkdir()
    (source / "reg/1_bear").mkdir(parents=True)
    for seed in range(3):
        make_picture(30 + seed).save(source / f"img/2_sks bear/{seed}.png")
    for seed in range(2):
        make_picture(20 + seed).save(source / f"reg/1_bear/{seed}.png")
    context = context_for()
    draft = step.produce(context, INPUTS)
    assert draft.metadata["num_class_images"] == 2
    ref = store.commit("steps/validate_data/k", draft)
    config = context.config.model_copy(update={"prior": PriorConfig.model_validate(prior)})
    asked = replace(context_for(), config=config)
    step.finish(asked, INPUTS, ref)
    (event,) = read_events(asked.folder)
    assert event.remark.startswith(words)


def test_validate_data_key_says_that_class_pictures_are_told_apart(
    tmp_path, source, make_picture, context_for
):
    """So that what was committed while they were the subject's is not found again."""
    plain = _key(context_for()).config
    (source / "reg").mkdir()
    make_picture(20).save(source / "reg/0.png")
    apart = _key(context_for()).config
    assert "class_pictures_apart" not in plain
    assert apart["class_pictures_apart"] is True
    (source / "2_sks bear").mkdir()
    make_picture(21).save(source / "2_sks bear/0.png")
    assert "class_pictures_apart" not in _key(context_for()).config


@pytest.mark.proves("F56/masks")
def test_validate_data_key_names_masks_where_there_may_be_any(source, context_for):
    plain = _key(context_for()).config
    off = _key(context_for(masks="off")).config
    assert "masks" not in plain
    with Image.open(source / "0.png") as image:
        image.convert("RGBA").save(source / "0.png")
    assert _key(context_for()).config["masks"] is True
    assert "masks" not in _key(context_for(masks="off")).config
    assert (off["subject"].pop("masks"), off) == ("off", plain)


@pytest.mark.proves("F56/masks")
def test_validate_data_commits_masks_with_the_pictures_and_train_fetches_them(
    store, source, context_for, tmp_path
):
    from boothline.components.train.step import _fetch
    from boothline.training.pictures import read_pictures

    mask = Image.new("L", Image.open(source / "2.png").size)
    mask.paste(255, (0, 0, mask.width // 2, mask.height))
    mask.save(source / "2-mask.png")
    ref = store.commit("steps/validate_data/m", step.produce(context_for(), INPUTS))
    folder = _fetch(store, str(ref), tmp_path / "fetched")
    pictures = read_pictures([folder])
    assert [picture.mask is not None for picture in pictures] == [False, False, True, False]
    masks = [picture.mask for picture in pictures if picture.mask]
    assert [path.is_file() for path in masks] == [True]


def test_validate_data_names_settings_whose_prompts_are_cut(store, source, context_for, caplog):
    ref = store.commit("steps/validate_data/l", step.produce(context_for(), INPUTS))
    context = context_for()
    values = context.config.model_dump(mode="json")
    values["prior"]["prompts"] = ["a {class} " * 40]
    values["training"]["caption_templates"] = ["{caption} " + "in the snow " * 40]
    context = replace(context, config=RunConfig.model_validate(values))
    step.finish(context, INPUTS, ref)
    (event,) = read_events(context.folder)
    assert event.remark == (
        "longer than the text encoder reads: prior.prompts, training.caption_templates"
    )
    assert "prior.prompts has a prompt of" in caplog.text
    assert "training.caption_templates makes a caption of" in caplog.text


def test_validate_data_too_few_pictures_is_data_error_that_names_them(source, context_for):
    for seed in (0, 1):
        (source / f"{seed}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"Only 2 of 4 pictures") as caught:
        step.produce(context_for(), INPUTS)
    assert "0.png is a text" in caught.value.message
    assert "1.png is a text" in caught.value.message


def test_validate_data_key_ignores_place_and_name(tmp_path, source, context_for):
    before = _key(context_for())
    source.rename(tmp_path / "elsewhere")
    assert _key(context_for(images=str(tmp_path / "elsewhere"), name="other")) == before


@pytest.mark.parametrize(
    "change", [{"identifier": "zwx"}, {"resolution_px": 32}, {"min_images": 2}]
)
def test_validate_data_key_follows_the_subject(context_for, change):
    assert _key(context_for(**change)) != _key(context_for())


def test_validate_data_key_follows_pictures_and_tokenizer(source, base_model, context_for):
    keys = [_key(context_for())]
    (source / "0.txt").write_text("{subject} on the moon")
    keys.append(_key(context_for()))
    (base_model / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    keys.append(_key(context_for()))
    (source / "3.png").rename(source / "9.png")
    keys.append(_key(context_for()))
    assert len({str(key.config) for key in keys}) == 4


def test_validate_data_pictures_changed_after_the_key_stay_as_they_were(source, context_for):
    context = context_for()
    _key(context)
    for path in source.iterdir():
        path.write_bytes(b"")
    assert (
        len([name for name in step.produce(context, INPUTS).files if name.startswith("images/")])
        == 4
    )


def test_validate_data_writes_its_page_also_when_the_pictures_are_too_few(
    source, context_for, tmp_path
):
    context = context_for(min_images=9)
    context = replace(
        context, settings=context.settings.model_copy(update={"run_dir": tmp_path / "run"})
    )
    with pytest.raises(DataError):
        step.produce(context, INPUTS)
    assert "Only 4 of 4 pictures" in (tmp_path / "run" / "validation.html").read_text()
    assert "dataset/validation.html" in context.tracker.logged_artifacts


def test_validate_data_reused_dataset_still_gets_its_page(store, source, context_for, tmp_path):
    ref = store.commit("steps/validate_data/a", step.produce(context_for(), INPUTS))
    context = context_for()
    run_dir = tmp_path / "later"
    context = replace(context, settings=context.settings.model_copy(update={"run_dir": run_dir}))
    step.finish(context, INPUTS, ref)
    assert read_events(context.folder) == []
    page = (run_dir / "validation.html").read_text()
    assert "4 pictures can be used" in page
    assert page.count("data:image/") == 4


def test_validate_data_refuses_a_token_that_the_tokenizer_has(store: Store, context_for) -> None:
    context = context_for()
    ref = store.commit("steps/validate_data/token", step.produce(context, INPUTS))
    settings = {"method": "lora", "token_embedding": {"enabled": True}}

    def learning(identifier: str) -> StepContext:
        config = context.config.model_dump(mode="json")
        config["training"] |= settings
        config["subject"]["identifier"] = identifier
        return replace(context, config=RunConfig.model_validate(config))

    step.finish(learning("sks"), INPUTS, ref)
    with pytest.raises(ConfigError, match="has a token 'sk' already"):
        step.finish(learning("sk"), INPUTS, ref)
