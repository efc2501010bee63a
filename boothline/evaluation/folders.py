"""Checks that a folder is an encoder that the evaluation can load, by its files; without torch."""

from pathlib import Path

from boothline.diffusion.layout import read_json, weight_variant
from boothline.errors import DataError

CLIP = "clip_model"
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))


def check_encoder(folder: Path, *, setting: str) -> None:
    """Check an encoder's architecture, weights, image processor and tokenizer.

    Args:
        folder: the encoder in the transformers layout.
        setting: `clip_model` or `dino_model` of `evaluation`.

    Raises:
        DataError: it is another kind of model, has no safetensors weights, or lacks a file.
    """
    name = f"evaluation.{setting}"
    found = str(read_json(folder / "config.json").get("model_type", ""))
    if not found or (found == "clip") != (setting == CLIP):
        wanted = "a CLIP model (clip)" if setting == CLIP else "a vision transformer such as DINOv2"
        raise DataError(
            f"{name} {folder} is a model of type {found or 'unknown'!r}; {wanted} is needed.",
            remedy=f"Set {name} to such a model, or leave it out to use the built-in one.",
        )
    if weight_variant(folder, "model") is not None:
        raise DataError(
            f"{name} {folder} has fp16 weights alone.",
            remedy="Save it with model.safetensors in float32.",
        )
    lacking = (
        [] if (folder / "preprocessor_config.json").is_file() else ["preprocessor_config.json"]
    )
    if setting == CLIP and not any(
        all((folder / file).is_file() for file in files) for files in _TOKENIZERS
    ):
        lacking.append("tokenizer.json")
    if lacking:
        raise DataError(
            f"{name} {folder} has no {' and no '.join(lacking)}.",
            remedy="The encoder's folder is incomplete: save model, processor and tokenizer to it.",
        )
