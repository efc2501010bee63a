"""Probes of what the commit protocol needs from an object store, each by doing it for real."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

from boothline.errors import StoreError
from boothline.store import layout
from boothline.store.connection import BRISK
from boothline.store.s3 import Bucket

logger = logging.getLogger(__name__)


def count_race_winners(bucket: Bucket, *, num_writers: int = 16) -> int:
    """Let writers claim one name at the same moment and return how many got it; 1 is right."""
    key = layout.probe(f"race-{uuid4().hex}")
    barrier = Barrier(num_writers)

    def claim(writer: int) -> bool:
        barrier.wait()
        return bucket.put_if_absent(key, b"%d" % writer)

    try:
        with ThreadPoolExecutor(num_writers) as pool:
            return sum(pool.map(claim, range(num_writers)))
    finally:
        _clean_up(bucket, key)


def refuses_wrong_checksum(bucket: Bucket) -> bool:
    """Tell whether the store refuses bytes that do not have the digest sent with them."""
    key = layout.probe(f"checksum-{uuid4().hex}")
    try:
        bucket.with_policy(BRISK).put(key, b"probe", sha256_hex="0" * 64)
    except StoreError:
        return bucket.size(key) is None
    _clean_up(bucket, key)
    return False


def _clean_up(bucket: Bucket, key: str) -> None:
    """Delete a probe's object; an identity that may not delete leaves some bytes."""
    try:
        bucket.delete(key)
    except StoreError as error:
        logger.debug("the probe %s stays: %s", bucket.uri(key), error)
