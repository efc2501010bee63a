"""Makes one shard of the pictures that the prompts ask for, with their provenance."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from boothline.components.batch_infer import ABOUT
from boothline.components.batch_infer.parts import Parts
from boothline.config import RunConfig
from boothline.config.inference import InferenceConfig
from boothline.diffusion.batch import (
    PlannedPicture,
    StartPicture,
    generate,
    plan_pictures,
    save_picture,
)
from boothline.diffusion.prompts import PromptRow, read_prompts
from boothline.diffusion.signatures import verify_signed
from boothline.errors import ConfigError
from boothline.evaluation.prompt_sets import templates
from boothline.results import Images, Model
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, layout
from boothline.store.manifest import digest_of

if TYPE_CHECKING:
    from PIL import Image

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
    rows = [_content_of(row, inference) for row in prompt_rows(context.config)]
    also = {
        name: getattr(inference, name)
        for name in ("grid_columns", "webdataset")
        if getattr(inference, name)
    }
    return StepKey(
        config={
            "rows": digest_of(rows),
            "images_per_prompt": inference.images_per_prompt,
            "resolution_px": context.config.subject.resolution_px,
            "sampling": inference.sampling.model_dump(mode="json"),
            "shard": inputs.shard,
            "num_shards": inference.num_shards,
            **also,
        },
        inputs=(ManifestRef.parse(inputs.model),),
    )


def _content_of(row: PromptRow, inference: InferenceConfig) -> dict[str, object]:
    """Return what the pictures of a row depend on: files by content, not by name."""
    start = StartPicture.of(row, strength=inference.strength)
    values = row.model_dump(mode="json", exclude={"image", "mask", "strength"})
    return {**values, **start.facts()} if start else values


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Sample the pictures of this shard that an earlier attempt has not left.

    Raises:
        ConfigError: the input is not a model.
        DataError: the prompt file, or a picture in it, cannot be used; names file and line.
    """
    inference = context.config.inference
    manifest = context.store.read(inputs.model)
    if manifest.kind != Model.kind:
        raise ConfigError(f"{inputs.model} is a manifest of kind {manifest.kind!r}, not a model.")
    planned = plan_pictures(
        prompt_rows(context.config),
        sampling=inference.sampling,
        images_per_prompt=inference.images_per_prompt,
        resolution_px=context.config.subject.resolution_px,
        strength=inference.strength,
        shard=inputs.shard,
        num_shards=inference.num_shards,
    )
    parts = Parts.of(context)
    lacking = parts.lacking(planned)
    for picture, image in _generate(context, inputs, lacking, planned) if lacking else ():
        path = context.folder / "images" / picture.name
        save_picture(
            image,
            picture,
            path,
            model_digest=manifest.content_digest,
            run_id=context.run_id,
        )
        parts.add(picture.name, path)
    images = Images(
        model=inputs.model,
        num_images=len(planned),
        shard=inputs.shard,
        num_shards=inference.num_shards,
    )
    return images.draft(
        {
            **parts.files(planned),
            "index.jsonl": _index(planned, model_digest=manifest.content_digest),
            **_extras(context, inputs.shard, planned, parts, manifest.content_digest),
        },
        inputs=(ManifestRef.parse(inputs.model),),
    )


def prompt_rows(config: RunConfig) -> list[PromptRow]:
    """Return the run's prompts, `{subject}` filled in.

    Raises:
        DataError: the prompt file cannot be used.
    """
    if config.inference.prompts_file is None:
        return [
            PromptRow(prompt=config.subject.fill(text)) for text in templates(config.evaluation)
        ]
    rows = read_prompts(Path(config.inference.prompts_file))
    return [row.model_copy(update={"prompt": config.subject.fill(row.prompt)}) for row in rows]


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Delete what was kept to go on from; the result has it all."""
    Parts(store=context.store, folder=layout.batch_parts(context.key)).forget()


def _generate(
    context: StepContext,
    inputs: Inputs,
    lacking: list[PlannedPicture],
    planned: list[PlannedPicture],
) -> Iterator[tuple[PlannedPicture, "Image.Image"]]:
    """Load the model and yield the pictures that are lacking."""
    from boothline.diffusion.loading import load_pipeline
    from boothline.diffusion.threads import device_of, share_cores

    there = len(planned) - len(lacking)

    def report(done: int, _total: int) -> None:
        context.progress.update(there + done, len(planned), unit="images")

    note = f"{there} are there, loading the model" if there else "loading the model"
    context.progress.update(there, len(planned), unit="images", note=note)
    share_cores(context.config.inference.num_shards, settings=context.settings)
    folder = context.store.fetch(inputs.model, context.folder / "model", prefix=_MODEL_FOLDER)
    verify_signed(
        context.store, context.settings, ManifestRef.parse(inputs.model), folder / _MODEL_FOLDER
    )
    device = device_of(inputs.shard, settings=context.settings)
    pipeline = load_pipeline(folder / _MODEL_FOLDER, device=device, for_sampling=True)
    return generate(pipeline, lacking, on_progress=report)


def _extras(
    context: StepContext,
    shard: int,
    planned: list[PlannedPicture],
    parts: Parts,
    model_digest: str,
) -> dict[str, Path | bytes]:
    """Return the sheets and the WebDataset tar, where they are asked for."""
    inference = context.config.inference
    files: dict[str, Path | bytes] = {}
    if inference.grid_columns:
        from boothline.diffusion.packing import sheets

        made = sheets(planned, read=parts.read, num_columns=inference.grid_columns)
        files |= {
            f"sheets/{shard:03d}-{number:04d}.png": sheet for number, sheet in enumerate(made)
        }
    if inference.webdataset and planned:
        from boothline.diffusion.packing import write_webdataset

        path = context.folder / "webdataset" / f"{shard:06d}.tar"
        write_webdataset(path, planned, read=parts.read, model_digest=model_digest)
        files[f"webdataset/{path.name}"] = path
    return files


def _index(planned: list[PlannedPicture], *, model_digest: str) -> bytes:
    """Return one JSON line a picture."""
    lines = [
        {"image": f"images/{picture.name}", "model": model_digest, **picture.facts()}
        for picture in planned
    ]
    return "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()


STEP = Step(
    name=ABOUT.name,
    inputs=Inputs,
    version=1,
    key=key,
    produce=produce,
    finish=finish,
)
run = STEP.run
