"""Reusing the results of a run's steps one after the other, in one process.

Whether a result stands follows from the store alone: the key of a step says where it would be.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module

from boothline import settings as environment
from boothline.catalogue import StepDescription, described, steps_of
from boothline.config import RunConfig
from boothline.config.form import encode
from boothline.errors import BoothlineError, NotFoundError
from boothline.progress import Progress, label_of
from boothline.results import Promotion
from boothline.runs import read_run, resolved_run_id
from boothline.settings import Settings
from boothline.steps import (
    InputsT,
    Step,
    StepContext,
    StepInputs,
    execute,
    key_parts,
    working,
)
from boothline.store import ManifestDraft, Store, layout
from boothline.tracking import StepTracker

logger = logging.getLogger(__name__)

LINEAR = ("dreambooth", "retrain")
"""Pipelines in which each step is given the results of those before it, once a run."""
REUSED = "reused"
"""What a step says of the rest of its run where that stands; where it has to be made: nothing."""


class Reuse:
    """The results of a run, reused one step after the other.

    A step is given what `StepDescription.gives` says, as the graphs of `LINEAR` have it.

    Args:
        store: holds the results.
        settings: where the services are.
        run_id: the run.
        config: its configuration.
        pipeline: its pipeline, one of `LINEAR`.
        results: references of the results that are known already, by step.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        run_id: str,
        config: RunConfig,
        pipeline: str,
        results: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._config = config
        self._steps = steps_of(pipeline)
        self._given = {"run_id": run_id, "config": encode(config)}
        self._results = {name: [ref] for name, ref in (results or {}).items()}

    def reaches(self, about: StepDescription) -> bool:
        """Return whether the run gets to a step, whose predecessors have been taken."""
        if about.runs != "promoted":
            return True
        (verdict,) = self._results["promote"]
        return self._store.read_as(Promotion, verdict).promoted

    def take(
        self,
        about: StepDescription,
        *,
        within: Callable[[str], AbstractContextManager[None]] = lambda label: nullcontext(),
    ) -> bool:
        """Reuse all shards of a step, or carry the run's last step out.

        Args:
            about: the step.
            within: given the label of a shard, surrounds the work on it.

        Returns:
            Whether all of them stand; nothing is written for one that does not.

        Raises:
            BoothlineError: a key cannot be made, or the reuse failed, which is recorded.
        """
        step: Step[StepInputs] = import_module(f"boothline.components.{about.name}.step").STEP
        for shard in range(about.shards.count(self._config)) if about.shards else (None,):
            inputs = step.inputs.model_validate(
                {name: self._input(name, shard) for name in step.inputs.model_fields}
            )
            with within(label_of(about.name, shard)):
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
        giver = next(about for about in self._steps if about.gives == name)
        if giver.optional:
            return self._results.get(giver.name, [])
        results = self._results[giver.name]
        return results if giver.shards else results[0]


def reuse_rest(run_id: str, config: str, *, results: Mapping[str, str]) -> str:
    """Reuse all that comes after a step in its run, so that Kubeflow need not start it.

    Only in a pod that knows how the training's pod counts its ranks: `Settings.train_gpus`.

    Args:
        run_id: the run, as the step was given it.
        config: its configuration as JSON.
        results: references of the step's result and of those before it, by step.

    Returns:
        `REUSED` where all results stand; empty where a step has to be made, which then reuses
        again what was reused here.
    """
    settings = environment.current()
    if settings.train_gpus is None:
        return ""
    resolved = RunConfig.model_validate_json(config)
    known = [about for about in map(described, results) if about]
    if any(about.shards and about.shards.count(resolved) > 1 for about in known):
        return ""
    last = max(about.place for about in known)
    try:
        run_id = resolved_run_id(run_id, job_id=settings.job_id)
        store = Store.connect(settings)
        record = read_run(store, run_id)
        pipeline = record.pipeline if record else ""
        if pipeline not in LINEAR:
            return ""
        run = Reuse(
            store, settings, run_id=run_id, config=resolved, pipeline=pipeline, results=results
        )
        rest = [about for about in steps_of(pipeline) if about.place > last and about.runs != "end"]
        stands = all(run.take(about) or about.optional for about in rest if run.reaches(about))
    except (BoothlineError, OSError, ValueError) as error:
        logger.info("the run is carried out step by step: %s", error)
        return ""
    return REUSED if stands else ""


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
    progress = Progress(step.name, shard=inputs.shard_number)
    with working(
        step, inputs, settings=settings, store=store, progress=progress, tracker=StepTracker()
    ) as context:
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
