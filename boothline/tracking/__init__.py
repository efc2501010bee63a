"""Tracking in MLflow: one parent run per pipeline run, one nested run per step."""

from boothline.tracking.base import MemoryTracker, NullTracker, StepTracker
from boothline.tracking.opening import open_step_tracker
from boothline.tracking.parent import start_parent
from boothline.tracking.reconciling import reconcile

__all__ = [
    "MemoryTracker",
    "NullTracker",
    "StepTracker",
    "open_step_tracker",
    "reconcile",
    "start_parent",
]
