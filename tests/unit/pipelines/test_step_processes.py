import json
import os
import subprocess
import sys

import pytest

from boothline.errors import ConfigError
from boothline.launch.local.processes import (
    RUN_DIR_VARIABLE,
    StepLauncher,
    end_run,
    label_of_command,
    processes_of,
    put_in_place,
)
from boothline.processes import end


def command_of(step: str, **parameters: object) -> list[str]:
    executor_input = json.dumps({"inputs": {"parameterValues": parameters}})
    code = f"print('output of {step}')"
    arguments = ["--executor_input", executor_input, "--function_to_execute", step]
    return [sys.executable, "-c", code, *arguments]


def sleeper(run_dir, *, stubborn: bool = False) -> subprocess.Popen:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    code = f"import signal, time; {ignore} print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, RUN_DIR_VARIABLE: str(run_dir)},
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    return process


@pytest.mark.parametrize(
    ("parameters", "label"), [({}, "generate_prior"), ({"shard": 1}, "generate_prior-1")]
)
def test_label_of_command_is_the_step_and_its_shard(parameters, label):
    assert label_of_command(command_of("generate_prior", **parameters)) == label


def test_launcher_writes_each_step_to_its_own_log_and_returns_its_status(tmp_path):
    launcher = StepLauncher(tmp_path / "logs")

    assert launcher.run(command_of("train")) == 0
    assert launcher.run(command_of("batch_infer", shard=0)) == 0
    assert launcher.run(["sh", "-c", "exit 7", *command_of("promote")[3:]]) == 7
    assert (tmp_path / "logs" / "train.log").read_text() == "output of train\n"
    assert (tmp_path / "logs" / "batch_infer-0.log").read_text() == "output of batch_infer\n"


class LateWarm:
    """Forks a step only when the run is being stopped already."""

    def __init__(self) -> None:
        self.launcher: StepLauncher | None = None
        self.terminated = False

    def start(self, *arguments, **options):
        self.launcher.stopping = True
        return self

    def terminate(self):
        self.terminated = True

    def wait(self):
        return -15 if self.terminated else 0


def test_step_that_is_forked_after_the_stop_is_told_to_end(tmp_path):
    warm = LateWarm()
    warm.launcher = StepLauncher(tmp_path / "logs", warm=warm)

    assert warm.launcher.run(command_of("train")) == -15


def test_launcher_that_is_stopping_starts_nothing(tmp_path):
    launcher = StepLauncher(tmp_path / "logs")
    launcher.stopping = True

    assert launcher.run(command_of("train")) != 0
    assert not (tmp_path / "logs").exists()


def test_processes_of_finds_those_of_the_run_and_of_the_home_only(tmp_path):
    here, there = tmp_path / "home" / "runs" / "a", tmp_path / "other" / "runs" / "a"
    ours, others = sleeper(here), sleeper(there)
    try:
        assert [process.pid for process in processes_of(here)] == [ours.pid]
        found = processes_of(None, home=tmp_path / "home")
        assert [process.pid for process in found] == [ours.pid]
    finally:
        for process in (ours, others):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("stubborn", [False, True])
def test_end_stops_processes_whether_they_listen_or_not(tmp_path, stubborn):
    process = sleeper(tmp_path, stubborn=stubborn)

    end(processes_of(tmp_path), grace_seconds=0.5)

    assert processes_of(tmp_path) == []
    process.wait(timeout=5)
    process.stdout.close()


def test_end_run_without_grace_kills_at_once(tmp_path):
    process = sleeper(tmp_path, stubborn=True)

    end_run(tmp_path, grace_seconds=0)

    assert processes_of(tmp_path) == []
    process.wait(timeout=5)
    process.stdout.close()


def test_put_in_place_replaces_a_function_of_kfp(monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.local import subprocess_task_handler

    theirs = subprocess_task_handler.run_local_subprocess
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", theirs)

    def ours(full_command, env_vars=None) -> int:
        return 7

    put_in_place("subprocess_task_handler", "run_local_subprocess", ours)
    assert subprocess_task_handler.run_local_subprocess(["x"]) == 7


@pytest.mark.parametrize("name", ["run_local_subprocess", "run_something_else"])
def test_put_in_place_refuses_a_function_that_is_another(name: str) -> None:
    with pytest.raises(ConfigError, match=f"another {name}"):
        put_in_place("subprocess_task_handler", name, lambda command: 0)
