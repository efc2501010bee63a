"""Which MLflow run belongs to a pipeline run or to a step: made once, whoever asks first."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from boothline.errors import ConflictError
from boothline.runs import trial_of
from boothline.settings import Settings, injected_run
from boothline.store import Store, layout
from boothline.tracking.base import dotted
from boothline.tracking.client import (
    Client,
    MissingError,
    RejectedError,
    by_key,
    listed,
)

logger = logging.getLogger(__name__)

PARENT = "_parent"
RUN_TAG = "boothline.run_id"
STEP_TAG = "boothline.step"
TRIAL_TAG = "boothline.trial"
PARENT_TAG = "mlflow.parentRunId"


NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"
NOTE_TAG = "mlflow.note.content"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Lets MLflow show runs of a training first, and not the pages for language models."""
_MAX_RUNS = 1000


def readable_name(run_id: str, config: Mapping[str, object]) -> str:
    """Return a run's name for people: `teddy-bear: 200 steps, full (1a2b)`.

    Args:
        run_id: the pipeline run.
        config: its configuration as plain values; what it lacks is left out.
    """
    values = dotted(config)
    trial = trial_of(run_id)
    short = (trial[0] if trial else run_id).rpartition("-")[2]
    num_steps = values.get("training.num_steps")
    facts = [f"{num_steps} steps" if num_steps is not None else ""]
    facts += [str(values.get("training.method", "")), f"trial {trial[1]}" if trial else ""]
    return f"{values.get('subject.name', 'run')}: {', '.join(filter(None, facts))} ({short})"


class MlflowRun(BaseModel):
    """The MLflow run of a pipeline run or step, as the store remembers it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mlflow_run_id: str
    experiment_id: str
    is_empty: bool = Field(
        default=False, exclude=True, description="Whether it was made now: it has nothing yet."
    )
    adopted: bool = Field(
        default=False, description="Whether somebody else made it, whose name for it stays."
    )


def recorded(store: Store, run_id: str, step: str = PARENT) -> MlflowRun | None:
    """Return the MLflow run of a step, or of the whole run, if the store knows one."""
    value = store.get_record(layout.mlflow_run(run_id, step))
    return None if value is None else MlflowRun.model_validate(value)


def ensure_experiment(client: Client, name: str) -> str:
    """Return the id of an experiment, made or restored if need be.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    look_up = partial(
        client.get,
        "experiments/get-by-name",
        to=f"find the experiment {name!r}",
        experiment_name=name,
    )
    try:
        found = look_up()["experiment"]
    except MissingError:
        try:
            to = f"create the experiment {name!r}"
            made = client.post("experiments/create", to=to, name=name, tags=listed(KIND))
            return str(made["experiment_id"])
        except RejectedError:  # another process was first
            found = look_up()["experiment"]
    experiment_id = str(found["experiment_id"])
    if found["lifecycle_stage"] == "deleted":
        to = f"restore the experiment {name!r}"
        client.post("experiments/restore", to=to, experiment_id=experiment_id)
    return experiment_id


@dataclass(frozen=True, kw_only=True)
class MlflowRuns:
    """Makes and finds the MLflow runs of one pipeline run.

    Attributes:
        client: of the tracking server.
        store: remembers which MLflow run is whose.
        run_id: the pipeline run.
        experiment: name of the MLflow experiment.
        actor: who started the run; empty: nobody says.
    """

    client: Client
    store: Store
    run_id: str
    experiment: str
    actor: str = ""

    @classmethod
    def connect(
        cls, settings: Settings, store: Store, run_id: str, *, experiment: str
    ) -> "MlflowRuns":
        """Return those of a run, in the tracking server that the settings name."""
        client = Client(settings.mlflow_uri)
        return cls(
            client=client, store=store, run_id=run_id, experiment=experiment, actor=settings.actor
        )

    def run(
        self, step: str = PARENT, *, started_ms: int | None = None, verify: bool = False
    ) -> MlflowRun:
        """Return the MLflow run of the pipeline run or, nested in it, that of a step.

        Every process gets the same, and so do all shards and attempts of a step.

        Args:
            step: name of the step, without a shard.
            started_ms: start of a run that is made now, in milliseconds since the epoch; None: now.
            verify: ask MLflow whether it still has the recorded run, and make it again if it has
                not. Only while a single process looks after the run.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        existing = recorded(self.store, self.run_id, step)
        if existing is not None and (not verify or self._is_there(existing)):
            return existing
        if step == PARENT and (adopted := self._adopted()):
            return self._claimed(step, adopted, replace=existing is not None)
        if step == PARENT:
            experiment_id = ensure_experiment(self.client, self.experiment)
            tags = self._sweep_tags()
        else:
            parent = self.run(started_ms=started_ms)
            experiment_id = parent.experiment_id
            tags = {STEP_TAG: step, PARENT_TAG: parent.mlflow_run_id}
        name = self.run_id if step == PARENT else step
        made = self.client.create_run(
            name,
            experiment_id=experiment_id,
            user_id="unknown",  # deprecated: the tag counts
            # The server takes a run that does not say when it started for one of 1970.
            start_time=int(time.time() * 1000) if started_ms is None else started_ms,
            tags=listed({RUN_TAG: self.run_id, **tags}),
        )
        run = MlflowRun(mlflow_run_id=made["run_id"], experiment_id=experiment_id, is_empty=True)
        return self._claimed(step, run, replace=existing is not None)

    def tags_of(self, run: MlflowRun, config: Mapping[str, object]) -> dict[str, str]:
        """Return what names the pipeline run, unless it has a name already, and who started it."""
        name = {} if run.adopted else {NAME_TAG: readable_name(self.run_id, config)}
        return {**name, **({USER_TAG: self.actor} if self.actor else {})}

    def _adopted(self) -> MlflowRun | None:
        """Return the run that whoever started this process has made for it, now tagged as ours.

        A trial of a sweep has none, and a run that belongs to another pipeline run stays that
        one's: the variable was left over.
        """
        given = injected_run()
        if not given or trial_of(self.run_id):
            return None
        try:
            found = self.client.run(given)
        except MissingError as error:
            logger.warning("a run is made, not the one which MLFLOW_RUN_ID names: %s", error)
            return None
        owner = by_key(found["data"].get("tags", ())).get(RUN_TAG, self.run_id)
        if owner != self.run_id or found["info"]["lifecycle_stage"] != "active":
            logger.warning("MLFLOW_RUN_ID names %s, which is of %s; a run is made", given, owner)
            return None
        self.client.log_batch(given, tags=listed({RUN_TAG: self.run_id}))
        experiment_id = found["info"]["experiment_id"]
        return MlflowRun(mlflow_run_id=given, experiment_id=experiment_id, adopted=True)

    def remove_strays(self, known: set[str]) -> None:
        """Delete MLflow runs with our run id that lost a race or whose maker died.

        Raises:
            TrackingError: MLflow is unreachable.
        """
        found = self.client.post(
            "runs/search",
            to=f"list the runs of {self.run_id}",
            experiment_ids=[self.run().experiment_id],
            filter=f"tags.`{RUN_TAG}` = '{self.run_id}'",
            max_results=_MAX_RUNS,
        )
        for stray in {run["info"]["run_id"] for run in found.get("runs", ())} - known:
            self.client.post("runs/delete", to=f"delete the stray run {stray}", run_id=stray)

    def _claimed(self, step: str, run: MlflowRun, *, replace: bool) -> MlflowRun:
        """Claim a step's place in the store for a run; the loser of a race deletes its own."""
        place = layout.mlflow_run(self.run_id, step)
        said = run.model_dump(mode="json", exclude_defaults=True)
        try:
            self.store.put_record(place, said, if_absent=not replace)
        except ConflictError:
            if not run.adopted:
                to = f"delete the second run of {step}"
                self.client.post("runs/delete", to=to, run_id=run.mlflow_run_id)
            winner = recorded(self.store, self.run_id, step)
            if winner is None:
                raise
            return winner
        return run

    def _sweep_tags(self) -> dict[str, str]:
        """Return what nests a trial's run under that of its sweep; nothing for other runs."""
        trial = trial_of(self.run_id)
        sweep = recorded(self.store, trial[0]) if trial else None
        if trial is None or sweep is None:
            return {}
        return {PARENT_TAG: sweep.mlflow_run_id, TRIAL_TAG: str(trial[1])}

    def _is_there(self, run: MlflowRun) -> bool:
        try:
            info = self.client.run(run.mlflow_run_id)["info"]
            return bool(info["lifecycle_stage"] == "active")
        except MissingError:  # its database was replaced, say
            return False
