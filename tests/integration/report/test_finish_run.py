"""The step finish_run against a real store and MLflow."""

from pathlib import Path

import pytest
from integration.report.synthetic_run import SyntheticRun

from boothline import settings as environment
from boothline.components.finish_run import step
from boothline.registry.mirror import Origin
from boothline.registry.versions import ensure_version
from boothline.results import Evaluation
from boothline.runs import Failure, RunRecord, read_run
from boothline.settings import Settings
from boothline.store import Manifest, Store

pytestmark = pytest.mark.services


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, store_settings: Settings, tmp_path: Path):
    """Make settings those of this process; returns a function of what to change."""

    def apply(**changes: object) -> Settings:
        settings = store_settings.model_copy(update={"run_dir": tmp_path / "run", **changes})
        monkeypatch.setattr(environment, "current", lambda: settings)
        return settings

    return apply


def finish(run: SyntheticRun, run_id: str) -> tuple[Manifest, RunRecord]:
    """Run the step; return its manifest and the run's record."""
    ref = step.run(run_id=run_id, config=run.config.model_dump_json())
    record = read_run(run.store, run_id)
    assert record is not None
    assert record.report == ref
    return run.store.read(ref), record


@pytest.mark.parametrize(("verdict", "expected"), [("promoted", "done"), ("refused", "refused")])
def test_finish_run_of_a_judged_run_records_the_verdict(
    use, store: Store, verdict, expected
) -> None:
    settings = use()
    run = SyntheticRun(store, verdict=verdict)
    run.complete()
    run_id = run.record("running")

    manifest, record = finish(run, run_id)

    assert manifest.kind == "report"
    assert manifest.metadata["status"] == record.status == expected
    assert record.seconds == pytest.approx(run.clock - record.created_at)
    assert set(manifest.inputs) == {str(ref) for ref in run.refs.values()}
    page = (settings.run_dir / "report.html").read_bytes()
    assert page == step.html(record.report)
    assert verdict.capitalize().encode() in page


def test_finish_run_of_a_failed_run_records_the_failure(use, run: SyntheticRun) -> None:
    use()
    run.validate()
    failure = Failure(type="StoreError", message="The store is full.")
    run.step("generate_prior", None, seconds=1, shard=0, status="failed", failure=failure)
    run_id = run.record("running")

    manifest, record = finish(run, run_id)

    assert record.status == manifest.metadata["status"] == "failed"


def test_finish_run_of_a_killed_step_records_the_failure(use, run: SyntheticRun) -> None:
    use()
    run.validate()
    run.step("train", None, seconds=0, status="running")
    run_id = run.record("running")

    assert finish(run, run_id)[1].status == "failed"


def test_finish_run_with_a_broken_result_still_writes_the_report(use, run: SyntheticRun) -> None:
    use()
    run.complete()
    run_id = run.record("running")
    run.store.forget(run.refs["train"].path)

    _, record = finish(run, run_id)

    assert b"This report is not complete." in step.html(record.report)


def test_finish_run_is_reused_until_a_step_changes(use, run: SyntheticRun) -> None:
    use()
    run.complete()
    run_id = run.record("running")

    first = finish(run, run_id)[1].report
    again = finish(run, run_id)[1].report
    run.step("batch_infer", None, seconds=1, shard=2, status="running")
    changed = finish(run, run_id)[1].report

    assert first == again
    assert changed != first


def test_finish_run_without_a_run_record_makes_one(use, run: SyntheticRun) -> None:
    use()
    run.validate()

    _, record = finish(run, "20261122-093000-1a2b")

    assert record.status == "failed"
    assert record.config["subject"]["name"] == "teddy-bear"


def test_finish_run_puts_the_report_on_the_parent_in_mlflow(
    use, run: SyntheticRun, mlflow_uri
) -> None:
    from mlflow import MlflowClient

    use(mlflow_uri=mlflow_uri)
    run.complete()
    run_id = run.record("running")

    finish(run, run_id)

    client = MlflowClient(mlflow_uri)
    experiment = client.get_experiment_by_name("boothline")
    name = f"teddy-bear: 120 steps, full ({run_id[-4:]})"
    (parent,) = client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.runName = '{name}' and status = 'FINISHED'"
    )
    assert parent.data.tags["mlflow.note.content"].startswith("**promoted**")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    found = client.list_artifacts(parent.info.run_id, "report")
    assert [item.path for item in found] == ["report/report.html"]


@pytest.mark.proves("F52/shown")
@pytest.mark.parametrize("verdict", ["promoted", "refused"])
def test_finish_run_says_on_the_version_how_it_was_judged(
    use, store: Store, mlflow_uri, verdict
) -> None:
    from mlflow import MlflowClient

    settings = use(mlflow_uri=mlflow_uri)
    run = SyntheticRun(store, verdict=verdict)
    run.complete()
    run_id = run.record("running")
    name = run.config.model_name
    version = ensure_version(
        store, settings, model_name=name, ref=run.refs["publish_checkpoint"],
        origin=Origin(run_id=run_id, base_license="apache-2.0"),
    )  # fmt: skip

    finish(run, run_id)
    finish(run, run_id)

    client = MlflowClient(mlflow_uri)
    (shown,) = client.search_model_versions(
        f"name = '{name}' and tags.`boothline.manifest_digest` = '{version.digest}'"
    )
    assert shown.tags["verdict"] == verdict
    scores = store.read_as(Evaluation, run.refs["evaluate"]).means()
    assert {"dino", "clip_t"} <= scores.keys()
    assert {metric: shown.tags[metric] for metric in scores} == {
        metric: f"{mean:.4f}" for metric, mean in scores.items()
    }
    assert shown.tags["base_model_license"] == "apache-2.0"
    assert shown.description.startswith(f"**{verdict}**\n\n- ")
    assert shown.description.count("licence: apache-2.0") == 1
    assert client.get_run(shown.run_id).info.status == "FINISHED"


def test_finish_run_without_its_tracking_server_is_done(use, run: SyntheticRun) -> None:
    use(mlflow_uri="http://127.0.0.1:9")
    run.complete()
    run_id = run.record("running")

    assert finish(run, run_id)[1].status == "done"
