"""Tiny random models of the families whose texts are read by a chat model."""

from pathlib import Path
from typing import Any

LENGTH = 64  # tokens of a text; its letters count
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n</think>\n{% endif %}{% endif %}"
)
_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}


def _tokenizer(*, length: int = LENGTH) -> Any:
    """Return a tokenizer of bytes."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(bytes_to_unicode().values())},
        merges=[],
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=length,
        chat_template=_CHAT,
    )


def make_tiny_z_image(folder: Path) -> Path:
    """Save a random ZImagePipeline."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        ZImagePipeline,
        ZImageTransformer2DModel,
    )
    from family_fixtures import make_tiny_vae
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=16,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 2, 2],
            axes_lens=[256, 32, 32],
        )
        for token in (transformer.x_pad_token, transformer.cap_pad_token):
            torch.nn.init.normal_(token)
        config = Qwen3Config(
            vocab_size=len(tokenizer), num_hidden_layers=2, head_dim=8, pad_token_id=0, **_SIZES
        )
        ZImagePipeline(
            transformer=transformer,
            vae=make_tiny_vae(shift=0.1),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            text_encoder=Qwen3Model(config),
            tokenizer=tokenizer,
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def _qwen2_5_vl(vocab_size: int) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {
        "vocab_size": vocab_size,
        "num_hidden_layers": 1,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "rope_parameters": rope,
        **_SIZES,
    }
    vision = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1}
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config={**vision, "out_hidden_size": 16})
    )


def make_tiny_qwen_image(folder: Path) -> Path:
    """Save a random QwenImagePipeline."""
    import torch
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    tokenizer = _tokenizer(length=256)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        QwenImagePipeline(
            transformer=QwenImageTransformer2DModel(
                in_channels=16,
                out_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(4, 2, 2),
            ),
            vae=AutoencoderKLQwenImage(
                base_dim=4,
                z_dim=4,
                dim_mult=[1, 2],
                num_res_blocks=1,
                temperal_downsample=[False],
                latents_mean=[0.1, -0.2, 0.3, 0.0],
                latents_std=[1.5, 0.5, 1.0, 2.0],
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True,
                base_shift=0.5,
                max_shift=0.9,
                max_image_seq_len=8192,
                shift_terminal=0.02,
            ),
            text_encoder=_qwen2_5_vl(len(tokenizer)),
            tokenizer=tokenizer,
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_klein(folder: Path) -> Path:
    """Save a random Flux2KleinPipeline, one that takes guidance."""
    import torch
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(6)
        vae = AutoencoderKLFlux2(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
        )
        torch.nn.init.normal_(vae.bn.running_mean, std=0.3)
        torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
        # Its hidden states 9, 18 and 27 are read.
        config = Qwen3Config(
            vocab_size=len(tokenizer), num_hidden_layers=27, head_dim=8, pad_token_id=0, **_SIZES
        )
        Flux2KleinPipeline(
            transformer=Flux2Transformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=48,
                timestep_guidance_channels=8,
                axes_dims_rope=(2, 2, 2, 2),
                guidance_embeds=False,
            ),
            vae=vae,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
            text_encoder=Qwen3ForCausalLM(config),
            tokenizer=tokenizer,
        ).save_pretrained(folder, safe_serialization=True)
    return folder
