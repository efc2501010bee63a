"""The processes of a run: started one a step, found by their environment, stopped together."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from boothline.progress import label_of
from boothline.runs import trial_of

RUN_DIR_VARIABLE = "BOOTHLINE_RUN_DIR"
STOPPED = 143


class StepLauncher:
    """Starts the process of each step for kfp.local, with a log of its own, until told to stop.

    kfp.local pipes every step's output through its own process and prints it: a step would die
    with kfp.local's process, shards would mix their lines, and nothing could keep kfp.local from
    starting the next step of a run that is being stopped. So `install` puts this in the place of
    `run_local_subprocess` (kfp is pinned, a test holds the signature).

    Args:
        log_dir: folder that receives `<step>[-<shard>].log`.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self.stopping = False

    def install(self) -> None:
        """Let kfp.local start its processes through this."""
        from kfp.local import subprocess_task_handler

        subprocess_task_handler.run_local_subprocess = self.run

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run a step's command to its end and return its exit status; refuse when stopping."""
        if self.stopping:
            return STOPPED
        with self.log_of(full_command).open("ab") as log:
            return subprocess.call(
                full_command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env_vars} if env_vars else None,
            )

    def log_of(self, full_command: Sequence[str]) -> Path:
        """Return the log of the step that a command runs; its folder is made."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return self._log_dir / f"{label_of_command(full_command)}.log"

    def stop(self) -> None:
        """Start no more steps and send SIGTERM to this process's group."""
        self.stopping = True
        os.killpg(os.getpgrp(), signal.SIGTERM)


def label_of_command(full_command: Sequence[str]) -> str:
    """Return the name of the step, with its shard or trial, that a KFP executor command runs."""
    options = dict(pairwise(full_command))
    inputs: dict[str, Any] = json.loads(options["--executor_input"]).get("inputs", {})
    values = inputs.get("parameterValues", {})
    trial = trial_of(str(values.get("run_id", "")))
    shard = values.get("shard", trial[1] if trial else None)
    return label_of(options["--function_to_execute"], None if shard is None else int(shard))


def processes_of(run_dir: Path | None, *, home: Path | None = None) -> list[psutil.Process]:
    """Return the living processes of a run, or of all runs of a home folder, by their environment.

    Found are also those whose parents have died; zombies and the calling process are left out.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            value = process.environ().get(RUN_DIR_VARIABLE)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if not value:
            continue
        path = Path(value)
        if path == run_dir or (home is not None and path.parent.parent == home.resolve()):
            found.append(process)
    return found


def end(processes: Sequence[psutil.Process], *, grace_seconds: float) -> None:
    """Send SIGTERM to processes and SIGKILL to those that outlive the grace period."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def end_run(run_dir: Path, *, grace_seconds: float) -> None:
    """Wait for the processes of a run to end by themselves; SIGKILL those that outlive that."""
    deadline = time.monotonic() + grace_seconds
    while (alive := processes_of(run_dir)) and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=0.5)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
