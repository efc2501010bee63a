"""Tracking against a real MLflow server and a real store."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from racing import race

from boothline.config import RunConfig
from boothline.runs import Failure, RunRecord, StepRecord, write_run, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, Store
from boothline.tracking import StepTracker, dotted, open_step_tracker, reconcile, start_parent
from boothline.tracking.client import connect
from boothline.tracking.identity import MlflowRuns, recorded

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("patient")]

STEPS = ["validate_data", "generate_prior", "train", "publish_checkpoint", "evaluate", "promote"]
RUN = "20260101-000000-abcd"
BEGIN = 1_767_225_600.0


@pytest.fixture
def config(store_settings: Settings) -> RunConfig:
    return RunConfig.model_validate({"tracking": {"experiment": store_settings.prefix}})


@pytest.fixture(params=["plain requests", "library"])
def either_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send by requests of our own, then by MLflow's client, which credentials call for."""
    if request.param == "library":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a token that the server ignores")


def runs_in(settings: Settings, config: RunConfig) -> list[Any]:
    client = connect(settings.mlflow_uri)
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    return list(client.search_runs([experiment.experiment_id]))


def record_run(store: Store, config: RunConfig) -> None:
    values = config.model_dump(mode="json")
    write_run(
        store,
        RunRecord(run_id=RUN, status="running", config=values, created_at=BEGIN, seconds=60.0),
    )


def record_step(store: Store, step: str, **changes: Any) -> None:
    values = {"step": step, "status": "done", "started_at": BEGIN + 1, "seconds": 5.0, **changes}
    write_step(store, RUN, StepRecord.model_validate(values))


def test_shards_started_at_once_share_one_nested_run(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    def shard(number: int) -> None:
        step_tracker = open_step_tracker(
            settings,
            store=store,
            run_id=RUN,
            step="generate_prior",
            experiment=config.tracking.experiment,
        )
        step_tracker.metrics({f"images_{number}": 1.0}, step=number)
        step_tracker.close("FINISHED")

    race([partial(shard, number) for number in range(4)])
    runs = runs_in(settings, config)
    nested = [run for run in runs if run.data.tags.get("boothline.step") == "generate_prior"]
    parents = [run for run in runs if "boothline.step" not in run.data.tags]
    assert len(nested) == len(parents) == 1
    assert nested[0].data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert set(nested[0].data.metrics) == {f"images_{number}" for number in range(4)}
    assert nested[0].info.status == "FINISHED"


@pytest.mark.usefixtures("either_client")
@pytest.mark.proves("F07/mlflow", "F33/metrics")
def test_tracker_logs_params_metrics_tags_and_artifacts(
    settings: Settings, store: Store, config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "sheet.png").write_bytes(b"png")
    experiment = config.tracking.experiment
    step_tracker = open_step_tracker(
        settings, store=store, run_id=RUN, step="train", experiment=experiment
    )
    step_tracker.params({"seed": 7})
    step_tracker.params({"seed": 8})
    for step in range(1200):
        step_tracker.metrics({"loss": float(step)}, step=step)
    step_tracker.artifact(tmp_path / "sheet.png", folder="samples")
    (tmp_path / "sheet.png").unlink()
    step_tracker.tags({"note": "n" * 9000})
    step_tracker.close("FAILED")
    client = connect(settings.mlflow_uri)
    run_id = getattr(recorded(store, RUN, "train"), "mlflow_run_id", "")
    run = client.get_run(run_id)
    assert run.data.params == {"seed": "7"}
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == list(range(1200))
    assert [file.path for file in client.list_artifacts(run_id, "samples")] == ["samples/sheet.png"]
    assert len(run.data.tags["note"]) == 8000
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("either_client")
@pytest.mark.proves("F33/runs")
def test_reconcile_lists_one_parent_and_seven_steps(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    start_parent(settings, store, RUN, config)
    evaluation = store.commit(
        "steps/evaluate/k",
        ManifestDraft(
            kind="evaluation",
            files={},
            metadata={"metrics": {"finetuned": {"dino": {"mean": 0.75}}}},
        ),
    )
    for step in STEPS:
        record_step(store, step, reused=step == "train", manifest=str(evaluation))
    for shard in (0, 1):
        record_step(store, "batch_infer", shard=shard, manifest=f"steps/batch_infer/{shard}")
    record_step(store, "finish_run", status="running")
    for _ in range(2):
        assert reconcile(settings, store, RUN, status="done")
    runs = {run.data.tags.get("boothline.step", "parent"): run for run in runs_in(settings, config)}
    assert set(runs) == {"parent", *STEPS, "batch_infer"}
    assert len(runs_in(settings, config)) == 8
    parent = runs.pop("parent")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["train"].data.tags["boothline.reused"] == "true"
    assert runs["batch_infer"].data.tags["boothline.manifest.1"] == "steps/batch_infer/1"
    assert runs["evaluate"].info.end_time == int((BEGIN + 6) * 1000)
    assert parent.data.metrics == {"finetuned/dino": 0.75}
    assert parent.data.params["training.num_steps"] == str(config.training.num_steps)
    assert parent.info.status == "FINISHED"


@pytest.mark.proves("F33/datasets")
def test_reconcile_names_the_pictures_that_a_run_was_trained_on_once(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    draft = ManifestDraft(kind="dataset", files={}, metadata={"num_images": 5})
    dataset = store.commit("steps/validate_data/k", draft)
    record_step(store, "validate_data", manifest=str(dataset))
    for _ in range(2):
        assert reconcile(settings, store, RUN, status="done")

    (parent,) = [run for run in runs_in(settings, config) if "boothline.step" not in run.data.tags]
    (found,) = parent.inputs.dataset_inputs
    assert found.dataset.name == "instance pictures"
    assert store.read(dataset).content_digest.startswith(found.dataset.digest)
    assert json.loads(found.dataset.source) == {"uri": store.uri_of(dataset)}
    assert json.loads(found.dataset.profile) == {"num_images": 5}


@pytest.mark.proves("F33/params")
def test_train_run_has_its_settings_as_parameters_once(
    settings: Settings,
    store: Store,
    config: RunConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The step logs them while it trains; the end of the run adds nothing and changes nothing."""
    record_run(store, config)
    key_config = {
        "training": {**config.training.model_dump(mode="json"), "note": "é" * 7000},
        "world_size": 2, "prior": {"weight": 0.5}, "resolution_px": None,
    }  # fmt: skip
    step_tracker = open_step_tracker(
        settings, store=store, run_id=RUN, step="train", experiment=config.tracking.experiment
    )
    for _ in range(2):  # a resumed step logs them again
        step_tracker.params(dotted(key_config))
    step_tracker.close("FINISHED")
    record_step(store, "train", key_parts={"config": key_config})
    for _ in range(2):
        assert reconcile(settings, store, RUN, status="done")

    run = recorded(store, RUN, "train")
    assert run is not None
    params = connect(settings.mlflow_uri).get_run(run.mlflow_run_id).data.params
    assert params["training.learning_rate"] == "0.0001"
    assert params["training.caption_templates"] == "[]"
    assert (params["world_size"], params["prior.weight"]) == ("2", "0.5")
    assert params["resolution_px"] == "null"
    assert len(params["training.note"]) == 6000
    assert set(params) == set(dotted(key_config))
    assert "left out of tracking" not in caplog.text


@pytest.mark.proves("F33/params")
def test_reconcile_gives_every_step_the_settings_that_its_shards_share(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    for shard in (0, 1):
        parts = {"config": {"shard": shard, "num_shards": 2, "sampling": {"seed": 7}}}
        record_step(store, "generate_prior", shard=shard, key_parts=parts, reused=True)
    record_step(store, "validate_data", status="failed")
    assert reconcile(settings, store, RUN, status="failed")
    runs = {run.data.tags.get("boothline.step"): run for run in runs_in(settings, config)}
    assert runs["generate_prior"].data.params == {"num_shards": "2", "sampling.seed": "7"}
    assert runs["validate_data"].data.params == {}


def test_reconcile_of_failed_run_says_which_step_failed(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    record_step(store, "validate_data")
    failure = Failure(type="TrainingError", message="the loss became NaN")
    record_step(store, "train", status="failed", failure=failure)
    record_step(store, "generate_prior", shard=0, status="running")
    assert reconcile(settings, store, RUN, status="failed")
    runs = {run.data.tags.get("boothline.step", "parent"): run for run in runs_in(settings, config)}
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {
        "parent": "FAILED",
        "validate_data": "FINISHED",
        "train": "FAILED",
        "generate_prior": "KILLED",
    }
    assert runs["train"].data.tags["boothline.error"] == "the loss became NaN"


def test_attempts_that_log_the_same_leave_each_point_once(
    settings: Settings, store: Store, config: RunConfig, tmp_path: Path
) -> None:
    """A training that resumes from a state logs the steps after it again."""
    record_run(store, config)
    record_step(store, "train")
    (tmp_path / "sheet.png").write_bytes(b"png")
    for first, last in ((1, 300), (200, 450)):
        step_tracker = open_step_tracker(
            settings, store=store, run_id=RUN, step="train", experiment=config.tracking.experiment
        )
        for step in range(first, last):
            step_tracker.metrics({"loss": float(step), "speed": float(first)}, step=step)
        step_tracker.artifact(tmp_path / "sheet.png", folder="samples")
        step_tracker.close("FINISHED")
    assert reconcile(settings, store, RUN, status="done")
    client = connect(settings.mlflow_uri)
    run_id = getattr(recorded(store, RUN, "train"), "mlflow_run_id", "")
    assert [p.step for p in client.get_metric_history(run_id, "loss")] == list(range(1, 450))
    assert len(client.get_metric_history(run_id, "speed")) == 549
    assert [file.path for file in client.list_artifacts(run_id, "samples")] == ["samples/sheet.png"]


def test_values_that_mlflow_refuses_are_named_and_the_others_arrive(
    settings: Settings, store: Store, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    record_run(store, config)
    record_step(store, "train")

    def show(record: StepRecord, step_tracker: StepTracker) -> None:
        step_tracker.params({"bad\nname": 1})
        step_tracker.metrics({"loss": 1.0}, step=3)

    assert reconcile(settings, store, RUN, status="done", show=show)
    run_id = getattr(recorded(store, RUN, "train"), "mlflow_run_id", "")
    data = connect(settings.mlflow_uri).get_run(run_id).data
    assert (data.params, data.metrics["loss"]) == ({}, 1.0)
    assert "left out of tracking" in caplog.text


def test_reconcile_deletes_strays_and_replaces_runs_that_are_gone(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    record_step(store, "train")
    assert reconcile(settings, store, RUN, status="done")
    client = connect(settings.mlflow_uri)
    train = recorded(store, RUN, "train")
    assert train is not None
    client.delete_run(train.mlflow_run_id)
    client.create_run(train.experiment_id, tags={"boothline.run_id": RUN})
    assert reconcile(settings, store, RUN, status="done")
    assert len(runs_in(settings, config)) == 2
    assert recorded(store, RUN, "train") != train


def test_start_parent_called_again_gives_the_same_run_as_running(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    record_run(store, config)
    first = start_parent(settings, store, RUN, config)
    assert reconcile(settings, store, RUN, status="interrupted")
    client = connect(settings.mlflow_uri)
    assert client.get_run(first).info.status == "KILLED"
    assert start_parent(settings, store, RUN, config) == first
    assert client.get_run(first).info.status == "RUNNING"


@pytest.mark.parametrize("replayed", [False, True])
def test_run_says_who_started_it_even_where_it_was_replayed(
    settings: Settings, store: Store, config: RunConfig, replayed: bool
) -> None:
    settings = settings.model_copy(update={"actor": "Ada"})
    record_run(store, config)
    if replayed:
        assert reconcile(settings, store, RUN, status="done")
    else:
        start_parent(settings, store, RUN, config)
    (run,) = runs_in(settings, config)
    assert run.data.tags["mlflow.user"] == "Ada"


@pytest.mark.usefixtures("either_client")
def test_run_that_is_started_says_when(settings: Settings, store: Store, config: RunConfig) -> None:
    record_run(store, config)
    before_ms = int(time.time() * 1000)
    run = start_parent(settings, store, RUN, config)
    started_ms = connect(settings.mlflow_uri).get_run(run).info.start_time
    assert before_ms <= started_ms <= int(time.time() * 1000)


def test_dead_server_lets_start_and_reconcile_give_up_quickly(
    store_settings: Settings, store: Store, config: RunConfig
) -> None:
    settings = store_settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    connect(settings.mlflow_uri)
    started = time.monotonic()
    assert start_parent(settings, store, RUN, config) == ""
    assert not reconcile(settings, store, RUN, status="done")
    assert time.monotonic() - started < 12


def test_deleted_experiment_is_restored(
    settings: Settings, store: Store, config: RunConfig
) -> None:
    client = connect(settings.mlflow_uri)
    name = config.tracking.experiment
    experiment_id = client.create_experiment(name)
    client.delete_experiment(experiment_id)
    runs = MlflowRuns.connect(settings, store, RUN, experiment=name)
    assert runs.run().experiment_id == experiment_id
    assert client.get_experiment(experiment_id).lifecycle_stage == "active"


def given_run(settings: Settings) -> str:
    """Return a run as an orchestrator makes it, in an experiment of its own."""
    client = connect(settings.mlflow_uri)
    experiment = client.create_experiment(f"{settings.prefix}-nightly")
    return str(client.create_run(experiment, run_name="nightly").info.run_id)


@pytest.mark.proves("F52/adopted")
def test_run_that_is_injected_is_adopted_with_its_name_and_its_experiment(
    settings: Settings, store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = given_run(settings)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    record_run(store, config)
    record_step(store, "train")
    assert start_parent(settings, store, RUN, config) == given
    assert reconcile(settings, store, RUN, status="done")

    client = connect(settings.mlflow_uri)
    run = client.get_run(given)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "nightly")
    assert run.data.tags["boothline.run_id"] == RUN
    assert run.data.params["tracking.experiment"] == config.tracking.experiment
    nested = client.get_run(getattr(recorded(store, RUN, "train"), "mlflow_run_id", ""))
    assert nested.info.experiment_id == run.info.experiment_id
    assert nested.data.tags["mlflow.parentRunId"] == given
    assert client.get_experiment_by_name(config.tracking.experiment) is None


@pytest.mark.proves("F52/adopted")
def test_injected_run_of_another_pipeline_run_stays_that_ones(
    settings: Settings, store: Store, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = given_run(settings)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    assert start_parent(settings, store, RUN, config) == given
    later = start_parent(settings, store, "20260101-000000-ef01", config)
    assert later not in ("", given)
    assert start_parent(settings, store, RUN, config) == given


@pytest.mark.proves("F52/adopted")
def test_injected_run_that_does_not_exist_is_logged_and_one_is_made(
    settings: Settings,
    store: Store,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert start_parent(settings, store, RUN, config) not in ("", "0" * 32)
    assert "which MLFLOW_RUN_ID names" in caplog.text
