"""`ModelShapes`: the sizes of a base model's networks, read from its folder or published."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from boothline.diffusion.families import FAMILIES as KNOWN
from boothline.diffusion.families import STABLE_DIFFUSION, Family
from boothline.diffusion.layout import family_of
from boothline.errors import ConfigError

Settings = Mapping[str, Any]


class Published(NamedTuple):
    """A model: its name, its pipeline's class, and settings of each network by folder.

    Sources: the models' published configuration files.
    """

    name: str
    pipeline: str
    configs: Mapping[str, Settings]


_VAE: Final[Settings] = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
_VAE_16: Final[Settings] = {
    **_VAE,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
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
_T5_XXL: Final[Settings] = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_QWEN3_4B: Final[Settings] = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
_SD21_CLIP: Final[Settings] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "max_position_embeddings": 77,
}
_SDXL_UNET: Final[Settings] = {
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
}
_SD35: Final[Settings] = {
    "sample_size": 128,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "qk_norm": "rms_norm",
}
_SD35_REST: Final[Mapping[str, Settings]] = {
    "vae": _VAE_16,
    "text_encoder": {**_CLIP_L, "projection_dim": 768},
    "text_encoder_2": _CLIP_G,
    "text_encoder_3": _T5_XXL,
}

PUBLISHED: Final[Mapping[str, Published]] = {
    "sd15": Published(
        "Stable Diffusion 1.5",
        "StableDiffusionPipeline",
        {
            "unet": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            "text_encoder": _CLIP_L,
            "vae": _VAE,
        },
    ),
    "sd21": Published(
        "Stable Diffusion 2.1",
        "StableDiffusionPipeline",
        {
            "unet": {
                "sample_size": 96,
                "cross_attention_dim": 1024,
                "attention_head_dim": [5, 10, 20, 20],
                "use_linear_projection": True,
            },
            "text_encoder": _SD21_CLIP,
            "vae": _VAE,
        },
    ),
    "sdxl": Published(
        "SDXL 1.0",
        "StableDiffusionXLPipeline",
        {"unet": _SDXL_UNET, "text_encoder": _CLIP_L, "text_encoder_2": _CLIP_G, "vae": _VAE},
    ),
    "sd35": Published(
        "Stable Diffusion 3.5 large",
        "StableDiffusion3Pipeline",
        {
            "transformer": {
                **_SD35,
                "num_layers": 38,
                "num_attention_heads": 38,
                "caption_projection_dim": 2432,
                "pos_embed_max_size": 192,
            },
            **_SD35_REST,
        },
    ),
    "sd35-medium": Published(
        "Stable Diffusion 3.5 medium",
        "StableDiffusion3Pipeline",
        {
            "transformer": {
                **_SD35,
                "num_layers": 24,
                "num_attention_heads": 24,
                "caption_projection_dim": 1536,
                "pos_embed_max_size": 384,
                "dual_attention_layers": list(range(13)),
            },
            **_SD35_REST,
        },
    ),
    "flux": Published(
        "FLUX.1 dev",
        "FluxPipeline",
        {
            "transformer": {"guidance_embeds": True},
            "vae": _VAE_16,
            "text_encoder": _CLIP_L,
            "text_encoder_2": _T5_XXL,
        },
    ),
    "flux2-klein": Published(
        "FLUX.2-klein 4B",
        "Flux2KleinPipeline",
        {
            "transformer": {
                "num_layers": 5,
                "num_single_layers": 20,
                "num_attention_heads": 24,
                "joint_attention_dim": 7680,
                "guidance_embeds": False,
            },
            "vae": {"block_out_channels": _VAE["block_out_channels"]},
            "text_encoder": _QWEN3_4B,
        },
    ),
    "z-image": Published(
        "Z-Image",
        "ZImagePipeline",
        {"transformer": {}, "vae": _VAE_16, "text_encoder": _QWEN3_4B},
    ),
    "qwen-image": Published(
        "Qwen-Image",
        "QwenImagePipeline",
        {
            "transformer": {},
            "vae": {"temperal_downsample": [False, True, True]},
            "text_encoder": {
                "text_config": {
                    "vocab_size": 152064,
                    "hidden_size": 3584,
                    "intermediate_size": 18944,
                    "num_hidden_layers": 28,
                    "num_attention_heads": 28,
                    "num_key_value_heads": 4,
                },
                "vision_config": {
                    "depth": 32,
                    "hidden_size": 1280,
                    "intermediate_size": 3420,
                    "num_heads": 16,
                    "out_hidden_size": 3584,
                },
            },
        },
    ),
}
"""Models whose sizes are known, so that a plan needs no download."""


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
    key: ModelShapes(name=known.name, family=KNOWN[known.pipeline], configs=known.configs)
    for key, known in PUBLISHED.items()
}
"""Models whose sizes are known, so that a plan needs no download."""
