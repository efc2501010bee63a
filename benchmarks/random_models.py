"""Model folders with random weights, at the published sizes or tiny, made without any download.

The tokenizers are small ones: CLIP's is that of the tiny base, T5's spells letter by letter. The
text encoders have their full tables and lengths all the same.
"""

import shutil
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import diffusers
import torch

from boothline.diffusion.export import plain_pipeline
from boothline.diffusion.families import FAMILIES, Family, Part
from boothline.diffusion.families.family import CLIP_TOKENIZER
from boothline.diffusion.loading import (
    DiffusionParts,
    class_of,
    quiet_libraries,
    tokenizer_name,
)
from boothline.errors import MachineError
from boothline.planning.dry_run import built
from boothline.planning.shapes import PUBLISHED

Size = Literal["full", "toy"]
_TOKENIZER: Final = Path(__file__).resolve().parents[1] / "models/tiny-emoji-sd/tokenizer"
_CLIP_LENGTH: Final = 77
_T5_LENGTH: Final = 512
_TOY_T5_WIDTH: Final = 40

_NOISE_SCHEDULE: Final = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
_SCHEDULES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "sd15": ("DDPMScheduler", {**_NOISE_SCHEDULE, "clip_sample": False}),
    "sdxl": ("EulerDiscreteScheduler", {**_NOISE_SCHEDULE, "timestep_spacing": "leading"}),
    "flux": (
        "FlowMatchEulerDiscreteScheduler",
        {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
    ),
}
# As the models are published: train_dreambooth.py wants float32 of what it trains whole.
_STORED: Final = {"sd15": torch.float32, "sdxl": torch.bfloat16, "flux": torch.bfloat16}

_TOY_VAE: Final = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}
_TOY_CLIP: Final = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "projection_dim": 16,
    "max_position_embeddings": _CLIP_LENGTH,
}
_TOY_UNET: Final = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
_TOYS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "sd15": {
        "unet": {**_TOY_UNET, "cross_attention_dim": 16, "attention_head_dim": 2},
        "vae": _TOY_VAE,
        "text_encoder": _TOY_CLIP,
    },
    "sdxl": {
        "unet": {
            **_TOY_UNET,
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 32,
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
        },
        "vae": _TOY_VAE,
        "text_encoder": _TOY_CLIP,
        "text_encoder_2": _TOY_CLIP,
    },
    "flux": {
        "transformer": {
            "in_channels": 16,
            "num_layers": 1,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": _TOY_T5_WIDTH,
            "pooled_projection_dim": 16,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 6, 6),
        },
        "vae": {**_TOY_VAE, "shift_factor": 0.1},
        "text_encoder": _TOY_CLIP,
        "text_encoder_2": {
            "d_model": _TOY_T5_WIDTH,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 2,
            "num_heads": 2,
        },
    },
}


def family_named(key: str) -> Family:
    """Return the family of a model of `PUBLISHED`."""
    return FAMILIES[PUBLISHED[key].pipeline]


def make_model(key: str, folder: Path, *, size: Size, device: torch.device) -> int:
    """Save a model with random weights in the layout of diffusers, and return its numbers.

    Args:
        key: which of `PUBLISHED`: sd15, sdxl or flux.
        folder: where; must not exist.
        size: the published one, or tiny networks of the same classes.
        device: where the weights are drawn, which a CPU takes minutes for.

    Raises:
        MachineError: the disk has no room for it.
    """
    family = family_named(key)
    with quiet_libraries():
        tokenizers = {p.name: _tokenizer(p) for p in family.parts if p.role == "tokenizer"}
        networks = make_networks(key, tokenizers, size=size, device=device)
        weights = [weight for network in networks.values() for weight in network.parameters()]
        _check_disk(sum(w.numel() * w.element_size() for w in weights), folder.parent)
        name, schedule = _SCHEDULES[key]
        scheduler = getattr(diffusers, name)(**schedule)
        parts = DiffusionParts(family=family, modules={**networks, **tokenizers})
        pipeline = plain_pipeline(parts, scheduler=scheduler)
        pipeline.save_pretrained(folder, safe_serialization=True)
    return sum(weight.numel() for weight in weights)


def make_networks(
    key: str, tokenizers: Mapping[str, Any], *, size: Size, device: torch.device
) -> dict[str, torch.nn.Module]:
    """Return a model's networks as their classes initialise them, by the names of their folders.

    Args:
        key: which of `PUBLISHED`.
        tokenizers: by the names of their folders.
        size: the published one, or tiny.
        device: where the weights are drawn.
    """
    configs = _TOYS[key] if size == "toy" else PUBLISHED[key].configs
    networks = {}
    before = torch.get_default_dtype()
    torch.set_default_dtype(_STORED[key])
    try:
        with device:
            for part in family_named(key).parts:
                if part.role == "tokenizer":
                    continue
                settings = dict(configs[part.name])
                if part.classes[0].startswith("CLIP"):
                    settings |= _special_tokens(tokenizers[tokenizer_name(part.name)])
                networks[part.name] = built(part, settings)
    finally:
        torch.set_default_dtype(before)
    return networks


def _tokenizer(part: Part) -> Any:  # noqa: ANN401 - transformers has no types
    """Return the tiny base's tokenizer with CLIP's length, or one of T5 that spells."""
    kind = class_of(part)
    if part.classes == CLIP_TOKENIZER:
        return kind.from_pretrained(_TOKENIZER, model_max_length=_CLIP_LENGTH)
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    vocab = [(piece, -float(number)) for number, piece in enumerate(pieces)]
    return kind(vocab=vocab, model_max_length=_T5_LENGTH)


def _special_tokens(tokenizer: Any) -> dict[str, int]:  # noqa: ANN401
    """Return the numbers by which CLIP finds the end of a text."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: int(getattr(tokenizer, name)) for name in names}


def _check_disk(num_bytes: int, folder: Path) -> None:
    """Raise `MachineError` where a model would fill the disk."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise MachineError(
            f"The model takes {num_bytes / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f}.",
            remedy="Name a folder on another disk with --scratch.",
        )
