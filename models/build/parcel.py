"""Packs training states and the art they need into small files, and unpacks them elsewhere."""

from __future__ import annotations

import io
import logging
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch

from boothline.errors import BoothlineError
from models.build.sprites import PACKAGES, Rendition
from models.build.stage import load_state, save_state

logger = logging.getLogger(__name__)

PART_BYTES: Final = 15 * 1024 * 1024
"""No file of a parcel is larger: some ways between machines take only small files."""

_ART: Final = "emoji-art.tar"


class ParcelError(BoothlineError):
    """A parcel is missing or incomplete."""


class Parcel:
    """A folder of parts that together hold states and art.

    Args:
        folder: of the parts; None is refused at the first use.
    """

    def __init__(self, folder: Path | None) -> None:
        self._named = folder

    @property
    def folder(self) -> Path:
        """The folder of the parts.

        Raises:
            ParcelError: none was named.
        """
        if self._named is None:
            raise ParcelError("no parcel was named: pass --parcel FOLDER")
        return self._named

    def pack_states(self, stages: Iterable[str], *, state: Path) -> None:
        """Write the states of stages, without optimisers and in half precision.

        Where a stage keeps averaged weights, they take the place of its weights.

        Args:
            stages: those to pack; one without a state is left out.
            state: folder of the training states.
        """
        for stage in stages:
            if (state / f"{stage}.pt").is_file():
                stream = io.BytesIO()
                torch.save(_slim(load_state(state / f"{stage}.pt")), stream)
                self._write(stream.getvalue(), name=f"{stage}.pt")

    def unpack_states(self, stages: Iterable[str], *, state: Path) -> list[str]:
        """Write the states that are further than those in `state`; return their stages.

        Raises:
            ParcelError: there is no parcel, or a part is missing.
        """
        taken: list[str] = []
        for stage in stages:
            content, path = self._read(f"{stage}.pt"), state / f"{stage}.pt"
            if content is None:
                continue
            slim = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if path.is_file() and int(load_state(path)["step"]) >= int(slim["step"]):
                logger.info("%s: the state in %s is as far as the parcel's", stage, state)
                continue
            save_state(_whole(slim), path=path)
            logger.info("%s: step %d comes from the parcel", stage, slim["step"])
            taken.append(stage)
        return taken

    def pack_art(self, renditions: Iterable[Rendition], *, art: Path) -> None:
        """Write the pictures of the renditions and the packages' records, unless they are there."""
        if list(self.folder.glob(f"{_ART}.*")):
            return
        wanted = {rendition.path for rendition in renditions}
        wanted |= {art / package.folder / "package.json" for package in PACKAGES}
        wanted.add(art / PACKAGES[0].folder / "emoji.json")
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path in sorted(wanted):
                archive.add(path, arcname=str(path.relative_to(art)))
        self._write(stream.getvalue(), name=_ART)

    def unpack_art(self, art: Path) -> bool:
        """Fill an absent art folder; return whether the parcel held art for it."""
        content = None if art.exists() else self._read(_ART)
        if content is None:
            return False
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(art, filter="data")
        return True

    def _write(self, content: bytes, *, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"{name}.*"):
            old.unlink()
        starts = range(0, len(content), PART_BYTES)
        for number, start in enumerate(starts):
            part = self.folder / f"{name}.{number}of{len(starts)}"
            part.write_bytes(content[start : start + PART_BYTES])

    def _read(self, name: str) -> bytes | None:
        """Return what the parts hold together, or None where there is none.

        Raises:
            ParcelError: there is no folder, or a part is missing.
        """
        if not self.folder.is_dir():
            raise ParcelError(f"there is no folder {self.folder}: pack first")
        found = list(self.folder.glob(f"{name}.*of*"))
        if not found:
            return None
        total = int(found[0].name.rpartition("of")[2])
        parts = [self.folder / f"{name}.{number}of{total}" for number in range(total)]
        missing = [part.name for part in parts if not part.is_file()]
        if missing:
            raise ParcelError(f"{self.folder} lacks {', '.join(missing)}: pack again")
        return b"".join(part.read_bytes() for part in parts)


def _slim(state: dict[str, Any]) -> dict[str, Any]:
    modules, names = dict(state["modules"]), state.get("parameter_names", [])
    averaged = names if state["average"] else []
    modules.update(zip(averaged, state["average"], strict=True))
    half = {
        name: tensor.half() if tensor.dtype == torch.float32 else tensor
        for name, tensor in modules.items()
    }
    kept = {"step": state["step"], "seconds": state["seconds"], "parameter_names": names}
    return {**kept, "modules": half, "averaged": averaged}


def _whole(slim: dict[str, Any]) -> dict[str, Any]:
    modules = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in slim["modules"].items()
    }
    kept = {name: slim[name] for name in ("step", "seconds", "parameter_names")}
    average = [modules[name].clone() for name in slim["averaged"]]
    return {**kept, "modules": modules, "average": average}
