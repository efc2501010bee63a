"""Draws scenes once into memory-mapped arrays, so that training never waits for pictures."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.build.backgrounds import WORLD_PX
from models.build.world import Scene, World

logger = logging.getLogger(__name__)

_CHUNK = 128
HELD_OUT_FIRST_INDEX = 10_000_000
"""Scenes from this index on are for evaluation; training uses those below it."""


@dataclass(frozen=True)
class SceneSet:
    """A block of drawn scenes.

    Attributes:
        pixels_NHWC: uint8, (N, 64, 64, 3), in [0, 255]; memory-mapped.
        captions: N captions.
        nouns: int64 (N,), noun labels, -1 in the wide domain.
        backgrounds: int64 (N,), background labels.
        styles: N style names.
        instances: int64 (N,), equal where two scenes show the same sprite.
    """

    pixels_NHWC: NDArray[np.uint8]
    captions: list[str]
    nouns: NDArray[np.int64]
    backgrounds: NDArray[np.int64]
    styles: list[str]
    instances: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.captions)


def draw_scenes(
    draw: Callable[[int], Scene], *, first: int, count: int, folder: Path, num_processes: int = 1
) -> SceneSet:
    """Return scenes `first` to `first + count`, drawn now or read from `folder`.

    Args:
        draw: `World.captioned` or `World.wide`.
        first: index of the first scene.
        count: number of scenes.
        folder: where the block is kept; a finished block is read, never drawn again.
        num_processes: that draw at once; the scenes are the same.
    """
    labels_path = folder / "labels.json"
    if not labels_path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        indices = range(first, first + count)
        _keep(_drawn(draw, indices, num_processes=num_processes), count=count, folder=folder)
    labels = json.loads(labels_path.read_text())
    return SceneSet(
        pixels_NHWC=np.load(folder / "pixels.npy", mmap_mode="r"),
        captions=labels["captions"],
        nouns=np.array(labels["nouns"], dtype=np.int64),
        backgrounds=np.array(labels["backgrounds"], dtype=np.int64),
        styles=labels["styles"],
        instances=np.array(labels["instances"], dtype=np.int64),
    )


def _drawn(draw: Callable[[int], Scene], indices: range, *, num_processes: int) -> Iterator[Scene]:
    if num_processes == 1:
        yield from map(draw, indices)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
        yield from pool.map(draw, indices, chunksize=_CHUNK)


def _keep(scenes: Iterator[Scene], *, count: int, folder: Path) -> None:
    logger.info("drawing %d scenes into %s", count, folder)
    shape = (count, WORLD_PX, WORLD_PX, 3)
    pixels = np.lib.format.open_memmap(
        folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape
    )
    captions: list[str] = []
    styles: list[str] = []
    nouns: list[int] = []
    backgrounds: list[int] = []
    instances: dict[str, int] = {}
    shown: list[int] = []
    for offset, scene in enumerate(scenes):
        pixels[offset] = np.asarray(scene.picture)
        captions.append(scene.caption)
        styles.append(scene.rendition.style)
        nouns.append(scene.noun)
        backgrounds.append(scene.background)
        shown.append(instances.setdefault(scene.instance, len(instances)))
    pixels.flush()
    labels: dict[str, list[str] | list[int]] = {
        "captions": captions,
        "styles": styles,
        "nouns": nouns,
        "backgrounds": backgrounds,
        "instances": shown,
    }
    partial = folder / "labels.json.partial"
    partial.write_text(json.dumps(labels))
    partial.rename(folder / "labels.json")


class SceneStore:
    """The drawn blocks of one recipe, by name.

    Args:
        world: draws absent blocks.
        folder: keeps the blocks.
        num_processes: that draw at once.
    """

    def __init__(self, world: World, *, folder: Path, num_processes: int = 1) -> None:
        self.world = world
        self._num_processes = num_processes
        self._folder = folder

    def captioned(self, count: int, *, held_out: bool = False) -> SceneSet:
        """Return `count` captioned scenes, of training or held out."""
        return self._block("captioned", self.world.captioned, count=count, held_out=held_out)

    def wide(self, count: int, *, held_out: bool = False) -> SceneSet:
        """Return `count` wide scenes, of training or held out."""
        return self._block("wide", self.world.wide, count=count, held_out=held_out)

    def _block(
        self, domain: str, draw: Callable[[int], Scene], *, count: int, held_out: bool
    ) -> SceneSet:
        first = HELD_OUT_FIRST_INDEX if held_out else 0
        name = f"{domain}-{'held-out' if held_out else 'training'}-{count}-seed{self.world.seed}"
        return draw_scenes(
            draw,
            first=first,
            count=count,
            folder=self._folder / name,
            num_processes=self._num_processes,
        )
