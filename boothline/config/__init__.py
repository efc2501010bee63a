"""Run configuration: the model, loading and merging, generated documentation."""

from boothline.config.model import RunConfig

__all__ = ["RunConfig"]
