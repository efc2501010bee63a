"""A run of which every result stands already, carried out in the launcher's own process.

Whether it is one follows from the store alone. Neither kfp.local nor a process for each step is
started; the records, events and logs are those of any other run.
"""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from boothline.catalogue import StepDescription, steps_of
from boothline.config import RunConfig
from boothline.config.form import encode
from boothline.errors import BoothlineError, NotFoundError
from boothline.launch.local.events import EventTail, RunProgress
from boothline.launch.local.folder import RunFolder
from boothline.launch.local.processes import processes_of
from boothline.launch.local.runner import INTERRUPTS, Display, Outcome, interrupt
from boothline.launch.local.session import Session
from boothline.pipelines.parameters import shards
from boothline.processes import end, listening
from boothline.progress import Progress, label_of, read_events
from boothline.results import Promotion
from boothline.settings import Settings
from boothline.steps import (
    InputsT,
    Step,
    StepContext,
    StepInputs,
    config_here,
    execute,
    key_parts,
)
from boothline.store import ManifestDraft, Store, layout
from boothline.tracking import StepTracker

logger = logging.getLogger(__name__)

PIPELINE = "dreambooth"
"""The pipeline whose results follow from its configuration; those of others ask what else stands.

Its steps are given what `StepDescription.gives` says, as its graph has it.
"""
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
        self._store = session.store
        self._settings = session.settings.model_copy(update={"run_dir": folder.path})
        self._folder = folder
        self._config = config
        self._given = {"run_id": folder.run_id, "config": encode(config)}
        self._results: dict[str, list[str]] = {}
        self._display = display
        self._started_at = time.time()
        self._tail = EventTail(folder.path, since=self._started_at)
        self._progress = RunProgress(
            [step.name for step in steps_of(PIPELINE)], earlier=read_events(folder.path)
        )

    def carry_out(self) -> bool:
        """Reuse one step after the other, then end the run; say whether all could be reused."""
        for about in steps_of(PIPELINE):
            if about.runs == "promoted" and not self._is_promoted():
                continue
            if about.runs == "end":  # only now it is certain that the run is shown from here
                self._show()
            if not self._reuse(about):
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

    def _reuse(self, about: StepDescription) -> bool:
        """Reuse all shards of a step, or end the run; say whether that could be done."""
        step: Step[StepInputs] = import_module(f"boothline.components.{about.name}.step").STEP
        numbers: Sequence[int | None] = shards(self._config).get(about.name, (None,))
        for shard in numbers:
            inputs = step.inputs.model_validate(
                {name: self._input(name, shard) for name in step.inputs.model_fields}
            )
            with _logging_to(self._folder.logs / f"{label_of(about.name, shard)}.log"):
                take = execute if about.runs == "end" else reuse
                ref = take(step, inputs, settings=self._settings, store=self._store)
            if ref is None:
                return False
            self._results.setdefault(about.name, []).append(ref)
        return True

    def _input(self, name: str, shard: int | None) -> object:
        """Return an input of a step: the results of the step that gives it, or one of the run's."""
        if name == "shard":
            return shard
        if name in self._given:
            return self._given[name]
        giver = next(about for about in steps_of(PIPELINE) if about.gives == name)
        results = self._results[giver.name]
        return results if giver.shards else results[0]

    def _is_promoted(self) -> bool:
        (verdict,) = self._results["promote"]
        return self._store.read_as(Promotion, verdict).promoted

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


def reuse(step: Step[InputsT], inputs: InputsT, *, settings: Settings, store: Store) -> str | None:
    """Reuse the committed result of a step, as `execute` does.

    Args:
        step: the step.
        inputs: its inputs.
        settings: where the services are.
        store: the store.

    Returns:
        The reference of the result's manifest; None, with nothing written, where there is none.

    Raises:
        BoothlineError: the key cannot be made, or the reuse failed, which is recorded.
    """
    with tempfile.TemporaryDirectory(prefix=f"boothline-{step.name}-") as folder:
        context = StepContext(
            run_id=inputs.run_id,
            config=config_here(step, inputs, store=store, folder=Path(folder)),
            settings=settings,
            store=store,
            progress=Progress(step.name, shard=inputs.shard_number),
            tracker=StepTracker(),
            folder=Path(folder),
        )
        key = step.key(context, inputs)
    path = layout.step_result(step.name, layout.key_of(key_parts(step, key, store)))
    if store.find(path) is None:
        return None
    found = replace(step, key=lambda context, inputs: key, produce=_refuse_to_make)
    return execute(found, inputs, settings=settings, store=store)


def _refuse_to_make(context: StepContext, inputs: StepInputs) -> ManifestDraft:
    """Stand in for `produce` where a result was seen a moment ago.

    Raises:
        NotFoundError: always; it has been deleted since.
    """
    raise NotFoundError(f"The result {context.manifest_path} was deleted meanwhile.")
