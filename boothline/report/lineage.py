"""Walks from a run's manifests to everything they were made from."""

from collections import deque
from functools import partial

from boothline.report.model import LineageLink, LineageNode
from boothline.report.sources import STEP_ORDER, RunSources, Source
from boothline.store import Manifest, ManifestRef

MAX_NODES = 200
KIND_ORDER = (
    "images",
    "promotion",
    "evaluation",
    "model",
    "training",
    "training_state",
    "prior",
    "dataset",
)


def lineage_of(run: RunSources) -> tuple[LineageNode, ...]:
    """Return the manifests of a run and, transitively, their inputs; results come first."""
    starts = [source for step in reversed(STEP_ORDER) for source in run.sources.get(step, [])]
    starts += [s for step, found in run.sources.items() if step not in STEP_ORDER for s in found]
    known: dict[str, Source] = {source.ref.digest: source for source in starts}
    waiting = deque(starts)
    missing = 0
    while waiting:
        source = waiting.popleft()
        for text in source.manifest.inputs:
            ref = run.attempt(f"Lineage: {text}", partial(ManifestRef.parse, text))
            if ref is None or ref.digest in known:
                continue
            if len(known) >= MAX_NODES:
                missing += 1
                continue
            manifest = run.attempt(f"Lineage: {ref.path}", partial(run.store.read, ref))
            if manifest is not None:
                known[ref.digest] = Source(ref=ref, manifest=manifest)
                waiting.append(known[ref.digest])
    if missing:
        run.notices.append(
            f"The lineage leaves out {missing} manifests beyond the first {MAX_NODES}."
        )
    kinds = {digest: source.manifest.kind for digest, source in known.items()}
    ordered = sorted(known.values(), key=lambda source: _order_of(source.manifest.kind))
    return tuple(_node(run, source, kinds) for source in ordered)


def _order_of(kind: str) -> int:
    """Return the place of a kind on the way from results back to the pictures."""
    return KIND_ORDER.index(kind) if kind in KIND_ORDER else len(KIND_ORDER)


def _node(run: RunSources, source: Source, kinds: dict[str, str]) -> LineageNode:
    """Return one manifest as the page shows it."""
    manifest: Manifest = source.manifest
    inputs = []
    for text in dict.fromkeys(manifest.inputs):
        path, _, digest = text.partition("@sha256:")
        kind = kinds.get(digest, path.split("/", 1)[0])
        inputs.append(LineageLink(digest=digest, kind=kind, known=digest in kinds))
    return LineageNode(
        digest=source.ref.digest,
        path=source.ref.path,
        kind=manifest.kind,
        uri=run.store.uri_of(source.ref),
        num_files=len(manifest.files),
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        created_at=manifest.created_at,
        content_digest=manifest.content_digest,
        inputs=tuple(inputs),
    )
