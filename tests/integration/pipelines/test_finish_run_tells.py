"""The exit handler tells the webhook how the run ended."""

import pytest
from integration.report.synthetic_run import SyntheticRun
from unit.pipelines.webhook import Hook

from boothline import settings as environment
from boothline.components.finish_run import step
from boothline.report.collect import collect
from boothline.runs import Failure, RunRecord, StepRecord, read_run, write_run, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft

pytestmark = pytest.mark.services


@pytest.fixture
def finish(monkeypatch, store_settings: Settings, tmp_path):
    """Run the step with a webhook at a URL."""

    def run(synthetic: SyntheticRun, run_id: str, url: str) -> None:
        changes = {
            "run_dir": tmp_path / "run",
            "notify_webhook_url": Settings(notify_webhook_url=url).notify_webhook_url,
        }
        settings = store_settings.model_copy(update=changes)
        monkeypatch.setattr(environment, "current", lambda: settings)
        step.run(run_id=run_id, config=synthetic.config.model_dump_json())

    return run


def test_finish_run_of_a_failed_run_tells_step_log_and_resume(finish, store, tmp_path):
    run = SyntheticRun(store)
    failure = Failure(type="StoreError", message="The store is full.")
    run.step("generate_prior", None, seconds=1, shard=0, status="failed", failure=failure)
    run_id = run.record("running")
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "generate_prior-0.log").write_text("chunk 3\nno space\n")

    with Hook() as hook:
        finish(run, run_id, hook.url)

    (told,) = hook.received
    assert told["boothline"]["step"] == "generate_prior-0"
    assert told["boothline"]["error"] == "The store is full."
    assert told["boothline"]["log"] == ["chunk 3", "no space"]
    assert told["boothline"]["resume"] == f"boothline resume {run_id}"


def test_finish_run_of_a_refused_run_tells_the_rules_that_refused(finish, store):
    run = SyntheticRun(store, verdict="refused")
    run.complete()
    run_id = run.record("running")

    with Hook() as hook:
        finish(run, run_id, hook.url)

    assert hook.received[0]["boothline"]["status"] == "refused"
    texts = [block["text"]["text"] for block in hook.received[0]["blocks"]]
    assert any("refused" in text for text in texts[1:])


def test_finish_run_ends_the_same_when_the_webhook_is_gone(finish, store):
    run = SyntheticRun(store)
    run.complete()
    run_id = run.record("running")

    finish(run, run_id, "http://127.0.0.1:9/gone")

    assert read_run(store, run_id).status == "done"


def test_finish_run_of_a_sweep_records_its_trials(finish, store):
    run = SyntheticRun(store)
    run.complete()
    run_id = run.record("running")
    trials = {"sweep": {"trials": [{"training.seed": 1}, {"training.seed": 2}]}}
    config = type(run.config).model_validate(run.config.model_dump(mode="json") | trials)
    run.config = config
    record = read_run(store, run_id)
    changes = {"pipeline": "sweep", "config": config.model_dump(mode="json")}
    write_run(store, record.model_copy(update=changes))
    for path in store.list_records(f"runs/{run_id}/steps/"):
        if path.rsplit("/", 1)[-1] in ("train.json", "publish_checkpoint.json", "evaluate.json"):
            value = store.get_record(path)
            store.put_record(path.replace(run_id, f"{run_id}-t00"), value)
    value = store.get_record(f"runs/{run_id}/steps/train.json")
    store.put_record(f"runs/{run_id}-t01/steps/train.json", value | {"status": "failed"})

    finish(run, run_id, "")

    good, bad = (read_run(store, f"{run_id}-t0{number}") for number in (0, 1))
    assert (good.status, bad.status) == ("done", "failed")
    assert isinstance(good, RunRecord)
    assert (good.pipeline, good.config["training"]["seed"]) == ("trial", 1)


def test_report_of_a_sweep_shows_its_best_trial(store):
    run = SyntheticRun(store)
    run.complete()
    run_id = run.record("done")
    whole = collect(store, run_id)
    for name in ("train", "publish_checkpoint", "evaluate"):
        value = store.get_record(f"runs/{run_id}/steps/{name}.json")
        store.put_record(f"runs/{run_id}-t01/steps/{name}.json", value)
        store.put_record(f"runs/{run_id}/steps/{name}.json", value | {"step": "validate_data"})
    leaderboard = store.commit(
        "steps/compare_trials/k",
        ManifestDraft(kind="leaderboard", files={}, metadata={"best": {"trial": 1}}),
    )
    ranked = StepRecord(
        step="compare_trials", status="done", manifest=str(leaderboard), started_at=1.0
    )
    write_step(store, run_id, ranked)
    record = store.get_record(f"runs/{run_id}/run.json")
    trials = [{"training.learning_rate": 3e-6}, {"training.learning_rate": 7e-5}]
    config = record["config"] | {"sweep": {"trials": trials}}
    store.put_record(f"runs/{run_id}/run.json", record | {"config": config})

    report = collect(store, run_id)

    assert dict(report.training.facts)["Learning rate"].startswith("7e-05")
    assert len(report.metrics) == len(whole.metrics) > 0
    assert report.comparisons == whole.comparisons
