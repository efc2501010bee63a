"""The processes of a run: started one a step, found by their environment, stopped together."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import signature
from itertools import pairwise
from pathlib import Path

import psutil

from boothline import settings as environment
from boothline.catalogue import TORCH, described
from boothline.errors import ConfigError
from boothline.processes import kill, variable_of
from boothline.progress import label_of, read_events
from boothline.runs import trial_of
from boothline.warm import TORCH_LIBRARIES, TRACKING_LIBRARIES, Warm

_COMPONENT = re.compile(r"boothline\.components\.(\w+)")
RUN_DIR_VARIABLE = "BOOTHLINE_RUN_DIR"
STOPPED = 143


class StepLauncher:
    """Starts the process of each step for kfp.local, with a log of its own, until asked to stop.

    kfp.local pipes every step's output through its own process and prints it: a step would die
    with kfp.local's process, shards would mix their lines, and nothing could keep kfp.local from
    starting the next step of a run that is being stopped. So `install` puts this in the place of
    `run_local_subprocess`, for which kfp.local has no hook.

    Args:
        log_dir: folder of the run's folder that receives `<step>[-<shard>].log`.
        warm: forks the steps; None starts a new Python for each.
    """

    def __init__(self, log_dir: Path, *, warm: Warm | None = None) -> None:
        self._log_dir = log_dir
        self._warm = warm
        self.stopping = False

    def install(self) -> None:
        """Let kfp.local start its processes through this."""
        put_in_place("subprocess_task_handler", "run_local_subprocess", self.run)

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run a step's command to its end and return its exit status; refuse when stopping."""
        if self.stopping:
            return STOPPED
        variables = {**os.environ, **(env_vars or {})}
        with self.log_of(full_command).open("ab") as log:
            if self._warm is not None:
                return self._fork(self._warm, full_command, variables, output=log.fileno())
            return subprocess.call(
                full_command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
            )

    def _fork(
        self, warm: Warm, full_command: list[str], variables: Mapping[str, str], *, output: int
    ) -> int:
        """Do what the shell command of a lightweight component does, in a fork.

        What a step needs to make its result is loaded once a step of this run had to be made: where
        all are reused, none of it is needed.
        """
        first = full_command.index("--executor_input")
        program_text = full_command[first - 1]
        libraries = _libraries_of(program_text) if _any_was_made(self._log_dir.parent) else ()
        with tempfile.TemporaryDirectory(prefix="component-") as folder:
            program = Path(folder, "ephemeral_component.py")
            program.write_text(program_text, encoding="utf-8")
            child = warm.start(
                "kfp.dsl.executor_main",
                ["--component_module_path", str(program), *full_command[first:]],
                env={**variables, "_KFP_RUNTIME": "true", "BOOTHLINE_WARM": str(warm)},
                libraries=libraries,
                output=output,
            )
            if self.stopping:  # it was not there yet when the others were stopped
                child.terminate()
            return child.wait()

    def log_of(self, full_command: Sequence[str]) -> Path:
        """Return the log of the step that a command runs; its folder is made."""
        self._log_dir.mkdir(parents=True, exist_ok=True)
        return self._log_dir / f"{label_of_command(full_command)}.log"

    def stop(self) -> None:
        """Start no more steps and send SIGTERM to this process's group."""
        self.stopping = True
        os.killpg(os.getpgrp(), signal.SIGTERM)


def _libraries_of(program: str) -> tuple[str, ...]:
    """Return what the step loads that a component's program calls; nothing for another program."""
    named = _COMPONENT.search(program)
    step = described(named[1]) if named else None
    if step is None:
        return ()
    tracking = TRACKING_LIBRARIES if environment.current().mlflow_uri else ()
    return (*tracking, *(TORCH_LIBRARIES if step.image == TORCH else ()))


def _any_was_made(run_dir: Path) -> bool:
    """Return whether a step of a run made its result instead of finding it."""
    return any(event.kind == "done" and not event.reused for event in read_events(run_dir))


def put_in_place(module: str, name: str, ours: Callable[..., int]) -> None:
    """Put a function of ours in the place of one of kfp.local's: all such replacements are here.

    Args:
        module: module of `kfp.local`.
        name: its function; kfp is pinned, and this refuses one with other parameters.
        ours: what is called instead.

    Raises:
        ConfigError: kfp has another function of that name, or none.
    """
    handlers = import_module(f"kfp.local.{module}")
    theirs = getattr(handlers, name, None)
    wanted = list(signature(ours).parameters)
    if theirs is None or list(signature(theirs).parameters) != wanted:
        raise ConfigError(
            f"The installed kfp package has another {name} than Boothline was written for.",
            remedy="Install the release that Boothline names: pip install --upgrade boothline.",
        )
    setattr(handlers, name, ours)


def label_of_command(full_command: Sequence[str]) -> str:
    """Return the name of the step, with its shard or trial, that a KFP executor command runs."""
    options = dict(pairwise(full_command))
    values = json.loads(options["--executor_input"]).get("inputs", {}).get("parameterValues", {})
    trial = trial_of(str(values.get("run_id", "")))
    shard = values.get("shard", trial[1] if trial else None)
    return label_of(options["--function_to_execute"], None if shard is None else int(shard))


def processes_of(run_dir: Path | None, *, home: Path | None = None) -> list[psutil.Process]:
    """Return the living processes of a run, or of all runs of a home folder, by their environment.

    Found are also those whose parents have died; zombies and the calling process are left out.
    """
    found = []
    for process in psutil.process_iter():
        value = variable_of(process, RUN_DIR_VARIABLE)
        if not value or process.pid == os.getpid():
            continue
        path = Path(value)
        if path == run_dir or (home is not None and path.parent.parent == home.resolve()):
            found.append(process)
    return found


def end_run(run_dir: Path, *, grace_seconds: float) -> None:
    """Wait for the processes of a run to end by themselves; SIGKILL those that outlive that."""
    deadline = time.monotonic() + grace_seconds
    while (alive := processes_of(run_dir)) and time.monotonic() < deadline:
        psutil.wait_procs(alive, timeout=0.5)
    kill(alive)
