"""Resolves a model source (built in, stored, a folder, a pinned hub revision) without torch."""

import difflib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from boothline.config import RunConfig
from boothline.connecting import Service, excerpt, tls_error
from boothline.diffusion import bases
from boothline.diffusion.bases import Need
from boothline.diffusion.families import Family
from boothline.diffusion.layout import check_folder, family_of
from boothline.errors import ConfigError, DataError, ModelNotFoundError, ServiceError
from boothline.settings import Settings
from boothline.store.manifest import digest_of

logger = logging.getLogger(__name__)


# The hub's client and what it stands on, by their packages.
_CLIENTS: Final = frozenset(
    {"huggingface_hub", "hf_xet", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
)


def download(
    hub_id: str, *, revision: str, patterns: Iterable[str], without: Iterable[str] = ()
) -> Path:
    """Return the folder of a revision, downloaded where it is not there yet.

    Args:
        hub_id: `owner/name`.
        revision: the commit.
        patterns: of the files that are wanted.
        without: patterns of those among them that are not.

    Raises:
        ModelNotFoundError: the hub has no such model or revision, or does not show it.
        ServiceError: the hub cannot be reached or fails.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    source = f"{hub_id}@{revision}"
    try:
        folder = snapshot_download(
            hub_id,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(without),
        )
        return Path(folder)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFoundError(
            f"The model hub has no {source!r}.",
            remedy="Check the id and the commit, or your hub token.",
        ) from error
    except Exception as error:
        if not is_of_a_client(error):
            raise
        what = f"download {source}"
        raise tls_error(error, hub_service(), what=what, kind=ServiceError) or ServiceError(
            f"The model hub did not deliver {source!r}: {excerpt(str(error)) or type(error)}.",
            remedy="Try again, or name a local folder as base_model.source.",
        ) from error


def is_of_a_client(error: BaseException) -> bool:
    """Return whether an error comes from the network, the disk, or the hub's client."""
    if isinstance(error, OSError):
        return True
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not packages.isdisjoint(_CLIENTS)


def hub_service() -> Service:
    """Return the model hub as messages name it."""
    from huggingface_hub.constants import ENDPOINT

    return Service(
        name="the model hub",
        url=ENDPOINT,
        url_setting="HF_ENDPOINT",
        trust_setting="SSL_CERT_FILE",
    )


BUILTIN = "builtin:"
CONTENT_SUFFIXES = frozenset({".json", ".txt", ".jinja", ".safetensors"})
_HUB_SOURCE = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FRESH_SECONDS = 2.0
# The same weights in other precisions, or for other purposes, next to the plain ones.
_VARIANTS = ("*.fp16*", "*.bf16*", "*.non_ema*")
# Stamp (size, time, inode) and sha256 of each file by its path.
_KNOWN_HASHES = TypeAdapter(dict[str, tuple[str, str]])


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A model on the local disk.

    Attributes:
        path: folder of the model.
        digest: sha256 over the paths and bytes of the files that are loaded.
        source: what the configuration named.
    """

    path: Path
    digest: str
    source: str


def model_of(
    config: RunConfig, settings: Settings, source: str = "", *, need: Need = "all"
) -> BaseModel:
    """Return a model that a run names: its base model, or another one by its source.

    Raises:
        ConfigError: as `resolve` does.
        ServiceError: the hub or the store cannot be reached.
    """
    base = config.base_model
    return resolve(source or base.source, settings=settings, allow_hub=base.allow_hub, need=need)


def resolve(
    source: str, *, settings: Settings, allow_hub: bool = False, need: Need = "all"
) -> BaseModel:
    """Return the folder and digest of a model.

    Args:
        source: `builtin:<name>`, `base:<name or digest>`, a folder with model_index.json
            (text-to-image) or config.json (encoder), or `<hub id>@<commit>`.
        settings: where built-in models, the store and the caches are.
        allow_hub: allow a download from the model hub.
        need: what is read of it; of a stored model no more than that is fetched.

    Raises:
        ModelNotFoundError: no such model; the message names the path and what would help.
        ConfigError: the source is not allowed (hub switched off, revision not pinned).
        ServiceError: the hub or the store cannot be reached.
        IntegrityError: a stored file's bytes differ from its digest.
    """
    if source.startswith(bases.PREFIX):
        path, digest = bases.fetch(settings, source.removeprefix(bases.PREFIX), need=need)
        return BaseModel(path=path, digest=digest, source=source)
    if source.startswith(BUILTIN):
        path = _builtin(source.removeprefix(BUILTIN), settings.models_dir)
    elif (local := _existing(source)) is not None:
        path = local
    elif (match := _HUB_SOURCE.fullmatch(source)) and not source.startswith("."):
        path = _from_hub(match["id"], match["revision"], allow_hub=allow_hub)
    else:
        raise ModelNotFoundError(
            f"The model {source!r} does not exist: no folder at {Path(source).absolute()}.",
            remedy="Name a folder that exists, builtin:<name>, base:<name>, or <hub id>@<commit>.",
        )
    _check_layout(path, source)
    return BaseModel(path=path, digest=digest_folder(path, settings=settings), source=source)


def is_here(source: str) -> bool:
    """Return whether a source names no model of a hub: it is built in, stored or a path."""
    return source.startswith((BUILTIN, bases.PREFIX)) or _existing(source) is not None


def checked_family(base: BaseModel) -> Family:
    """Return the family of a base model whose folder is whole; a stored one was checked when added.

    Raises:
        DataError: it is of no family that is known, lacks a part or has no safetensors weights.
    """
    is_stored = base.source.startswith(bases.PREFIX)
    return family_of(base.path) if is_stored else check_folder(base.path)


def _existing(source: str) -> Path | None:
    """Return the absolute path that a source names, or None when nothing is there."""
    try:
        path = Path(source).expanduser()
        return path.resolve() if path.exists() else None
    except (OSError, RuntimeError, ValueError) as error:
        logger.debug("%r is not a path: %s", source, error)
        return None


def _builtin(name: str, models_dir: Path) -> Path:
    """Return the folder of a built-in model."""
    path = models_dir / name
    if re.fullmatch(r"[\w-][\w.-]*", name) and path.is_dir():
        return path
    known = (
        sorted(p.name for p in models_dir.glob("*") if p.is_dir()) if models_dir.is_dir() else []
    )
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    listed = ", ".join(f"{BUILTIN}{entry}" for entry in near)
    raise ModelNotFoundError(
        f"The built-in model {name!r} does not exist: no folder at {path}.",
        remedy=f"Built-in models like it: {listed}."
        if listed
        else f"{models_dir} holds no models; set BOOTHLINE_MODELS_DIR to the folder that does.",
    )


def _from_hub(hub_id: str, revision: str | None, *, allow_hub: bool) -> Path:
    """Download a pinned revision from the model hub: one variant of its weights, as safetensors.

    Raises:
        ModelNotFoundError: downloads are switched off, or the hub has no such model.
        ConfigError: no commit is named.
        DataError: it is of no family that is known; nothing but its index was downloaded.
        ServiceError: the hub cannot be reached.
    """
    source = f"{hub_id}@{revision}" if revision else hub_id
    if not allow_hub:
        raise ModelNotFoundError(
            f"The model {source!r} does not exist: no folder at {Path(source).absolute()}.",
            remedy="Name a folder that exists, or set base_model.allow_hub to true to download it.",
        )
    if revision is None or not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"The hub model {source!r} is not pinned to a commit.",
            remedy=f"Write {hub_id}@<commit> with the 40 hex digits of the commit.",
        )
    load = partial(download, hub_id, revision=revision)
    path = load(patterns=["model_index.json", "config.json"])
    if not (path / "model_index.json").is_file():
        return load(patterns=_content_of(""), without=_VARIANTS)
    family = family_of(path)
    load(patterns=[p for folder in family.folders for p in _content_of(folder)], without=_VARIANTS)
    for part, stem in family.stems.items():
        if not any((path / part).glob(f"{stem}*.safetensors")):
            load(patterns=[f"{part}/{stem}.fp16*.safetensors"])
    return path


def _content_of(folder: str) -> list[str]:
    """Return patterns for the files of a folder of a repository that may be loaded."""
    return [f"{folder}/*{suffix}".lstrip("/") for suffix in sorted(CONTENT_SUFFIXES)]


def _check_layout(path: Path, source: str) -> None:
    """Raise when a folder is not a model."""
    if path.is_dir() and any(
        (path / name).is_file() for name in ("model_index.json", "config.json")
    ):
        return
    if path.is_file():
        fault = f"{path} is a file."
        remedy = (
            "Name a folder in diffusers' layout; `boothline base add` makes one of a single file."
        )
    else:
        fault = f"{path} has neither model_index.json nor config.json."
        remedy = "Name the folder that holds one of them."
    raise ModelNotFoundError(f"The model {source!r} cannot be used: {fault}", remedy=remedy)


def content_files(path: Path) -> Iterator[Path]:
    """Yield the files of a model folder that are loaded: not READMEs, pictures or pickle files."""
    if (path / "model_index.json").is_file():
        yield path / "model_index.json"
        roots = [path / name for name in _folders(path)]
    else:
        roots = [path]
    for root in roots:
        for file in sorted(root.glob("*")):
            if file.is_file() and file.suffix in CONTENT_SUFFIXES:
                yield file


def _folders(path: Path) -> list[str]:
    """Return the folders of a model that count: its family's, or all that are there."""
    try:
        return list(family_of(path).folders)
    except DataError as error:
        logger.debug("%s is of no known family: %s", path, error)
        return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def digest_folder(path: Path, *, settings: Settings) -> str:
    """Return the digest over sorted (relative path, sha256) of a model's content files.

    File hashes are cached under `settings.home` by path, size and modification time.
    """
    cache = _HashCache(path, settings.home / "cache" / "digests")
    entries = sorted(
        (file.relative_to(path).as_posix(), cache.sha256(file)) for file in content_files(path)
    )
    cache.save()
    return digest_of(entries)


class _HashCache:
    """Hashes of the files below one folder, kept in one small JSON file."""

    def __init__(self, folder: Path, cache_dir: Path) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
        self._path = cache_dir / f"{name}.json"
        self._known: dict[str, tuple[str, str]] = {}
        self._changed = False
        try:
            self._known = _KNOWN_HASHES.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            logger.debug("no hash cache at %s yet", self._path)
        except (OSError, ValueError) as error:
            logger.warning("hash cache %s is unreadable and is built again: %s", self._path, error)

    def sha256(self, file: Path) -> str:
        """Return the sha256 of a file, from the cache where size and time are the same."""
        stat = file.stat()
        stamp = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
        known = self._known.get(str(file))
        if known and known[0] == stamp:
            return known[1]
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        # A file written a moment ago may change again within the clock's resolution.
        if time.time() - stat.st_mtime > _FRESH_SECONDS:
            self._known[str(file)] = (stamp, digest)
            self._changed = True
        return digest

    def save(self) -> None:
        """Write the cache, whole or not at all; a read-only home costs time, never the run."""
        if not self._changed:
            return
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._known), encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            logger.warning("hash cache %s cannot be written: %s", self._path, error)
