"""Tiny random models in the layouts that Boothline reads, made in a second or two.

Each maker is deterministic: equal arguments give equal weights. Heavy modules are imported inside.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

WORDS = (
    "sks", "zwx", "a", "of", "on", "in", "the", "photo", "bear", "dog", "cat",
    "red", "blue", "green", "beach", "moon", "snow", "grass", "background",
)  # fmt: skip
TOKENIZER = Path(__file__).resolve().parents[1] / "models/tiny-emoji-sd/tokenizer"
NUM_TOKENS = 12
RESOLUTION_PX = 32
BOS = "<|startoftext|>"
EOS = "<|endoftext|>"


def _byte_symbols() -> list[str]:
    """Return the 256 printable symbols of byte-level BPE, in byte order."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


# A safetensors file without a tensor.
NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"


def make_model_layout(folder: Path) -> Path:
    """Write what looks like a Stable Diffusion model by its files' names; its tokenizer is one."""
    index: dict[str, object] = {"_class_name": "StableDiffusionPipeline"}
    for part, (library, name, weights) in {
        "unet": ("diffusers", "UNet2DConditionModel", "diffusion_pytorch_model"),
        "vae": ("diffusers", "AutoencoderKL", "diffusion_pytorch_model"),
        "text_encoder": ("transformers", "CLIPTextModel", "model"),
    }.items():
        (folder / part).mkdir(parents=True)
        (folder / part / f"{weights}.safetensors").write_bytes(NO_WEIGHTS)
        (folder / part / "config.json").write_text("{}")
        index[part] = [library, name]
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text("{}")
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def make_encoder_layout(folder: Path, *, kind: str) -> Path:
    """Write what looks like an encoder by its files' names; it cannot be loaded."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "model.safetensors").write_bytes(NO_WEIGHTS)
    for file in ("preprocessor_config.json", "tokenizer.json"):
        (folder / file).write_bytes(b"")
    return folder


def make_tiny_tokenizer(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """Save a CLIPTokenizer in which each word is one token and other text falls back to bytes."""
    from transformers import CLIPTokenizer

    symbols = _byte_symbols()
    tokens = symbols + [f"{symbol}</w>" for symbol in symbols]
    merges: list[str] = []
    for word in words:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merge = f"{pieces[0]} {pieces[1]}"
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            if merge not in merges:
                merges.append(merge)
                tokens.append(pieces[0])
    vocab = {token: number for number, token in enumerate([*tokens, BOS, EOS])}
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=[tuple(merge.split(" ")) for merge in merges],
        model_max_length=NUM_TOKENS,
    )
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder


def make_tiny_pipeline(
    folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, generation: int = 1
) -> Path:
    """Save a random StableDiffusionPipeline of under 1 MB: 32 px pictures, 4 x 16 x 16 latents.

    Generation 2 is laid out as Stable Diffusion 2.x: v-prediction, linear projections, a number of
    heads for each level.
    """
    import torch
    from diffusers import (
        AutoencoderKL,
        DDPMScheduler,
        StableDiffusionPipeline,
    )
    from transformers import CLIPTokenizer

    make_tiny_tokenizer(folder / "tokenizer", words)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = _tiny_unet(generation)
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            sample_size=RESOLUTION_PX,
            scaling_factor=0.5,
        )
        text_encoder = _tiny_text_encoder(tokenizer)
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            prediction_type="epsilon" if generation == 1 else "v_prediction",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _tiny_unet(generation: int) -> "UNet2DConditionModel":
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=RESOLUTION_PX // 2,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2 if generation == 1 else [2, 4],
        use_linear_projection=generation == 2,
    )


def _tiny_text_encoder(tokenizer: "CLIPTokenizer") -> "CLIPTextModel":
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=NUM_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _save_image_processor(folder: Path, *, size_px: int) -> None:
    """Save a CLIP image processor: resize, centre crop, normalise."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    CLIPImageProcessorPil(
        size={"shortest_edge": size_px}, crop_size={"height": size_px, "width": size_px}
    ).save_pretrained(folder)


def make_tiny_clip(
    folder: Path, *, seed: int = 0, words: Sequence[str] = WORDS, size_px: int = RESOLUTION_PX
) -> Path:
    """Save a random CLIPModel with its tokenizer and image processor: 16 features."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    make_tiny_tokenizer(folder, words)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    layers = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIPModel(
            CLIPConfig(
                text_config={
                    **layers,
                    "vocab_size": len(tokenizer),
                    "max_position_embeddings": NUM_TOKENS,
                    "bos_token_id": tokenizer.bos_token_id,
                    "eos_token_id": tokenizer.eos_token_id,
                    "pad_token_id": tokenizer.pad_token_id,
                },
                vision_config={**layers, "image_size": size_px, "patch_size": 8},
                projection_dim=16,
            )
        )
    model.save_pretrained(folder, safe_serialization=True)
    _save_image_processor(folder, size_px=size_px)
    return folder


def make_tiny_dino(folder: Path, *, seed: int = 0, size_px: int = RESOLUTION_PX) -> Path:
    """Save a random ViTModel (loads as AutoModel) with its image processor: 16 features."""
    import torch
    from transformers import ViTConfig, ViTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViTModel(
            ViTConfig(
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=size_px,
                patch_size=8,
            )
        )
    model.save_pretrained(folder, safe_serialization=True)
    _save_image_processor(folder, size_px=size_px)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random StableDiffusionPipeline folder; read only."""
    return make_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture(scope="session")
def tiny_sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model folder in the layout of Stable Diffusion 2.x; read only."""
    return make_tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd2", generation=2)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIPModel folder; read only."""
    return make_tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def tiny_dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT folder; read only."""
    return make_tiny_dino(tmp_path_factory.mktemp("models") / "tiny-dino")
