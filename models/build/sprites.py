"""Fetches the openly licensed emoji art and cuts it into square RGBA sprites."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from boothline.errors import BoothlineError
from models.build.vocabulary import (
    HELD_OUT_EMOJI,
    HELD_OUT_RENDITIONS,
    NOUNS,
    STYLES,
    WIDE_SUBCATEGORIES,
    Noun,
)

logger = logging.getLogger(__name__)

SPRITE_PX: Final = 56
_NPM_TIMEOUT_SECONDS: Final = 600


class EmojiSourceError(BoothlineError):
    """The emoji art is missing, could not be fetched, or is not the pinned version."""


@dataclass(frozen=True)
class Package:
    """One pinned npm package of emoji art."""

    folder: str
    name: str
    version: str
    tarball_sha256: str
    members: tuple[str, ...]


PACKAGES: Final[tuple[Package, ...]] = (
    Package(
        folder="emoji-datasource-google",
        name="emoji-datasource-google",
        version="16.0.0",
        tarball_sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        members=("emoji.json", "LICENSE", "README.md", "package.json", "img/google/64/"),
    ),
    Package(
        folder="emoji-datasource-twitter",
        name="emoji-datasource-twitter",
        version="16.0.0",
        tarball_sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        members=("LICENSE", "README.md", "package.json", "img/twitter/64/"),
    ),
    Package(
        folder="lobehub-fluent-emoji-3d",
        name="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        tarball_sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        members=("README.md", "package.json", "assets/"),
    ),
)


@dataclass(frozen=True)
class Rendition:
    """One emoji drawn in one style, as a picture file."""

    emoji: str
    style: str
    path: Path


def ensure_emoji_art(root: Path) -> Path:
    """Return `root` once it holds the three pinned packages, fetching the absent ones with npm.

    Args:
        root: Folder that holds (or shall hold) one folder per package.

    Raises:
        EmojiSourceError: npm is absent, the fetch failed, or a digest differs from the pinned one.
    """
    for package in PACKAGES:
        if not (root / package.folder / "package.json").is_file():
            _fetch(package, root=root)
        _check_version(package, root=root)
    return root


def _check_version(package: Package, *, root: Path) -> None:
    found = json.loads((root / package.folder / "package.json").read_text())["version"]
    if found != package.version:
        raise EmojiSourceError(
            f"{root / package.folder} holds {package.name} {found}, not {package.version}: "
            "remove the folder to fetch the pinned version"
        )


def _fetch(package: Package, *, root: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise EmojiSourceError(
            f"{package.name}@{package.version} is not in {root} and npm is not installed: "
            "install npm, or pass --emoji-art with a folder that holds the unpacked packages"
        )
    root.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s@%s", package.name, package.version)
    try:
        completed = subprocess.run(
            [npm, "pack", f"{package.name}@{package.version}", "--json"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
            timeout=_NPM_TIMEOUT_SECONDS,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise EmojiSourceError(
            f"npm pack {package.name}@{package.version} failed: {error}"
        ) from error
    tarball = root / json.loads(completed.stdout)[0]["filename"].replace("@", "").replace("/", "-")
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != package.tarball_sha256:
        raise EmojiSourceError(
            f"{tarball} has sha256 {digest}, not the pinned {package.tarball_sha256}: do not use it"
        )
    _unpack(tarball, package=package, root=root)
    tarball.unlink()


def _unpack(tarball: Path, *, package: Package, root: Path) -> None:
    staging = root / f".{package.folder}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        wanted = [
            member
            for member in archive.getmembers()
            if member.name.removeprefix("package/").startswith(package.members)
        ]
        archive.extractall(staging, members=wanted, filter="data")
    (staging / "package").rename(root / package.folder)
    shutil.rmtree(staging)


class EmojiCatalogue:
    """Finds the picture file of an emoji in a style.

    Args:
        root: Folder that holds the unpacked packages (see `ensure_emoji_art`).
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        records: list[dict[str, Any]] = json.loads(
            (root / "emoji-datasource-google" / "emoji.json").read_text()
        )
        self._records = {name: record for record in records for name in record["short_names"]}
        self._primary = [(record["short_name"], record["subcategory"]) for record in records]

    def path(self, emoji: str, style: str) -> Path | None:
        """Return the picture of an emoji in a style, or None where the style lacks it."""
        record = self._records[emoji]
        if style == "fluent":
            code = record["unified"].lower()
            names = [f"{code}.webp", f"{code.replace('-fe0f', '')}.webp"]
            folder = self._root / "lobehub-fluent-emoji-3d" / "assets"
        else:
            package = "google" if style == "noto" else "twitter"
            names = [record["image"]]
            folder = self._root / f"emoji-datasource-{package}" / "img" / package / "64"
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def training_renditions(self, emoji: Iterable[str]) -> list[Rendition]:
        """Return the renditions of the emoji that training may see: none that is held out."""
        allowed = [name for name in emoji if name not in HELD_OUT_EMOJI]
        renditions: list[Rendition] = []
        for name in allowed:
            for style in STYLES:
                path = self.path(name, style)
                if path is not None and (name, style) not in HELD_OUT_RENDITIONS:
                    renditions.append(Rendition(name, style, path))
        return renditions

    def wide_renditions(self, nouns: Sequence[Noun] = NOUNS) -> list[Rendition]:
        """Return every rendition of the wide, uncaptioned subcategories that training may see."""
        names = [name for name, subcategory in self._primary if subcategory in WIDE_SUBCATEGORIES]
        captioned = [name for noun in nouns for name in (*noun.emoji, *noun.heads)]
        return self.training_renditions(dict.fromkeys([*captioned, *names]))

    def noun_renditions(self, nouns: Sequence[Noun] = NOUNS) -> list[list[Rendition]]:
        """Return, for each noun in order, the renditions that draw it in training."""
        return [self.training_renditions((*noun.emoji, *noun.heads)) for noun in nouns]


def load_sprite(path: Path, *, size_px: int = SPRITE_PX) -> Image.Image:
    """Return a picture file as a square RGBA sprite of `size_px`."""
    with Image.open(path) as picture:
        return picture.convert("RGBA").resize((size_px, size_px), Image.Resampling.LANCZOS)
