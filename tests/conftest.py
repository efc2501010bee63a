"""Fixtures shared by all tests, and their order."""

import gc
import os
from pathlib import Path

import pytest

pytest_plugins = [
    "service_fixtures",
    "family_fixtures",
    "model_fixtures",
    "picture_fixtures",
    "browser_fixtures",
    "fault_figures",
]
LONGEST_FIRST = (
    "integration/pipelines",
    "integration/packaging",
    "sensitivity",
    "integration/training",
    "reference",
    "integration",
)
_TESTS = Path(__file__).parent
# A worker has a million objects of libraries: do not look through them at every turn.
gc.set_threshold(10_000, 20, 50)
# A step that samples takes every core it may use, and leaves torch at that: in a worker, and in
# what it starts, it may use as many as the run gives a process.
if "OMP_NUM_THREADS" in os.environ:
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", os.environ["OMP_NUM_THREADS"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of long tests first: short ones fill the workers evenly at the end."""
    items.sort(key=lambda item: _place_of(item.path.relative_to(_TESTS)))


def pytest_collection_finish() -> None:
    """Leave what was imported out of all later looks."""
    gc.freeze()


def _place_of(path: Path) -> int:
    fitting = (n for n, folder in enumerate(LONGEST_FIRST) if path.is_relative_to(folder))
    return next(fitting, len(LONGEST_FIRST))
