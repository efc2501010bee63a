"""Exports a fine-tuned model as a diffusers folder and a single file, and loads both back."""

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from boothline.diffusion import single_file
from boothline.diffusion.base_model import content_files
from boothline.diffusion.families.family import SCHEDULER
from boothline.diffusion.layout import family_of, weight_variant
from boothline.diffusion.loading import DiffusionParts, quiet_libraries
from boothline.errors import DataError, IntegrityError, TrainingError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin

logger = logging.getLogger(__name__)

AVERAGE_FILE = "ema.safetensors"
PICTURE_TOLERANCE = 1e-4
_CHECK_STEPS = 4
_CHECK_SEED = 0
_DROPPED_PARTS = ("safety_checker", "feature_extractor", "image_encoder")


def apply_trained_weights(parts: DiffusionParts, state: Path) -> list[str]:
    """Put the weights of a training state into the base model, in place.

    Args:
        parts: the base model.
        state: folder with `<network>.safetensors` of each network that was trained, and
            `ema.safetensors` (weights by `<network>.<name>`) if averages are to be used.

    Returns:
        The names of the networks that were trained.

    Raises:
        TrainingError: a weight is NaN or infinite.
        DataError: the weights do not fit the base model.
    """
    trained = []
    for name, weights in trained_weights(state, names=parts.family.trainable).items():
        try:
            parts.part(name).load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                f"The trained weights of the {name} do not fit the base model: "
                f"{' '.join(str(error).split())[:300]}",
                remedy="Publish with the base_model that the training used.",
            ) from error
        trained.append(name)
    return trained


def trained_weights(
    state: Path, *, names: Sequence[str], suffix: str = ""
) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights that a training state holds, by network; averages where it has them.

    Args:
        state: folder as in `apply_trained_weights`.
        names: networks that may have been trained.
        suffix: end of the files' stems, e.g. `_lora` for adapters.

    Raises:
        TrainingError: a weight is NaN or infinite.
        DataError: the state holds no weights.
    """
    average = load_file(state / AVERAGE_FILE) if (state / AVERAGE_FILE).is_file() else {}
    found = {}
    for name in names:
        path = state / f"{name}{suffix}.safetensors"
        if not path.is_file():
            continue
        weights = load_file(path)
        prefix = f"{name}."
        weights.update(
            {key.removeprefix(prefix): w for key, w in average.items() if key.startswith(prefix)}
        )
        check_finite(weights, name=name)
        found[name] = weights
    if not found:
        raise DataError(f"The training state in {state} holds no weights.")
    return found


def check_finite(weights: Mapping[str, torch.Tensor], *, name: str) -> None:
    """Raise `TrainingError` when a weight is NaN or infinite, naming the first."""
    for key, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise TrainingError(
                f"The trained weight {name}.{key} holds values that are not finite.",
                remedy="Train again with a lower training.learning_rate.",
            )


def stored_dtype(base: Path) -> torch.dtype:
    """Return the type in which a model folder stores its denoiser: float32, float16, bfloat16."""
    family = family_of(base)
    folder, stem = base / family.denoiser, family.stems[family.denoiser]
    suffix = ".fp16" if weight_variant(folder, stem) else ""
    path = next(iter(sorted(folder.glob(f"{stem}{suffix}*.safetensors"))))
    with safe_open(path, framework="pt") as weights:
        name = weights.get_slice(next(iter(weights.keys()))).get_dtype()
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(name, torch.float32)


def save_diffusers(parts: DiffusionParts, folder: Path, *, base: Path, trained: list[str]) -> None:
    """Write a folder of diffusers' pipeline.

    Files that training does not change (VAE, tokenizer, scheduler, configurations) are copied byte
    for byte, so that the store keeps them once. Trained weights are stored as the base stores its
    denoiser: float16 where that is float16, else float32; `parts` is rounded to that type too.

    Args:
        parts: the fine-tuned model.
        folder: where to write; must not exist.
        base: folder of the base model.
        trained: networks whose weights changed.
    """
    dtype = stored_dtype(base)
    for file in content_files(base):
        target = folder / file.relative_to(base)
        _copy_unchanged(file, target, trained=trained, stems=parts.family.stems)
    index = json.loads((base / "model_index.json").read_text(encoding="utf-8"))
    index.pop("_name_or_path", None)
    dropped = {part: [None, None] for part in _DROPPED_PARTS if part in index}
    index.update(dropped)
    if "requires_safety_checker" in parts.family.extras:
        index["requires_safety_checker"] = False
    (folder / "model_index.json").write_text(
        json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    for name in trained:
        module = parts.part(name)
        for parameter in module.parameters():
            parameter.data = parameter.data.to(dtype).to(torch.float32)
        weights = {
            key: weight.to(dtype) if weight.is_floating_point() else weight
            for key, weight in module.state_dict().items()
        }
        if name in parts.family.text_encoders:
            # The prefix is what every release of transformers reads.
            weights = {_with_prefix(key): w for key, w in weights.items()}
        _save_weights(weights, folder / name / f"{parts.family.stems[name]}.safetensors")


def _with_prefix(key: str) -> str:
    """Return a CLIP weight's name with the prefix of the text model; the projection has none."""
    if key.startswith("text_projection."):
        return key
    return f"text_model.{key.removeprefix('text_model.')}"


def save_single_file(parts: DiffusionParts, path: Path, *, dtype: torch.dtype) -> bool:
    """Write one safetensors file with the original names of Stable Diffusion 1.x or SDXL.

    Returns:
        False, and nothing is written, when the original layout has no names for the model.
    """
    if not single_file.supports(parts):
        logger.info("no single file: its layout has no names for this architecture")
        return False
    weights = single_file.original_weights(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save_weights({key: w.to(dtype) for key, w in weights.items()}, path)
    return True


def check_diffusers(
    folder: Path, parts: DiffusionParts, *, prompt: str
) -> "tuple[DiffusionPipeline, float]":
    """Load an exported folder with plain diffusers and compare it with the model in memory.

    Weights must be equal bit for bit; a picture at one seed may differ by `PICTURE_TOLERANCE`
    (of 1), because kernels may round by memory alignment.

    Returns:
        The picture (PIL, RGB) and its largest difference.

    Raises:
        IntegrityError: they differ.
    """
    with quiet_libraries():
        loaded = (
            _pipeline_class(parts)
            .from_pretrained(folder, use_safetensors=True, local_files_only=True)
            .to(parts.device)
        )
        _check_weights(loaded, parts, where=folder)
        ours = plain_pipeline(parts, scheduler=loaded.scheduler)
        side_px = parts.family.check_side_px(parts)
        got, wanted = (check_picture(each, prompt, side_px=side_px) for each in (loaded, ours))
        difference = float(abs(got - wanted).max())
    if not math.isfinite(difference):
        raise DataError(
            f"The model's picture of {prompt!r} has numbers that are not finite.",
            remedy="The model is not published: check the base model, or train again with "
            "training.precision=fp32.",
        )
    if not difference <= PICTURE_TOLERANCE:
        raise IntegrityError(
            f"The export in {folder} produces a different image from the trained model: they "
            f"differ by {difference:.3g}, more than {PICTURE_TOLERANCE:g}.",
            remedy="The export is not published; report this as a bug.",
        )
    return loaded.image_processor.numpy_to_pil(got)[0], difference


def check_single_file(path: Path, parts: DiffusionParts, *, config: Path) -> None:
    """Load a single file with diffusers' own converter and compare all weights bit for bit.

    Args:
        path: the single file.
        parts: the model that it was written from.
        config: exported diffusers folder with the configurations.

    Raises:
        IntegrityError: a weight differs.
    """
    with quiet_libraries():
        loaded = (
            _pipeline_class(parts)
            .from_single_file(str(path), config=str(config), local_files_only=True)
            .to(parts.device)
        )
    _check_weights(loaded, parts, where=path)


def _check_weights(loaded: "DiffusionPipeline", parts: DiffusionParts, *, where: Path) -> None:
    """Raise `IntegrityError` unless a loaded pipeline has exactly the weights of the parts."""
    for name in parts.family.stems:
        wanted = parts.part(name).state_dict()
        got = getattr(loaded, name).state_dict()
        for key in sorted(wanted.keys() | got.keys()):
            same = key in wanted and key in got and torch.equal(wanted[key], got[key].float())
            if key in wanted and not torch.isfinite(wanted[key]).all():
                raise DataError(
                    f"The trained {name} weight {key} has numbers that are not finite.",
                    remedy="The model is not published: train again at a lower learning rate, "
                    "or with training.precision=fp32.",
                )
            if not same:
                raise IntegrityError(
                    f"{where} loaded back has another {name} weight {key} than the trained model.",
                    remedy="The export is not published; report this as a bug.",
                )


def plain_pipeline(
    parts: DiffusionParts, *, scheduler: "SchedulerMixin | None" = None
) -> "DiffusionPipeline":
    """Return diffusers' own pipeline over the networks of a model, which are shared."""
    modules = {**parts.modules, SCHEDULER: scheduler or parts.scheduler}
    settings = {k: v for k, v in parts.index.items() if k in parts.family.index_settings}
    return _pipeline_class(parts)(**modules, **parts.family.extras, **settings)


def _pipeline_class(parts: DiffusionParts) -> "type[DiffusionPipeline]":
    found: type[DiffusionPipeline] = getattr(diffusers, parts.family.pipeline)
    return found


def check_picture(pipeline: "DiffusionPipeline", prompt: str, *, side_px: int) -> Any:  # noqa: ANN401
    """Return pixels_BHWC: float32 in [0, 1], of one square picture at a fixed seed."""
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(_CHECK_SEED)
    return pipeline(
        prompt=prompt,
        height=side_px,
        width=side_px,
        num_inference_steps=_CHECK_STEPS,
        generator=generator,
        output_type="np",
    ).images


def _copy_unchanged(
    file: Path, target: Path, *, trained: list[str], stems: Mapping[str, str]
) -> None:
    """Copy a file of the base model, unless it holds weights that are trained or never loaded."""
    part = file.parent.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if part in stems and ".safetensors" in file.name:
        stem = stems[part]
        variant = weight_variant(file.parent, stem)
        wanted = f"{stem}.{variant}" if variant else stem
        rest = file.name.removeprefix(wanted)
        loaded = file.name.startswith(wanted) and (rest.startswith((".safetensors", "-")))
        if part in trained or not loaded:
            return
        target = target.with_name(f"{stem}{rest}")
    shutil.copyfile(file, target)


def _save_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file; equal weights give equal bytes."""
    tensors = {key: w.detach().cpu().contiguous() for key, w in weights.items()}
    save_file(tensors, path, metadata={"format": "pt"})
