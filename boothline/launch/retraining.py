"""Says what a retraining would do now, without writing anything."""

import tempfile
from pathlib import Path

from boothline.components.validate_data import step as validate_data
from boothline.config import RunConfig
from boothline.launch.local.session import Session
from boothline.progress import Progress
from boothline.registry.triggers import decide
from boothline.results import Decision
from boothline.steps import StepContext, key_parts
from boothline.store import Manifest, ManifestDraft, layout
from boothline.store.blobs import describe
from boothline.store.manifest import FileEntry
from boothline.tracking import StepTracker


def look(session: Session, config: RunConfig) -> Decision:
    """Return what `boothline retrain` would do now, and why.

    Raises:
        ConfigError: the pictures or the base model do not exist, or the identifier is unknown.
        DataError: fewer than `subject.min_images` pictures are usable.
        ServiceError: the store is unreachable.
    """
    return decide(session.store, config, dataset=dataset_digest(session, config))


def dataset_digest(session: Session, config: RunConfig) -> str:
    """Return the content digest of the dataset that today's pictures make; commits nothing.

    Raises:
        ConfigError: the pictures or the base model do not exist, or the identifier is unknown.
        DataError: fewer than `subject.min_images` pictures are usable.
    """
    store = session.store
    with tempfile.TemporaryDirectory(prefix="boothline-retrain-") as folder:
        context = StepContext(
            run_id="",
            config=config,
            settings=session.settings,
            store=store,
            progress=Progress(validate_data.STEP.name),
            tracker=StepTracker(),
            folder=Path(folder),
        )
        inputs = validate_data.Inputs(run_id="", config="")
        parts = key_parts(validate_data.STEP, validate_data.key(context, inputs), store)
        ref = store.find(layout.step_result(validate_data.STEP.name, layout.key_of(parts)))
        if ref is not None:
            return store.read(ref).content_digest
        return _content_digest(validate_data.produce(context, inputs))


def _content_digest(draft: ManifestDraft) -> str:
    """Return the content digest that a draft will have once it is committed."""
    files = tuple(
        source if isinstance(source, FileEntry) else describe(path, source)
        for path, source in draft.files.items()
    )
    manifest = Manifest(kind=draft.kind, files=files, inputs=(), metadata=dict(draft.metadata))
    return manifest.content_digest
