"""Manifests over content-addressed blobs in S3: the one idea that carries Boothline."""

from boothline.store.manifest import FileEntry, Manifest, ManifestDraft, ManifestRef
from boothline.store.store import Store

__all__ = ["FileEntry", "Manifest", "ManifestDraft", "ManifestRef", "Store"]
