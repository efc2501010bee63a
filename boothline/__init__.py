"""Boothline: DreamBooth fine-tuning as a pipeline whose every result is a verified manifest."""

__version__ = "0.1.0"
