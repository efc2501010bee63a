"""Predicts what a training will need before anything is loaded."""

from boothline.planning.memory import MemoryPlan, plan_memory
from boothline.planning.shapes import ModelShapes

__all__ = ["MemoryPlan", "ModelShapes", "plan_memory"]
