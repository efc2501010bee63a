"""Which encoders can judge the pictures of a base model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from boothline.config import RunConfig
from boothline.diffusion.base_model import BUILTIN
from boothline.diffusion.layout import read_json
from boothline.diffusion.presets import INIT, REAL_PX
from boothline.errors import ConfigError

ENCODERS: Final = ("dino_model", "clip_model")
SMALLEST_INPUT_PX: Final = 128
"""Encoders of photographs read 224 pixels or more; the tiny ones read 64."""


@dataclass(frozen=True, kw_only=True)
class Unfit:
    """An encoder that cannot judge the pictures of a base.

    Attributes:
        setting: that names it.
        message: why, as a sentence without its end.
        remedy: what to set.
    """

    setting: str
    message: str
    remedy: str


def unfit_judges(
    config: RunConfig, *, native: int | None, folders: Mapping[str, Path] | None = None
) -> Iterator[Unfit]:
    """Yield the encoders that cannot judge the pictures of a base.

    The built-in encoders know the pictures of the tiny base alone. What others know is not in their
    files, but how large the pictures are that they read: what was made for small ones sees
    nothing of a photograph. Encoders of photographs may judge the tiny base.

    Args:
        config: names the encoders.
        native: side of the pictures that the base is for (`usual_px`); None: unknown.
        folders: those of the encoders by setting, as far as they are known.
    """
    if native is None or native < REAL_PX:
        return
    for name in ENCODERS:
        encoder = getattr(config.evaluation, name)
        side = input_px(folders[name]) if folders and name in folders else None
        if encoder.startswith(BUILTIN):
            reason = "was made for the pictures of the tiny base"
        elif side is not None and side < SMALLEST_INPUT_PX:
            reason = f"reads pictures of {side} px"
        else:
            continue
        yield Unfit(
            setting=f"evaluation.{name}",
            message=f"evaluation.{name} {encoder} {reason}; it cannot judge those of {native} px",
            remedy=f"Set evaluation.{name} to a real encoder (docs/evaluation.md). {INIT}",
        )


def check_judges(
    config: RunConfig, *, native: int | None, folders: Mapping[str, Path] | None = None
) -> None:
    """Refuse encoders that cannot judge the pictures of a base; arguments as for `unfit_judges`.

    Raises:
        ConfigError: one cannot; the first is named.
    """
    for unfit in unfit_judges(config, native=native, folders=folders):
        raise ConfigError(f"{unfit.message}.", remedy=unfit.remedy)


def input_px(folder: Path) -> int | None:
    """Return the side of the pictures that an encoder reads; None where its settings do not say."""
    config = read_json(folder / "config.json")
    vision = config.get("vision_config")
    size = (vision if isinstance(vision, dict) else config).get("image_size")
    return size if isinstance(size, int) else None
