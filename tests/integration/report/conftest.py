"""Runs to report on."""

import pytest
from integration.report.synthetic_run import SyntheticRun

from boothline.store import Store


@pytest.fixture
def run(store: Store) -> SyntheticRun:
    """A run of which nothing is committed yet."""
    return SyntheticRun(store)
