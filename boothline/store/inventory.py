"""What lies in the bucket: every object with its age, and the uploads that nobody finished."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boothline.store import sdk

if TYPE_CHECKING:
    from boothline.store.s3 import Bucket

STALE_UPLOAD_SECONDS = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object of the store.

    Attributes:
        key: its name, relative to the store's prefix.
        size_bytes: its length.
        modified_at: when it was written, in seconds since the epoch by the store's clock.
        etag: changes whenever it is written with other bytes.
    """

    key: str
    size_bytes: int
    modified_at: float
    etag: str


@dataclass(frozen=True, kw_only=True)
class UnfinishedUpload:
    """An upload in parts that was neither completed nor aborted.

    Attributes:
        key: name of the object it would become, relative to the store's prefix.
        upload_id: the store's name for it.
        started_at: seconds since the epoch by the store's clock; 0 when the store does not say.
    """

    key: str
    upload_id: str
    started_at: float


def objects(bucket: "Bucket", prefix: str = "") -> dict[str, StoredObject]:
    """Return every object whose key starts with a prefix, by key."""

    def read() -> dict[str, StoredObject]:
        found = bucket.client.list_objects(
            bucket.name, prefix=bucket.name_of(prefix), recursive=True
        )
        entries = [
            StoredObject(
                key=str(item.object_name).removeprefix(bucket.prefix),
                size_bytes=int(item.size or 0),
                modified_at=item.last_modified.timestamp() if item.last_modified else 0.0,
                etag=str(item.etag or ""),
            )
            for item in found
        ]
        return {entry.key: entry for entry in entries}

    return bucket.run(read, what=f"list {bucket.uri(prefix)}")


def unfinished_uploads(bucket: "Bucket") -> list[UnfinishedUpload]:
    """Return the unfinished uploads below the store's prefix."""
    return bucket.run(
        lambda: list(_uploads(bucket)), what=f"list the unfinished uploads of {bucket.uri('')}"
    )


def _uploads(bucket: "Bucket") -> Iterator[UnfinishedUpload]:
    after = ""
    while True:
        page = sdk.list_uploads(bucket, after=after)
        for item in page.uploads:
            if item.object_name.startswith(bucket.prefix):
                yield UnfinishedUpload(
                    key=item.object_name.removeprefix(bucket.prefix),
                    upload_id=str(item.upload_id),
                    started_at=item.initiated_time.timestamp() if item.initiated_time else 0.0,
                )
        after = str(page.next_key_marker or "")
        if not page.is_truncated or not after:
            return
