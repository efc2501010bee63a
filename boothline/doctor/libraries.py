"""The optional libraries that a configuration asks for, and which of them are missing here."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from boothline.config import RunConfig
from boothline.errors import ConfigError
from boothline.settings import Settings

OPTIMIZERS: Final = {
    "prodigy": "prodigyopt",
    "lion": "lion_pytorch",
    "adamw8bit": "bitsandbytes",
}
"""Library of each optimizer that torch does not have."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An optional library that something asks for.

    Attributes:
        setting: what asks for it, with its value where that matters.
        library: name that it is imported by.
        extra: the extra of Boothline that installs it.
    """

    setting: str
    library: str
    extra: str

    @property
    def message(self) -> str:
        """What is missing; reads on from the setting."""
        return f"needs the library {self.library}, which is not installed here"

    @property
    def remedy(self) -> str:
        """What to do."""
        return f"Install the extra: pip install 'boothline[{self.extra}]'."


def is_installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def missing(config: RunConfig, settings: Settings) -> list[Wanted]:
    """Return the optional libraries that a run asks for and that are not installed."""
    return [wanted for wanted in _wanted(config, settings) if not is_installed(wanted.library)]


def check_libraries(config: RunConfig, settings: Settings) -> None:
    """Refuse a run whose later steps would miss a library.

    Raises:
        ConfigError: one is missing; the first is named.
    """
    for wanted in missing(config, settings):
        raise ConfigError(f"{wanted.setting} {wanted.message}.", remedy=wanted.remedy)


def _wanted(config: RunConfig, settings: Settings) -> Iterator[Wanted]:
    """Yield the optional libraries that a run asks for."""
    optimizer = config.training.optimizer
    if library := OPTIMIZERS.get(optimizer):
        setting = f"training.optimizer {optimizer}"
        yield Wanted(setting=setting, library=library, extra="optimizers")
    if config.tracking.tensorboard:
        yield Wanted(setting="tracking.tensorboard", library="tensorboardX", extra="tensorboard")
    if config.tracking.wandb:
        yield Wanted(setting="tracking.wandb", library="wandb", extra="wandb")
    if settings.signing_key:
        yield Wanted(setting="BOOTHLINE_SIGNING_KEY", library="model_signing", extra="signing")
