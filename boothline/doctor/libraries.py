"""The optional libraries that a configuration asks for, and which of them are missing here."""

from collections.abc import Iterable, Iterator
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
class Need:
    """Something that a run would miss on this machine.

    Attributes:
        setting: what asks for it, with its value where that matters.
        message: what is missing; reads on from the setting.
        remedy: what to do.
    """

    setting: str
    message: str
    remedy: str


def refuse(needs: Iterable[Need]) -> None:
    """Refuse a run that would miss something.

    Raises:
        ConfigError: it would; the first is named.
    """
    for need in needs:
        raise ConfigError(f"{need.setting} {need.message}.", remedy=need.remedy)


def is_installed(library: str) -> bool:
    """Return whether a library can be imported, without importing it."""
    return find_spec(library) is not None


def missing(config: RunConfig, settings: Settings) -> Iterator[Need]:
    """Yield the optional libraries that a run asks for and that are not installed."""
    for setting, library, extra in _wanted(config, settings):
        if not is_installed(library):
            yield Need(
                setting=setting,
                message=f"needs the library {library}, which is not installed here",
                remedy=f"Install the extra: pip install 'boothline[{extra}]'.",
            )


def _wanted(config: RunConfig, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield what asks for an optional library, its name, and the extra that installs it."""
    optimizer = config.training.optimizer
    if library := OPTIMIZERS.get(optimizer):
        yield f"training.optimizer {optimizer}", library, "optimizers"
    if config.training.frozen_precision == "nf4":
        yield "training.frozen_precision nf4", OPTIMIZERS["adamw8bit"], "optimizers"
    if config.tracking.tensorboard:
        yield "tracking.tensorboard", "tensorboardX", "tensorboard"
    if config.tracking.wandb:
        yield "tracking.wandb", "wandb", "wandb"
    if settings.signing_key:
        yield "BOOTHLINE_SIGNING_KEY", "model_signing", "signing"
    elif settings.verification_key:
        yield "BOOTHLINE_VERIFICATION_KEY", "model_signing", "signing"
