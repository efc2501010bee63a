"""Brings prompt files that lie in the object store to where a step runs."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from boothline.config import RunConfig
from boothline.config.fields import named_in
from boothline.errors import DataError
from boothline.store.s3 import Bucket

REMOTE: Final = "s3://"
MAX_FILE_BYTES: Final = 64 * 2**20
_SETTINGS: Final = ("inference.prompts_file", "evaluation.prompts_file")


def with_prompts_here(config: RunConfig, folder: Path, *, bucket: Bucket) -> RunConfig:
    """Return the configuration with copies of its `s3://` prompt files in a folder.

    Pictures that rows of such a file start from are not brought along.

    Raises:
        DataError: such a file does not exist, or is too large.
    """
    sections: dict[str, object] = {}
    for setting, source in named_in(config, _SETTINGS).items():
        if not source.startswith(REMOTE):
            continue
        section, _, key = setting.partition(".")
        path = _copy(source, folder / f"{section}-prompts", bucket=bucket, setting=setting)
        sections[section] = getattr(config, section).model_copy(update={key: str(path)})
    return config.model_copy(update=sections) if sections else config


def _copy(source: str, folder: Path, *, bucket: Bucket, setting: str) -> Path:
    """Copy one object into a folder, which is created, and return the copy."""
    name, _, key = source.removeprefix(REMOTE).partition("/")
    # The prefix of the store itself is for what Boothline writes.
    place = replace(bucket, name=name, prefix="")
    size_bytes = place.size(key) if name and key else None
    if size_bytes is None:
        raise DataError(f"The prompt file {source} does not exist.", remedy=f"Check {setting}.")
    if size_bytes > MAX_FILE_BYTES:
        raise DataError(f"{source} has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read.")
    folder.mkdir()
    path = folder / PurePosixPath(key).name
    with path.open("wb") as file:
        place.receive(key, file.write, size_bytes=size_bytes)
    return path
