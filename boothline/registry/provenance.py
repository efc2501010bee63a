"""Where a model comes from: the manifests above it, of one kind or all."""

from collections import deque
from collections.abc import Iterator

from boothline.store import Manifest, ManifestRef, Store


def ancestors(store: Store, ref: ManifestRef) -> Iterator[tuple[ManifestRef, Manifest]]:
    """Yield a manifest and all that it was made from, nearest first, each once.

    Raises:
        NotFoundError: one of them is gone.
        IntegrityError: one of them was replaced or damaged.
    """
    waiting, seen = deque([ref]), {ref}
    while waiting:
        current = waiting.popleft()
        manifest = store.read(current)
        yield current, manifest
        for text in manifest.inputs:
            parent = ManifestRef.parse(text)
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)


def nearest(store: Store, ref: ManifestRef, kind: str) -> tuple[ManifestRef, Manifest] | None:
    """Return the nearest manifest of a kind that another was made from, or None.

    Raises:
        NotFoundError: a manifest on the way is gone.
        IntegrityError: a manifest on the way was replaced or damaged.
    """
    return next(
        ((found, manifest) for found, manifest in ancestors(store, ref) if manifest.kind == kind),
        None,
    )
