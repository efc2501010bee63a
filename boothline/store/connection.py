"""How the object store is reached: client, timeouts, and when a request is repeated."""

import logging
import time
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from boothline import addresses
from boothline.errors import ConfigError
from boothline.settings import Settings
from boothline.store import failures, sdk
from boothline.store.transfers import TRAFFIC

if TYPE_CHECKING:
    from minio import Minio
    from tenacity import RetryCallState, Retrying
    from urllib3 import BaseHTTPResponse, PoolManager

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
_POOL_SIZE = 32
_DEFAULT_CREDENTIALS = frozenset(
    {
        ("minio", "minio123"),
        ("minioadmin", "minioadmin"),
        ("rootuser", "rootpass123"),
        ("admin", "admin"),
        ("admin", "password"),
        ("admin", "secret"),
        ("accesskey", "secretkey"),
        ("access_key", "secret_key"),
        ("any", "any"),
        ("test", "test"),
    }
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How long a request is repeated while the store does not answer.

    Attributes:
        deadline_seconds: no new attempt starts later than this after the first.
        failing_seconds: the same while the store answers with an error of its own (its disk
            is full, say): shorter, since waiting seldom helps.
        max_wait_seconds: longest pause between two attempts; the pauses double and are jittered.
        stop: ends waiting at once when set (another part of the same transfer has failed).
    """

    deadline_seconds: float = 180.0
    failing_seconds: float = 30.0
    max_wait_seconds: float = 10.0
    stop: Event | None = None


PATIENT = RetryPolicy()
BRISK = RetryPolicy(deadline_seconds=5.0, max_wait_seconds=1.0)


def retrying(policy: RetryPolicy, *, what: str) -> "Retrying":
    """Return a retrier of transient failures, as patient as the policy says."""
    import tenacity

    def report(state: "RetryCallState") -> None:
        level = logging.WARNING if state.attempt_number == 1 else logging.DEBUG
        error = state.outcome.exception() if state.outcome else None
        TRAFFIC.add("retries")
        logger.log(level, "retrying to %s after: %s", what, " ".join(str(error).split()))

    def stop(state: "RetryCallState") -> bool:
        error = state.outcome.exception() if state.outcome else None
        failing = error is not None and failures.is_internal(error)
        limit = policy.failing_seconds if failing else policy.deadline_seconds
        interrupted = event is not None and event.is_set()
        return interrupted or (state.seconds_since_start or 0.0) >= limit

    event = policy.stop
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(failures.is_transient),
        stop=stop,
        sleep=time.sleep if event is None else tenacity.sleep_using_event(event),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=policy.max_wait_seconds),
        before_sleep=report,
        reraise=True,
    )


def new_client(settings: Settings, *, brisk: bool = False) -> "Minio":
    """Return a client of the SDK that waits for bounded times and leaves retries to `retrying`.

    Args:
        settings: endpoint, credentials, region, CA bundle and bucket.
        brisk: wait for an answer no longer than for a connection.

    Raises:
        ConfigError: the endpoint is not an http or https URL without a path, or the bucket's name
            is invalid.
    """
    import certifi
    import urllib3
    from minio import Minio
    from minio.helpers import check_bucket_name

    url = addresses.check_service_url(settings.s3_endpoint, name="BOOTHLINE_S3_ENDPOINT")
    if url.path.strip("/"):
        raise ConfigError(
            f"BOOTHLINE_S3_ENDPOINT {settings.s3_endpoint!r} is not an endpoint URL.",
            remedy="Expected e.g. http://127.0.0.1:8333 or https://s3.example.org.",
        )
    _refuse_default_credentials(settings, host=url.hostname or "")
    try:
        check_bucket_name(settings.bucket, True)
    except ValueError as error:
        raise ConfigError(
            f"BOOTHLINE_BUCKET {settings.bucket!r} is not a bucket name.", remedy=f"{error}."
        ) from error
    read_seconds = CONNECT_SECONDS if brisk else READ_SECONDS
    pool = _direct_pool()(
        num_pools=4,
        maxsize=_POOL_SIZE,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
        retries=False,
        cert_reqs="CERT_REQUIRED",
        ca_certs=str(settings.s3_ca_bundle or certifi.where()),
    )
    sdk.check(Minio)
    return Minio(
        url.netloc,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        session_token=settings.s3_session_token.get_secret_value() or None,
        secure=url.scheme == "https",
        region=settings.s3_region,
        http_client=pool,
    )


def _direct_pool() -> "type[PoolManager]":
    """Return a class of pools of connections that follows no redirect and counts what it sends.

    A signed request is meant for the configured store alone, wherever its answer points.
    """
    import urllib3

    class DirectPool(urllib3.PoolManager):
        def urlopen(  # type: ignore[override]
            self,
            method: str,
            url: str,
            redirect: bool = True,
            **more: object,
        ) -> "BaseHTTPResponse":
            body = more.get("body")
            TRAFFIC.add("requests")
            TRAFFIC.add("sent_bytes", len(body) if isinstance(body, bytes | str) else 0)
            return super().urlopen(method, url, redirect=False, **more)

    return DirectPool


def _refuse_default_credentials(settings: Settings, *, host: str) -> None:
    """Refuse credentials that everybody knows, unless the store is on this machine.

    Raises:
        ConfigError: they are such.
    """
    pair = (settings.s3_access_key.lower(), settings.s3_secret_key.get_secret_value().lower())
    if pair in _DEFAULT_CREDENTIALS and not addresses.is_loopback(host):
        raise ConfigError(
            f"The store at {settings.s3_endpoint} is used with the default credentials of access"
            f" key {settings.s3_access_key!r}, which everybody knows.",
            remedy="Make an identity of its own for Boothline, and set BOOTHLINE_S3_ACCESS_KEY and"
            " BOOTHLINE_S3_SECRET_KEY.",
        )
