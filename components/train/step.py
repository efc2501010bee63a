"""Fine-tunes the base model on the instance images, with the class images as prior."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boothline.components.train import ABOUT, METRICS, VALIDATED
from boothline.data.class_pictures import CLASS_FOLDER
from boothline.diffusion.base_model import BaseModel, model_of
from boothline.errors import DataError
from boothline.processes import num_gpus
from boothline.results import Training
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import FileEntry, ManifestDraft, ManifestRef, Store, layout
from boothline.store.manifest import digest_of
from boothline.subjects import part_of, parts_of
from boothline.tracking import dotted
from boothline.training.job import (
    CURVE_FILE,
    SAMPLES_FOLDER,
    VALIDATION_FILE,
    SubjectFolders,
    TrainingJob,
    result_config,
)
from boothline.training.launch import TrainingResult, train

_OWN_PICTURES = f"{CLASS_FOLDER}/images/"


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        dataset: reference of the dataset.
        priors: references of the shards of the class prior.
    """

    dataset: str
    priors: list[str]


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the trained weights depend on; the cut of the prior into shards is not in it."""
    config = result_config(context.config, world_size=_world_size(context))
    encoders = {name: model.digest for name, model in _encoders(context).items()}
    return StepKey(
        config={
            **config,
            **({"encoders": encoders} if encoders else {}),
            "base_model": _model(context).digest,
            "prior_pictures": _prior_digests(context, inputs),
        },
        inputs=(ManifestRef.parse(inputs.dataset),),
    )


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """The pictures of one subject.

    Attributes:
        name: its name; empty: there are not several.
        dataset: its dataset.
        priors: the shards of its class prior that hold pictures; none without prior preservation.
    """

    name: str
    dataset: ManifestRef
    priors: tuple[ManifestRef, ...]


def _subjects(context: StepContext, inputs: Inputs) -> list[_Subject]:
    """Return each subject with its pictures, in the order of the configuration."""
    store, enabled = context.store, context.config.prior.enabled
    found = []
    for name in context.config.by_subject:
        shards = [part_of(store, ref, name) for ref in inputs.priors if enabled]
        priors = tuple(ref for ref in shards if store.read(ref).under("images/"))
        dataset = part_of(store, inputs.dataset, name)
        found.append(_Subject(name=name, dataset=dataset, priors=priors))
    return found


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Train under torchrun, from the newest training state on, and return the result."""
    context.tracker.params(dotted(context.key_config))
    job = _job(context, inputs)
    report = _Reporter(context)
    result = _train(job, context, report)
    return _draft(context, inputs, job=job, result=result)


def _train(job: TrainingJob, context: StepContext, report: "_Reporter") -> TrainingResult:
    """Train on this machine, or on several nodes where the deployment says so."""
    if not context.settings.train_job:
        return train(job, settings=context.settings, on_event=report)
    from boothline.trainjob.cluster import Cluster
    from boothline.trainjob.launch import train_on_nodes
    from boothline.trainjob.settings import TrainJobSettings

    settings = TrainJobSettings.from_json(context.settings.train_job)
    return train_on_nodes(
        job,
        settings=settings,
        store=context.store,
        cluster=Cluster.connect(settings.namespace),
        run_id=context.run_id,
        on_event=report,
    )


def _job(context: StepContext, inputs: Inputs) -> TrainingJob:
    """Fetch the pictures into the step's folder and describe the training.

    Raises:
        DataError: prior preservation is on but there is no class image.
    """
    base = _model(context)
    dataset = context.store.read(inputs.dataset)
    encoders = _encoders(context)
    return TrainingJob(
        config=context.config,
        world_size=_world_size(context),
        base_model=base.path,
        base_model_digest=base.digest,
        pictures=tuple(
            _fetch_subject(context, one, folder=context.folder / one.name)
            for one in _subjects(context, inputs)
        ),
        data_digest=digest_of([dataset.content_digest, _prior_digests(context, inputs)]),
        states=layout.training_states(context.key),
        folder=context.folder,
        dino_model=encoders["dino_model"].path if encoders else None,
        clip_model=encoders["clip_model"].path if encoders else None,
    )


def _draft(
    context: StepContext, inputs: Inputs, *, job: TrainingJob, result: TrainingResult
) -> ManifestDraft:
    """Return the result as a manifest draft."""
    state = ManifestRef.parse(result.final_state)
    files: dict[str, Path | bytes | FileEntry] = {CURVE_FILE: result.curve}
    files.update({f"{SAMPLES_FOLDER}/{path.name}": path for path in result.samples})
    steps: dict[str, int] = {}
    if result.pass_size < job.micro_batch_size:
        steps["pass_size"] = result.pass_size
    if result.validation is not None:
        files[VALIDATION_FILE] = result.validation
        steps |= {"chosen_step": result.chosen_step, "last_step": result.last_step}
    training = Training(
        final_state=context.store.read(state).content_digest,
        num_steps=context.config.training.num_steps,
        world_size=job.world_size,
        base_model_digest=job.base_model_digest,
        num_parameters_trained=result.num_parameters_trained,
        **steps,
    )
    return training.draft(
        files,
        inputs=(
            ManifestRef.parse(inputs.dataset),
            *_priors(context, inputs),
            state,
        ),
    )


def _world_size(context: StepContext) -> int:
    """Return the number of ranks: the training machine's own, else that of the configuration."""
    training, gpus = context.config.training, context.settings.train_gpus
    gpus = num_gpus() if gpus is None else gpus
    return context.settings.num_processes or training.num_ranks(num_gpus=gpus)


def _model(context: StepContext, source: str = "") -> BaseModel:
    return model_of(context.config, context.settings, source)


def _encoders(context: StepContext) -> dict[str, BaseModel]:
    """Return the encoders that validate, by the name of their setting; none without validation."""
    if not context.config.training.validation.every_steps:
        return {}
    evaluation = context.config.evaluation
    return {
        "dino_model": _model(context, evaluation.dino_model),
        "clip_model": _model(context, evaluation.clip_model),
    }


def _priors(context: StepContext, inputs: Inputs) -> list[ManifestRef]:
    """Return the shards that hold pictures of any subject; none without prior preservation."""
    if not context.config.prior.enabled:
        return []
    store, shards = context.store, [ManifestRef.parse(ref) for ref in inputs.priors]
    return [
        ref
        for ref in shards
        if any(store.read(part).under("images/") for part in parts_of(store, ref).values())
    ]


def _fetch_subject(context: StepContext, subject: _Subject, *, folder: Path) -> SubjectFolders:
    """Fetch the pictures of one subject: its own, then those of its class.

    Raises:
        DataError: prior preservation is on but there is no class image.
    """
    store = context.store
    priors = []
    if context.config.prior.enabled and _own_files(context, subject):
        store.fetch(subject.dataset, folder / "prior-000", prefix=f"{CLASS_FOLDER}/")
        priors.append(folder / "prior-000" / CLASS_FOLDER)
    for ref in subject.priors:
        priors.append(_fetch(store, ref, folder / f"prior-{len(priors):03d}"))
    if context.config.prior.enabled and not priors:
        whose = f" of {subject.name}" if subject.name else ""
        raise DataError(
            f"Prior preservation is on, but the class prior{whose} holds no picture.",
            remedy="Run generate_prior, or set prior.enabled=false.",
        )
    instance = _fetch(store, subject.dataset, folder / "instance")
    return SubjectFolders(instance=instance, priors=tuple(priors))


def _prior_digests(context: StepContext, inputs: Inputs) -> str | list[str]:
    """Return the digest of all class images and their captions; of several subjects, of each."""
    digests = [_prior_digest(context, one) for one in _subjects(context, inputs)]
    return digests if context.config.subjects else digests[0]


def _prior_digest(context: StepContext, subject: _Subject) -> str:
    """Return the digest of one subject's class images, however they are sharded."""
    own = _own_digest(context, subject)
    sampled = _sampled_digest(context.store, subject)
    if not own:
        return sampled
    return digest_of({"own": own, "sampled": sampled}) if subject.priors else own


def _own_files(context: StepContext, subject: _Subject) -> tuple[FileEntry, ...]:
    """Return the files of the class pictures of one's own; none without prior preservation."""
    if not context.config.prior.enabled:
        return ()
    manifest = context.store.read(subject.dataset)
    return manifest.under(f"{CLASS_FOLDER}/") if manifest.under(_OWN_PICTURES) else ()


def _own_digest(context: StepContext, subject: _Subject) -> str:
    """Return the digest of the class pictures of one's own; empty without any."""
    files = _own_files(context, subject)
    return digest_of(sorted((entry.path, entry.sha256) for entry in files)) if files else ""


def _sampled_digest(store: Store, subject: _Subject) -> str:
    """Return the digest of the sampled class pictures."""
    images: list[tuple[str, str]] = []
    captions: list[str] = []
    for ref in subject.priors:
        images += [(entry.path, entry.sha256) for entry in store.read(ref).under("images/")]
        text = store.read_bytes(ref, "captions.jsonl").decode()
        captions += [line for line in text.split("\n") if line]
    return digest_of({"images": sorted(images), "captions": sorted(captions)})


def _fetch(store: Store, ref: ManifestRef, folder: Path) -> Path:
    """Fetch the pictures, their masks and captions of a manifest."""
    for prefix in ("images/", "masks/", "captions.jsonl"):
        store.fetch(ref, folder, prefix=prefix)
    return folder


class _Reporter:
    """Passes the events of the training on to the progress and the tracker."""

    def __init__(self, context: StepContext) -> None:
        self._progress = context.progress
        self._tracker = context.tracker
        self._total = context.config.training.num_steps
        self._done = 0

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Report one event."""
        if event["event"] == "step":
            self._step(event)
        elif event["event"] == "validation":
            values = {f"validation_{k}": float(v) for k, v in event.items() if k in VALIDATED}
            self._tracker.metrics(values, step=int(event["step"]))
        elif event["event"] == "sheet":
            self._tracker.artifact(Path(event["path"]), folder=SAMPLES_FOLDER)
        elif event["event"] == "inputs":
            self._tracker.artifact(Path(event["path"]))
        elif event["event"] == "memory":
            self._tracker.metrics({"peak_memory_mib": event["peak_bytes"] / 2**20})
        elif event["event"] == "smaller":
            self._tracker.metrics({"pass_size": event["pass_size"]}, step=int(event["step"]))
        elif event["event"] == "start" and event["step"] > 0:
            self._update(event["step"], note=f"resuming after step {event['step']}", once=True)
        elif event["event"] == "silent":
            self._update(self._done, note=event["text"], once=True)
        elif event["event"] == "phase":
            self._update(self._done, note=event["name"], once=True)

    def _step(self, event: Mapping[str, Any]) -> None:
        speed = event.get("images_per_second")
        note = f"loss {event['instance_loss']:.4f} prior {event['prior_loss']:.4f}"
        self._update(event["step"], note=note + (f" {speed:.1f} img/s" if speed else ""))
        values = {name: float(event[name]) for name in METRICS if name in event}
        self._tracker.metrics(values, step=int(event["step"]))

    def _update(self, done: int, *, note: str, once: bool = False) -> None:
        self._done = done
        self._progress.update(done, self._total, unit="steps", note=note, once=once)


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce)
run = STEP.run
