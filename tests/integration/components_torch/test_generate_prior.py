"""The class prior: each picture made once, whatever shards, runs and kills there are."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from boothline.components.generate_prior import step
from boothline.components.generate_prior.step import Inputs, Series
from boothline.config import RunConfig
from boothline.doctor import libraries
from boothline.errors import ConfigError, DataError
from boothline.progress import read_events
from boothline.results import Dataset
from boothline.steps import StepContext, StepKey
from boothline.store import FileEntry, ManifestDraft, Store
from boothline.tracking import MemoryTracker

pytestmark = pytest.mark.services

MakeContext = Callable[[RunConfig], StepContext]
Entries = dict[str, FileEntry]


def _changed(config: RunConfig, **prior: Any) -> RunConfig:
    value = config.model_dump(mode="json")
    sampling = {**value["prior"]["sampling"], **prior.pop("sampling", {})}
    value["prior"] = {**value["prior"], **prior, "sampling": sampling}
    return RunConfig.model_validate(value)


def _inputs(store: Store, *, shard: int = 0, num_own: int = 0) -> Inputs:
    """Return the inputs of a shard; the dataset has class pictures of its own where asked for."""
    own = {f"class/images/{i:06d}.png": b"own %d" % i for i in range(num_own)}
    dataset = store.commit(f"steps/validate_data/{num_own}", Dataset().draft(own))
    return Inputs(run_id="r", config="", dataset=str(dataset), shard=shard)


def _produce(
    make_context: MakeContext, config: RunConfig, shard: int = 0, *, num_own: int = 0
) -> ManifestDraft:
    context = make_context(config)
    return step.produce(context, _inputs(context.store, shard=shard, num_own=num_own))


def _images(draft: ManifestDraft) -> dict[str, str]:
    """Return the sha256 of each picture by its path."""
    entries = {path: e for path, e in draft.files.items() if path.startswith("images/")}
    assert all(isinstance(entry, FileEntry) for entry in entries.values())
    return {path: entry.sha256 for path, entry in entries.items() if isinstance(entry, FileEntry)}


def _all_images(make_context: MakeContext, config: RunConfig) -> dict[str, str]:
    drafts = [_produce(make_context, config, s) for s in range(config.prior.num_shards)]
    images: dict[str, str] = {}
    for draft in drafts:
        assert not images.keys() & _images(draft).keys()
        images |= _images(draft)
    return dict(sorted(images.items()))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Indices that are really sampled from now on; the sampling itself is left alone."""
    from boothline.diffusion import sampling

    indices: list[int] = []
    real = sampling.sample

    def counted(pipeline: Any, requests: Any, **settings: Any) -> Any:
        indices.extend(request.index for request in requests)
        return real(pipeline, requests, **settings)

    monkeypatch.setattr(sampling, "sample", counted)
    return indices


def test_generate_prior_in_an_image_without_a_library_of_the_training_samples_nothing(
    make_context: MakeContext,
    run_config: RunConfig,
    sampled: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    training = run_config.training.model_copy(update={"optimizer": "lion"})
    with pytest.raises(ConfigError, match=r"optimizer lion needs the library lion_pytorch"):
        _produce(make_context, run_config.model_copy(update={"training": training}))
    assert sampled == []


def test_generate_prior_two_shards_make_all_pictures_with_captions(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    drafts = [_produce(make_context, run_config, shard) for shard in (0, 1)]
    names = [sorted(_images(draft)) for draft in drafts]
    assert names == [
        ["images/000000.png", "images/000001.png", "images/000004.png"],
        ["images/000002.png", "images/000003.png"],
    ]
    captions = [json.loads(line) for line in bytes(drafts[1].files["captions.jsonl"]).splitlines()]
    assert captions == [
        {"image": f"images/00000{i}.png", "caption": "a photo of a bear", "index": i}
        for i in (2, 3)
    ]
    assert drafts[0].metadata["num_images"] == 3
    assert drafts[0].metadata["series"] == drafts[1].metadata["series"]


@pytest.mark.proves("F03/reproducible")
def test_generate_prior_pictures_do_not_depend_on_shards(
    make_context: MakeContext, run_config: RunConfig, store: Store
) -> None:
    sharded = _all_images(make_context, run_config)
    for path in store.manifests("priors/"):
        store.forget(path)
    assert _all_images(make_context, _changed(run_config, num_shards=1)) == sharded
    assert len(set(sharded.values())) == 5


def test_generate_prior_second_run_samples_nothing(
    make_context: MakeContext, run_config: RunConfig, sampled: list[int]
) -> None:
    first = _all_images(make_context, run_config)
    sampled.clear()
    assert _all_images(make_context, run_config) == first
    assert sampled == []


@pytest.mark.proves("F03/topped_up")
def test_generate_prior_more_pictures_top_up_the_series(
    make_context: MakeContext, run_config: RunConfig, sampled: list[int]
) -> None:
    first = _all_images(make_context, run_config)
    sampled.clear()
    more = _all_images(make_context, _changed(run_config, num_images=7, num_shards=1))
    assert {path: more[path] for path in first} == first
    # Picture 5 was made with the last chunk already.
    assert sampled == [6, 7]


def test_generate_prior_after_a_kill_goes_on_behind_the_last_chunk(
    make_context: MakeContext,
    run_config: RunConfig,
    store: Store,
    sampled: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _changed(run_config, num_shards=1)
    real, commits = store.commit, 0

    def dies_at_the_second(path: str, draft: ManifestDraft, **options: Any) -> Any:
        nonlocal commits
        commits += path.startswith("priors/")
        if commits == 2:
            raise KeyboardInterrupt
        return real(path, draft, **options)

    monkeypatch.setattr(store, "commit", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        _produce(make_context, config)
    monkeypatch.undo()
    before = list(sampled)
    resumed = _images(_produce(make_context, config))
    assert before == [0, 1, 2, 3]
    assert len(resumed) == 5


def test_generate_prior_other_batch_size_uses_what_is_there(
    make_context: MakeContext, run_config: RunConfig, sampled: list[int]
) -> None:
    first = _all_images(make_context, run_config)
    sampled.clear()
    wider = _changed(run_config, num_images=8, num_shards=1, sampling={"batch_size": 4})
    images = _all_images(make_context, wider)
    assert {path: images[path] for path in first} == first
    assert sampled == [4, 5, 6, 7]
    assert len(images) == 8


@pytest.mark.proves("F03/keyed")
@pytest.mark.parametrize(
    "change",
    [{"prompt": "a {class}"}, {"sampling": {"seed": 4}}, {"sampling": {"guidance_scale": 2}}],
)
def test_series_changed_setting_is_another_series(
    run_config: RunConfig, change: dict[str, Any]
) -> None:
    before = Series.of(run_config, base_model_digest="0").digest
    assert Series.of(_changed(run_config, **change), base_model_digest="0").digest != before
    assert Series.of(run_config, base_model_digest="1").digest != before


def test_series_batch_size_and_number_of_pictures_are_not_in_it(run_config: RunConfig) -> None:
    before = Series.of(run_config, base_model_digest="0").digest
    other = _changed(run_config, num_images=50, sampling={"batch_size": 7})
    assert Series.of(other, base_model_digest="0").digest == before


def test_generate_prior_prompts_are_taken_in_turn(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    config = _changed(run_config, prompts=["a {class}", "a red {class}"], num_shards=1)
    captions = bytes(_produce(make_context, config).files["captions.jsonl"]).splitlines()
    assert [json.loads(line)["caption"] for line in captions] == [
        "a bear", "a red bear", "a bear", "a red bear", "a bear",
    ]  # fmt: skip


def test_generate_prior_disabled_is_empty(make_context: MakeContext, run_config: RunConfig) -> None:
    draft = _produce(make_context, _changed(run_config, enabled=False))
    assert draft.files == {"captions.jsonl": b""}
    assert (draft.kind, draft.metadata["num_images"]) == ("prior", 0)


def test_generate_prior_shard_without_pictures_is_empty(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    config = _changed(run_config, num_images=2)
    assert _images(_produce(make_context, config, 1)) == {}


@pytest.mark.parametrize(("num_own", "num_sampled"), [(0, 5), (2, 3), (4, 1), (5, 0), (9, 0)])
def test_generate_prior_samples_only_what_own_class_pictures_leave(
    make_context: MakeContext, run_config: RunConfig, num_own: int, num_sampled: int
) -> None:
    drafts = [_produce(make_context, run_config, s, num_own=num_own) for s in (0, 1)]
    names = sorted(name for draft in drafts for name in _images(draft))
    assert names == [f"images/{number:06d}.png" for number in range(num_sampled)]
    assert sum(int(str(draft.metadata["num_images"])) for draft in drafts) == num_sampled


def test_key_depends_on_how_many_class_pictures_the_dataset_has_and_on_no_more_of_it(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    def key(config: RunConfig, num_own: int) -> StepKey:
        context = make_context(config)
        return step.key(context, _inputs(context.store, num_own=num_own))

    assert key(run_config, 2) == key(_changed(run_config, num_images=3), 0)
    assert key(run_config, 5) == key(run_config, 9) == key(_changed(run_config, enabled=False), 0)
    assert not key(run_config, 0).inputs


def test_generate_prior_reports_progress_and_a_sheet(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    context = make_context(run_config)
    inputs = _inputs(context.store)
    ref = context.store.commit(context.manifest_path, step.produce(context, inputs))
    key = step.key(context, inputs).config
    step.ABOUT.show(replace(context, key_config=key), ref)
    events = read_events(context.folder / "run")
    assert [(event.done, event.total) for event in events] == [(0, 3), (2, 3), (3, 3)]
    tracker = context.tracker
    assert isinstance(tracker, MemoryTracker)
    assert tracker.logged_artifacts == ["prior/class-images-000000.png"]
    names = {"base_model", "prompts", "sampling", "resolution_px"}
    assert tracker.logged_params == {f"prior.{name}": key[name] for name in names}


def test_key_depends_on_shard_and_pictures_not_on_training(
    make_context: MakeContext, run_config: RunConfig
) -> None:
    def key(config: RunConfig, shard: int = 0) -> Any:
        context = make_context(config)
        return step.key(context, _inputs(context.store, shard=shard)).config

    before = key(run_config)
    trained = run_config.model_copy(
        update={"training": run_config.training.model_copy(update={"num_steps": 7})}
    )
    assert key(trained) == before
    assert key(run_config, 1) != before
    assert key(_changed(run_config, num_images=6)) != before
    assert key(_changed(run_config, weight=0.5)) == before


def test_generate_prior_of_black_pictures_alone_is_refused_and_commits_nothing(
    make_context: MakeContext, run_config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boothline.diffusion import sampling

    real = sampling.decode

    def not_finite(pipeline: Any, latents: Any) -> Any:
        return real(pipeline, latents * float("nan"))

    monkeypatch.setattr(sampling, "decode", not_finite)
    context = make_context(run_config)
    inputs = _inputs(context.store)
    with pytest.raises(DataError, match=r"class pictures of .* are black") as caught:
        step.produce(context, inputs)
    assert "not finite" in caught.value.remedy
    assert list(context.store.manifests("priors/")) == []
