"""Probes of what the commit protocol needs from an object store, each by doing it for real."""

import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

from pydantic import SecretStr

from boothline.errors import StoreError
from boothline.settings import Settings
from boothline.store import failures, inventory, layout, sdk
from boothline.store.connection import BRISK
from boothline.store.s3 import Bucket

logger = logging.getLogger(__name__)

_MAX_AGE_SECONDS = 3600.0
_CONTENT = b"0123456789"


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
    """Return whether the store refuses bytes that do not have the digest sent with them."""
    key = layout.probe(f"checksum-{uuid4().hex}")
    try:
        bucket.with_policy(BRISK).put(key, b"probe", sha256_hex="0" * 64)
    except StoreError:
        return bucket.size(key) is None
    _clean_up(bucket, key)
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
    key = layout.probe(f"owner-{uuid4().hex}")
    bucket.put_if_absent(key, b"{}")
    try:
        return bool(bucket.run(lambda: bucket._owner_of(key), what=f"look up {bucket.uri(key)}"))
    finally:
        _clean_up(bucket, key)


def reads_from_an_offset(bucket: Bucket) -> bool:
    """Return whether a read may start in the middle of an object."""
    key = layout.probe(f"range-{uuid4().hex}")
    bucket.put(key, _CONTENT)
    try:
        found = bucket.run(
            lambda: b"".join(bucket._stream(key, offset=4)), what=f"read {bucket.uri(key)}"
        )
    finally:
        _clean_up(bucket, key)
    return found == _CONTENT[4:]


def fault_of_uploads(bucket: Bucket) -> str:
    """Return what is wrong with uploads in parts, or an empty string.

    One is completed and read; one is begun, looked for among the unfinished ones, and given up.
    """
    key = layout.probe(f"parts-{uuid4().hex}")
    try:
        bucket.put_stream(key, lambda: io.BytesIO(_CONTENT), size_bytes=len(_CONTENT))
        if bucket.get(key) != _CONTENT:
            return "an upload in parts is complete, and is not what was sent"
    finally:
        _clean_up(bucket, key)
    bucket.run(
        lambda: sdk.start_upload(bucket.client, bucket.name, bucket.name_of(key), headers={}),
        what=f"write {bucket.uri(key)}",
    )
    begun = [upload for upload in inventory.unfinished_uploads(bucket) if upload.key == key]
    for upload in begun:
        inventory.abort(bucket, upload)
    now = time.time() + bucket.clock_skew_seconds()
    if begun and abs(begun[0].started_at - now) > _MAX_AGE_SECONDS:
        shown = time.strftime("%Y-%m-%d", time.gmtime(begun[0].started_at))
        return f"an upload that began now is listed as begun on {shown}"
    if any(upload.key == key for upload in inventory.unfinished_uploads(bucket)):
        return "an upload that was given up is still listed"
    return "" if begun else "unfinished uploads are not listed"


def _clean_up(bucket: Bucket, key: str) -> None:
    """Delete a probe's object; an identity that may not delete leaves some bytes."""
    try:
        bucket.delete(key)
    except StoreError as error:
        logger.debug("the probe %s stays: %s", bucket.uri(key), error)
