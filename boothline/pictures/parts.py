"""Pictures as they are made: kept in parts, so that whatever is killed continues after its last.

A part is a small manifest with pictures that are sampled together. All parts of a folder belong to
one whole: a series of class pictures, a set for the evaluation, a batch of an inference. Whoever
makes that whole finds the parts that others or an earlier attempt have left, and makes only what
they lack; its result lists the same blobs, so nothing is stored twice.

Parts that runs share (of class pictures and of the evaluation) stay, and their pictures with them.
Those of one step alone (of a batch) are forgotten with its result.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from boothline.errors import StoreError
from boothline.pictures.plan import PlannedPicture
from boothline.results import Result
from boothline.store import FileEntry, ManifestRef, Store

logger = logging.getLogger(__name__)

IMAGES = "images/"
"""Where the pictures are in their part, and in every result that lists them."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pictures that are sampled and committed together.

    Attributes:
        path: where they are committed.
        pictures: what to sample.
        result: what their manifest says.
    """

    path: str
    pictures: tuple[PlannedPicture, ...]
    result: Result


@dataclass(frozen=True, kw_only=True)
class StoredPicture:
    """A picture in the store.

    Attributes:
        entry: its blob.
        part: the manifest it was committed with.
    """

    entry: FileEntry
    part: ManifestRef


class Parts:
    """Pictures of one whole that are in the store.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.stored: dict[str, StoredPicture] = {}

    def find(self, folder: str, pictures: Iterable[PlannedPicture]) -> None:
        """Look for pictures in a folder of parts; the first part by path that holds one counts."""
        missing = {picture.name for picture in pictures}
        for path in self._store.manifests(folder):
            if not missing:
                break
            self.take(path)
            missing -= self.stored.keys()

    def take(self, path: str) -> bool:
        """Take the pictures of one part; false where there is none."""
        found = self._store.look_up(path)
        if found is None:
            return False
        ref, manifest = found
        for entry in manifest.under(IMAGES):
            picture = StoredPicture(entry=entry, part=ref)
            self.stored.setdefault(entry.path.removeprefix(IMAGES), picture)
        return True

    def lacking(self, pictures: Iterable[PlannedPicture]) -> list[PlannedPicture]:
        """Return the pictures that were neither found nor made."""
        return [picture for picture in pictures if picture.name not in self.stored]

    def keep(self, part: Part, made: Iterable[tuple[PlannedPicture, bytes]]) -> None:
        """Commit a part as soon as its last picture is made; those that are there stay.

        Args:
            part: the part.
            made: its pictures as PNG, all of them.
        """
        files = {f"{IMAGES}{picture.name}": png for picture, png in made}
        self._store.commit(part.path, part.result.draft(files))
        self.take(part.path)

    def read(self, name: str) -> bytes:
        """Return a picture's PNG."""
        picture = self.stored[name]
        return self._store.read_bytes(picture.part, picture.entry.path)

    def files(self, pictures: Iterable[PlannedPicture]) -> dict[str, FileEntry]:
        """Return pictures as the files of a result."""
        return {f"{IMAGES}{picture.name}": self.stored[picture.name].entry for picture in pictures}


def forget(store: Store, folder: str) -> None:
    """Delete the parts of a folder, once a result names their pictures."""
    for path in store.manifests(folder):
        try:
            store.forget(path)
        except StoreError as error:
            # An identity that may not delete leaves them; they hold no bytes of their own.
            logger.warning("part %s stays: %s", path, error)
            return
