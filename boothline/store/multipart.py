"""Uploads one large object in parts, each request repeated by itself, and leaves nothing behind.

The SDK's own upload starts again from the first byte when one answer is lost, and its abort masks
the failure before it; here a blip costs one part.
"""

import base64
import hashlib
import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from boothline.errors import BoothlineError
from boothline.store import sdk

if TYPE_CHECKING:
    from minio.datatypes import Part

    from boothline.store.s3 import Bucket

logger = logging.getLogger(__name__)

_NUM_PARALLEL = 3
_GONE_CODES = ("NoSuchUpload", "NoSuchKey")


def upload(bucket: "Bucket", key: str, parts: Iterable[bytes]) -> None:
    """Write an object in parts, replacing any former one.

    Args:
        bucket: where it goes.
        key: name of the object.
        parts: its bytes, taken as they are sent.

    Raises:
        StoreError: the store fails.
    """
    upload_id = bucket.run(lambda: sdk.start_upload(bucket, key), what=f"write {bucket.uri(key)}")
    try:
        _complete(bucket, key, upload_id, _send_parts(bucket, key, upload_id, parts))
    except BaseException:
        _give_up(bucket, key, upload_id)
        raise


def _give_up(bucket: "Bucket", key: str, upload_id: str) -> None:
    """Give an unfinished upload up; if the store does not answer, `boothline gc` does it later."""
    try:
        bucket.brisk().abort_upload(key, upload_id)
    except BoothlineError as error:
        logger.warning("an unfinished upload is left for gc: %s", error)


def _send_parts(bucket: "Bucket", key: str, upload_id: str, parts: Iterable[bytes]) -> "list[Part]":
    """Send all parts, some at a time, and return them in order.

    Raises:
        StoreError: a part cannot be sent.
    """
    waiting: list[Future[Part]] = []
    sent: list[Part] = []
    with ThreadPoolExecutor(_NUM_PARALLEL, "boothline-part") as pool:
        for number, data in enumerate(parts, start=1):
            if len(waiting) == _NUM_PARALLEL:
                sent.append(waiting.pop(0).result())
            waiting.append(pool.submit(_send_part, bucket, key, upload_id, number, data))
        sent += [future.result() for future in waiting]
    return sent


def _send_part(bucket: "Bucket", key: str, upload_id: str, number: int, data: bytes) -> "Part":
    """Send one part under its digest."""
    from minio.datatypes import Part

    digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    send = partial(sdk.send_part, bucket, key, data, md5=digest, upload_id=upload_id, number=number)
    etag = bucket.run(send, what=f"write part {number} of {bucket.uri(key)}")
    return Part(number, etag, size=len(data))


def _complete(bucket: "Bucket", key: str, upload_id: str, parts: "list[Part]") -> None:
    """Join the parts; a repeated call whose first answer was lost finds the object complete."""
    from minio.error import S3Error

    size_bytes = sum(part.size or 0 for part in parts)

    def join() -> None:
        try:
            sdk.complete_upload(bucket, key, upload_id=upload_id, parts=parts)
        except S3Error as error:
            if error.code not in _GONE_CODES or bucket.size_now(key) != size_bytes:
                raise

    bucket.run(join, what=f"complete {bucket.uri(key)}")
