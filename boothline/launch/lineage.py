"""Walks from a generated picture back to the instance pictures, by digest."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from boothline.errors import DataError, NotFoundError
from boothline.registry.versions import ModelVersion
from boothline.results import Dataset, Images, Model, Prior, Training
from boothline.runs import StepRecord
from boothline.store import Manifest, ManifestRef, Store, layout

MAX_PARALLEL_READS = 16
_KINDS = {kind.kind: kind for kind in (Model, Training, Prior, Dataset, Images)}


class Link(BaseModel):
    """One thing on the way from a picture back to the instance pictures.

    Attributes:
        kind: picture, images, model, training, prior, dataset, instance_picture or base_model.
        name: what people call it.
        digest: sha256 of its bytes, or of its manifest's.
        ref: its manifest; empty for files and for base models.
        facts: what else is known of it.
        made_from: the things it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: str
    digest: str = ""
    ref: str = ""
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    made_from: tuple["Link", ...] = ()


def trace(store: Store, picture: Path) -> Link:
    """Return a picture with all that it was made from.

    Every manifest on the way is read by its digest, so what is shown is what was used.

    Raises:
        DataError: the file is not a PNG of Boothline's, or its model is not in this store.
        ServiceError: the store is unreachable.
    """
    text = _provenance(picture)
    sha256 = hashlib.sha256(picture.read_bytes()).hexdigest()
    version, ref, manifest = _model_of(store, text["model"], picture)
    walker = _Walker(store)
    model = walker.link(ref, manifest, version=version)
    batch = walker.batch_with(sha256, ref)
    facts = {name: value for name, value in text.items() if name != "model" and value}
    return Link(
        kind="picture",
        name=picture.name,
        digest=sha256,
        facts=facts,
        made_from=(batch.model_copy(update={"made_from": (model,)}) if batch else model,),
    )


def _provenance(picture: Path) -> dict[str, str]:
    """Return the text that a PNG carries.

    Raises:
        DataError: it is not a PNG, or does not name the model that made it.
    """
    try:
        with Image.open(picture, formats=("PNG",)) as image:
            image.load()
            text = {str(k): str(v) for k, v in image.info.items() if isinstance(v, str)}
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"{picture} cannot be read as PNG: {error}.") from error
    if not text.get("model"):
        raise DataError(
            f"{picture} does not say which model made it.",
            remedy="Only PNG files that Boothline wrote can be explained; image editors and chat "
            "services drop the text that names the model.",
        )
    return text


def _model_of(
    store: Store, digest: str, picture: Path
) -> tuple[ModelVersion | None, ManifestRef, Manifest]:
    """Return the model that a picture names by the digest of its manifest or of its content.

    Raises:
        DataError: it is not in this store.
    """
    paths = [path for path in store.list_records(layout.REGISTRY) if layout.VERSION.fullmatch(path)]
    versions = [ModelVersion.model_validate(store.get_record(path)) for path in paths]
    for version in versions:
        if version.digest == digest:
            return version, version.ref, store.read(version.ref)
    for version in versions:
        manifest = _read(store, version.ref)
        if manifest is not None and manifest.content_digest == digest:
            return version, version.ref, manifest
    for path in store.manifests(layout.step_results("publish_checkpoint")):
        ref = store.find(path)
        manifest = _read(store, ref) if ref else None
        if ref is not None and manifest is not None and manifest.content_digest == digest:
            return None, ref, manifest
    raise DataError(
        f"The model {digest[:12]}... that made {picture} is not in {store.uri}.",
        remedy="Check BOOTHLINE_S3_ENDPOINT, BOOTHLINE_BUCKET and --home.",
    )


class _Walker:
    """Builds links, and knows which run made which manifest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._makers = dict(_makers(store))

    def link(
        self, ref: ManifestRef, manifest: Manifest, *, version: ModelVersion | None = None
    ) -> Link:
        """Return a manifest with all that it was made from."""
        parents = [ManifestRef.parse(text) for text in manifest.inputs]
        made_from = [
            self.link(parent, found)
            for parent in dict.fromkeys(parents)
            if (found := _read(self._store, parent)) is not None
            and found.kind in (Training.kind, Prior.kind, Dataset.kind)
            and not (manifest.kind == Model.kind and found.kind == Dataset.kind)
        ]
        if manifest.kind == Training.kind and (base := Training.of(manifest).base_model_digest):
            made_from.append(Link(kind="base_model", name="base model", digest=base))
        if manifest.kind == Dataset.kind:
            made_from = list(self._pictures(ref, manifest)) or made_from  # or those of subjects
        name = manifest.kind
        if version is not None:
            name = f"{version.name} version {version.version}"
        return Link(
            kind=manifest.kind,
            name=name,
            digest=ref.digest,
            ref=str(ref),
            facts=self._facts(ref, manifest),
            made_from=tuple(made_from),
        )

    def batch_with(self, sha256: str, model: ManifestRef) -> Link | None:
        """Return the batch that this very picture is part of, or None."""
        paths = self._store.manifests(layout.step_results("batch_infer"))
        with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
            for ref in filter(None, pool.map(self._store.find, paths)):
                manifest = self._store.read(ref)
                if any(entry.sha256 == sha256 for entry in manifest.files):
                    facts = self._facts(ref, manifest)
                    return Link(
                        kind="images", name="images", digest=ref.digest, ref=str(ref), facts=facts
                    )
        return None

    def _facts(self, ref: ManifestRef, manifest: Manifest) -> dict[str, JsonValue]:
        """Return what is worth knowing of a manifest, with the run that made it."""
        kind = _KINDS.get(manifest.kind)
        facts = kind.of(manifest).worth_showing() if kind else {}
        maker = self._makers.get(str(ref))
        return {**facts, "run": maker} if maker else facts

    def _pictures(self, ref: ManifestRef, manifest: Manifest) -> Iterator[Link]:
        """Yield the instance pictures of a dataset with their source files and captions."""
        lines = self._store.read_bytes(ref, "captions.jsonl").decode().splitlines()
        about = {row["image"]: row for row in map(json.loads, filter(None, lines))}
        for entry in manifest.under("images/"):
            row = about.get(entry.path, {})
            yield Link(
                kind="instance_picture",
                name=str(row.get("source", entry.path)),
                digest=entry.sha256,
                facts={"caption": row.get("caption", "")},
            )


def _read(store: Store, ref: ManifestRef) -> Manifest | None:
    """Return a manifest, or None when it is gone or damaged: the way may go past it."""
    try:
        return store.read(ref)
    except (NotFoundError, DataError):
        return None


def _makers(store: Store) -> Iterator[tuple[str, str]]:
    """Yield each manifest with the run that made it; the first of several runs comes last."""
    paths = [
        path
        for path in sorted(store.list_records(layout.RUNS), reverse=True)
        if layout.STEP_RECORD.fullmatch(path)
    ]
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
        for path, value in zip(paths, pool.map(partial(_record, store), paths), strict=True):
            if value is not None and value.manifest and not value.reused:
                yield value.manifest, path.split("/")[1]


def _record(store: Store, path: str) -> StepRecord | None:
    """Return a step record, or None when it was deleted meanwhile."""
    value = store.get_record(path)
    return None if value is None else StepRecord.model_validate(value)
