"""How failures of S3 read: which may be retried, and which error of Boothline each one becomes."""

import time
from email.utils import parsedate_to_datetime

from boothline.connecting import Service, excerpt, http_errors, tls_error, tls_fault
from boothline.errors import BoothlineError, ConflictError, NotFoundError, ServiceError, StoreError

_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "TooManyRequests",
    }
)
_ABSENT_CODES = frozenset({"NoSuchKey", "NoSuchObject", "NotFound"})
_CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_MAX_SKEW_SECONDS = 15 * 60.0
_DENIED_CODES = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
)


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an error of the minio SDK carries, or 0."""
    from minio.error import InvalidResponseError, S3Error, ServerError

    if isinstance(error, S3Error):
        return int(error.response.status)
    if isinstance(error, ServerError):
        return int(error.status_code)
    if isinstance(error, InvalidResponseError):
        return int(error._code)
    return 0


def code_of(error: BaseException) -> str:
    """Return the S3 error code that an error of the minio SDK carries, or an empty string."""
    return str(getattr(error, "code", "") or "")


def is_absent(error: BaseException) -> bool:
    """Return whether the error says that the object does not exist."""
    return code_of(error) in _ABSENT_CODES


def is_precondition_failure(error: BaseException) -> bool:
    """Return whether the error says that a conditional put found the name taken."""
    return status_of(error) == 412 or code_of(error) == "PreconditionFailed"


def is_transport_failure(error: BaseException) -> bool:
    """Return whether no answer came: refused, reset, timed out or cut short."""
    from urllib3.exceptions import LocationValueError, ProxySchemeUnsupported

    return (
        is_client_failure(error)
        and not isinstance(error, LocationValueError | ProxySchemeUnsupported)
        and tls_fault(error) is None
    )


def is_client_failure(error: BaseException) -> bool:
    """Return whether the HTTP client or the network below it failed, for a time or for good."""
    return isinstance(error, http_errors(ConnectionError, TimeoutError))


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a moment later."""
    if is_transport_failure(error):
        return True
    status = status_of(error)
    return (
        status in (409, 429)
        or (status >= 500 and status != 501)
        or code_of(error) in _TRANSIENT_CODES
    )


def clock_skew_seconds(error: BaseException) -> float | None:
    """Return by how many seconds the clock of the store that answered is ahead, or None.

    A refusal of a HEAD has no body that could name the clock; the date of the answer says it
    too.
    """
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
    except (KeyError, TypeError, ValueError):
        return None


def is_denial(error: BaseException | None) -> bool:
    """Return whether the error says that this identity may not do that."""
    return error is not None and (code_of(error) in _DENIED_CODES or status_of(error) in (401, 403))


def is_not_implemented(error: BaseException | None) -> bool:
    """Return whether the store says that it does not know such a request."""
    return error is not None and (status_of(error) == 501 or code_of(error) == "NotImplemented")


def is_internal(error: BaseException) -> bool:
    """Return whether the store answered that it failed itself."""
    return status_of(error) == 500


def translate(error: BaseException, *, endpoint: str, what: str, access_key: str) -> BoothlineError:
    """Return the error of Boothline for a failed request.

    Args:
        error: what the SDK or the network raised.
        endpoint: URL of the object store.
        what: the operation and the object, e.g. `read s3://bucket/key`.
        access_key: id of the key that signed, to be named where access is denied.
    """
    if lasting := tls_error(error, _service(endpoint), what=what, kind=StoreError):
        return lasting
    code, detail = code_of(error), _detail(error)
    denied = is_denial(error)
    skew_seconds = clock_skew_seconds(error)
    skewed = skew_seconds is not None and abs(skew_seconds) >= _MAX_SKEW_SECONDS
    if code in _CLOCK_CODES or (denied and skewed):
        by = f" ({skew_seconds / 60:+.0f} min)" if skew_seconds is not None and skewed else ""
        return ServiceError(
            f"The clock of this machine and that of {endpoint} differ too much{by} to {what}:"
            f" {detail}",
            remedy="Set the clock (NTP) of whichever is wrong, then try again.",
        )
    if denied:
        return StoreError(
            f"{endpoint} refused access key {access_key!r} to {what}: {detail}",
            remedy="Check BOOTHLINE_S3_ACCESS_KEY and BOOTHLINE_S3_SECRET_KEY, what that identity"
            " may do, and this machine's clock.",
        )
    if is_absent(error):
        return NotFoundError(f"Cannot {what}: the object does not exist.")
    if is_precondition_failure(error):
        return ConflictError(f"Cannot {what}: the name is taken.")
    if is_transport_failure(error):
        return ServiceError(
            f"The object store at {endpoint} does not answer ({detail}); tried to {what}.",
            remedy="Start the local services with `boothline up`, or check BOOTHLINE_S3_ENDPOINT.",
        )
    remedy = "`boothline doctor` examines the store."
    if is_internal(error):
        remedy = "Its disk may be full: free some space, then resume the run. " + remedy
    return StoreError(f"The object store at {endpoint} failed to {what}: {detail}", remedy=remedy)


def _service(endpoint: str) -> Service:
    return Service(
        name="the object store",
        url=endpoint,
        url_setting="BOOTHLINE_S3_ENDPOINT",
        trust_setting="BOOTHLINE_S3_CA_BUNDLE",
    )


def _detail(error: BaseException) -> str:
    """Return one line that says what went wrong, without the SDK's trailing identifiers."""
    reason = getattr(error, "reason", None)
    innermost = reason if isinstance(reason, BaseException) else error
    message = excerpt(str(getattr(error, "message", None) or innermost))
    code = code_of(error)
    return f"{code}: {message}" if code and code not in message else message or type(error).__name__
