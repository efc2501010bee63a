"""Exports the final training state, loads the export back, compares it, and registers it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.components.publish_checkpoint import ABOUT
from boothline.config import RunConfig
from boothline.diffusion.base_model import BaseModel, model_of, resolve
from boothline.diffusion.layout import license_of
from boothline.errors import BoothlineError, ConfigError, NotFoundError
from boothline.results import Base, Dataset, Model, ModelBase, Training, TrainingState
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, layout
from boothline.store.manifest import files_under

if TYPE_CHECKING:
    from boothline.diffusion.loading import DiffusionParts

logger = logging.getLogger(__name__)

DIFFUSERS_FOLDER = "diffusers"
SINGLE_FILE = "single_file/model.safetensors"
LORA_FOLDER = "lora"
EMBEDDINGS_FOLDER = "embeddings"
# Prefixes: adapters too.
_STATE_FILES = ("unet", "transformer", "text_encoder", "token_embedding", "ema.safetensors")
_PROMPT = "a photo of a {subject}"
_STAGES = ("fetching the state", "exporting", "loading back", "registering")


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        training: reference of the training.
    """

    training: str


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the export depends on: the training, the base model and the names."""
    return StepKey(
        config={
            "model_name": context.config.model_name,
            **_words(context.config),
            "base_model": {"source": context.config.base_model.source},
        },
        inputs=(ManifestRef.parse(inputs.training),),
    )


def _words(config: RunConfig) -> dict[str, object]:
    """Return what the subject is called, or each of several, as the model says it."""
    if not config.subjects:
        subject = config.subject
        return {"identifier": subject.identifier, "class_noun": subject.class_noun}
    words = [
        one.model_dump(include={"name", "identifier", "class_noun"}) for one in config.subjects
    ]
    return {"subjects": words}


def _prompt(config: RunConfig) -> str:
    """Return a prompt for the pictures that exports are compared by; of the first subject."""
    return next(iter(config.by_subject.values())).subject.fill(_PROMPT)


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Make all exports; nothing is committed that does not load back equal.

    Raises:
        ConfigError: the base model is not the one that the training used.
        TrainingError: a trained weight is not finite.
        IntegrityError: an export loaded back differs from the trained model.
        NotFoundError: the training's last state has been deleted.
    """
    from boothline.diffusion.devices import share_cores

    share_cores(1, settings=context.settings)
    training = context.store.read_as(Training, inputs.training)
    read = [ManifestRef.parse(text) for text in context.store.read(inputs.training).inputs]
    base = _base_model(context, training)
    state = _final_state(read)
    _report(context, 0)
    _fetch_state(context, state, training=inputs.training)
    export = context.folder / "export"
    _report(context, 1)
    lora = context.store.read_as(TrainingState, state).lora
    has_single_file = _export(context, base, lora=lora, export=export)
    _report(context, 3)
    config = context.config
    model = Model(
        model_name=config.model_name,
        **_words(config),
        base_model=ModelBase(source=base.source, digest=base.digest),
        method="lora" if lora else "full",
        state=training.final_state,
        single_file=has_single_file,
        **({"lora": lora} if lora else {}),
    )
    return model.draft(
        files_under(export),
        inputs=(ManifestRef.parse(inputs.training), *_datasets(context, read)),
    )


def _fetch_state(context: StepContext, state: ManifestRef, *, training: str) -> None:
    """Bring the weights of a training's last state into the step's folder.

    Raises:
        NotFoundError: it has been deleted: by a rule of the bucket, say, or by hand.
    """
    try:
        for name in _STATE_FILES:
            context.store.fetch(state, context.folder / "state", prefix=name)
    except NotFoundError as error:
        place = context.store.uri_of(ManifestRef.parse(training))
        raise NotFoundError(
            f"The last state of the training {place} was deleted. {error.message}",
            remedy=f"Delete {place}/manifest.json, too, then `boothline resume` trains again.",
        ) from error


def _final_state(read: Sequence[ManifestRef]) -> ManifestRef:
    """Return the training state among what a training names as its inputs.

    The training itself names it by content digest: a reference there would change with who wrote
    it when.
    """
    return next(ref for ref in read if ref.path.startswith(layout.TRAINING))


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Sign the model, where there is a key for it, and register it as a version, once."""
    from boothline.diffusion.signatures import ensure_signed
    from boothline.registry.mirror import Origin
    from boothline.registry.versions import ensure_version

    ensure_signed(context.store, context.settings, ref, folder=context.folder / "signed")
    ensure_version(
        context.store,
        context.settings,
        model_name=context.config.model_name,
        ref=ref,
        origin=Origin(
            run_id=context.run_id,
            experiment=context.config.tracking.experiment,
            base_license=_license(context),
        ),
        on_wait=lambda: _report(context, 3, note="MLflow does not answer; waiting for it"),
    )


def _export(
    context: StepContext, base: BaseModel, *, lora: Mapping[str, object] | None, export: Path
) -> bool:
    """Write and check the exports of the fetched state; return whether a single file is there."""
    from boothline.diffusion.export import (
        apply_trained_weights,
        check_diffusers,
        check_single_file,
        save_diffusers,
        save_single_file,
        stored_dtype,
    )
    from boothline.diffusion.loading import load_pipeline
    from boothline.diffusion.tokens import save_texts

    parts: DiffusionParts = load_pipeline(base.path)
    if lora:
        trained = _merged(context, parts, base, lora=lora, folder=export / LORA_FOLDER)
    else:
        trained = apply_trained_weights(parts, context.folder / "state")
    folder = export / DIFFUSERS_FOLDER
    with_tokens = _tokens(context, parts, base, folder=export / EMBEDDINGS_FOLDER)
    trained = list(dict.fromkeys([*trained, *with_tokens]))
    save_diffusers(parts, folder, base=base.path, trained=trained)
    if with_tokens:
        save_texts(parts, folder)
    # The tools that read single files take a table of tokens of the usual size alone.
    has_single_file = not with_tokens and save_single_file(
        parts, export / SINGLE_FILE, dtype=stored_dtype(base.path)
    )
    _report(context, 2)
    picture, _ = check_diffusers(folder, parts, prompt=_prompt(context.config))
    if has_single_file:
        check_single_file(export / SINGLE_FILE, parts, config=folder)
    path = context.folder / "check.png"
    picture.save(path)
    context.tracker.artifact(path, folder="publish")
    return has_single_file


def _merged(
    context: StepContext,
    parts: "DiffusionParts",
    base: BaseModel,
    *,
    lora: Mapping[str, object],
    folder: Path,
) -> list[str]:
    """Write and check the adapters, merge them into the model, and return what they changed."""
    from boothline.config.training import LoraConfig
    from boothline.diffusion.lora import load_adapters
    from boothline.diffusion.lora_export import check_adapters, merge_checked, save_adapters

    settings = LoraConfig.model_validate(lora)
    prompt = _prompt(context.config)
    trained = load_adapters(parts, context.folder / "state", lora=settings)
    for file in save_adapters(parts, folder, lora=settings):
        check_adapters(file, parts, base=base.path, prompt=prompt)
    merge_checked(parts, prompt=prompt)
    return trained


def _tokens(
    context: StepContext, parts: "DiffusionParts", base: BaseModel, *, folder: Path
) -> list[str]:
    """Write the learnt tokens, put them into the model, and return their text encoders."""
    from boothline.diffusion.tokens import bake_rows, learnt_rows, save_embeddings

    rows = learnt_rows(context.folder / "state")
    if rows:
        identifiers = [one.subject.identifier for one in context.config.by_subject.values()]
        save_embeddings(rows, identifiers, folder, base=base.path)
        bake_rows(parts, rows, identifiers)
    return list(rows)


def _base_model(context: StepContext, training: Training) -> BaseModel:
    """Return the base model, which must be the one that was trained."""
    source = context.config.base_model.source
    base = resolve(source, settings=context.settings, allow_hub=context.config.base_model.allow_hub)
    used = training.base_model_digest
    if base.digest != used:
        raise ConfigError(
            f"The base model {source!r} has digest {base.digest[:12]}..., but the training used "
            f"{used[:12]}...",
            remedy="Restore the base model, or train again.",
        )
    return base


def _license(context: StepContext) -> str:
    """Return the licence of the base model, as its card or the store names it; empty: unknown."""
    try:
        base = model_of(context.config, context.settings, need="settings")
        stored = context.store.find(layout.base(base.digest))
        return context.store.read_as(Base, stored).license if stored else license_of(base.path)
    except BoothlineError as error:  # the model is published without it
        logger.warning("the licence of the base model is not known: %s", error)
        return ""


def _datasets(context: StepContext, read: Sequence[ManifestRef]) -> tuple[ManifestRef, ...]:
    """Return the datasets that the training read."""
    return tuple(ref for ref in read if context.store.read(ref).kind == Dataset.kind)


def _report(context: StepContext, stage: int, *, note: str = "") -> None:
    total = len(_STAGES) - 1
    context.progress.update(stage, total, unit="stages", note=note or _STAGES[stage], once=True)


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce, finish=finish)
run = STEP.run
