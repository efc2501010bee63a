import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from unit.pipelines.webhook import Hook

from boothline.catalogue import steps_of
from boothline.cli.summaries import say_status
from boothline.config import RunConfig
from boothline.errors import (
    BoothlineError,
    DataError,
    InterruptedRunError,
)
from boothline.launch.local.events import RunProgress
from boothline.launch.local.folder import RunFolder, only_run
from boothline.launch.local.runner import Outcome
from boothline.launch.local.session import Session
from boothline.launch.local.summary import summarise
from boothline.launch.local.workflow import conclude
from boothline.pipelines.parameters import labels
from boothline.progress import Event, Progress
from boothline.runs import RunRecord, StepRecord, read_run, write_run, write_step
from boothline.store import ManifestDraft

pytestmark = pytest.mark.services
RUN = "20260101-000000-0000"
CONFIG = RunConfig.model_validate({"inference": {"num_shards": 1}})
EVALUATION = {
    "metrics": {
        "finetuned": {"dino": {"mean": 0.8, "low": 0.7, "high": 0.9}, "clip_t": {"mean": 0.3}},
        "base": {"dino": {"mean": 0.5}},
    },
    "gains": {"base": {"dino": {"mean": 0.3}}},
}
PROMOTION = {
    "verdict": "promoted",
    "rules": [{"name": "subject", "passed": True, "value": 0.3, "bound": 0.02, "text": "better"}],
}
STEPS = [step.name for step in steps_of("dreambooth")]
KINDS = {
    "validate_data": "dataset",
    "publish_checkpoint": "model",
    "evaluate": "evaluation",
    "promote": "promotion",
}
METADATA = {
    "validate_data": {"num_images": 4, "num_quarantined": 1, "num_warnings": 0},
    "evaluate": EVALUATION,
    "promote": PROMOTION,
    "publish_checkpoint": {"model_name": "boothline-subject"},
}


@pytest.fixture
def session(store_settings, tmp_path) -> Session:
    environment = {
        "BOOTHLINE_S3_ENDPOINT": store_settings.s3_endpoint,
        "BOOTHLINE_S3_ACCESS_KEY": store_settings.s3_access_key,
        "BOOTHLINE_S3_SECRET_KEY": store_settings.s3_secret_key.get_secret_value(),
        "BOOTHLINE_BUCKET": store_settings.bucket,
        "BOOTHLINE_PREFIX": store_settings.prefix,
        "BOOTHLINE_HOME": str(tmp_path),
    }
    return Session(home=tmp_path, environment=environment)


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / RUN)


def write_complete_run(store, *, status="running", skip: str = "") -> None:
    record = RunRecord(
        run_id=RUN, status=status, config=CONFIG.model_dump(mode="json"), created_at=1.0
    )
    write_run(store, record)
    for number, label in enumerate(labels(CONFIG, promoted=True)):
        if label == skip:
            continue
        step, _, shard = label.partition("-")
        draft = ManifestDraft(
            kind=KINDS.get(step, step),
            files={"report.html": b"<p>"} if step == "finish_run" else {},
            metadata=METADATA.get(step, {}),
        )
        ref = store.commit(f"steps/{step}/{label}", draft)
        write_step(
            store,
            RUN,
            StepRecord(
                step=step,
                shard=int(shard) if shard else None,
                status="done",
                reused=step == "train",
                manifest=str(ref),
                started_at=float(number),
                seconds=1.5,
            ),
        )
        if step == "finish_run":
            write_run(store, record.model_copy(update={"status": "done", "report": str(ref)}))


def outcome(*events: Event, succeeded=True, interrupted=False) -> Outcome:
    progress = RunProgress(STEPS)
    for event in events:
        progress.apply(event)
    return Outcome(
        progress=progress,
        succeeded=succeeded,
        interrupted=interrupted,
        started_at=1.0,
        seconds=12.5,
    )


def test_summary_of_complete_run_has_everything_that_is_promised(session, folder):
    write_complete_run(session.store)
    ref = session.store.find("steps/publish_checkpoint/publish_checkpoint")
    session.store.put_record(f"registry/boothline-subject/{ref.digest}.json", {"version": 3})

    error = conclude(session, RUN, CONFIG, outcome())
    summary = summarise(session, folder)

    assert error is None
    assert set(summary.model_dump()) >= {
        "run_id",
        "status",
        "seconds",
        "steps",
        "report",
        "model",
        "metrics",
    }
    assert (summary.run_id, summary.status, summary.seconds) == (RUN, "done", 12.5)
    assert [step.name for step in summary.steps] == labels(CONFIG, promoted=True)
    assert [step.name for step in summary.steps if step.reused] == ["train"]
    assert Path(summary.report).read_text() == "<p>"
    assert summary.model.model_dump() == {
        "name": "boothline-subject",
        "version": "3",
        "digest": ref.digest,
    }
    assert summary.metrics == {"dino": 0.8, "clip_t": 0.3, "base_dino": 0.5, "gain_dino": 0.3}
    assert summary.verdict == "promoted"
    assert summary.pictures == "4 used, 1 left out; see validation.html"
    console = Console(width=120, file=io.StringIO(), record=True)
    say_status(console, summary)
    assert "4 used, 1 left out; see validation.html" in console.export_text()
    assert summary.rules == ["better"]


@pytest.mark.parametrize("label", ["train", "generate_prior-1", "batch_infer-0"])
def test_conclude_of_run_that_lacks_a_manifest_fails_whatever_kfp_says(session, label):
    write_complete_run(session.store, skip=label)

    error = conclude(session, RUN, CONFIG, outcome(succeeded=True))

    assert label in error.message
    assert read_run(session.store, RUN).status == "failed"


def test_conclude_of_run_whose_manifest_is_gone_fails(session):
    write_complete_run(session.store)
    session.store.forget("steps/evaluate/evaluate")

    error = conclude(session, RUN, CONFIG, outcome(succeeded=True))

    assert "evaluate" in error.message


def test_conclude_of_failed_step_takes_its_exit_code_message_and_remedy(session):
    write_complete_run(session.store)
    failed = Event(
        time=2.0,
        step="validate_data",
        kind="failed",
        error="Only 2 pictures.",
        remedy="Add one.",
        exit_code=3,
    )

    error = conclude(session, RUN, CONFIG, outcome(failed, succeeded=False))

    assert isinstance(error, DataError)
    assert error.exit_code == 3
    assert error.message == "Step validate_data failed: Only 2 pictures."
    assert error.remedy.splitlines() == ["Add one.", f"boothline resume {RUN} continues from here."]


def test_conclude_of_killed_step_says_so_and_how_to_resume(session):
    write_complete_run(session.store)
    started = Event(time=2.0, step="train", kind="started")

    error = conclude(session, RUN, CONFIG, outcome(started, succeeded=False))

    assert type(error) is BoothlineError
    assert "Step train exited without reporting an error" in error.message
    assert f"boothline resume {RUN}" in error.remedy


def test_conclude_of_interrupted_run_marks_it_and_exits_with_130(session):
    write_complete_run(session.store, skip="finish_run")

    error = conclude(session, RUN, CONFIG, outcome(succeeded=False, interrupted=True))

    assert isinstance(error, InterruptedRunError)
    assert error.exit_code == 130
    assert read_run(session.store, RUN).status == "interrupted"


def test_summary_of_run_whose_process_died_is_interrupted_until_it_is_active(session, folder):
    write_complete_run(session.store, skip="finish_run")
    write_step(session.store, RUN, StepRecord(step="train", status="running", started_at=3.0))

    def statuses():
        summary = summarise(session, folder)
        return summary.status, {step.name: step.status for step in summary.steps}["train"]

    assert statuses() == ("interrupted", "interrupted")
    with only_run(session.home, RUN):
        assert statuses() == ("running", "running")


def test_summary_of_run_that_never_reached_the_store_is_empty(session, folder):
    summary = summarise(session, folder)

    assert summary.steps == []
    assert summary.model is None
    assert summary.metrics == {}
    assert summary.report == ""


def test_summary_of_running_run_tells_how_far_each_step_is(session, folder):
    write_run(
        session.store,
        RunRecord(
            run_id=RUN, status="running", config=CONFIG.model_dump(mode="json"), created_at=1
        ),
    )
    old = Progress("train", run_dir=folder.path, clock=lambda: 5.0)
    old.emit(Event(time=5.0, step="train", kind="done"))

    with only_run(session.home, RUN):
        train = Progress("train", run_dir=folder.path, min_interval_seconds=0)
        train.emit(Event(time=time.time(), step="train", kind="started"))
        train.update(40, 150, unit="steps", note="loss 0.05")
        summary = summarise(session, folder)

    steps = {step.step: step for step in summary.progress}
    assert summary.status == "running"
    assert list(steps) == STEPS
    assert (steps["train"].status, steps["evaluate"].status) == ("running", "waiting")
    assert (steps["train"].done, steps["train"].total, steps["train"].note) == (
        40,
        150,
        "loss 0.05",
    )
    assert summarise(session, folder).progress == []


def test_status_of_running_run_shows_progress_in_words(session, folder):
    with only_run(session.home, RUN):
        train = Progress("train", run_dir=folder.path, min_interval_seconds=0)
        train.emit(Event(time=time.time(), step="train", kind="started"))
        train.update(40, 150, unit="steps", note="loss 0.05")
        summary = summarise(session, folder)
    console = Console(width=120, file=io.StringIO())

    say_status(console, summary)

    assert "40/150 steps" in console.file.getvalue()
    assert "loss 0.05" in console.file.getvalue()


@pytest.fixture
def hook(session):
    with Hook() as hook:
        session.environment["BOOTHLINE_NOTIFY_WEBHOOK_URL"] = hook.url
        yield hook


def test_conclude_of_interrupted_run_tells_the_webhook_what_the_exit_handler_could_not(
    session, hook
):
    write_complete_run(session.store, skip="finish_run")
    write_step(session.store, RUN, StepRecord(step="train", status="running", started_at=3.0))
    logs = session.home / "runs" / RUN / "logs"
    logs.mkdir(parents=True)
    (logs / "train.log").write_text("step 40\n")

    conclude(session, RUN, CONFIG, outcome(succeeded=False, interrupted=True))

    (told,) = hook.received
    assert (told["boothline"]["status"], told["boothline"]["step"]) == ("interrupted", "train")
    assert told["boothline"]["log"] == ["step 40"]
    assert told["boothline"]["resume"] == f"boothline resume {RUN}"


def test_conclude_of_run_that_its_exit_handler_told_of_tells_nothing_again(session, hook):
    write_complete_run(session.store)
    done = Event(time=9.0, step="finish_run", kind="done")

    assert conclude(session, RUN, CONFIG, outcome(done)) is None
    assert hook.received == []


def test_conclude_of_run_ends_the_same_without_the_webhook(session):
    session.environment["BOOTHLINE_NOTIFY_WEBHOOK_URL"] = "http://127.0.0.1:9/x"
    write_complete_run(session.store, skip="train")

    error = conclude(session, RUN, CONFIG, outcome(succeeded=True))

    assert "train left no result" in error.message
