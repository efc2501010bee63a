"""Small JSON objects beside the manifests: run and step records, the ledger, registry entries."""

import json
from collections.abc import Mapping
from typing import Any

from boothline.errors import ConflictError, IntegrityError
from boothline.store.manifest import canonical_json
from boothline.store.paths import MANIFEST_NAME, check_listing, check_record_path
from boothline.store.s3 import Bucket


def put(bucket: Bucket, path: str, value: Mapping[str, Any], *, if_absent: bool) -> None:
    """Write a record.

    Raises:
        ConflictError: `if_absent` is set and the record exists.
    """
    key, data = check_record_path(path), canonical_json(value)
    if not if_absent:
        bucket.put(key, data)
    elif not bucket.put_if_absent(key, data):
        raise ConflictError(
            f"The record {bucket.uri(key)} exists already.", remedy="Read it again and decide anew."
        )


def get(bucket: Bucket, path: str) -> dict[str, Any] | None:
    """Return a record, or None when it does not exist.

    Raises:
        IntegrityError: its bytes are no JSON object.
    """
    key = check_record_path(path)
    data = bucket.get(key)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise _damaged(bucket, key) from error
    if not isinstance(value, dict):
        raise _damaged(bucket, key)
    return value


def paths(bucket: Bucket, prefix: str) -> list[str]:
    """Return the paths of all records under a folder, sorted."""
    return [
        key
        for key in bucket.keys(check_listing(prefix))
        if key.endswith(".json") and not key.endswith(f"/{MANIFEST_NAME}")
    ]


def _damaged(bucket: Bucket, key: str) -> IntegrityError:
    return IntegrityError(
        f"The record {bucket.uri(key)} is no JSON object.",
        remedy="Restore it from a copy of the bucket.",
    )
