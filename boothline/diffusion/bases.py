"""Models as manifests of the store: added once, then fetched and verified wherever they are needed.

`base:<name>` and `base:<digest>` name one. A manifest holds every file that is loaded; what a
machine has fetched before is in its cache and is not fetched again.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from boothline.errors import ConfigError, ConflictError, DataError, ModelNotFoundError
from boothline.results import Base
from boothline.settings import Settings
from boothline.store import FileEntry, ManifestRef, Store, layout
from boothline.store.manifest import digest_of

PREFIX: Final = "base:"
Need = Literal["all", "settings", "tokenizer"]
"""What of a model is read: everything, all but its weights, or its (first) tokenizer."""

_WEIGHTS: Final = ".safetensors"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_DIGEST: Final = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A model in the store.

    Attributes:
        ref: its manifest.
        digest: sha256 over the paths and bytes of its files, as for a folder.
        names: what people call it, sorted.
        facts: what is remembered of it.
        files: its files.
    """

    ref: ManifestRef
    digest: str
    names: tuple[str, ...]
    facts: Base
    files: tuple[FileEntry, ...]

    @property
    def num_bytes(self) -> int:
        """Length of all files together."""
        return sum(entry.size_bytes for entry in self.files)


def add(
    store: Store,
    *,
    files: dict[str, Path],
    facts: Base,
    name: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> StoredModel:
    """Put a model into the store and give it a name; what the store has already is not sent again.

    Args:
        store: the store.
        files: its files by their paths in its folder, which was checked.
        facts: what to remember of it.
        name: what to call it.
        on_progress: called with (done, total) bytes.

    Raises:
        ConfigError: the name cannot be used, or another model has it.
        DataError: a file was changed while it was sent.
    """
    check_name(name)
    if (other := _named(store, name)) is not None and other.path != layout.base(facts.digest):
        raise ConfigError(
            f"{PREFIX}{name} is another model already ({layout.key_in(other.path)[:12]}...).",
            remedy=f"Choose another --name, or take it away: boothline base remove {name}",
        )
    draft = facts.draft(dict(files))
    ref = store.commit(layout.base(facts.digest), draft, on_progress=on_progress)
    stored = _stored(store, ref, names=(name,))
    if stored.digest != facts.digest:
        store.forget(ref.path)
        raise DataError(
            f"A file of {facts.source} was changed while it was read.",
            remedy="Add it again when nothing writes to it.",
        )
    try:
        store.put_record(layout.base_name(name), {"manifest": str(ref)}, if_absent=True)
    except ConflictError:
        if (now := _named(store, name)) != ref:
            raise ConfigError(
                f"{PREFIX}{name} was given to another model meanwhile: {now}.",
                remedy="Choose another --name.",
            ) from None
    return stored


def check_name(name: str) -> None:
    """Refuse a name that looks like a digest, or that a key cannot have.

    Raises:
        ConfigError: it is such a name.
    """
    if not _NAME.fullmatch(name) or _DIGEST.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a base model.",
            remedy="Use small letters, digits, '.', '_' and '-', such as sd15 or sdxl-1.0.",
        )


def find(store: Store, named: str) -> StoredModel:
    """Return the model of a name, or of a digest of at least 8 digits.

    Raises:
        ModelNotFoundError: the store has none, or several begin with these digits.
    """
    if _NAME.fullmatch(named) and (ref := _named(store, named)) is not None:
        return _stored(store, ref, names=(named,))
    paths = [p for p in store.manifests(layout.BASES) if layout.key_in(p).startswith(named[:32])]
    if _DIGEST.fullmatch(named) and len(paths) == 1 and (ref := store.find(paths[0])) is not None:
        return _stored(store, ref, names=())
    known = sorted(_names(store))
    listed = ", ".join(
        f"{PREFIX}{name}" for name in difflib.get_close_matches(named, known) or known
    )
    raise ModelNotFoundError(
        f"The store at {store.uri} has no base model {named!r}.",
        remedy=f"It has {listed}." if listed else "Add one: boothline base add FOLDER --name NAME",
    )


def listed(store: Store) -> list[StoredModel]:
    """Return all models of the store, those with names first."""
    names: dict[str, list[str]] = {}
    for name in sorted(_names(store)):
        if (ref := _named(store, name)) is not None:
            names.setdefault(ref.path, []).append(name)
    paths = store.manifests(layout.BASES)
    refs = [ref for ref in map(store.find, paths) if ref is not None]
    models = [_stored(store, ref, names=tuple(names.get(ref.path, ()))) for ref in refs]
    return sorted(models, key=lambda model: (not model.names, model.names, model.digest))


def remove(store: Store, name: str) -> StoredModel:
    """Take a name away, and its model with the last one; return what it named.

    What runs and models were made from keeps its blobs as long as they are there.

    Raises:
        ModelNotFoundError: no model has that name.
    """
    model = find(store, name)
    store.bucket.delete(layout.base_name(name))
    if all(_named(store, other) != model.ref for other in _names(store)):
        store.forget(model.ref.path)
    return model


def fetch(settings: Settings, named: str, *, need: Need = "all") -> tuple[Path, str]:
    """Return the folder of a model on this machine, with at least what is needed, and its digest.

    Raises:
        ModelNotFoundError: the store has no such model.
        IntegrityError: a file's bytes differ from its digest.
        StoreError: the store cannot be reached or is not configured.
    """
    store = Store.connect(settings)
    model = find(store, named)
    folder = settings.home / "cache" / "bases" / layout.key_in(model.ref.path)
    paths = tuple(entry.path for entry in model.files if _is_needed(entry.path, need))
    store.fetch(model.ref, folder, prefix=paths)
    return folder, model.digest


def _is_needed(path: str, need: Need) -> bool:
    if need == "all" or "/" not in path:
        return True
    return path.startswith("tokenizer/") if need == "tokenizer" else not path.endswith(_WEIGHTS)


def _names(store: Store) -> list[str]:
    records = store.list_records(layout.BASE_NAMES)
    return [path.removeprefix(layout.BASE_NAMES).removesuffix(".json") for path in records]


def _named(store: Store, name: str) -> ManifestRef | None:
    record = store.get_record(layout.base_name(name))
    return None if record is None else ManifestRef.parse(str(record["manifest"]))


def _stored(store: Store, ref: ManifestRef, *, names: tuple[str, ...]) -> StoredModel:
    manifest = store.read(ref)
    return StoredModel(
        ref=ref,
        digest=digest_of(sorted((entry.path, entry.sha256) for entry in manifest.files)),
        names=names,
        facts=Base.of(manifest, name=str(ref)),
        files=manifest.files,
    )
