"""Small JSON objects beside the manifests: run and step records, the ledger, registry entries."""

from collections.abc import Mapping
from typing import Any

from boothline.errors import ConflictError, IntegrityError
from boothline.store.paths import MANIFEST_NAME, check_listing, check_record_path
from boothline.store.s3 import Bucket
from boothline.store.sealing import BrokenSealError, seal, unseal


def put(bucket: Bucket, path: str, value: Mapping[str, object], *, if_absent: bool) -> None:
    """Write a record.

    Raises:
        ConflictError: `if_absent` is set and the record exists.
    """
    key = check_record_path(path)
    data = seal(value, path=key)
    if not if_absent:
        bucket.put(key, data)
    elif not bucket.put_if_absent(key, data):
        raise ConflictError(
            f"The record {bucket.uri(key)} exists already.", remedy="Read it again and decide anew."
        )


def get(bucket: Bucket, path: str) -> dict[str, Any] | None:
    """Return a record, or None when it does not exist.

    Raises:
        IntegrityError: its bytes are not what was written there.
    """
    key = check_record_path(path)
    data = bucket.get(key)
    if data is None:
        return None
    try:
        return unseal(data, path=key)
    except BrokenSealError as error:
        raise IntegrityError(
            f"The record {bucket.uri(key)} {error}.", remedy="Restore it from a copy of the bucket."
        ) from error


def paths(bucket: Bucket, prefix: str) -> list[str]:
    """Return the paths of all records under a folder, sorted."""
    return [
        key
        for key in bucket.keys(check_listing(prefix))
        if key.endswith(".json") and not key.endswith(f"/{MANIFEST_NAME}")
    ]
