"""Seals: how manifests and records show that they are what was stored at their path."""

import json
from collections.abc import Mapping

from boothline.store.manifest import canonical_json, digest_of

_PATH = "stored_as"
_SEAL = "seal"


class BrokenSealError(ValueError):
    """Bytes are not what was stored at their path; the message reads on from the object's name."""


def seal(value: Mapping[str, object], *, path: str) -> bytes:
    """Return the canonical JSON of an object, with the path and the digest added.

    A manifest or record found by its path alone has nothing else to be checked against. With the
    seal, a flipped bit, a cut, and an object that was put where another one belongs all differ
    from what was written. It guards against damage, not against a writer who means harm: that one
    can seal too.
    """
    placed = {**value, _PATH: path}
    return canonical_json({**placed, _SEAL: digest_of(placed)})


def unseal(data: bytes, *, path: str) -> dict[str, object]:
    """Return the object in sealed bytes, without path and digest.

    An object without either comes from before there were seals, and is returned as it is.

    Raises:
        BrokenSealError: the bytes are damaged, or were stored at another path.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BrokenSealError("is not JSON") from error
    if not isinstance(value, dict):
        raise BrokenSealError("is not a JSON object")
    if _PATH not in value and _SEAL not in value:
        return value
    found = value.pop(_SEAL, None)
    if found != _digest(value) or canonical_json({**value, _SEAL: found}) != data:
        raise BrokenSealError("differs from its seal")
    stored_as = value.pop(_PATH, None)
    if stored_as != path:
        raise BrokenSealError(f"was stored as {str(stored_as)[:200]!r}, not here")
    return value


def _digest(value: Mapping[str, object]) -> str:
    """Return the digest of a JSON object; of one that has no canonical form, nothing."""
    try:
        return digest_of(value)
    except ValueError:
        return ""
