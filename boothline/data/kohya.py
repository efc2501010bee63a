"""The folders of kohya: `10_sks dog` (repeats and words), `reg/1_dog` (class pictures).

A folder `reg/` or `class_images/` next to pictures means the same without any repeats.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from boothline.data.naming import is_hidden, is_side_file, is_sidecar

_FOLDER: Final = re.compile(r"(\d{1,3})_(.+)")
_CLASS_FOLDERS: Final = frozenset(
    {"reg", "regs", "reg_images", "regularization", "regularisation", "regularization_images"}
    | {"class", "class_images", "class_data"}
)
_CONTAINERS: Final = _CLASS_FOLDERS | {"img", "image", "images", "train", "train_data", "dataset"}
_MAX_DEPTH: Final = 3


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the folders of a picture say about it.

    Attributes:
        repeats: how often it stands in an epoch.
        words: its caption where it has none of its own, e.g. `sks dog`; empty: none.
        is_class: whether it shows the class and not the subject.
    """

    repeats: int = 1
    words: str = ""
    is_class: bool = False


def place_of(name: str) -> Place:
    """Return what the folders in a picture's name say."""
    parts = PurePosixPath(name).parts[:-1]
    match = next((m for part in reversed(parts) if (m := _FOLDER.fullmatch(part))), None)
    return Place(
        repeats=max(int(match[1]), 1) if match else 1,
        words=" ".join(match[2].split()) if match else "",
        is_class=any(part.casefold() in _CLASS_FOLDERS for part in parts),
    )


def has_repeats(names: list[str]) -> bool:
    """Return whether any of the files lies in a folder of repeats."""
    return any(_FOLDER.fullmatch(part) for name in names for part in PurePosixPath(name).parts[:-1])


def is_laid_out(names: list[str]) -> bool:
    """Return whether folders say what the pictures show: by repeats, or by class pictures apart.

    Where all lie in folders of a class's name, the names mean nothing.
    """
    return has_repeats(names) or len({place_of(name).is_class for name in names}) > 1


def folders_in(root: Path) -> list[Path]:
    """Return the folders below one that hold pictures in this layout; none in another layout."""
    found = _walk(root, depth=0)
    if any(_FOLDER.fullmatch(folder.name) for folder in found):
        return sorted(found)
    return sorted(found) if any(_may_be_picture(child) for child in root.iterdir()) else []


def _may_be_picture(path: Path) -> bool:
    """Return whether a file may be a picture by its name."""
    name = path.name
    return path.is_file() and not (is_hidden(name) or is_sidecar(name) or is_side_file(name))


def _walk(folder: Path, *, depth: int) -> list[Path]:
    """Return the folders of repeats, and those of class pictures, below a folder."""
    found: list[Path] = []
    for child in folder.iterdir():
        name = child.name.casefold()
        is_repeated = _FOLDER.fullmatch(child.name) is not None
        if child.is_symlink() or not (is_repeated or name in _CONTAINERS) or not child.is_dir():
            continue
        if is_repeated or name in _CLASS_FOLDERS:
            found.append(child)
        if not is_repeated and depth + 1 < _MAX_DEPTH:
            found += _walk(child, depth=depth + 1)
    return found
