"""Walks from a run's manifests to everything they were made from."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from boothline.report.model import Lineage, LineageLink, LineageNode
from boothline.report.sources import RunSources, Source
from boothline.results import KINDS, Model, Prior, Training
from boothline.store import Manifest, ManifestRef, layout

MAX_NODES = 60
BASE_MODEL = "base_model"
MAIN_FOLDERS = (layout.STEPS, layout.TRAINING)
KIND_ORDER = tuple(kind.kind for kind in KINDS)


def lineage_of(run: RunSources) -> Lineage:
    """Return the manifests of a run and, transitively, their inputs; results come first.

    Results and states of steps are followed before parts (a batch of pictures, say), so that the
    limit cuts off parts only.
    """
    starts = [
        source
        for found in run.sources.values()
        for source in found
        if source.manifest.files or source.manifest.inputs  # else the step had nothing to do
    ]
    known: dict[str, Source] = {source.ref.digest: source for source in starts}
    left_out: set[str] = set()
    waiting, parts = deque(_inputs_of(run, starts)), deque[ManifestRef]()
    while waiting or parts:
        ref = waiting.popleft() if waiting else parts.popleft()
        if ref.digest in known or ref.digest in left_out:
            continue
        if not ref.path.startswith(MAIN_FOLDERS) and waiting:
            parts.append(ref)
            continue
        if len(known) >= MAX_NODES:
            left_out.add(ref.digest)
            continue
        manifest = run.attempt(f"Lineage: {ref.path}", partial(run.store.read, ref))
        if manifest is None:
            left_out.add(ref.digest)
            continue
        known[ref.digest] = Source(ref=ref, manifest=manifest)
        waiting.extend(_inputs_of(run, [known[ref.digest]]))
    kinds = {digest: source.manifest.kind for digest, source in known.items()}
    bases = _bases_of(known.values())
    kinds |= dict.fromkeys(bases, BASE_MODEL)
    ordered = sorted(known.values(), key=lambda source: _order_of(source.manifest.kind))
    return Lineage(
        nodes=(
            *(_node(run, source, kinds) for source in ordered),
            *(_base_node(digest, source) for digest, source in bases.items()),
        ),
        num_left_out=len(left_out),
    )


def _bases_of(sources: Iterable[Source]) -> dict[str, str]:
    """Return the base models that manifests name: where each was found, by digest."""
    models = [Model.of(each.manifest) for each in sources if each.manifest.kind == Model.kind]
    return {
        model.base_model.digest: model.base_model.source
        for model in models
        if model.base_model.digest
    }


def _base_digest(manifest: Manifest) -> str:
    """Return the digest of the base model that a manifest was made with; empty: of none."""
    if manifest.kind == Model.kind:
        return Model.of(manifest).base_model.digest
    for kind in (Training, Prior):
        if manifest.kind == kind.kind:
            return kind.of(manifest).base_model_digest
    return ""


def _base_node(digest: str, source: str) -> LineageNode:
    """Return a base model as the page shows it: it is no manifest of the store."""
    return LineageNode(
        digest=digest,
        path=layout.STEPS,
        kind=BASE_MODEL,
        uri=source,
        num_files=0,
        size_bytes=0,
        created_at="",
        content_digest=digest,
    )


def _inputs_of(run: RunSources, sources: Iterable[Source]) -> Iterator[ManifestRef]:
    """Yield the references that manifests name as their inputs."""
    for source in sources:
        for text in source.manifest.inputs:
            ref = run.attempt(f"Lineage: {text}", partial(ManifestRef.parse, text))
            if ref is not None:
                yield ref


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
    base = _base_digest(manifest)
    if kinds.get(base) == BASE_MODEL:
        inputs.append(LineageLink(digest=base, kind=BASE_MODEL, known=True))
    return LineageNode(
        digest=source.ref.digest,
        path=source.ref.path,
        is_part=not source.ref.path.startswith(MAIN_FOLDERS),
        kind=manifest.kind,
        uri=run.store.uri_of(source.ref),
        num_files=len(manifest.files),
        size_bytes=sum(entry.size_bytes for entry in manifest.files),
        created_at=manifest.created_at,
        content_digest=manifest.content_digest,
        inputs=tuple(inputs),
    )
