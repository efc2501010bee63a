"""Boothline: DreamBooth fine-tuning as a pipeline whose every result is a verified manifest."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boothline.launch.api import Run, load_champion, run

__version__ = "0.2.0"
__all__ = ["Run", "load_champion", "run"]


def __getattr__(name: str) -> object:
    """Load the functions for Python when the first of them is used."""
    if name in __all__:
        return getattr(import_module("boothline.launch.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
