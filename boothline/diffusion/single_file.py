"""Names weights as the original Stable Diffusion and SDXL do: one file for A1111 and ComfyUI.

The original UNet numbers its blocks flat: input block 0 is the first convolution, then come
`layers_per_block` residual blocks and a downsampler per level; output blocks likewise. The VAE
counts its up levels from the finest. The second text encoder of SDXL is OpenCLIP's, which joins the
weights of queries, keys and values. Everything else differs in the names of layers only.
"""

import re
from collections.abc import Callable, Mapping

import torch

from boothline.diffusion.loading import DiffusionParts

Weights = dict[str, torch.Tensor]

_UNET_TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OPEN_CLIP_TOP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_OPEN_CLIP_LAYERS = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def supports(parts: DiffusionParts) -> bool:
    """Return whether an original layout has names for this model: Stable Diffusion and SDXL.

    Readers of SDXL's distinguish its text encoders by their width.
    """
    if parts.family.single_file == "sdxl":
        widths = {encoder.config.hidden_size for encoder in parts.text_encoders.values()}
        return len(widths) == len(parts.text_encoders)
    return parts.family.single_file is not None


def original_weights(parts: DiffusionParts) -> Weights:
    """Return all weights under their original names; the tensors are shared, not copied.

    Raises:
        KeyError: a weight has no name in the original layout.
    """
    return {
        **unet_weights(
            parts.unet.state_dict(), layers_per_block=parts.unet.config.layers_per_block
        ),
        **vae_weights(parts.vae.state_dict(), num_levels=len(parts.vae.config.block_out_channels)),
        **_text_weights(parts),
    }


def _text_weights(parts: DiffusionParts) -> Weights:
    """Return the text encoders' weights under their original names.

    Stable Diffusion 2.x, known by its linear projections, has one of OpenCLIP.
    """
    is_xl = parts.family.single_file == "sdxl"
    if not is_xl and parts.unet.config.use_linear_projection:
        first = open_clip_weights(parts.text_encoder.state_dict())
        return {f"cond_stage_model.model.{key}": w for key, w in first.items()}
    place = "conditioner.embedders.0" if is_xl else "cond_stage_model"
    text = {
        key.removeprefix("text_model."): w for key, w in parts.text_encoder.state_dict().items()
    }
    named = {f"{place}.transformer.text_model.{key}": w for key, w in text.items()}
    if is_xl:
        second = open_clip_weights(parts.part("text_encoder_2").state_dict())
        named |= {f"conditioner.embedders.1.model.{key}": w for key, w in second.items()}
    return named


def open_clip_weights(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return a CLIP text encoder's weights under OpenCLIP's names, queries, keys, values joined."""
    named: Weights = {}
    for key, weight in weights.items():
        rest = key.removeprefix("text_model.")
        if rest == "text_projection.weight":
            named["text_projection"] = weight.T
        elif rest in _OPEN_CLIP_TOP:
            named[_OPEN_CLIP_TOP[rest]] = weight
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", rest):
            block, (layer, kind) = f"transformer.resblocks.{match[1]}", match.groups()[1:]
            if layer == "self_attn.q_proj":
                joined = [weights[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
                named[f"{block}.attn.in_proj_{kind}"] = torch.cat(joined)
            elif layer in _OPEN_CLIP_LAYERS:
                named[f"{block}.{_OPEN_CLIP_LAYERS[layer]}.{kind}"] = weight
            elif layer not in ("self_attn.k_proj", "self_attn.v_proj"):
                raise KeyError(key)
        else:
            raise KeyError(key)
    return named


def unet_weights(weights: Mapping[str, torch.Tensor], *, layers_per_block: int) -> Weights:
    """Return the UNet's weights under their original names."""
    per_level = layers_per_block + 1
    attended = {match[1] for key in weights if (match := re.match(r"(up_blocks\.\d+)\.att", key))}

    def rename(key: str) -> str:
        for ours, theirs in _UNET_TOP.items():
            if key.startswith(f"{ours}."):
                return f"{theirs}{key.removeprefix(ours)}"
        match = re.fullmatch(
            r"(?P<side>down|mid|up)_blocks?(?:\.(?P<level>\d+))?"
            r"\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<layer>\d+)\.(?P<rest>.+)",
            key,
        )
        if match is None:
            raise KeyError(key)
        kind, rest, layer = match["kind"], match["rest"], int(match["layer"])
        if kind == "resnets":
            rest = _rename_layer(rest, _UNET_RESNET)
        if match["side"] == "mid":
            return f"middle_block.{2 * layer + (kind == 'attentions')}.{rest}"
        level = int(match["level"])
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_level}.0.{rest.replace('conv.', 'op.', 1)}"
        if kind == "upsamplers":
            place = 2 if f"up_blocks.{level}" in attended else 1
            return f"output_blocks.{(level + 1) * per_level - 1}.{place}.{rest}"
        place = int(kind == "attentions")
        if match["side"] == "down":
            return f"input_blocks.{1 + level * per_level + layer}.{place}.{rest}"
        return f"output_blocks.{level * per_level + layer}.{place}.{rest}"

    return _renamed(weights, prefix="model.diffusion_model.", rename=rename)


def vae_weights(weights: Mapping[str, torch.Tensor], *, num_levels: int) -> Weights:
    """Return the VAE's weights under their original names, attention as 1 x 1 convolutions."""

    def rename(key: str) -> str:
        key = key.replace("conv_norm_out.", "norm_out.")
        key = re.sub(
            r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", key
        ).replace("conv_shortcut", "nin_shortcut")
        key = re.sub(
            r"mid_block\.attentions\.0\.(.+)",
            lambda m: f"mid.attn_1.{_rename_layer(m[1], _VAE_ATTENTION)}",
            key,
        )
        key = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", key)
        key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", key)
        key = re.sub(r"up_blocks\.(\d+)\.", lambda m: f"up.{num_levels - 1 - int(m[1])}.", key)
        return key.replace(".resnets.", ".block.").replace(".upsamplers.0.", ".upsample.")

    renamed = _renamed(weights, prefix="first_stage_model.", rename=rename)
    return {
        key: w[:, :, None, None] if ".attn_1." in key and w.ndim == 2 else w
        for key, w in renamed.items()
    }


def _renamed(
    weights: Mapping[str, torch.Tensor], *, prefix: str, rename: Callable[[str], str]
) -> Weights:
    """Return weights under new names, none of which may coincide."""
    result = {f"{prefix}{rename(key)}": w for key, w in weights.items()}
    if len(result) != len(weights):
        raise KeyError(f"two weights have one name below {prefix}")
    return result


def _rename_layer(rest: str, names: Mapping[str, str]) -> str:
    """Return `<layer>.<weight>` with the layer renamed."""
    layer, _, leaf = rest.rpartition(".")
    return f"{names[layer]}.{leaf}"
