"""Which names the store accepts: of manifests, of records, and of listing prefixes."""

import re

from boothline.errors import ConfigError

MANIFEST_NAME = "manifest.json"
_BLOBS = "blobs"
_MAX_LENGTH = 512
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_ADVICE = "Names are letters, digits, '.', '_' and '-', joined by '/'."


def check_manifest_path(path: str) -> str:
    """Return the path of a manifest, e.g. `steps/train/<key>`, unchanged.

    Raises:
        ConfigError: it is not a plain relative path, or lies among the blobs.
    """
    _check(path, what="manifest path")
    if path.rsplit("/", 1)[-1] == MANIFEST_NAME:
        raise ConfigError(
            f"{path!r} is not a manifest path.", remedy=f"Leave out the trailing /{MANIFEST_NAME}."
        )
    return path


def check_record_path(path: str) -> str:
    """Return the path of a record, e.g. `runs/<run id>/run.json`, unchanged.

    Raises:
        ConfigError: it is not a plain relative path that ends with .json, or it names a manifest.
    """
    _check(path, what="record path")
    if not path.endswith(".json") or path.rsplit("/", 1)[-1] == MANIFEST_NAME:
        raise ConfigError(
            f"{path!r} is not a record path.",
            remedy=f"It must end with .json, but not be a {MANIFEST_NAME}.",
        )
    return path


def check_listing(prefix: str) -> str:
    """Return a folder to list, e.g. `training/<key>/`, with exactly one trailing slash.

    Raises:
        ConfigError: it is empty, not a plain relative path, or lies among the blobs.
    """
    folder = prefix.removesuffix("/")
    _check(folder, what="listing prefix")
    return f"{folder}/"


def check_prefix(prefix: str) -> str:
    """Return the key prefix of a whole store without outer slashes; empty is allowed.

    Raises:
        ConfigError: it is not a plain relative path.
    """
    inner = prefix.strip("/")
    if inner:
        _check_segments(inner, what="store prefix")
    return inner


def _check(path: str, *, what: str) -> None:
    _check_segments(path, what=what)
    if path.split("/", 1)[0] == _BLOBS:
        raise ConfigError(
            f"The {what} {path!r} lies among the blobs.", remedy="Choose another first folder."
        )


def _check_segments(path: str, *, what: str) -> None:
    if len(path) > _MAX_LENGTH:
        raise ConfigError(
            f"The {what} {path[:40]!r}... is {len(path)} characters long.",
            remedy=f"At most {_MAX_LENGTH} are allowed.",
        )
    if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise ConfigError(f"{path!r} is not a valid {what}.", remedy=_ADVICE)
