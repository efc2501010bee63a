"""Instance pictures: reads them with suspicion, checks them, and makes a dataset of them.

The names below are imported on first use, so that the decode worker, which lives in this package,
starts in a tenth of a second.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boothline.data.examination import examine
    from boothline.data.naming import shown_name
    from boothline.data.report import (
        AcceptedImage,
        DatasetReport,
        DatasetWarning,
        QuarantinedImage,
    )
    from boothline.data.sources import Collection, collect

__all__ = [
    "AcceptedImage",
    "Collection",
    "DatasetReport",
    "DatasetWarning",
    "QuarantinedImage",
    "collect",
    "examine",
    "shown_name",
]

_MODULES = {
    "collect": "sources",
    "Collection": "sources",
    "examine": "examination",
    "shown_name": "naming",
}


def __getattr__(name: str) -> object:
    """Import one of the public names."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"boothline.data.{_MODULES.get(name, 'report')}")
    return getattr(module, name)
