"""A store for the report of a run."""

from pathlib import Path

import pytest

from boothline.store import Store
from boothline.store.memory import memory_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A fresh, empty store in the memory of this process."""
    return memory_store(tmp_path / "blobs")
