"""Writes a registered model to a folder, in the form that another tool loads."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

import boothline
from boothline.diffusion.families import STABLE_DIFFUSION
from boothline.errors import ConfigError, DataError, IntegrityError, NotFoundError
from boothline.registry import recipes
from boothline.registry.provenance import nearest
from boothline.registry.versions import ModelVersion, resolve
from boothline.results import Dataset, Model
from boothline.settings import Settings
from boothline.store import Manifest, ManifestRef, Store
from boothline.store.manifest import FileEntry
from boothline.subjects import parts_of

logger = logging.getLogger(__name__)

Format = Literal["diffusers", "single-file", "lora", "comfyui"]
DIFFUSERS: Final = "diffusers/"
SINGLE: Final = "single_file/model.safetensors"
ADAPTERS: Final = "lora/"
KOHYA: Final = f"{ADAPTERS}lora.safetensors"
EMBEDDINGS: Final = recipes.EMBEDDINGS
PICTURES: Final = "images/"
README: Final = "README.md"
PROVENANCE: Final = "provenance.json"
_CHUNK_BYTES: Final = 1 << 20
OnBytes = Callable[[int, int], None]


class Exported(BaseModel):
    """A model as it was written to a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    digest: str = Field(description="The sha256 of the model's manifest.")
    format: str
    folder: str
    files: list[str] = Field(description="Relative to the folder.")
    num_bytes: int
    loading: dict[str, list[str]] = Field(description="How each tool loads it.")


def export_model(
    store: Store,
    settings: Settings,
    *,
    model: tuple[str, str],
    folder: Path,
    form: Format,
    on_progress: OnBytes | None = None,
) -> Exported:
    """Write a version's files, each compared with its sha256 while it is written.

    With them go a README and the provenance. Nothing is overwritten, and a failure leaves nothing.

    Args:
        store: holds the model.
        settings: a verification key, if signatures are asked for.
        model: name and alias or version number.
        folder: where to write: empty or new; for `comfyui` it may hold other models.
        form: `diffusers`: a folder for from_pretrained; `single-file`: one checkpoint; `lora`: the
            adapters; `comfyui`: what there is, in the folders of ComfyUI's `models`.
        on_progress: called with bytes done and all bytes.

    Raises:
        ModelNotFoundError: there is no such version.
        ConfigError: the model has no such form, or the folder is in use.
        IntegrityError: stored bytes differ from their digest, or the signature is invalid.
    """
    version = resolve(store, *model)
    manifest = store.read(version.ref)
    facts = Model.of(manifest, name=str(version.ref))
    stem = f"{version.name}-v{version.version}"
    wanted = _wanted(manifest, facts, form=form, stem=stem)
    lines = recipes.loading_lines(
        facts, pipeline=_pipeline_of(store, version, manifest), form=form, folder=str(folder),
        stem=stem, files=list(wanted.values()),
    )  # fmt: skip
    notes = _notes(store, version, facts, wanted=wanted, lines=lines)
    if form == "comfyui":  # next to those of other models
        notes = {f"{stem}.{name}": text for name, text in notes.items()}
    names = sorted([*wanted.values(), *notes])
    _check_free(folder, names, shared=form == "comfyui")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as scratch:
        _verify_signature(store, settings, version, Path(scratch) / "signed")
        done = _write(store, version, wanted, Path(scratch), on_progress=on_progress)
        for name, text in notes.items():
            (done / name).write_text(text, encoding="utf-8")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (done / name).rename(folder / name)
    return Exported(
        model=version.name,
        version=version.version,
        digest=version.digest,
        format=form,
        folder=str(folder),
        files=names,
        num_bytes=sum(manifest.entry(path).size_bytes for path in wanted),
        loading=lines,
    )


def _pipeline_of(store: Store, version: ModelVersion, manifest: Manifest) -> str:
    """Return the class of diffusers that a model's folder names."""
    index = f"{DIFFUSERS}model_index.json"
    if index not in {entry.path for entry in manifest.files}:
        return STABLE_DIFFUSION.pipeline
    named = json.loads(store.read_bytes(version.ref, index)).get("_class_name")
    return str(named or STABLE_DIFFUSION.pipeline)


def _wanted(manifest: Manifest, facts: Model, *, form: Format, stem: str) -> dict[str, str]:
    """Return where each file of the manifest goes, relative to the folder.

    Raises:
        ConfigError: the model has no file of that form.
    """
    paths = {entry.path for entry in manifest.files}
    checkpoint = {SINGLE: f"{stem}.safetensors"} if SINGLE in paths else {}
    kohya = {KOHYA: f"{stem}.safetensors"} if KOHYA in paths else {}
    folder = {p: p.removeprefix(DIFFUSERS) for p in sorted(paths) if p.startswith(DIFFUSERS)}
    if form == "diffusers" and folder:
        return folder
    if form == "single-file" and checkpoint:
        # Without these, what reads a single file would ask a hub for the settings of another model.
        settings = {p: name for p, name in folder.items() if not name.endswith(".safetensors")}
        return checkpoint | {p: f"{stem}-settings/{name}" for p, name in settings.items()}
    adapters = {p: p.removeprefix(ADAPTERS) for p in sorted(paths) if p.startswith(ADAPTERS)}
    embeddings = {p: p for p in sorted(paths) if p.startswith(EMBEDDINGS)}
    if form == "lora" and adapters:
        return adapters | kohya | embeddings
    if form == "comfyui" and (checkpoint or kohya):
        checkpoints = {p: f"checkpoints/{name}" for p, name in checkpoint.items()}
        return checkpoints | {p: f"loras/{name}" for p, name in kohya.items()} | embeddings
    if form == "diffusers":
        why = "its manifest has no such files"
    elif embeddings:
        why = "single files have no place for its learnt token"
    elif form == "lora":
        why = f"it was trained by training.method {facts.method or 'full'}, without adapters"
    else:
        why = "the single-file layout has no names for its architecture"
    raise ConfigError(
        f"The model has no {form} form: {why}.",
        remedy="--format diffusers works for every model.",
    )


def _check_free(folder: Path, names: list[str], *, shared: bool) -> None:
    """Refuse to write over anything.

    Raises:
        ConfigError: the folder is a file, holds one of the files, or others where it may not.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file.", remedy="Name a folder.")
    taken = [name for name in names if (folder / name).exists()]
    if not shared and folder.is_dir():
        taken = sorted(path.name for path in folder.iterdir())
    if taken:
        raise ConfigError(
            f"{folder} holds {taken[0]} already; nothing is overwritten.",
            remedy="Name an empty or a new folder.",
        )


def _write(
    store: Store,
    version: ModelVersion,
    wanted: Mapping[str, str],
    scratch: Path,
    *,
    on_progress: OnBytes | None,
) -> Path:
    """Write verified copies of the files and return their folder.

    Raises:
        IntegrityError: stored bytes, or those written, differ from their digest.
    """
    fetched, target = scratch / "fetched", scratch / "done"
    target.mkdir()
    manifest = store.read(version.ref)
    total = sum(manifest.entry(path).size_bytes for path in wanted)
    done = 0
    for path, name in wanted.items():
        entry = manifest.entry(path)
        store.fetch(version.ref, fetched, prefix=path)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        _copy(fetched / path, target / name, entry)
        (fetched / path).unlink()
        done += entry.size_bytes
        if on_progress:
            on_progress(done, total)
    return target


def _copy(source: Path, target: Path, entry: FileEntry) -> None:
    """Copy a file, hashing what is written; the copy belongs to its reader, who may change it.

    Raises:
        IntegrityError: the bytes are others than the manifest names.
    """
    hasher = hashlib.sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(_CHUNK_BYTES):
            hasher.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    if hasher.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{entry.path} changed while it was exported: its sha256 is not {entry.sha256[:12]}...",
            remedy="Export it again; `boothline verify` examines what is stored.",
        )


def _verify_signature(
    store: Store, settings: Settings, version: ModelVersion, folder: Path
) -> None:
    """Verify the model's signature, where a key asks for one."""
    if settings.verification_key is None:
        return
    from boothline.diffusion.signatures import verify_signed

    store.fetch(version.ref, folder, prefix=DIFFUSERS)
    verify_signed(store, settings, version.ref, folder / DIFFUSERS)
    shutil.rmtree(folder)


def _notes(
    store: Store,
    version: ModelVersion,
    facts: Model,
    *,
    wanted: Mapping[str, str],
    lines: Mapping[str, list[str]],
) -> dict[str, str]:
    """Return the README and the provenance of an export, by file name."""
    base = facts.base_model
    shown = {
        "subject": f"{' and '.join(f'`{one}`' for one in facts.phrases)}: these words draw it",
        "base model": f"{base.source} (digest {base.digest[:12]})",
        "training method": facts.method,
        "manifest": f"`{version.ref}`",
    }
    title = f"{version.name}, version {version.version}"
    return {
        README: recipes.readme(title, shown, lines=lines, provenance=PROVENANCE),
        PROVENANCE: recipes.provenance(_provenance(store, version, facts, wanted=wanted)),
    }


def _pictures(store: Store, dataset: ManifestRef) -> dict[str, str]:
    """Return the digest of each instance picture; those of several subjects under their names."""
    return {
        f"{name}/{entry.path}" if name else entry.path: entry.sha256
        for name, ref in parts_of(store, dataset).items()
        for entry in store.read(ref).under(PICTURES)
    }


def _provenance(
    store: Store, version: ModelVersion, facts: Model, *, wanted: Mapping[str, str]
) -> dict[str, object]:
    """Return what an export was made from, down to the digests of the subject's pictures."""
    manifest = store.read(version.ref)
    try:
        dataset = nearest(store, version.ref, Dataset.kind)
    except (NotFoundError, DataError) as error:  # of use without what is gone
        logger.warning("the pictures of %s are not known: %s", version.ref, error)
        dataset = None
    return {
        "boothline": boothline.__version__,
        "model": version.name,
        "version": version.version,
        "manifest": str(version.ref),
        "created_at": manifest.created_at,
        "files": {name: manifest.entry(path).sha256 for path, name in wanted.items()},
        "base_model": facts.base_model.model_dump(mode="json"),
        "method": facts.method,
        "identifier": facts.identifier,
        "class_noun": facts.class_noun,
        "dataset": str(dataset[0]) if dataset else "",
        **({"subjects": several} if (several := facts.facts().get("subjects")) else {}),
        "pictures": _pictures(store, dataset[0]) if dataset else {},
    }
