"""Tracking in MLflow: one parent run per pipeline run, one nested run per step."""

from boothline.tracking.base import MemoryTracker, NullTracker, StepTracker
from boothline.tracking.opening import open_step_tracker

__all__ = ["MemoryTracker", "NullTracker", "StepTracker", "open_step_tracker"]
