import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from boothline.config import RunConfig
from boothline.launch.local.folder import RunFolder
from boothline.launch.local.processes import processes_of
from boothline.launch.local.runner import LocalRunner, Outcome
from boothline.pipelines.parameters import arguments

HERE = Path(__file__).parent
AWKWARD = 'it\'s "{subject}" {{$.inputs}} {{$}} é python3 /kfp-workspace \\{{workflow.name}}'


class SilentDisplay:
    def __init__(self):
        self.said = []

    def show(self, progress):
        self.progress = progress

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "home" / "runs" / "20260101-000000-0000")
    folder.write_config(RunConfig.model_validate({"evaluation": {"prompts": [AWKWARD]}}))
    return folder


def runner_of(
    folder: RunFolder, *, grace_seconds: float = 10.0, soon: tuple[str, ...] = ()
) -> LocalRunner:
    return LocalRunner(
        folder=folder,
        home=folder.path.parent.parent,
        environment={"PYTHONPATH": str(HERE)},
        pipeline="cheap_pipeline:cheap",
        grace_seconds=grace_seconds,
        poll_seconds=0.05,
        soon=soon,
    )


def run(folder: RunFolder, behaviour: str, **options: float) -> Outcome:
    folder.path.joinpath("behaviour").write_text(behaviour)
    return runner_of(folder, **options).run(SilentDisplay())


def when_training(folder: RunFolder, act) -> threading.Thread:
    """Call `act(pid of the training step)` as soon as the step trains."""

    def wait():
        path = folder.path / "training.pid"
        deadline = time.monotonic() + 30
        while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        act(int(path.read_text()))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def states(outcome: Outcome) -> dict[str, str]:
    return {name: step.state for name, step in outcome.progress.steps.items()}


def test_local_run_of_good_steps_succeeds_and_reports_each(folder):
    outcome = run(folder, "ok")

    assert outcome.succeeded
    assert not outcome.interrupted
    assert {name for name, state in states(outcome).items() if state == "done"} == {
        "validate_data",
        "generate_prior",
        "train",
        "batch_infer",
        "finish_run",
    }
    assert outcome.progress.steps["generate_prior"].reused
    assert not outcome.progress.steps["train"].reused
    assert set(outcome.progress.steps["batch_infer"].shards) == {0, 1}
    assert "trains on dataset" in (folder.logs / "train.log").read_text()
    assert "Executing task" in folder.kfp_log.read_text()
    assert not (folder.path / "tmp").exists()
    assert not (folder.path / "kfp").exists()


def test_local_run_with_placeholder_like_text_passes_the_configuration_unharmed(folder):
    run(folder, "ok")

    received = (folder.path / "received.json").read_text()
    assert received == arguments(folder.run_id, folder.read_config())["config"]
    assert json.loads(received)["evaluation"]["prompts"] == [AWKWARD]


def test_local_run_loads_what_comes_soon_in_the_process_that_forks_the_steps(folder, tmp_path):
    loaded = tmp_path / "loaded"
    text = f"import sys\nopen({str(loaded)!r}, 'w').write(sys.argv[0])\n"
    (tmp_path / "comes_soon.py").write_text(text)
    folder.path.joinpath("behaviour").write_text("good")
    runner = runner_of(folder, soon=("comes_soon",))
    runner.environment["PYTHONPATH"] = f"{HERE}{os.pathsep}{tmp_path}"
    assert runner.run(SilentDisplay()).succeeded
    assert loaded.read_text().endswith("warm/server.py")


def test_local_run_with_failing_step_names_it_and_still_finishes_the_run(folder):
    outcome = run(folder, "fail")

    assert not outcome.succeeded
    failure = outcome.progress.first_failure()
    assert (failure.step, failure.error) == ("train", "The loss became NaN.")
    assert states(outcome)["batch_infer"] == "waiting"
    assert states(outcome)["finish_run"] == "done"


def test_local_run_with_killed_step_shows_it_unfinished(folder):
    outcome = run(folder, "die")

    assert not outcome.succeeded
    assert outcome.progress.unfinished() == ["train"]
    assert states(outcome)["finish_run"] == "done"


def test_local_run_interrupted_lets_the_step_commit_and_starts_no_other(folder):
    thread = when_training(folder, lambda pid: os.kill(os.getpid(), signal.SIGINT))
    outcome = run(folder, "hang")
    thread.join()

    assert outcome.interrupted
    assert (folder.path / "committed").read_text() == "state"
    assert states(outcome)["finish_run"] == "waiting"
    assert processes_of(folder.path) == []


def test_local_run_interrupted_with_stubborn_step_kills_it_after_the_grace_period(folder):
    thread = when_training(folder, lambda pid: os.kill(os.getpid(), signal.SIGTERM))
    started = time.monotonic()
    outcome = run(folder, "stubborn", grace_seconds=1.0)
    thread.join()

    assert outcome.interrupted
    assert time.monotonic() - started < 20
    assert processes_of(folder.path) == []


def test_local_run_with_killed_child_ends_its_steps_and_can_run_again(folder):
    thread = when_training(folder, lambda pid: os.kill(os.getpgid(pid), signal.SIGKILL))
    outcome = run(folder, "hang")
    thread.join()

    assert not outcome.succeeded
    assert not outcome.interrupted
    assert outcome.progress.unfinished() == ["train"]
    assert processes_of(folder.path) == []
    again = run(folder, "ok")
    assert again.succeeded
    assert again.progress.unfinished() == []


def test_local_run_whose_main_process_is_killed_stops_by_itself(folder):
    folder.path.joinpath("behaviour").write_text("hang")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path;"
        "from boothline.launch.local.folder import RunFolder;"
        "import test_local_runner as t;"
        "t.runner_of(RunFolder(Path(sys.argv[2]))).run(t.SilentDisplay())"
    )
    main = subprocess.Popen([sys.executable, "-c", script, str(HERE), str(folder.path)])
    when_training(folder, lambda pid: main.kill()).join()
    main.wait()

    _, alive = psutil.wait_procs(processes_of(folder.path), timeout=15)
    assert alive == []
    assert (folder.path / "committed").read_text() == "state"
