"""Checks that a folder is an encoder that the evaluation can load, by its files; without torch."""

from pathlib import Path

from boothline.diffusion.layout import check_weights, names_in, read_json, weight_variant
from boothline.errors import ConfigError, DataError

CLIP = "clip_model"
LPIPS_NET = "alex"
LPIPS_WEIGHTS = frozenset(
    {
        f"net.slice{number}.{layer}.{part}"
        for number, layer in ((1, 0), (2, 3), (3, 6), (4, 8), (5, 10))
        for part in ("weight", "bias")
    }
    | {f"lin{number}.model.1.weight" for number in range(5)}
)
"""Names of the tensors of LPIPS on AlexNet, which are those of the `lpips` package."""
LPIPS_REMEDY = "docs/evaluation.md says how to write the folder of evaluation.lpips_model."
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
    check_weights(folder, "model")
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


def check_lpips(folder: Path) -> None:
    """Check the network and the weights of the perceptual distance.

    Raises:
        ConfigError: it is of another network, or its weights are others.
        DataError: the weights are missing or damaged.
    """
    config = read_json(folder / "config.json")
    if config.get("net") != LPIPS_NET:
        raise ConfigError(
            f"evaluation.lpips_model {folder} holds LPIPS on {config.get('net')!r}; only "
            f"{LPIPS_NET!r} is read.",
            remedy=LPIPS_REMEDY,
        )
    weight_variant(folder, "model")
    found = names_in(folder / "model.safetensors")
    if different := sorted(found ^ LPIPS_WEIGHTS):
        word = "is missing" if different[0] in LPIPS_WEIGHTS else "does not belong to it"
        raise ConfigError(
            f"evaluation.lpips_model {folder} is not LPIPS: {different[0]} {word}.",
            remedy=LPIPS_REMEDY,
        )
