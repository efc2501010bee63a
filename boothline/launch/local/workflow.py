"""A run from its configuration to its summary: checks, services, pipeline, verification."""

from pathlib import Path

from boothline import settings as process_environment
from boothline.catalogue import TOOLS, TORCH, trial_steps
from boothline.config import RunConfig
from boothline.doctor import tracking
from boothline.errors import (
    BoothlineError,
    ConfigError,
    DataError,
    InterruptedRunError,
    ServiceError,
)
from boothline.launch.local.containers import check_images, check_readable
from boothline.launch.local.folder import RunFolder, only_run
from boothline.launch.local.prechecks import check
from boothline.launch.local.replay import PIPELINE as REPLAYED
from boothline.launch.local.replay import replay
from boothline.launch.local.runner import Display, LocalRunner, Outcome
from boothline.launch.local.session import Session, open_session
from boothline.launch.local.summary import Summary, summarise
from boothline.launch.needs import check_needs
from boothline.launch.validating import cut_prompts
from boothline.notifying import tell_ending
from boothline.pipelines.parameters import arguments, labels
from boothline.processes import cores_for
from boothline.progress import Event, label_of
from boothline.results import Decision, Leaderboard, Promotion
from boothline.runs import RunStatus, open_run, read_run, write_run
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.trials import steps_with_trials
from boothline.warm import TORCH_LIBRARIES, TRACKING_LIBRARIES

_ERRORS = {2: ConfigError, 3: DataError, 5: ServiceError, 130: InterruptedRunError}


def carry_out(
    home: Path,
    folder: RunFolder,
    config: RunConfig,
    *,
    display: Display,
    pipeline: str = "dreambooth",
) -> tuple[Summary, BoothlineError | None]:
    """Run or resume a pipeline; return its summary, and why it failed, if it did.

    Args:
        home: the home folder.
        folder: the run's folder, new or of an earlier attempt.
        config: the run's configuration.
        display: shows the run as it goes.
        pipeline: name of the pipeline.

    Raises:
        ConfigError: another run is active, or the base model or a file does not exist.
        DataError: the subject's folder holds no picture.
        ServiceError: a service does not start, or the store is gone at the end.
    """
    check(config, home=home)
    for sentence in cut_prompts(config, home=home):
        display.say(f"Warning: {sentence}")
    if folder.in_containers:
        check_images((TOOLS, TORCH))
        check_readable(config)
    else:
        check_needs(config, process_environment.current(), pipeline=pipeline)
    arguments(folder.run_id, config, pipeline=pipeline)
    with only_run(home, folder.run_id):
        display.say(f"Run {folder.run_id}")
        if not process_environment.current().s3_endpoint:
            display.say("Starting local services (only if needed)")
        session = open_session(home, tracking=True)
        say_tracking(session.settings, display)
        folder.write_config(config, pipeline=pipeline)
        open_run(session.store, folder.run_id, config, pipeline=pipeline)
        outcome = replay(session, folder, config, display=display)
        if outcome is None:
            variables = {**session.environment, **_shares(config)}
            runner = LocalRunner(
                folder=folder, home=home, environment=variables, soon=_soon(session, folder)
            )
            outcome = runner.run(display)
        folder.add_attempt(outcome.seconds)
        try:
            error = conclude(session, folder.run_id, config, outcome)
            return summarise(session, folder), error
        except ServiceError as problem:
            remedy = f"{problem.remedy}\n{_resume(folder.run_id)}".strip()
            raise type(problem)(problem.message, remedy=remedy) from problem


def _soon(session: Session, folder: RunFolder) -> tuple[str, ...]:
    """Return the modules to load for the steps of a run that could not be replayed.

    Of other pipelines than the replayed one it is not known yet whether a step will be made.
    """
    if folder.pipeline != REPLAYED:
        return ()
    return (*TORCH_LIBRARIES, *(TRACKING_LIBRARIES if session.settings.mlflow_uri else ()))


def _shares(config: RunConfig) -> dict[str, str]:
    """Return the variables by which a sweep's trials, which run at once, do not fight for cores.

    Two teams of two threads on two cores wait for each other at every barrier: a step of the tiny
    base took 3.4 s instead of 0.3 s.
    """
    num_trials = len(config.sweep.trials)
    return cores_for(num_trials) if num_trials > 1 else {}


def say_tracking(settings: Settings, display: Display) -> None:
    """Say before anything is trained that metrics go nowhere, or that MLflow does not answer."""
    if not settings.mlflow_uri:
        display.say("BOOTHLINE_MLFLOW_URI is not set: nothing goes to MLflow")
        return
    found = tracking(settings)
    if found.status != "ok":
        display.say(
            f"Warning: MLflow: {found.detail}. The training continues without it; the registration "
            f"of the model will wait for it. {found.remedy}"
        )


def conclude(
    session: Session, run_id: str, config: RunConfig, outcome: Outcome
) -> BoothlineError | None:
    """Store how a run ended, where the exit handler could not, and return why it failed.

    A run ends well when every step left its manifest, not when KFP says so.

    Raises:
        ServiceError: the store is unreachable.
    """
    error = _failure_of(session.store, run_id, config, outcome)
    record = read_run(session.store, run_id)
    if record is None:
        return error
    status: RunStatus = record.status
    if isinstance(error, InterruptedRunError):
        status = "interrupted"
    elif error is not None:
        status = "failed"
    elif status == "running":
        status = "done"
    update = {"status": status, "seconds": outcome.seconds}
    write_run(session.store, record.model_copy(update=update))
    told = outcome.progress.steps["finish_run"].state == "done" and status == record.status
    if not told:  # the exit handler did not run, or knew less
        tell_ending(
            session.settings,
            session.store,
            record,
            config=config.notification,
            status=status,
            seconds=outcome.seconds,
            logs=session.home / "runs" / run_id / "logs",
        )
    return error


def _failure_of(
    store: Store, run_id: str, config: RunConfig, outcome: Outcome
) -> BoothlineError | None:
    """Return why a run did not end well; None when every step left its manifest."""
    resume = _resume(run_id)
    if outcome.interrupted:
        saved = outcome.progress.saved()
        said = f"interrupted; saved: {saved}" if saved else "interrupted"
        return InterruptedRunError(f"Run {run_id} was {said}.", remedy=resume)
    failure = outcome.progress.first_failure()
    if failure is not None:
        return _step_failure(run_id, failure, resume)
    dead = outcome.progress.unfinished()
    if dead:
        return BoothlineError(
            f"Step {dead[0]} exited without reporting an error: its process was killed.",
            remedy=f"Was memory short? See boothline logs {run_id} --step {dead[0]}. {resume}",
        )
    missing = _incomplete(store, run_id, config)
    if missing or not outcome.succeeded:
        what = f"Step {missing[0]} left no result" if missing else "KFP calls the run a failure"
        return BoothlineError(
            f"{what}.", remedy=f"See boothline logs {run_id} --step kfp. {resume}"
        )
    return None


def _resume(run_id: str) -> str:
    """Return how to continue a run."""
    return f"boothline resume {run_id} continues from here."


def _step_failure(run_id: str, failure: Event, resume: str) -> BoothlineError:
    """Return the error that a step's `failed` event stands for."""
    kind = _ERRORS.get(failure.exit_code, BoothlineError)
    shard = "" if failure.shard is None else f" (shard {failure.shard})"
    message = f"Step {failure.step}{shard} failed: {failure.error}"
    remedy = failure.remedy or f"See boothline logs {run_id} --step {failure.step}."
    return kind(message, remedy=f"{remedy}\n{resume}")


def _incomplete(store: Store, run_id: str, config: RunConfig) -> list[str]:
    """Return the steps, shards and trials whose record or manifest the store lacks."""
    done = {
        record.label: ManifestRef.parse(record.manifest)
        for record in steps_with_trials(store, run_id)
        if record.status == "done"
    }
    promotion = store.read_as(Promotion, done["promote"]) if "promote" in done else None
    triggers = done.get("check_triggers")
    decision = store.read_as(Decision, triggers) if triggers else None
    compared = done.get("compare_trials")
    trials = store.read_as(Leaderboard, compared).trials if compared else ()
    run = read_run(store, run_id)
    wanted = labels(
        config,
        pipeline=run.pipeline if run else "dreambooth",
        promoted=promotion is not None and promotion.promoted,
        skipped=decision is not None and decision.decision == "skip",
    )
    without = {  # of trials that failed and were left out of the comparison
        label_of(step, row.trial) for row in trials for step in trial_steps() if row.failure
    }
    return [
        label
        for label in wanted
        if label not in without
        and (label not in done or store.find(done[label].path) != done[label])
    ]
