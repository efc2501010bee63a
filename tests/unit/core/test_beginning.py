"""How a run begins in a pod: its configuration is completed and recorded, or refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from boothline import settings as environment
from boothline.beginning import begun, recorded_config
from boothline.config import RunConfig
from boothline.runs import read_run
from boothline.store import Store
from boothline.store.memory import memory_store

FORM = {"pictures": "s3://b/dog/", "class_noun": "dog", "steps": 12, "seed": -1}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A store in memory, in the environment of a pod."""
    store = memory_store(tmp_path)
    monkeypatch.setattr(Store, "connect", lambda settings, **_: store)
    monkeypatch.setenv("BOOTHLINE_JOB_ID", "1f6e")
    environment.current.cache_clear()
    yield store
    environment.current.cache_clear()


def test_run_begins_with_a_record_that_its_end_reads(store: Store) -> None:
    whole = begun("dog-@job", "{}", pipeline="retrain", form=FORM, loops={"generate_prior": 2})
    record = read_run(store, "dog-1f6e")
    assert record is not None
    assert (record.pipeline, record.status) == ("retrain", "running")
    config = RunConfig.model_validate_json(whole)
    assert config == RunConfig.model_validate(record.config)
    assert (config.training.num_steps, config.prior.num_shards) == (12, 2)
    assert config.inference.num_shards == 1
    assert json.loads(recorded_config("dog-@job", "{}")) == json.loads(whole)


def test_run_that_is_resumed_keeps_its_record(store: Store) -> None:
    begun("dog-@job", "{}", pipeline="dreambooth", form=FORM, loops={})
    first = read_run(store, "dog-1f6e")
    begun("dog-1f6e", "{}", pipeline="dreambooth", form=FORM, loops={})
    assert read_run(store, "dog-1f6e") == first


def test_end_of_a_run_that_never_began_takes_what_it_was_given(store: Store) -> None:
    assert recorded_config("dog-@job", "{}") == "{}"


def test_shards_that_the_pipeline_was_not_built_for_are_refused(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        begun("r", "prior: {num_shards: 3}", pipeline="dreambooth", form=FORM, loops={})
    assert ended.value.code == 2
    *_, message, remedy = capsys.readouterr().err.splitlines()
    assert "prior.num_shards is 3" in message
    assert "built for 1" in message
    assert remedy.startswith("Set prior.num_shards to 1, or upload a version for it")
    assert read_run(store, "r") is None


def test_serving_does_not_ask_for_pictures_or_shards_of_a_training(store: Store) -> None:
    form = {"subject": "teddy-bear", "version": "3"}
    whole = begun("r", "prior: {num_shards: 3}", pipeline="batch_inference", form=form, loops={})
    config = RunConfig.model_validate_json(whole)
    assert (config.model_name, config.inference.version) == ("boothline-teddy-bear", "3")
