"""How every step runs: key, reuse, produce, commit, record."""

import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

import boothline
from boothline import logs, metering
from boothline import settings as environment
from boothline.catalogue import described
from boothline.config import RunConfig
from boothline.connecting import excerpt
from boothline.data.prompt_files import with_prompts_here
from boothline.errors import BoothlineError
from boothline.progress import Event, Progress, label_of
from boothline.runs import Failure, StepRecord, resolved_run_id, trial_of, write_step
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store, layout
from boothline.telemetry import Observed, observing
from boothline.tracking import StepTracker, open_step_tracker
from boothline.trials import FAILED_TRIAL, ends_its_trial_only

logger = logging.getLogger(__name__)


class StepInputs(BaseModel):
    """Inputs that every step has.

    Attributes:
        run_id: the pipeline run.
        config: the resolved `RunConfig` as JSON.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    config: str

    @property
    def shard_number(self) -> int | None:
        """The number of the shard; None for a step that is not sharded."""
        return getattr(self, "shard", None)

    @property
    def of_failed_trial(self) -> bool:
        """Whether an earlier step of the same trial has failed, so that there is nothing to do."""
        references = self.model_dump(exclude={"run_id", "config"})
        return FAILED_TRIAL in references.values()


InputsT = TypeVar("InputsT", bound=StepInputs)


@dataclass(frozen=True, kw_only=True)
class StepKey:
    """What a step's result depends on, besides the code version.

    Attributes:
        config: the part of the configuration that matters, as JSON.
        inputs: the manifests it reads; their content digests enter the key.
    """

    config: Mapping[str, object]
    inputs: tuple[ManifestRef, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step may use.

    Attributes:
        run_id: the pipeline run.
        config: the run's configuration.
        settings: the environment.
        store: where inputs come from and results go.
        progress: where progress goes.
        tracker: where metrics and pictures go; opens its MLflow run on first use.
        folder: scratch folder, deleted afterwards.
        manifest_path: where the result will be committed, `steps/<step>/<key>`.
        key_config: the part of the configuration that the step's key holds, as JSON.
        subject: name of the one of several subjects that it is about; empty: there are not several,
            or it is about all.
        needed: called with each result of the store that is used in addition to the inputs, so that
            no garbage collection takes it away.
    """

    run_id: str
    config: RunConfig
    settings: Settings
    store: Store
    progress: Progress
    tracker: StepTracker
    folder: Path
    manifest_path: str = ""
    key_config: Mapping[str, object] = field(default_factory=dict)
    subject: str = ""
    needed: Callable[[ManifestRef], None] = lambda ref: None

    @property
    def common_folder(self) -> Path:
        """The scratch folder that the subjects of a step share."""
        return self.folder.parent if self.subject else self.folder

    @cached_property
    def key(self) -> str:
        """The step's key: the last part of the manifest path."""
        return layout.key_in(self.manifest_path)


@dataclass(frozen=True, kw_only=True)
class Step(Generic[InputsT]):
    """One step of a pipeline.

    Attributes:
        name: the step's verb, the same in folder, component and MLflow run.
        inputs: what it is given.
        version: raised when the code changes what it produces.
        key: says what the result depends on.
        produce: makes the result; not called when the store has it already.
        finish: called with the committed result, made or reused, before the step counts as done;
            must be idempotent and cheap when its work is done already (registration, say).
    """

    name: str
    inputs: type[InputsT]
    version: int
    key: Callable[[StepContext, InputsT], StepKey]
    produce: Callable[[StepContext, InputsT], ManifestDraft]
    finish: Callable[[StepContext, InputsT, ManifestRef], None] = field(
        default=lambda context, inputs, ref: None
    )

    def run(self, **inputs: object) -> str:
        """Run the step, or reuse its result, and return the reference of its manifest."""
        with reason_last():
            return execute(self, self.inputs.model_validate(inputs))


@contextmanager
def reason_last() -> Iterator[None]:
    """In a pod, let an expected error end the process with its exit code, its message last.

    Kubeflow shows the end of a log.
    """
    try:
        yield
    except BoothlineError as error:
        if not environment.current().job_id:
            raise
        traceback.print_exc()
        sys.stderr.write(f"\n{type(error).__name__}: {error.message}\n{error.remedy}".rstrip())
        sys.stderr.write("\n")
        sys.exit(error.exit_code)


def key_parts(step: Step[InputsT], key: StepKey, store: Store) -> dict[str, object]:
    """Return all that the step's key digests, as JSON."""
    return {
        "step": step.name,
        "version": f"{boothline.__version__}+{step.version}",
        "config": dict(key.config),
        "inputs": [store.read(ref).content_digest for ref in key.inputs],
    }


def _is_executor() -> bool:
    """Return whether this process is KFP's executor: a container that runs one step."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == "kfp.dsl.executor_main"


def execute(
    step: Step[InputsT],
    inputs: InputsT,
    *,
    settings: Settings | None = None,
    store: Store | None = None,
) -> str:
    """Run a step, or reuse its committed result.

    Args:
        step: the step.
        inputs: its inputs.
        settings: where the services are; by default what this process's environment says.
        store: the store of these settings; None: it is connected to.

    Returns:
        The reference of the result's manifest; `FAILED_TRIAL` where the step failed in a trial of a
        sweep, or the step before it did: the sweep continues with the other trials.

    Raises:
        ConfigError: the run id cannot be made; see `boothline.runs.resolved_run_id`.
        BoothlineError: the step failed for an expected reason; it is recorded.
    """
    if inputs.of_failed_trial:
        return FAILED_TRIAL
    settings = settings or environment.current()
    run_id = resolved_run_id(inputs.run_id, job_id=settings.job_id)
    settings = settings.model_copy(update={"run_id": run_id})
    inputs = inputs.model_copy(update={"run_id": run_id})
    shard, trial = inputs.shard_number, trial_of(inputs.run_id)
    if shard is None and trial is not None:  # the trials of a sweep report side by side
        shard = trial[1]
    # KFP's executor has set up logging in a format of its own, without the logger's name.
    label = label_of(step.name, shard)
    logs.configure(settings.log_format, run=run_id, step=label, force=_is_executor())
    progress = Progress(step.name, shard=shard, run_dir=settings.run_dir)
    event = partial(Event, step=step.name, shard=shard)
    progress.emit(event(time=time.time(), kind="started"))
    try:
        with observing(run_id=run_id, step=step.name, shard=shard) as observed:
            store = store or Store.connect(settings)
            record = _recorded(
                step, inputs, progress=progress, settings=settings, store=store, observed=observed
            )
    except BaseException as error:
        failure = Failure.of(error)
        goes_on = isinstance(error, Exception) and ends_its_trial_only(inputs.run_id, failure)
        progress.emit(event(time=time.time(), kind="failed", run_goes_on=goes_on, **_said(failure)))
        if not goes_on:
            raise
        logger.exception("this trial ends here; the sweep continues without it")
        return FAILED_TRIAL
    progress.emit(
        event(time=time.time(), kind="done", reused=record.reused, manifest=record.manifest)
    )
    return record.manifest


def _said(failure: Failure) -> dict[str, str | int]:
    """Return a failure as the fields of an event."""
    return {
        "error": failure.message,
        "remedy": failure.remedy,
        "exit_code": failure.exit_code,
    }


def _recorded(
    step: Step[InputsT],
    inputs: InputsT,
    *,
    progress: Progress,
    settings: Settings,
    store: Store,
    observed: Observed,
) -> StepRecord:
    """Find or make the result, and write down in the store what became of the step."""
    config = RunConfig.model_validate_json(inputs.config)
    tracker = open_step_tracker(
        settings,
        store=store,
        run_id=inputs.run_id,
        step=step.name,
        experiment=config.tracking.experiment,
        tensorboard=config.tracking.tensorboard,
        wandb=config.tracking.wandb,
        further=observed.sinks,
    )
    started_at, counters = time.time(), metering.read()
    record = StepRecord(
        step=step.name, shard=inputs.shard_number, status="running", started_at=started_at
    )
    try:
        with working(
            step, inputs, settings=settings, store=store, progress=progress, tracker=tracker
        ) as context:
            parts = key_parts(step, step.key(context, inputs), store)
            record = record.model_copy(update={"key_parts": parts})
            observed.key = record.key
            ref, reused = _find_or_make(step, inputs, context=context, record=record)
            observed.reused = reused
    except BaseException as error:
        ended: dict[str, object] = {"status": "failed", "failure": Failure.of(error)}
        raise
    else:
        ended = {"status": "done", "reused": reused, "manifest": str(ref)}
    finally:
        ended["seconds"] = time.time() - started_at
        ended["usage"] = metering.between(counters, metering.read())
        record = record.model_copy(update=ended)
        write_step(store, inputs.run_id, record)
        tracker.close("FINISHED" if record.status == "done" else "FAILED")
    return record


@contextmanager
def working(
    step: Step[InputsT],
    inputs: InputsT,
    *,
    settings: Settings,
    store: Store,
    progress: Progress,
    tracker: StepTracker,
) -> Iterator[StepContext]:
    """Yield what a step may use, with a scratch folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"boothline-{step.name}-") as folder:
        yield StepContext(
            run_id=inputs.run_id,
            config=_config_here(step, inputs, store=store, folder=Path(folder)),
            settings=settings,
            store=store,
            progress=progress,
            tracker=tracker,
            folder=Path(folder),
        )


def _config_here(step: Step[InputsT], inputs: InputsT, *, store: Store, folder: Path) -> RunConfig:
    """Return the configuration that a step works by, its prompt files brought into a folder.

    A run's last step reports whatever is missing, and reads no prompts.
    """
    config = RunConfig.model_validate_json(inputs.config)
    about = described(step.name)
    if about is not None and about.runs == "end":
        return config
    return with_prompts_here(config, folder, bucket=store.bucket)


def _find_or_make(
    step: Step[InputsT], inputs: InputsT, *, context: StepContext, record: StepRecord
) -> tuple[ManifestRef, bool]:
    """Return the committed result and whether it was there already."""
    path = layout.step_result(step.name, record.key)
    context = replace(
        context,
        manifest_path=path,
        key_config=record.key_parts["config"],
        needed=_Needs(context.store, inputs.run_id, record),
    )
    ref = _find(context.store, path, record=record, run_id=inputs.run_id)
    reused = ref is not None
    if ref is None:
        write_step(context.store, inputs.run_id, record)
        ref = context.store.commit(path, step.produce(context, inputs))
        context.tracker.tags({"boothline.manifest": str(ref)})
        show(step.name, context, ref)
    step.finish(context, inputs, ref)
    return ref, reused


def show(step: str, context: StepContext, ref: ManifestRef) -> None:
    """Log what the committed result of a step shows; what cannot be read is left out.

    Args:
        step: name of the step.
        context: has the tracker that is logged to and a folder for files.
        ref: the result, or a training state of a training that has none.
    """
    description = described(step)
    if description is None or context.tracker.drops_all:
        return
    try:
        description.show(context, ref)
    except (BoothlineError, LookupError, OSError, TypeError, ValueError) as error:
        # A step must not fail for it: a result of an older version may lack what is shown.
        logger.warning("the result of %s is not shown in tracking: %s", step, excerpt(str(error)))


class _Needs:
    """Writes down in a step's record which results it uses while its own is being made."""

    def __init__(self, store: Store, run_id: str, record: StepRecord) -> None:
        self._store, self._run_id, self._record = store, run_id, record

    def __call__(self, ref: ManifestRef) -> None:
        """Take in one more result."""
        uses = (*self._record.uses, str(ref))
        self._record = self._record.model_copy(update={"uses": uses})
        write_step(self._store, self._run_id, self._record)


def _find(store: Store, path: str, *, record: StepRecord, run_id: str) -> ManifestRef | None:
    """Return the committed result, if there is one, and write down that this run needs it.

    It is looked up again if a garbage collection ran meanwhile, which did not know of this run.
    """
    mark = store.sweep_mark()
    ref = store.find(path)
    if ref is None:
        return None
    write_step(store, run_id, record.model_copy(update={"manifest": str(ref)}))
    return ref if store.undisturbed_since(mark) else store.find(path)
