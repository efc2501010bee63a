"""The model families, by the `_class_name` of model_index.json."""

from collections.abc import Mapping
from typing import Final

from boothline.diffusion.families.family import CONTEXT, POOLED, Family, LatentScale, Part, Tensors
from boothline.diffusion.families.flux import FLUX
from boothline.diffusion.families.flux2_klein import FLUX2_KLEIN
from boothline.diffusion.families.qwen_image import QWEN_IMAGE
from boothline.diffusion.families.sd3 import SD3
from boothline.diffusion.families.sdxl import SDXL
from boothline.diffusion.families.stable_diffusion import STABLE_DIFFUSION
from boothline.diffusion.families.z_image import Z_IMAGE

FAMILIES: Final[Mapping[str, Family]] = {
    family.pipeline: family
    for family in (STABLE_DIFFUSION, SDXL, SD3, FLUX, FLUX2_KLEIN, Z_IMAGE, QWEN_IMAGE)
}

__all__ = [
    "CONTEXT",
    "FAMILIES",
    "POOLED",
    "STABLE_DIFFUSION",
    "Family",
    "LatentScale",
    "Part",
    "Tensors",
]
