"""Makes one shard of the pictures that the prompts ask for, with their provenance."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from boothline.components.batch_infer import ABOUT
from boothline.config import RunConfig
from boothline.config.sampling import InferenceConfig
from boothline.config.section import SUBJECT_FIELD
from boothline.diffusion.signatures import verify_signed
from boothline.errors import ConfigError
from boothline.evaluation.prompt_sets import templates
from boothline.pictures.making import generate, of_equal_settings, png_of
from boothline.pictures.parts import Part, Parts, forget
from boothline.pictures.plan import PlannedPicture, StartPicture, plan_pictures
from boothline.pictures.prompts import PromptRow, read_prompts
from boothline.results import Images, ImagesPart, Model
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, layout
from boothline.store.manifest import digest_of

_MODEL_FOLDER = "diffusers/"
PART_IMAGES = 64
"""At most so many pictures are made before they are kept."""


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
    parts = Parts(context.store)
    parts.find(layout.batch_parts(context.key), planned)
    if lacking := parts.lacking(planned):
        _make(context, inputs, parts, lacking, total=len(planned))
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
    """Return the run's prompts, `{subject}` filled in; with each of several subjects in turn.

    Raises:
        DataError: the prompt file cannot be used.
    """
    if config.inference.prompts_file is None:
        rows = [PromptRow(prompt=text) for text in templates(config.evaluation)]
    else:
        rows = read_prompts(Path(config.inference.prompts_file))
    subjects = [one.subject for one in config.by_subject.values()]
    return [
        row.model_copy(update={"prompt": subject.fill(row.prompt)})
        for row in rows
        for subject in (subjects if SUBJECT_FIELD in row.prompt else subjects[:1])
    ]


def finish(context: StepContext, inputs: Inputs, ref: ManifestRef) -> None:
    """Delete the parts that an attempt continues from; the result has all of their pictures."""
    forget(context.store, layout.batch_parts(context.key))


def _make(
    context: StepContext,
    inputs: Inputs,
    parts: Parts,
    lacking: list[PlannedPicture],
    *,
    total: int,
) -> None:
    """Load the model and make the pictures that are lacking, part by part."""
    from boothline.diffusion.devices import device_of, share_cores
    from boothline.diffusion.loading import load_pipeline

    report = partial(context.progress.update, total=total, unit="images")
    done = total - len(lacking)
    report(done, note=f"{done} are there, loading the model" if done else "loading the model")
    share_cores(context.config.inference.num_shards, settings=context.settings)
    folder = context.store.fetch(inputs.model, context.folder / "model", prefix=_MODEL_FOLDER)
    model = ManifestRef.parse(inputs.model)
    verify_signed(context.store, context.settings, model, folder / _MODEL_FOLDER)
    device = device_of(inputs.shard, settings=context.settings)
    pipeline = load_pipeline(
        folder / _MODEL_FOLDER,
        device=device,
        for_sampling=True,
        precision=context.config.inference.sampling.precision,
    )
    texts = {"model": context.store.read(model).content_digest, "run": context.run_id}

    def more(made: int, _: int) -> None:
        report(done + made)

    for part in _parts_of(lacking, layout.batch_parts(context.key)):
        made = generate(pipeline, part.pictures, on_progress=more)
        parts.keep(part, ((picture, png_of(image, picture, **texts)) for picture, image in made))
        done += len(part.pictures)


def _parts_of(pictures: list[PlannedPicture], folder: str) -> Iterator[Part]:
    """Yield the parts that pictures are made in: whole batches of equal settings."""
    for alike in of_equal_settings(pictures):
        size = alike[0].sampling.batch_size
        size *= max(1, PART_IMAGES // size)
        for first in range(0, len(alike), size):
            chosen = tuple(alike[first : first + size])
            names = digest_of(sorted(picture.name for picture in chosen))[:16]
            result = ImagesPart(num_images=len(chosen))
            yield Part(path=f"{folder}/{names}", pictures=chosen, result=result)


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
        from boothline.pictures.sheets import sheets

        made = sheets(planned, read=parts.read, num_columns=inference.grid_columns)
        files |= {
            f"sheets/{shard:03d}-{number:04d}.png": sheet for number, sheet in enumerate(made)
        }
    if inference.webdataset and planned:
        from boothline.pictures.sheets import write_webdataset

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
