"""Probes of what the commit protocol needs from an object store, each by doing it for real."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from uuid import uuid4

from pydantic import SecretStr

from boothline.errors import ServiceError, StoreError
from boothline.settings import Settings
from boothline.store import failures, inventory, layout, sdk
from boothline.store.s3 import Bucket

logger = logging.getLogger(__name__)

_MAX_AGE_SECONDS = 3600.0
_CONTENT = b"0123456789"


def count_race_winners(bucket: Bucket, *, num_writers: int = 16) -> int:
    """Let writers claim one name at the same moment and return how many got it; 1 is right."""
    barrier = Barrier(num_writers)

    def claim(writer: int) -> bool:
        barrier.wait()
        return bucket.put_if_absent(key, b"%d" % writer)

    with _probe(bucket, "race") as key, ThreadPoolExecutor(num_writers) as pool:
        return sum(pool.map(claim, range(num_writers)))


def refuses_wrong_checksum(bucket: Bucket) -> bool:
    """Return whether the store refuses bytes that do not have the digest sent with them."""
    with _probe(bucket, "checksum") as key:
        try:
            bucket.brisk().put(key, b"probe", sha256_hex="0" * 64)
        except StoreError:
            return bucket.size(key) is None
    return False


def refuses_wrong_secret(settings: Settings) -> bool:
    """Return whether the store refuses a request that is signed with another secret.

    Raises:
        ServiceError: the store fails for another reason.
    """
    secret = SecretStr(uuid4().hex)
    try:
        Bucket.connect(settings.model_copy(update={"s3_secret_key": secret}))
    except StoreError as error:
        if failures.is_denial(error.__cause__):
            return True
        raise
    return False


def keeps_owner_marks(bucket: Bucket) -> bool:
    """Return whether the store gives back who wrote an object.

    A conditional put whose answer was lost is known by that mark when it is repeated.
    """
    with _probe(bucket, "owner") as key:
        bucket.put_if_absent(key, b"{}")
        return bool(bucket.run(lambda: bucket._owner_of(key), what=f"look up {bucket.uri(key)}"))


def reads_from_an_offset(bucket: Bucket) -> bool:
    """Return whether a read may start in the middle of an object."""
    with _probe(bucket, "range") as key:
        bucket.put(key, _CONTENT)
        found = bucket.run(
            lambda: b"".join(bucket._stream(key, offset=4)), what=f"read {bucket.uri(key)}"
        )
    return found == _CONTENT[4:]


def fault_of_uploads(bucket: Bucket) -> str:
    """Return what is wrong with uploads in parts, or an empty string.

    One is completed and read; one is begun, looked for among the unfinished ones, and given up.
    """
    with _probe(bucket, "parts") as key:
        bucket.put_parts(key, [_CONTENT])
        if bucket.get(key) != _CONTENT:
            return "an upload in parts is complete, and is not what was sent"
    bucket.run(lambda: sdk.start_upload(bucket, key), what=f"write {bucket.uri(key)}")
    begun = [upload for upload in inventory.unfinished_uploads(bucket) if upload.key == key]
    for upload in begun:
        bucket.abort_upload(key, upload.upload_id)
    now = time.time() + bucket.clock_skew_seconds()
    if begun and abs(begun[0].started_at - now) > _MAX_AGE_SECONDS:
        shown = time.strftime("%Y-%m-%d", time.gmtime(begun[0].started_at))
        return f"an upload that began now is listed as begun on {shown}"
    if any(upload.key == key for upload in inventory.unfinished_uploads(bucket)):
        return "an upload that was given up is still listed"
    return "" if begun else "unfinished uploads are not listed"


@contextmanager
def _probe(bucket: Bucket, name: str) -> Iterator[str]:
    """Yield a new key, and delete its object; an identity that may not delete leaves some bytes."""
    key = layout.probe(f"{name}-{uuid4().hex}")
    try:
        yield key
    finally:
        try:
            bucket.brisk().delete(key)
        except ServiceError as error:
            logger.debug("the probe %s stays: %s", bucket.uri(key), error)
