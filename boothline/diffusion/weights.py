"""Reads the header of safetensors files: what they hold, and whether they are whole; without torch.

The format: 8 bytes with the length of a JSON object, that object, and the numbers behind it
(https://huggingface.co/docs/safetensors).
"""

import json
from pathlib import Path
from typing import Final

from boothline.errors import DataError, MachineError

_LENGTH_BYTES: Final = 8
_MAX_HEADER_BYTES: Final = 100_000_000
_POINTER: Final = b"version https://git-lfs"


def check_weights(folder: Path, stem: str) -> None:
    """Check that every weights file of a network is whole, in one file or several.

    Args:
        folder: of the network.
        stem: name of its weights without their suffix, with the variant.

    Raises:
        DataError: a file is missing, cut off, or not what its name says.
    """
    index = folder / f"{stem}.safetensors.index.json"
    whole = folder / f"{stem}.safetensors"
    for path in [whole] if whole.is_file() else _shards(index):
        names_in(path)


def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tensors in a file whose size fits its header.

    Raises:
        DataError: it does not, or is not such a file.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(_LENGTH_BYTES)
            if (start + stream.read(len(_POINTER))).startswith(_POINTER):
                raise DataError(
                    f"{path} is a pointer of Git LFS, not the weights themselves.",
                    remedy="Fetch them with `git lfs pull` in that folder.",
                )
            length = int.from_bytes(start, "little")
            if length > min(size_bytes - _LENGTH_BYTES, _MAX_HEADER_BYTES):
                raise ValueError(f"its header would have {length} bytes")
            stream.seek(_LENGTH_BYTES)
            header = json.loads(stream.read(length))
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        ends = (int(value["data_offsets"][1]) for value in tensors.values())
        expected_bytes = _LENGTH_BYTES + length + max(ends, default=0)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.", remedy="The model folder is incomplete.") from error
    except OSError as error:
        raise MachineError(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="This says nothing about its content. Check the disk and who may read it.",
        ) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} is not a safetensors file: {str(error) or type(error).__name__}.",
            remedy="Download or convert it again.",
        ) from error
    if size_bytes < expected_bytes:
        raise DataError(
            f"{path} is cut off: it has {size_bytes} of {expected_bytes} bytes.",
            remedy="Download it again.",
        )
    return frozenset(tensors)


def _shards(index: Path) -> list[Path]:
    """Return the files that an index of weights names."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [index.parent / str(name) for name in names]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{index} is not an index of weights: {error}.",
            remedy="The model folder is incomplete: download it again.",
        ) from error
