"""Runs a pipeline in a child process and follows it by its events."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from boothline.catalogue import steps_of
from boothline.launch.local.events import EventTail, RunProgress
from boothline.launch.local.folder import RunFolder, run_folders
from boothline.launch.local.processes import RUN_DIR_VARIABLE, end_run, processes_of
from boothline.processes import end, listening
from boothline.progress import read_events

MAX_RUNS = 5
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display(Protocol):
    """Shows a run as it goes."""

    def show(self, progress: RunProgress) -> None:
        """Show how far the run is; called several times a second."""

    def say(self, text: str) -> None:
        """Show a line of text."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the child process ended.

    Attributes:
        progress: what the events of this attempt add up to.
        succeeded: whether KFP calls the run a success.
        interrupted: whether it was stopped by a signal.
        started_at: start of the attempt, in seconds since the epoch.
        seconds: duration of the attempt.
    """

    progress: RunProgress
    succeeded: bool
    interrupted: bool
    started_at: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LocalRunner:
    """Runs the pipeline of one run folder.

    Attributes:
        folder: the run's folder, with its configuration.
        home: the home folder; processes left over from a killed run in it are ended first.
        environment: variables with the addresses of the steps' services.
        pipeline: `<module>:<attribute>`; empty for the one that the folder names.
        grace_seconds: time that steps have to commit their state after SIGTERM.
        poll_seconds: time between two looks at the events.
        soon: modules that are loaded for the steps while the first of them run.
    """

    folder: RunFolder
    home: Path
    environment: Mapping[str, str]
    pipeline: str = ""
    grace_seconds: float = 30.0
    poll_seconds: float = 0.2
    soon: tuple[str, ...] = ()

    def run(self, display: Display) -> Outcome:
        """Run the pipeline to its end, or until SIGINT, SIGTERM or SIGHUP."""
        end(processes_of(None, home=self.home), grace_seconds=self.grace_seconds)
        started_at = time.time()
        tail = EventTail(self.folder.path, since=started_at)
        progress = RunProgress(
            [step.name for step in steps_of(self.folder.pipeline)],
            usual=usual_seconds(self.home, self.folder),
            earlier=read_events(self.folder.path),
        )
        interrupted = False
        with listening(dict.fromkeys(INTERRUPTS, interrupt)):
            child = self._start()
            try:
                self._follow(child, tail, progress, display)
            except KeyboardInterrupt:
                interrupted = True
                display.say(
                    "Stopping; the training is being saved. Press Ctrl-C again to stop without "
                    "saving."
                )
                self._stop(child, tail, progress, display)
            finally:
                end_run(self.folder.path, grace_seconds=0)
                shutil.rmtree(self._scratch, ignore_errors=True)
        self._absorb(tail, progress, display)
        if interrupted:
            progress.stop(time.time())
            display.show(progress)
        return Outcome(
            progress=progress,
            succeeded=child.returncode == 0,
            interrupted=interrupted,
            started_at=started_at,
            seconds=time.time() - started_at,
        )

    @property
    def _scratch(self) -> Path:
        """Temporary folder of the steps."""
        return self.folder.path / "tmp"

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start the child in its own process group; it stops when our end of its input closes."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        with self.folder.kfp_log.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "boothline.launch.local_run",
                    str(self.folder.path),
                    *self._arguments(),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    **self.environment,
                    RUN_DIR_VARIABLE: str(self.folder.path),
                    "TMPDIR": str(self._scratch),
                    "PYTHONUNBUFFERED": "1",
                },
            )

    def _arguments(self) -> list[str]:
        """Return the child's further arguments."""
        return [self.pipeline, *self.soon]

    def _follow(
        self,
        child: "subprocess.Popen[bytes]",
        tail: EventTail,
        progress: RunProgress,
        display: Display,
    ) -> None:
        """Show the events until the child has ended."""
        while True:
            try:
                child.wait(timeout=self.poll_seconds)
            except subprocess.TimeoutExpired:
                self._absorb(tail, progress, display)
            else:
                return

    def _stop(
        self,
        child: "subprocess.Popen[bytes]",
        tail: EventTail,
        progress: RunProgress,
        display: Display,
    ) -> None:
        """Ask the child and its steps to end; wait for the grace period or a further interrupt."""
        child.terminate()
        deadline = time.monotonic() + self.grace_seconds
        try:
            while processes_of(self.folder.path) and time.monotonic() < deadline:
                self._absorb(tail, progress, display)
                child.poll()
                time.sleep(self.poll_seconds)
        except KeyboardInterrupt:
            display.say("Stopping now.")
        if child.poll() is None:
            child.kill()
            child.wait()

    def _absorb(self, tail: EventTail, progress: RunProgress, display: Display) -> None:
        """Take new events into account and show them."""
        for event in tail.read():
            progress.apply(event)
        display.show(progress)


def interrupt(signal_number: int, frame: object) -> None:
    """Answer a signal as Ctrl-C is answered."""
    raise KeyboardInterrupt


def usual_seconds(home: Path, folder: RunFolder) -> dict[str, float]:
    """Return how long each step took when it was made last, among the newest runs of a home.

    The training's time is that of this run's number of steps.

    Args:
        home: the home folder.
        folder: the run that is to be foreseen; only runs of its pipeline count.
    """
    found: dict[str, float] = {}
    others = [run for run in run_folders(home) if run != folder and run.pipeline == folder.pipeline]
    for run in reversed(others[-MAX_RUNS:]):
        progress = RunProgress([step.name for step in steps_of(run.pipeline)])
        for event in read_events(run.path):
            progress.apply(event)
        for name, step in progress.steps.items():
            if step.state == "done" and not step.reused and name not in found:
                found[name] = step.seconds(0.0)
                if name == "train" and step.total and folder.config_path.exists():
                    wanted = folder.read_config().training.num_steps
                    found[name] *= wanted / step.total
    return found
