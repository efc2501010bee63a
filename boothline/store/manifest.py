"""What a manifest is: its files, inputs and metadata, and the digests that name it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator

from boothline.errors import ConfigError

SHA256_PATTERN = r"^[0-9a-f]{64}$"
_REF = re.compile(r"(?P<path>[A-Za-z0-9_./-]+)@sha256:(?P<digest>[0-9a-f]{64})")


def canonical_json(value: object) -> bytes:
    """Return the one JSON encoding of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_of(value: object) -> str:
    """Return the sha256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class FileEntry(BaseModel):
    """One file of a manifest: its path inside the manifest and the blob that holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1, max_length=1024)
    sha256: str = Field(pattern=SHA256_PATTERN)
    size_bytes: int = Field(ge=0)

    @field_validator("path")
    @classmethod
    def _stay_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
            raise ValueError(f"file path {path!r} leaves the manifest's folder")
        return path


class ManifestRef(BaseModel):
    """A manifest named by its path in the store and the sha256 of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    digest: str = Field(pattern=SHA256_PATTERN)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<path>@sha256:<hex>`.

        Raises:
            ConfigError: the text has another form.
        """
        match = _REF.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"{text!r} is not a manifest reference.",
                remedy="Expected <path>@sha256:<64 hex digits>.",
            )
        return cls(path=match["path"], digest=match["digest"])

    def __str__(self) -> str:
        """Return `<path>@sha256:<hex>`."""
        return f"{self.path}@sha256:{self.digest}"


class Manifest(BaseModel):
    """What a step left behind; its presence in the store is the commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    kind: str = Field(
        description="dataset, prior, training, training_state, model, evaluation, ..."
    )
    files: tuple[FileEntry, ...]
    inputs: tuple[str, ...] = Field(
        description="References of the manifests this one was made from."
    )
    metadata: dict[str, object] = Field(description="Facts about the content; never clock times.")
    owner: str = Field(default_factory=lambda: uuid4().hex, description="Who wrote it.")
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def content_digest(self) -> str:
        """Digest of kind, files and metadata: equal for equal content, whoever wrote it when."""
        files = sorted((entry.path, entry.sha256, entry.size_bytes) for entry in self.files)
        return digest_of({"kind": self.kind, "files": files, "metadata": self.metadata})

    def entry(self, path: str) -> FileEntry:
        """Return the entry of one file.

        Raises:
            KeyError: the manifest has no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)

    def under(self, prefix: str | tuple[str, ...]) -> tuple[FileEntry, ...]:
        """Return the entries whose path starts with a prefix, or one of some, sorted by path."""
        return tuple(
            sorted((e for e in self.files if e.path.startswith(prefix)), key=lambda e: e.path)
        )


class Readable(Protocol):
    """A typed result that a manifest can be read as; see `boothline.results`."""

    @classmethod
    def of(cls, manifest: Manifest, *, name: str = "") -> Self:
        """Return what a manifest says; `name` is for messages."""


@dataclass(frozen=True, kw_only=True)
class ManifestDraft:
    """What a step wants to commit.

    Attributes:
        kind: kind of the manifest.
        files: path inside the manifest to a local file, bytes, or an entry whose blob is stored.
        inputs: manifests this one is made from.
        metadata: JSON facts about the content; part of the content digest, so no times.
    """

    kind: str
    files: Mapping[str, Path | bytes | FileEntry]
    inputs: tuple[ManifestRef, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


def files_under(folder: Path, *, prefix: str = "") -> dict[str, Path]:
    """Return every regular file below a folder, keyed by its path in a manifest."""
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
