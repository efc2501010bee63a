"""One S3 bucket over the minio SDK, with retries and a put that never overwrites."""

import base64
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from boothline.errors import ConfigError, ServiceError, StoreError
from boothline.settings import Settings
from boothline.store import failures, inventory, layout, multipart, sdk
from boothline.store.connection import BRISK, PATIENT, RetryPolicy, new_client, retrying
from boothline.store.layout import check_prefix
from boothline.store.transfers import TRAFFIC

if TYPE_CHECKING:
    from minio import Minio
    from minio.datatypes import Object
    from urllib3 import BaseHTTPResponse

logger = logging.getLogger(__name__)

MULTIPART_PART_BYTES = 8 * 2**20
CHUNK_BYTES = 2**20
_OWNER_HEADER = "x-amz-meta-boothline-owner"
_PROBE_KEY = layout.CONDITIONAL_PUT_PROBE
_BUCKET_EXISTS_CODES = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket that this process may use.

    Attributes:
        client: the SDK's client; it never retries by itself.
        name: the bucket.
        prefix: put before every key of this process, ends with a slash unless empty.
        endpoint: URL of the store, for messages.
        access_key: id of the signing key, for messages.
        policy: how long a request is repeated.
        conditional: set once the store was seen to honour conditional puts.
    """

    client: "Minio"
    name: str
    prefix: str
    endpoint: str
    access_key: str
    policy: RetryPolicy = PATIENT
    conditional: Event = field(default_factory=Event)

    @classmethod
    def connect(cls, settings: Settings, *, brisk: bool = True) -> "Bucket":
        """Return the configured bucket, created when missing.

        Args:
            settings: endpoint, credentials, bucket and prefix.
            brisk: a person waits: give up after some ten seconds, and not after the three minutes
                that every later request has.

        Raises:
            ConfigError: no endpoint or no credentials are configured.
            ServiceError: the store does not answer in time, or refuses.
        """
        if not settings.s3_endpoint:
            raise ConfigError(
                "No object store is configured: BOOTHLINE_S3_ENDPOINT is not set.",
                remedy="Set it with BOOTHLINE_S3_ACCESS_KEY and BOOTHLINE_S3_SECRET_KEY.",
            )
        for name in ("s3_access_key", "s3_secret_key"):
            if not str(getattr(settings, name)):
                raise ConfigError(
                    f"BOOTHLINE_S3_ENDPOINT is set and BOOTHLINE_{name.upper()} is not.",
                    remedy="Set it too, or unset BOOTHLINE_S3_ENDPOINT to use the local store.",
                )
        prefix = check_prefix(settings.prefix)
        bucket = cls(
            client=new_client(settings),
            name=settings.bucket,
            prefix=f"{prefix}/" if prefix else "",
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key,
        )
        if brisk:
            replace(bucket, client=new_client(settings, brisk=True), policy=BRISK).ensure()
        else:
            bucket.ensure()
        return bucket

    def with_policy(self, policy: RetryPolicy) -> "Bucket":
        """Return the same bucket with another patience."""
        return replace(self, policy=policy)

    def brisk(self) -> "Bucket":
        """Return the same bucket with little patience."""
        return self.with_policy(BRISK)

    def stopping_on(self, stop: Event) -> "Bucket":
        """Return the same bucket whose retries end when an event is set."""
        return self.with_policy(replace(self.policy, stop=stop))

    def ensure(self) -> None:
        """Create the bucket if it is missing; asks with GET, since only GET names a wrong clock.

        Raises:
            ServiceError: the store cannot be reached or refuses the request.
        """

        def ask() -> bool:
            try:
                answer = self._first_page()
            except Exception as error:
                if failures.code_of(error) == "NoSuchBucket":
                    return False
                raise
            if b"<ListBucketResult" not in answer.data:
                raise StoreError(
                    f"What answers at {self.endpoint} is not an S3 object store.",
                    remedy="Check BOOTHLINE_S3_ENDPOINT.",
                )
            return True

        def create() -> None:
            try:
                self.client.make_bucket(self.name)
            except Exception as error:
                if failures.code_of(error) not in _BUCKET_EXISTS_CODES:
                    raise

        if not self.run(ask, what=f"open bucket {self.name}"):
            self.run(create, what=f"create bucket {self.name}")
            logger.info("created bucket %s at %s", self.name, self.endpoint)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a small object, or None when it does not exist."""

        def read() -> bytes | None:
            try:
                return b"".join(self._stream(key))
            except Exception as error:
                if failures.is_absent(error):
                    return None
                raise

        return self.run(read, what=f"read {self.uri(key)}")

    def receive(self, key: str, sink: Callable[[bytes], object], *, size_bytes: int) -> int:
        """Pass the bytes of an object to a sink, continuing where a broken connection stopped.

        Args:
            key: name of the object.
            sink: receives chunks of at most 1 MiB; what it raises is passed on.
            size_bytes: the expected length; never more than one byte beyond it is read.

        Returns:
            The number of bytes received; not `size_bytes` when the object has another length.

        Raises:
            NotFoundError: the object does not exist.
            ServiceError: the store cannot be reached or refuses the request.
        """
        received = 0

        def read_on() -> None:
            nonlocal received
            if received and received == size_bytes:
                return
            for chunk in self._stream(key, offset=received):
                received += len(chunk)
                if received > size_bytes:
                    return
                sink(chunk)

        while True:
            before = received
            try:
                self.run(read_on, what=f"read {self.uri(key)}")
            except ServiceError:
                if received == before:
                    raise
                continue  # bytes came: the patience starts again, however large the object is
            return received

    def put(self, key: str, data: bytes, *, sha256_hex: str = "") -> None:
        """Write an object in one request, replacing any former one.

        Args:
            key: name of the object.
            data: all its bytes.
            sha256_hex: digest that the store has to confirm before it accepts the bytes.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if sha256_hex:
            headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(sha256_hex)).decode()
        self.run(lambda: self._put(key, data, headers), what=f"write {self.uri(key)}")

    def put_parts(self, key: str, parts: Iterable[bytes]) -> None:
        """Write an object in parts, taken as they are sent, replacing any former one.

        Each part is repeated by itself; a failed upload is given up, not left behind.
        """
        multipart.upload(self, key, parts)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless its name is taken: the only conditional put there is.

        The request carries a fresh owner mark, so that a put which succeeded but whose answer was
        lost counts as ours when it is repeated.

        Returns:
            True if the object is ours; False if another writer has the name.

        Raises:
            StoreError: the store ignores conditional puts, or fails.
        """
        self._require_conditional_put()
        return self._claim(key, data)

    def size(self, key: str) -> int | None:
        """Return the length of an object in bytes, or None when it does not exist."""
        return self.run(lambda: self.size_now(key), what=f"look up {self.uri(key)}")

    def keys(self, prefix: str) -> list[str]:
        """Return the names of all objects that start with a prefix, sorted."""
        return sorted(inventory.objects(self, prefix))

    def delete(self, key: str) -> None:
        """Delete an object; does nothing when it does not exist."""
        name = self.name_of(key)
        self.run(lambda: self.client.remove_object(self.name, name), what=f"delete {self.uri(key)}")

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Give an unfinished upload up, so that its parts are freed."""
        abort = partial(sdk.abort_upload, self, key, upload_id=upload_id)
        self.run(abort, what=f"abort the upload of {self.uri(key)}")

    def clock_skew_seconds(self) -> float:
        """Return by how many seconds the store's clock is ahead of this machine's."""

        def ask() -> float:
            date = self._first_page().headers["Date"]
            return parsedate_to_datetime(date).timestamp() - time.time()

        return self.run(ask, what=f"read the clock of {self.endpoint}")

    def uri(self, key: str) -> str:
        """Return the `s3://` URI of an object."""
        return f"s3://{self.name}/{self.name_of(key)}"

    def _claim(self, key: str, data: bytes) -> bool:
        owner = uuid4().hex
        headers = {"Content-Type": "application/json", "If-None-Match": "*", _OWNER_HEADER: owner}

        def write() -> bool:
            try:
                self._put(key, data, headers)
            except Exception as error:
                if failures.is_precondition_failure(error):
                    return self._owner_of(key) == owner
                raise
            return True

        return self.run(write, what=f"claim {self.uri(key)}")

    def _put(self, key: str, data: bytes, headers: Mapping[str, str]) -> None:
        sdk.put(self, key, data, headers=headers)

    def _stat(self, key: str) -> "Object":
        return self.client.stat_object(self.name, self.name_of(key))

    def _owner_of(self, key: str) -> str:
        metadata: Mapping[str, str] = self._stat(key).metadata or {}
        return metadata.get(_OWNER_HEADER, "")

    def _require_conditional_put(self) -> None:
        """Check once per process that the store honours conditional puts; one request if it does.

        A fixed probe object is claimed: a store that grants it twice would overwrite commits.
        """
        if self.conditional.is_set():
            return
        try:
            honoured = not (self._claim(_PROBE_KEY, b"{}") and self._claim(_PROBE_KEY, b"{}"))
        except StoreError as error:
            if not failures.is_not_implemented(error.__cause__):
                raise
            raise self._unconditional("does not know") from error
        if not honoured:
            raise self._unconditional("ignores")
        self.conditional.set()

    def _unconditional(self, what: str) -> StoreError:
        return StoreError(
            f"The object store at {self.endpoint} {what} If-None-Match, so that commits could"
            " overwrite each other.",
            remedy="Use a store with conditional puts (SeaweedFS 4, MinIO, Ceph 19, AWS).",
        )

    def name_of(self, key: str) -> str:
        """Return the full name of an object in the bucket."""
        return f"{self.prefix}{key}"

    def size_now(self, key: str) -> int | None:
        """Return the length of an object in bytes, or None; raises what the SDK raises."""
        try:
            return int(self._stat(key).size or 0)
        except Exception as error:
            if failures.is_absent(error):
                return None
            raise

    def _first_page(self) -> "BaseHTTPResponse":
        """Return what the store answers who asks for one name."""
        query = {"list-type": "2", "max-keys": "1", "prefix": self.name_of(layout.PROBES)}
        return sdk.ask(self, {**query, "delimiter": ""})

    def _stream(self, key: str, *, offset: int = 0) -> Iterator[bytes]:
        response = self.client.get_object(self.name, self.name_of(key), offset=offset)
        try:
            for chunk in response.stream(CHUNK_BYTES):
                TRAFFIC.add("received_bytes", len(chunk))
                yield chunk
        finally:
            response.close()
            response.release_conn()

    def run(self, operation: Callable[[], T], *, what: str) -> T:
        """Run a request with retries; its failure becomes an error of Boothline.

        Args:
            operation: makes the request, raising what the SDK raises.
            what: the operation and the object, for messages.

        Raises:
            ServiceError: the store cannot be reached or refuses the request.
        """
        try:
            return retrying(self.policy, what=what)(operation)
        except Exception as error:
            if not _from_sdk(error):
                raise
            TRAFFIC.add("failures")
            raise failures.translate(
                error, endpoint=self.endpoint, what=what, access_key=self.access_key
            ) from error


def _from_sdk(error: BaseException) -> bool:
    """Return whether the SDK failed, or what it is built on: HTTP, TLS, the parsing of XML."""
    from xml.etree.ElementTree import ParseError

    from minio.error import MinioAdminException, MinioException

    own = (MinioException, MinioAdminException, ParseError)
    return isinstance(error, own) or failures.is_client_failure(error) or _is_misreading(error)


def _is_misreading(error: BaseException) -> bool:
    """Return whether the SDK missed in an answer what every S3 sends: a ValueError of its own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    origin = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return isinstance(error, ValueError) and origin.startswith("minio.")
