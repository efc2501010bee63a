"""A run of which every result stands already, carried out in the launcher's own process.

Whether it is one follows from the store alone. Neither kfp.local nor a process for each step is
started; the records, events and logs are those of any other run.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from boothline.catalogue import steps_of
from boothline.config import RunConfig
from boothline.errors import BoothlineError
from boothline.launch.local.events import EventTail, RunProgress
from boothline.launch.local.folder import RunFolder
from boothline.launch.local.processes import processes_of
from boothline.launch.local.runner import INTERRUPTS, Display, Outcome, interrupt
from boothline.launch.local.session import Session
from boothline.processes import end, listening
from boothline.progress import read_events
from boothline.reusing import Reuse

logger = logging.getLogger(__name__)

PIPELINE = "dreambooth"
"""The pipeline whose results follow from its configuration; others ask at each run what stands."""
_GRACE_SECONDS = 30.0


def replay(
    session: Session, folder: RunFolder, config: RunConfig, *, display: Display
) -> Outcome | None:
    """Reuse the result of every step and write the run's end.

    Args:
        session: the open home folder, which no other run may use.
        folder: the run's folder.
        config: the run's configuration.
        display: shows the run as it goes.

    Returns:
        How it went; None where a step has to be made, or anything else stands in the way: the run
        has to be carried out as any other, which reuses again what was reused here.
    """
    if folder.pipeline != PIPELINE or folder.in_containers:
        return None
    end(processes_of(None, home=session.home), grace_seconds=_GRACE_SECONDS)
    attempt = _Attempt(session, folder, config, display)
    interrupted = False
    with listening(dict.fromkeys(INTERRUPTS, interrupt)):
        try:
            if not attempt.carry_out():
                return None
        except KeyboardInterrupt:
            interrupted = True
        except (BoothlineError, OSError, ValueError) as error:
            logger.info("the run is carried out step by step: %s", error)
            return None
    return attempt.outcome(interrupted=interrupted)


class _Attempt:
    """One attempt to reuse everything."""

    def __init__(
        self, session: Session, folder: RunFolder, config: RunConfig, display: Display
    ) -> None:
        self._run = Reuse(
            session.store,
            session.settings.model_copy(update={"run_dir": folder.path}),
            run_id=folder.run_id,
            config=config,
            pipeline=PIPELINE,
        )
        self._folder = folder
        self._display = display
        self._started_at = time.time()
        self._tail = EventTail(folder.path, since=self._started_at)
        self._progress = RunProgress(
            [step.name for step in steps_of(PIPELINE)], earlier=read_events(folder.path)
        )

    def carry_out(self) -> bool:
        """Reuse one step after the other, then end the run; say whether all could be reused."""
        for about in steps_of(PIPELINE):
            if not self._run.reaches(about):
                continue
            if about.runs == "end":  # only now it is certain that the run is shown from here
                self._show()
            if not self._run.take(about, within=self._logging):
                return False
        return True

    def outcome(self, *, interrupted: bool) -> Outcome:
        """Return how the attempt went."""
        self._show()
        return Outcome(
            progress=self._progress,
            succeeded=not interrupted,
            interrupted=interrupted,
            started_at=self._started_at,
            seconds=time.time() - self._started_at,
        )

    def _logging(self, label: str) -> AbstractContextManager[None]:
        return _logging_to(self._folder.logs / f"{label}.log")

    def _show(self) -> None:
        for event in self._tail.read():
            self._progress.apply(event)
        self._display.show(self._progress)


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Let this process log to a file only, as the process of a step does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.handlers[:] = former
        root.setLevel(level)
        handler.close()
