"""Which failures are repeated, and what they become."""

import errno

import pytest
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import NewConnectionError, ReadTimeoutError
from urllib3.response import HTTPResponse

from boothline.errors import ConflictError, NotFoundError, ServiceError, StoreError
from boothline.store import failures


def s3_error(code: str, status: int) -> S3Error:
    return S3Error(
        response=HTTPResponse(status=status),
        code=code,
        message="what the server said",
        resource="/bucket/key",
        request_id=None,
        host_id=None,
    )


def refused() -> NewConnectionError:
    return NewConnectionError(None, "Connection refused")  # type: ignore[arg-type]


def silent() -> ReadTimeoutError:
    return ReadTimeoutError(None, "/", "Read timed out.")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        s3_error("SlowDown", 503),
        s3_error("InternalError", 500),
        s3_error("ConditionalRequestConflict", 409),
        ServerError("failed", 502),
        InvalidResponseError(504, "text/html", "gateway"),
        refused(),
        silent(),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    ],
)
def test_is_transient_passing_failure_is_repeated(error: Exception) -> None:
    assert failures.is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        s3_error("AccessDenied", 403),
        s3_error("NoSuchKey", 404),
        s3_error("PreconditionFailed", 412),
        s3_error("NotImplemented", 501),
        s3_error("BadDigest", 400),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("a bug"),
    ],
)
def test_is_transient_lasting_failure_is_not_repeated(error: Exception) -> None:
    assert not failures.is_transient(error)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (s3_error("RequestTimeTooSkewed", 403), ServiceError, "clock"),
        (s3_error("AccessDenied", 403), StoreError, "refused access key 'boothline-key'"),
        (s3_error("InvalidAccessKeyId", 403), StoreError, "refused access key"),
        (s3_error("NoSuchKey", 404), NotFoundError, "does not exist"),
        (s3_error("PreconditionFailed", 412), ConflictError, "taken"),
        (s3_error("InternalError", 500), StoreError, "InternalError: what the server said"),
        (refused(), ServiceError, "does not answer"),
        (silent(), ServiceError, "Read timed out"),
    ],
)
def test_translate_names_the_cause(error: Exception, kind: type, text: str) -> None:
    translated = failures.translate(
        error, endpoint="http://store:1", what="read s3://b/k", access_key="boothline-key"
    )
    assert type(translated) is kind
    assert text in translated.message
    assert "read s3://b/k" in translated.message
