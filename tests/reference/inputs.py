"""What the reference reads from disk: the base model's networks, the pictures, the captions.

The networks are those of diffusers and transformers; the start of the adapters is peft's.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image, ImageOps
from transformers import CLIPTextModel, CLIPTokenizer

from boothline.diffusion import counters

Tensors = dict[str, torch.Tensor]
ADAPTER = ".lora_A.default.weight"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model in float64, and the moments of the pictures that it has encoded."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    alpha_bar: list[float]
    kind: str
    moments: dict[Any, torch.Tensor] = field(default_factory=dict)

    @classmethod
    @lru_cache(maxsize=8)
    def read(cls, folder: Path) -> "Base":
        schedule = DDPMScheduler.from_pretrained(folder / "scheduler")
        networks = (
            (UNet2DConditionModel, "unet"),
            (AutoencoderKL, "vae"),
            (CLIPTextModel, "text_encoder"),
        )
        loaded = {name: kind.from_pretrained(folder / name).double() for kind, name in networks}
        for network in loaded.values():
            network.requires_grad_(False).eval()
        return cls(
            **loaded,
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            alpha_bar=schedule.alphas_cumprod.double().tolist(),
            kind=schedule.config.prediction_type,
        )

    def tokens(self, caption: str, own: Sequence[str] = ()) -> torch.Tensor:
        """The tokens of a caption; words of one's own get the numbers behind the vocabulary."""
        length = self.tokenizer.model_max_length
        if own:
            first, found = len(self.tokenizer), []
            for piece in re.split(rf"\b({'|'.join(map(re.escape, own))})\b", caption):
                known = piece not in own
                read = self.tokenizer(piece, add_special_tokens=False).input_ids
                found += read if known else [first + own.index(piece)]
            marked = [self.tokenizer.bos_token_id, *found, self.tokenizer.eos_token_id]
            rest = [self.tokenizer.pad_token_id] * (length - len(marked))
            return torch.tensor([marked + rest])
        padded = self.tokenizer(caption, padding="max_length", max_length=length, truncation=True)
        return torch.tensor([padded.input_ids])


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A training picture: its pixels, its own caption, and what of it is learnt."""

    image: Image.Image
    caption: str
    mask: Image.Image | None = None


def read_shots(folder: Path) -> list[Shot]:
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: Path(row["image"]).name)
    return [
        Shot(
            image=Image.open(folder / row["image"]).convert("RGB"),
            caption=row["caption"],
            mask=Image.open(folder / row["mask"]).convert("L") if "mask" in row else None,
        )
        for row in rows
    ]


def random_crop(image: Image.Image, place: tuple[int, int], training: dict[str, Any]) -> Any:
    """A part with the picture's shape, of a random size and at a random place inside it."""
    draws = counters.uniform((3,), seed=training["seed"], stream="crop", index=place).double()
    size, across, down = draws.tolist()
    part = training["crop_scale"] + size * (1 - training["crop_scale"])
    width, height = image.size
    left, top = across * (1 - part) * width, down * (1 - part) * height
    box = (left, top, min(width, left + part * width), min(height, top + part * height))
    resample = getattr(Image.Resampling, training["interpolation"].upper())
    return image.resize(image.size, resample, box=box)


def weights_of(mask: Image.Image, *, shape: tuple[int, int], flip: bool) -> torch.Tensor:
    """The mean of a mask over the pixels of each latent, white being 1."""
    if flip:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    height, width = shape
    blocks = np.asarray(mask, dtype=np.float64) / 255
    blocks = blocks.reshape(height, mask.height // height, width, mask.width // width)
    return torch.from_numpy(blocks.mean(axis=(1, 3)))


@torch.no_grad()
def moments_of(base: Base, image: Image.Image, *, size: tuple[int, int], flip: bool) -> Any:
    """Mean and log variance of a picture's latents."""
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    name = (image.size, image.tobytes())
    if name not in base.moments:
        pixels = torch.from_numpy(np.array(image)).double().permute(2, 0, 1) / 127.5 - 1
        base.moments[name] = base.vae.encode(pixels[None]).latent_dist.parameters[0]
    return base.moments[name]


def start_weights(base: Base, training: dict[str, Any]) -> Tensors:
    """The trained weights before the first step, by the network's and their own name."""
    networks = {"unet": base.unet}
    lora = training["lora"]
    adapted = training["method"] == "lora"
    if training["train_text_encoder"] and (not adapted or lora["text_encoder"]):
        networks["text_encoder"] = base.text_encoder
    if not adapted:
        return {f"{n}.{key}": p.clone() for n, net in networks.items()
                for key, p in net.named_parameters()}  # fmt: skip
    targets = {"unet": lora["targets"], "text_encoder": lora["text_encoder_targets"]}
    start = {}
    for name, network in networks.items():
        adapters = _fresh_adapters(network, name, lora, targets[name], seed=training["seed"])
        start.update({f"{name}.{key}": value for key, value in adapters.items()})
    return start


def start_row(tokenizer: Any, table: torch.Tensor, word: str) -> torch.Tensor:
    """Gal et al., 2022, section 4: the embedding starts as that of a word near in meaning."""
    return table[tokenizer(word, add_special_tokens=False).input_ids].mean(0)


def _fresh_adapters(
    network: Any, name: str, lora: dict[str, Any], targets: Sequence[str], *, seed: int
) -> Tensors:
    """peft's start values under the seed that a counter draws."""
    copy = type(network).from_config(network.config) if name == "unet" else None
    copy = copy or type(network)(network.config)
    copy.double().load_state_dict(network.state_dict())
    settings = LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], target_modules=list(targets),
        use_dora=lora["dora"],
    )  # fmt: skip
    draw = counters.integers((), high=2**31, seed=seed, stream=f"lora/{name}", index=0)
    with torch.random.fork_rng():
        torch.manual_seed(int(draw))
        inject_adapter_in_model(settings, copy.requires_grad_(False))
    return {key: p.detach().clone() for key, p in copy.named_parameters() if p.requires_grad}


def effective_weights(network: Any, name: str, trained: Tensors, lora: dict[str, Any]) -> Tensors:
    """The weights that a network computes with, its adapters added up (LoRA, DoRA).

    LoRA (Hu et al., 2021): W + alpha / r x B A. DoRA (Liu et al., 2024): the same, each output's
    row scaled to a trained length, the former length being a constant of the gradient (section
    4.3).
    """
    own = {key.removeprefix(f"{name}."): w for key, w in trained.items() if key.startswith(name)}
    if not any(".lora_" in key for key in own):
        return own
    weights = {}
    for key, down in own.items():
        if not key.endswith(ADAPTER):
            continue
        layer = key.removesuffix(ADAPTER)
        up = own[f"{layer}.lora_B.default.weight"]
        changed = (
            network.get_parameter(f"{layer}.weight") + lora["alpha"] / lora["rank"] * up @ down
        )
        if lora["dora"]:
            length = changed.norm(dim=1, keepdim=True).detach()
            magnitude = own[f"{layer}.lora_magnitude_vector.default.weight"]
            changed = magnitude[:, None] * changed / length
        weights[f"{layer}.weight"] = changed
    return weights
