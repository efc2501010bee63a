"""Pictures of one shard as they are made: kept in parts, so that a killed step goes on from there.

A part is a small manifest `batches/<step key>/<digest of its pictures' names>`. A later attempt at
the same step finds the parts and makes only what they lack; the finished result lists the same
blobs, so nothing is stored twice, and then the parts are deleted.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from boothline.diffusion.batch import PlannedPicture
from boothline.errors import StoreError
from boothline.results import ImagesPart
from boothline.steps import StepContext
from boothline.store import FileEntry, ManifestRef, Store, layout
from boothline.store.manifest import digest_of

logger = logging.getLogger(__name__)

PART_IMAGES = 64


@dataclass
class Parts:
    """The pictures of one shard, in the store or still on this machine.

    Attributes:
        store: where parts are kept.
        folder: `batches/<step key>`.
        stored: pictures in the store by file name, with the part that holds them.
        waiting: pictures on this machine that no part holds yet.
    """

    store: Store
    folder: str
    stored: dict[str, tuple[ManifestRef, FileEntry]] = field(default_factory=dict)
    waiting: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, context: StepContext) -> "Parts":
        """Return the parts that an earlier attempt at this step has left."""
        parts = cls(store=context.store, folder=layout.batch_parts(context.key))
        for path in context.store.manifests(f"{parts.folder}/"):
            ref = context.store.find(path)
            if ref is not None:
                parts._add(ref)
        return parts

    def lacking(self, planned: Sequence[PlannedPicture]) -> list[PlannedPicture]:
        """Return the planned pictures that are not there."""
        return [picture for picture in planned if picture.name not in self.stored]

    def add(self, name: str, path: Path) -> None:
        """Take a picture that was made; every `PART_IMAGES` of them are committed as a part."""
        self.waiting[name] = path
        if len(self.waiting) < PART_IMAGES:
            return
        draft = ImagesPart(num_images=len(self.waiting)).draft(
            {_place(name): path for name, path in self.waiting.items()}
        )
        names = digest_of(sorted(self.waiting))[:16]
        self._add(self.store.commit(f"{self.folder}/{names}", draft))
        for made in self.waiting.values():
            made.unlink()
        self.waiting.clear()

    def read(self, name: str) -> bytes:
        """Return a picture's PNG."""
        if name in self.waiting:
            return self.waiting[name].read_bytes()
        ref, entry = self.stored[name]
        return self.store.read_bytes(ref, entry.path)

    def files(self, planned: Sequence[PlannedPicture]) -> dict[str, Path | bytes | FileEntry]:
        """Return the files of the finished result."""
        return {
            _place(picture.name): self.waiting[picture.name]
            if picture.name in self.waiting
            else self.stored[picture.name][1]
            for picture in planned
        }

    def forget(self) -> None:
        """Delete the parts, once a finished result names their pictures."""
        for path in self.store.manifests(f"{self.folder}/"):
            try:
                self.store.forget(path)
            except StoreError as error:
                # An identity that may not delete leaves them; they hold no bytes of their own.
                logger.warning("part %s stays: %s", path, error)
                return

    def _add(self, ref: ManifestRef) -> None:
        for entry in self.store.read(ref).under("images/"):
            self.stored[entry.path.removeprefix("images/")] = (ref, entry)


def _place(name: str) -> str:
    return f"images/{name}"
