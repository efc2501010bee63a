"""Lets the processes of a run use steps that cost nothing in place of those that need torch.

A folder on PYTHONPATH: Python imports this module before anything else.
"""

import importlib.abc
import importlib.util
import sys
from pathlib import Path

STUBS = (
    "train",
    "generate_prior",
    "publish_checkpoint",
    "sample_models",
    "evaluate",
    "batch_infer",
)


class Finder(importlib.abc.MetaPathFinder):
    """Finds `boothline.components.<step>.step` in this folder."""

    def find_spec(self, fullname, path=None, target=None):
        parts = fullname.split(".")
        if len(parts) != 4 or parts[:2] != ["boothline", "components"] or parts[3] != "step":
            return None
        if parts[2] not in STUBS:
            return None
        file = Path(__file__).parent / f"stub_{parts[2]}.py"
        return importlib.util.spec_from_file_location(fullname, file)


sys.meta_path.insert(0, Finder())
