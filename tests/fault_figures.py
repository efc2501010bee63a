"""Keeps the figures that the fault tests measure, for the table of `make test-faults`."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

Note = Callable[[str, str], None]


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Note:
    """Return a function that notes what was measured: (row of the table, figure in words)."""
    folder = os.environ.get("BOOTHLINE_FAULT_FIGURES", "")

    def note(row: str, figure: str) -> None:
        if folder:
            name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:120]
            value = {"row": row, "figure": figure, "test": request.node.nodeid}
            (Path(folder) / f"{name}.figure.json").write_text(json.dumps(value))

    return note
