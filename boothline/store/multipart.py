"""Uploads one large object in parts, each request repeated by itself, and leaves nothing behind.

The SDK's own upload starts again from the first byte when one answer is lost, and its abort masks
the failure before it; here a blip costs one part.
"""

import base64
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

from boothline.errors import BoothlineError, StoreError
from boothline.store import sdk

if TYPE_CHECKING:
    from minio.datatypes import Part

    from boothline.store.s3 import Bucket, Source

logger = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20
_NUM_PARALLEL = 3
_GONE_CODES = ("NoSuchUpload", "NoSuchKey")


class _Part(Protocol):
    """What the SDK calls a part: its number and its etag."""

    part_number: int
    etag: str


def upload(
    bucket: "Bucket", key: str, open_source: Callable[[], "Source"], *, size_bytes: int
) -> None:
    """Write an object in parts, replacing any former one.

    Args:
        bucket: where it goes.
        key: name of the object.
        open_source: opens what is uploaded.
        size_bytes: its length.

    Raises:
        StoreError: the source is shorter than that, or the store fails.
    """
    what = f"write {bucket.uri(key)}"
    name = bucket.name_of(key)
    headers = {"Content-Type": "application/octet-stream"}
    upload_id = bucket.run(
        lambda: sdk.start_upload(bucket.client, bucket.name, name, headers=headers), what=what
    )
    try:
        with open_source() as source:
            parts = _send_parts(bucket, key, source, upload_id=upload_id, size_bytes=size_bytes)
        _complete(bucket, key, upload_id=upload_id, parts=parts, size_bytes=size_bytes)
    except BaseException:
        abort(bucket, key, upload_id)
        raise


def abort(bucket: "Bucket", key: str, upload_id: str) -> None:
    """Give an unfinished upload up; if the store does not answer, `boothline gc` does it later."""
    name = bucket.name_of(key)
    try:
        bucket.brisk().run(
            lambda: sdk.abort_upload(bucket.client, bucket.name, name, upload_id=upload_id),
            what=f"abort the upload of {bucket.uri(key)}",
        )
    except BoothlineError as error:
        logger.warning("an unfinished upload is left for gc: %s", error)


def _send_parts(
    bucket: "Bucket", key: str, source: "Source", *, upload_id: str, size_bytes: int
) -> "list[Part]":
    """Send all parts, some at a time, and return them in order.

    Raises:
        StoreError: the source ends early, or a part cannot be sent.
    """
    from minio.datatypes import Part

    waiting: list[Future[str]] = []
    etags: list[str] = []
    with ThreadPoolExecutor(_NUM_PARALLEL, "boothline-part") as pool:
        for number, first in enumerate(range(0, size_bytes, PART_BYTES), start=1):
            data = _read_exactly(source, min(PART_BYTES, size_bytes - first))
            if len(waiting) == _NUM_PARALLEL:
                etags.append(waiting.pop(0).result())
            waiting.append(pool.submit(_send_part, bucket, key, data, upload_id, number))
        etags += [future.result() for future in waiting]
    return [Part(number, etag) for number, etag in enumerate(etags, start=1)]


def _send_part(bucket: "Bucket", key: str, data: bytes, upload_id: str, number: int) -> str:
    """Send one part under its digest and return its etag."""
    digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    name = bucket.name_of(key)
    send = partial(sdk.send_part, bucket.client, bucket.name, name, data, md5=digest)
    return bucket.run(
        lambda: send(upload_id=upload_id, number=number),
        what=f"write part {number} of {bucket.uri(key)}",
    )


def _complete(
    bucket: "Bucket", key: str, *, upload_id: str, parts: "list[Part]", size_bytes: int
) -> None:
    """Join the parts; a repeated call whose first answer was lost finds the object complete."""
    from minio.error import S3Error

    def join() -> None:
        try:
            name = bucket.name_of(key)
            sdk.complete_upload(bucket.client, bucket.name, name, upload_id=upload_id, parts=parts)
        except S3Error as error:
            if error.code not in _GONE_CODES or bucket.size_now(key) != size_bytes:
                raise

    bucket.run(join, what=f"complete {bucket.uri(key)}")


def _read_exactly(source: "Source", num_bytes: int) -> bytes:
    """Return the next bytes of a source.

    Raises:
        StoreError: it ends before.
    """
    chunks: list[bytes] = []
    left = num_bytes
    while left:
        chunk = source.read(left)
        if not chunk:
            raise StoreError(
                "A file became shorter while it was uploaded.",
                remedy="Do not write to a file that is being committed.",
            )
        chunks.append(chunk)
        left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
