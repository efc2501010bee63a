"""Makes one shard of the pictures that the prompts ask for, with their provenance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.config import RunConfig
from boothline.diffusion.batch import PlannedPicture, generate, plan_pictures, save_picture
from boothline.diffusion.prompts import PromptRow, read_prompts
from boothline.errors import ConfigError
from boothline.steps import Step, StepContext, StepInputs, StepKey, execute
from boothline.store import ManifestDraft, ManifestRef
from boothline.store.manifest import digest_of

if TYPE_CHECKING:
    from PIL import Image

_SHEET_IMAGES = 64
_MODEL_FOLDER = "diffusers/"


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        model: reference of the model.
        shard: number of this shard, from 0.
    """

    model: str
    shard: int


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the shard's pictures depend on; of the prompt file, its rows."""
    inference = context.config.inference
    rows = [row.model_dump(mode="json") for row in prompt_rows(context.config)]
    return StepKey(
        config={
            "rows": digest_of(rows),
            "images_per_prompt": inference.images_per_prompt,
            "resolution_px": context.config.subject.resolution_px,
            "sampling": inference.sampling.model_dump(mode="json"),
            "shard": inputs.shard,
            "num_shards": inference.num_shards,
        },
        inputs=(ManifestRef.parse(inputs.model),),
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Sample the pictures of this shard.

    Raises:
        ConfigError: the input is not a model.
        DataError: the prompt file cannot be used; names file and line.
    """
    inference = context.config.inference
    manifest = context.store.read(inputs.model)
    if manifest.kind != "model":
        raise ConfigError(f"{inputs.model} is a manifest of kind {manifest.kind!r}, not a model.")
    planned = plan_pictures(
        prompt_rows(context.config),
        sampling=inference.sampling,
        images_per_prompt=inference.images_per_prompt,
        resolution_px=context.config.subject.resolution_px,
        shard=inputs.shard,
        num_shards=inference.num_shards,
    )
    files: dict[str, Path | bytes] = {}
    sheet: list[Image.Image] = []
    for picture, image in _generate(context, inputs, planned) if planned else ():
        path = context.folder / "images" / picture.name
        save_picture(image, picture, path, model_digest=manifest.content_digest)
        files[f"images/{picture.name}"] = path
        if len(sheet) < _SHEET_IMAGES:
            sheet.append(image)
    files["index.jsonl"] = _index(planned, model_digest=manifest.content_digest)
    _track(context, inputs.shard, sheet)
    return ManifestDraft(
        kind="images",
        files=files,
        inputs=(ManifestRef.parse(inputs.model),),
        metadata={
            "model": inputs.model,
            "num_images": len(planned),
            "shard": inputs.shard,
            "num_shards": inference.num_shards,
        },
    )


def prompt_rows(config: RunConfig) -> list[PromptRow]:
    """Return the run's prompts, `{subject}` filled in.

    Raises:
        DataError: the prompt file cannot be used.
    """
    if config.inference.prompts_file is None:
        return [PromptRow(prompt=config.subject.fill(text)) for text in config.evaluation.prompts]
    rows = read_prompts(Path(config.inference.prompts_file))
    return [row.model_copy(update={"prompt": config.subject.fill(row.prompt)}) for row in rows]


def _generate(
    context: StepContext, inputs: Inputs, planned: list[PlannedPicture]
) -> Iterator[tuple[PlannedPicture, "Image.Image"]]:
    """Load the model and yield its pictures."""
    from boothline.diffusion.loading import load_pipeline
    from boothline.diffusion.threads import share_cores

    share_cores(context.config.inference.num_shards, settings=context.settings)
    folder = context.store.fetch(inputs.model, context.folder / "model", prefix=_MODEL_FOLDER)
    pipeline = load_pipeline(folder / _MODEL_FOLDER, for_sampling=True)

    def report(done: int, total: int) -> None:
        context.progress.update(done, total, unit="images")

    return generate(pipeline, planned, on_progress=report)


def _index(planned: list[PlannedPicture], *, model_digest: str) -> bytes:
    """Return one JSON line a picture."""
    lines = [
        {"image": f"images/{picture.name}", "model": model_digest, **picture.facts()}
        for picture in planned
    ]
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


def _track(context: StepContext, shard: int, images: list["Image.Image"]) -> None:
    """Log a contact sheet."""
    if not images:
        return
    from boothline.diffusion.sheets import contact_sheet

    path = context.folder / f"contact-sheet-{shard:03d}.png"
    contact_sheet(images).save(path)
    context.tracker.artifact(path, folder="images")


STEP = Step(
    name="batch_infer",
    version=1,
    key=key,
    produce=produce,
    shard=lambda inputs: inputs.shard,
)


def run(**inputs: object) -> str:
    """Run the step and return the reference of its manifest."""
    return execute(STEP, Inputs.model_validate(inputs))
