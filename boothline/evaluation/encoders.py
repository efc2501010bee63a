"""Encoders that turn pictures and texts into unit features: CLIP and self-supervised models.

Anything with these two methods will do; metrics never see more than the features.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from boothline.diffusion.base_model import BaseModel
from boothline.errors import ConfigError
from boothline.evaluation.metrics import normalised

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedModel

Features = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)

_BATCH_SIZE = 32


class ImageEncoder(Protocol):
    """Encodes pictures."""

    def encode(self, images: Sequence[Image.Image]) -> Features:
        """Return (N, D) float32 unit features of N RGB pictures of any size."""


class TextImageEncoder(ImageEncoder, Protocol):
    """Encodes pictures and texts into one space."""

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return (N, D) float32 unit features of N texts."""


class DinoEncoder:
    """A self-supervised vision transformer: the class token of its last layer.

    Args:
        folder: model and image processor in the transformers layout, weights as safetensors.

    Raises:
        ConfigError: the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        self._model = _load(AutoModel, folder)
        self._processor = _load_processor(folder)

    def encode(self, images: Sequence[Image.Image]) -> Features:
        """Return (N, D) float32 unit features of N RGB pictures of any size.

        Raises:
            ConfigError: the model is not a vision transformer.
        """
        import torch

        rows: list[Features] = []
        with torch.inference_mode():
            for pixels_BCHW in _pixels(self._processor, images, device=self._model.device):
                hidden_BLD = self._model(pixel_values=pixels_BCHW).last_hidden_state
                if hidden_BLD.ndim != 3:
                    raise ConfigError(
                        f"{type(self._model).__name__} has no class token to compare pictures by.",
                        remedy="Set evaluation.dino_model to a vision transformer such as DINO.",
                    )
                rows.append(hidden_BLD[:, 0].float().cpu().numpy())
        return normalised(np.concatenate(rows))


class ClipEncoder:
    """A CLIP model: projected features of pictures and of texts.

    Args:
        folder: CLIPModel, its tokenizer and image processor, weights as safetensors.

    Raises:
        ConfigError: the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        self._model = _load(CLIPModel, folder)
        self._processor = _load_processor(folder)
        self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def encode(self, images: Sequence[Image.Image]) -> Features:
        """Return (N, D) float32 unit features of N RGB pictures of any size."""
        import torch

        rows: list[Features] = []
        with torch.inference_mode():
            for pixels_BCHW in _pixels(self._processor, images, device=self._model.device):
                pooled_BD = self._model.vision_model(pixel_values=pixels_BCHW).pooler_output
                rows.append(self._model.visual_projection(pooled_BD).float().cpu().numpy())
        return normalised(np.concatenate(rows))

    def encode_texts(self, texts: Sequence[str]) -> Features:
        """Return (N, D) float32 unit features of N texts; what exceeds the context is cut off.

        Each text that is cut is logged.
        """
        import torch

        self._warn_of_cuts(texts)
        rows: list[Features] = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH_SIZE):
                tokens = self._tokenizer(
                    list(texts[start : start + _BATCH_SIZE]),
                    padding="max_length",
                    truncation=True,
                    max_length=self._model.config.text_config.max_position_embeddings,
                    return_tensors="pt",
                ).to(self._model.device)
                pooled_BD = self._model.text_model(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).pooler_output
                rows.append(self._model.text_projection(pooled_BD).float().cpu().numpy())
        return normalised(np.concatenate(rows))

    def _warn_of_cuts(self, texts: Sequence[str]) -> None:
        limit = int(self._model.config.text_config.max_position_embeddings)
        for text in dict.fromkeys(texts):
            num_tokens = len(self._tokenizer(text, truncation=False, verbose=False).input_ids)
            if num_tokens > limit:
                logger.warning(
                    "CLIP-T compares with the first %d of the %d tokens of %r",
                    limit,
                    num_tokens,
                    text,
                )


def load_dino(model: BaseModel) -> ImageEncoder:
    """Return the encoder of the DINO score."""
    return DinoEncoder(model.path)


def load_clip(model: BaseModel) -> TextImageEncoder:
    """Return the encoder of CLIP-I and CLIP-T."""
    return ClipEncoder(model.path)


def _load(model_class: "type[PreTrainedModel]", folder: Path) -> "PreTrainedModel":
    """Load a model for inference in float32: safetensors only, no code from the folder."""
    import torch
    from safetensors import SafetensorError

    from boothline.diffusion.loading import quiet_libraries

    try:
        with quiet_libraries():
            model = model_class.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"The encoder in {folder} cannot be loaded: {_first_line(error)}",
            remedy="Check evaluation.clip_model and evaluation.dino_model.",
        ) from error
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _load_processor(folder: Path) -> "BaseImageProcessor":
    """Load an image processor on Pillow, so that torchvision or none makes no difference."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"The image processor in {folder} cannot be loaded: {_first_line(error)}",
            remedy="The encoder's folder needs preprocessor_config.json.",
        ) from error


def _pixels(processor: Any, images: Sequence[Image.Image], *, device: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield pixels_BCHW: float32, batches of processed pictures on the model's device."""
    for start in range(0, len(images), _BATCH_SIZE):
        batch = [image.convert("RGB") for image in images[start : start + _BATCH_SIZE]]
        yield processor(images=batch, return_tensors="pt")["pixel_values"].to(device)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
