"""`ModelShapes`: the sizes of a base model's networks, read from its folder or known by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from boothline.diffusion.families import STABLE_DIFFUSION, Family
from boothline.diffusion.families.sdxl import SDXL
from boothline.diffusion.layout import family_of
from boothline.errors import ConfigError

Settings = Mapping[str, Any]

_SD_VAE: Final[Settings] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_CLIP_L: Final[Settings] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
_CLIP_G: Final[Settings] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
    "max_position_embeddings": 77,
}


@dataclass(frozen=True, kw_only=True)
class ModelShapes:
    """Sizes of the networks of a text-to-image model.

    Attributes:
        name: of the folder or the model, for messages.
        family: whose layout it has.
        configs: settings of each network by the name of its folder.
    """

    name: str
    family: Family = STABLE_DIFFUSION
    configs: Mapping[str, Settings] = field(default_factory=dict)

    @property
    def pixels_per_latent(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        return self.family.pixels_per_latent(self.configs["vae"])

    @classmethod
    def read(cls, folder: Path) -> "ModelShapes":
        """Return the shapes of a model in the diffusers layout; no weight is read.

        Raises:
            DataError: the folder is of no family that is known.
            ConfigError: the folder lacks the settings of a network.
        """
        family = family_of(folder)
        parts = {part: folder / part / "config.json" for part in family.stems}
        for part, path in parts.items():
            if not path.is_file():
                raise ConfigError(
                    f"{folder} has no {part}/config.json, so its memory cannot be planned.",
                    remedy=f"Name a model in the layout of {family.name}, or a known one: "
                    f"{', '.join(FAMILIES)}.",
                )
        read = {part: json.loads(path.read_text("utf-8")) for part, path in parts.items()}
        return cls(name=folder.name, family=family, configs=read)


FAMILIES: Final[Mapping[str, ModelShapes]] = {
    "sd15": ModelShapes(
        name="Stable Diffusion 1.5",
        configs={
            "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            "text_encoder": _CLIP_L,
            "vae": _SD_VAE,
        },
    ),
    "sd21": ModelShapes(
        name="Stable Diffusion 2.1",
        configs={
            "unet": {
                "sample_size": 96,
                "cross_attention_dim": 1024,
                "attention_head_dim": [5, 10, 20, 20],
                "use_linear_projection": True,
            },
            "text_encoder": {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 23,
                "num_attention_heads": 16,
                "hidden_act": "gelu",
                "max_position_embeddings": 77,
            },
            "vae": _SD_VAE,
        },
    ),
    "sdxl": ModelShapes(
        name="SDXL 1.0",
        family=SDXL,
        configs={
            "unet": {
                "sample_size": 128,
                "block_out_channels": [320, 640, 1280],
                "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
                "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
                "transformer_layers_per_block": [1, 2, 10],
                "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
            "text_encoder": _CLIP_L,
            "text_encoder_2": _CLIP_G,
            "vae": _SD_VAE,
        },
    ),
}
"""Models whose sizes are known, so that a plan needs no download. Sizes: the models' published
configuration files."""
