"""Tracking in MLflow: one parent run per pipeline run, one nested run per step."""

from boothline.tracking.base import MemoryTracker, StepTracker, dotted
from boothline.tracking.delivery import open_step_tracker
from boothline.tracking.reconciling import reconcile, start_parent

__all__ = [
    "MemoryTracker",
    "StepTracker",
    "dotted",
    "open_step_tracker",
    "reconcile",
    "start_parent",
]
