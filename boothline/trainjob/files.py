"""What travels between the train step and the nodes, through the store."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from boothline.diffusion.base_model import resolve
from boothline.errors import BoothlineError, IntegrityError
from boothline.results import TrainingFiles, TrainingOutput
from boothline.runs import Failure
from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout
from boothline.store.manifest import FileEntry
from boothline.training.job import (
    JOB_FILE,
    RESULT_FILE,
    SAMPLES_FOLDER,
    SubjectFolders,
    TrainingJob,
)

_PEER_LOSS = "lost each other"


def folder_of(job: TrainingJob) -> str:
    """Return the folder in the store that belongs to a training."""
    return layout.node_files(layout.key_in(job.states))


def send_job(store: Store, job: TrainingJob) -> ManifestRef:
    """Commit what the nodes need: the job and its pictures; models they resolve themselves."""
    described = job.model_dump_json().encode()
    files: dict[str, Path | bytes | FileEntry] = {JOB_FILE: described}
    for name, folder in _folders(job):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            files[f"{name}/{path.relative_to(folder).as_posix()}"] = path
    draft = TrainingFiles().draft(files)
    # The local paths in job.json differ from try to try, so the place follows the content.
    return store.commit(f"{folder_of(job)}/job-{hashlib.sha256(described).hexdigest()[:16]}", draft)


def _folders(job: TrainingJob) -> Iterator[tuple[str, Path]]:
    """Yield each folder of pictures with its name on the way; those of the first subject first."""
    for number, subject in enumerate(job.pictures):
        place = f"subject-{number}/" if number else ""
        yield f"{place}instance", subject.instance
        for shard, prior in enumerate(subject.priors):
            yield f"{place}prior-{shard:03d}", prior


def _received(job: TrainingJob, folder: Path) -> tuple[SubjectFolders, ...]:
    """Return the folders of pictures as they were fetched."""
    names = iter([name for name, _ in _folders(job)])
    return tuple(
        SubjectFolders(
            instance=folder / next(names),
            priors=tuple(folder / next(names) for _ in subject.priors),
        )
        for subject in job.pictures
    )


def receive_job(store: Store, ref: str, folder: Path, *, settings: Settings) -> TrainingJob:
    """Fetch a job onto a node and return it with the node's own paths.

    Raises:
        IntegrityError: the node's base model is another one than the train step's.
        ModelNotFoundError: the node has no such model.
    """
    store.fetch(ref, folder)
    sent = TrainingJob.load(folder / JOB_FILE)
    (folder / JOB_FILE).unlink()  # what is fetched is read-only; the node writes its own
    hub = sent.config.base_model.allow_hub
    base = resolve(sent.config.base_model.source, settings=settings, allow_hub=hub)
    if base.digest != sent.base_model_digest:
        raise IntegrityError(
            f"The base model on this node has digest {base.digest[:12]}..., the train step's "
            f"{sent.base_model_digest[:12]}....",
            remedy="Use the same image, and the same models folder, for both.",
        )
    update: dict[str, object] = {
        "base_model": base.path,
        "pictures": _received(sent, folder),
        "folder": folder,
    }
    evaluation = sent.config.evaluation
    for name, source in (
        ("dino_model", evaluation.dino_model),
        ("clip_model", evaluation.clip_model),
    ):
        if getattr(sent, name, None) is not None:
            update[name] = resolve(source, settings=settings).path
    return sent.model_copy(update=update)


def send_result(store: Store, job: TrainingJob, *, place: str) -> None:
    """Commit what rank 0 left in the job's folder."""
    names = [path for path in job.folder.glob("*.jsonl") if path.is_file()]
    names += sorted((job.folder / SAMPLES_FOLDER).glob("*.png"))
    files: dict[str, Path | bytes | FileEntry] = {
        path.relative_to(job.folder).as_posix(): path for path in names
    }
    files[RESULT_FILE] = job.folder / RESULT_FILE
    store.commit(place, TrainingOutput().draft(files))


def receive_result(store: Store, job: TrainingJob, *, place: str) -> bool:
    """Fetch a result into the job's folder and return whether there is one."""
    ref = store.find(place)
    if ref is None:
        return False
    store.fetch(ref, job.folder)
    return True


def result_place(job_ref: str) -> str:
    """Return where the result of a sent job is committed."""
    path = ManifestRef.parse(job_ref).path
    return f"{path.rsplit('/', 1)[0]}/result-{path.rsplit('-', 1)[-1]}"


def report_failure(store: Store, job_ref: str, error: BoothlineError, *, node: int) -> None:
    """Leave word in the store why a node stopped."""
    store.put_record(
        f"{result_place(job_ref)}/failure-{node:04d}.json",
        Failure.of(error).model_dump(),
    )


def reported_failure(store: Store, job_ref: str) -> BoothlineError | None:
    """Return why the nodes stopped: a cause rather than what followed from it; None if unknown."""
    paths = store.list_records(f"{result_place(job_ref)}/")
    found = [
        Failure.model_validate(record)
        for path in paths
        if (record := store.get_record(path)) is not None
    ]
    found.sort(key=lambda failure: (failure.type == "TrainingError", _PEER_LOSS in failure.message))
    return found[0].error() if found else None


def as_event(line: str) -> dict[str, object] | None:
    """Return the event that a line of a node's log carries, if any."""
    if not line.startswith(EVENT_MARK):
        return None
    value: dict[str, object] = json.loads(line.removeprefix(EVENT_MARK))
    return value


EVENT_MARK = "boothline-event "
