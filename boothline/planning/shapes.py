"""`ModelShapes`: the sizes of a base model's networks, read from its folder or known by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from boothline.diffusion.families import FAMILIES as KNOWN
from boothline.diffusion.families import STABLE_DIFFUSION, Family
from boothline.diffusion.layout import family_of
from boothline.errors import ConfigError
from boothline.planning.published import PUBLISHED, Settings


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
