"""How long requests are repeated."""

import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Event, Timer

import pytest
from minio.error import ServerError

from boothline.errors import ServiceError
from boothline.store.connection import RetryPolicy, retrying
from boothline.store.s3 import Bucket

QUICK = RetryPolicy(deadline_seconds=0.6, failing_seconds=0.1, max_wait_seconds=0.05)


class Failing:
    """An operation that fails some times before it succeeds."""

    def __init__(self, error: Exception, *, num_failures: int = 10**6) -> None:
        self.error = error
        self.num_failures = num_failures
        self.num_calls = 0

    def __call__(self) -> str:
        self.num_calls += 1
        if self.num_calls <= self.num_failures:
            raise self.error
        return "done"


def test_retrying_passing_failure_succeeds() -> None:
    operation = Failing(ConnectionResetError("reset"), num_failures=3)
    assert retrying(QUICK, what="read")(operation) == "done"
    assert operation.num_calls == 4


def test_retrying_lasting_failure_is_raised_at_once() -> None:
    operation = Failing(ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        retrying(QUICK, what="read")(operation)
    assert operation.num_calls == 1


@pytest.mark.parametrize(
    ("error", "seconds"), [(ConnectionResetError("reset"), 0.6), (ServerError("full", 500), 0.1)]
)
def test_retrying_ends_at_the_deadline_of_its_kind(error: Exception, seconds: float) -> None:
    started_at = time.monotonic()
    with pytest.raises(type(error)):
        retrying(QUICK, what="read")(Failing(error))
    assert seconds <= time.monotonic() - started_at < seconds + 0.4


def test_retrying_ends_when_told_to_stop() -> None:
    stop = Event()
    patient = replace(QUICK, deadline_seconds=60, max_wait_seconds=60, stop=stop)
    Timer(0.2, stop.set).start()
    started_at = time.monotonic()
    with pytest.raises(ConnectionResetError):
        retrying(patient, what="read")(Failing(ConnectionResetError("reset")))
    assert time.monotonic() - started_at < 5


class Breaking(Bucket):
    """A bucket whose downloads break after each chunk, and after the last one of some."""

    def _stream(self, key: str, *, offset: int) -> Iterator[bytes]:
        yield CONTENT[offset : offset + 10]
        raise ConnectionResetError("reset")


CONTENT = bytes(range(55))


def breaking() -> Breaking:
    policy = RetryPolicy(deadline_seconds=0.0)
    return Breaking(
        client=None, name="b", prefix="", endpoint="http://x", access_key="k", policy=policy
    )  # type: ignore[arg-type]


def test_receive_that_breaks_again_and_again_goes_on_as_long_as_bytes_come() -> None:
    received: list[bytes] = []
    assert breaking().receive("x", received.append, size_bytes=len(CONTENT)) == len(CONTENT)
    assert b"".join(received) == CONTENT


def test_receive_that_brings_nothing_more_ends() -> None:
    with pytest.raises(ServiceError, match="does not answer"):
        breaking().receive("x", lambda chunk: None, size_bytes=len(CONTENT) + 1)
