"""Tiny random models of every family, made in a second or two: 32 px pictures, 4 x 16 x 16 latents.

Each maker is deterministic: equal arguments give equal weights. Heavy modules are imported inside.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_fixtures import make_tiny_klein, make_tiny_qwen_image, make_tiny_z_image
from model_fixtures import NUM_TOKENS, RESOLUTION_PX, WORDS, make_tiny_pipeline, make_tiny_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
T5_LENGTH = 32
T5_WIDTH = 40  # wider than both CLIP encoders side by side, as in the real models


def _clip_config(tokenizer: Any, *, width: int, projection: int = 16) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=NUM_TOKENS,
        projection_dim=projection,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tokenizers(folder: Path, *names: str) -> dict[str, Any]:
    from transformers import CLIPTokenizer

    return {
        name: CLIPTokenizer.from_pretrained(make_tiny_tokenizer(folder / name)) for name in names
    }


def _t5(name: str) -> dict[str, Any]:
    """Return T5 and its tokenizer under their names in a pipeline."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *(f"\u2581{word}" for word in WORDS), *LETTERS]
    vocab = [(piece, -float(n)) for n, piece in enumerate(pieces)]
    tokenizer = T5Tokenizer(vocab=vocab, model_max_length=T5_LENGTH)
    encoder = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=T5_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
        )
    )
    return {f"text_encoder{name}": encoder, f"tokenizer{name}": tokenizer}


def make_tiny_vae(*, shift: float | None = None) -> Any:
    """Return a random autoencoder of two pixels per latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=RESOLUTION_PX,
        scaling_factor=0.5,
        shift_factor=shift,
    )


def make_tiny_sdxl(folder: Path) -> Path:
    """Save a random StableDiffusionXLPipeline."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizers = _tokenizers(folder, "tokenizer", "tokenizer_2")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = UNet2DConditionModel(
            sample_size=RESOLUTION_PX // 2,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=40,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
        # The two differ in width, by which readers of single files tell them apart.
        config = _clip_config(tokenizers["tokenizer_2"], width=24, projection=24)
        StableDiffusionXLPipeline(
            unet=unet,
            vae=make_tiny_vae(),
            text_encoder=CLIPTextModel(_clip_config(tokenizers["tokenizer"], width=16)),
            text_encoder_2=CLIPTextModelWithProjection(config),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                steps_offset=1,
                timestep_spacing="leading",
            ),
            **tokenizers,
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_sd3(folder: Path) -> Path:
    """Save a random StableDiffusion3Pipeline."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )
    from transformers import CLIPTextModelWithProjection

    tokenizers = _tokenizers(folder, "tokenizer", "tokenizer_2")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        encoders = {
            name.replace("tokenizer", "text_encoder"): CLIPTextModelWithProjection(
                _clip_config(tokenizer, width=16)
            )
            for name, tokenizer in tokenizers.items()
        }
        StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=RESOLUTION_PX // 2,
                patch_size=2,
                in_channels=4,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=T5_WIDTH,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                out_channels=4,
                pos_embed_max_size=16,
                qk_norm="rms_norm",
                dual_attention_layers=(0,),
            ),
            vae=make_tiny_vae(shift=0.1),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            **encoders,
            **tokenizers,
            **_t5("_3"),
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_flux(folder: Path) -> Path:
    """Save a random FluxPipeline with embedded guidance."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    tokenizers = _tokenizers(folder, "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        FluxPipeline(
            transformer=FluxTransformer2DModel(
                patch_size=1,
                in_channels=16,
                num_layers=1,
                num_single_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=T5_WIDTH,
                pooled_projection_dim=16,
                guidance_embeds=True,
                axes_dims_rope=(4, 6, 6),
            ),
            vae=make_tiny_vae(shift=0.1),
            scheduler=FlowMatchEulerDiscreteScheduler(
                shift=3.0,
                use_dynamic_shifting=True,
                base_shift=0.5,
                max_shift=1.15,
                base_image_seq_len=256,
                max_image_seq_len=4096,
            ),
            text_encoder=CLIPTextModel(_clip_config(tokenizers["tokenizer"], width=16)),
            **tokenizers,
            **_t5("_2"),
        ).save_pretrained(folder, safe_serialization=True)
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "sd1": make_tiny_pipeline,
    "sdxl": make_tiny_sdxl,
    "sd3": make_tiny_sd3,
    "flux": make_tiny_flux,
    "klein": make_tiny_klein,
    "z_image": make_tiny_z_image,
    "qwen_image": make_tiny_qwen_image,
}


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the tiny folder of a family by its short name, made once; read only."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp("families") / name)
        return made[name]

    return folder
