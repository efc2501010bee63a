"""Transfers to and from stores: many at once, stopped by the first failure, and all counted."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TypeVar

NUM_WORKERS = 8

OnProgress = Callable[[int, int], None]
T = TypeVar("T")


class Counter:
    """Counts over threads what is done, in bytes or objects, and reports it.

    Args:
        total: what there is to do.
        on_progress: called with (done, total), one call at a time; None reports nothing.
    """

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._on_progress = on_progress
        self._done = 0
        self._lock = Lock()

    def add(self, amount: int) -> None:
        """Add to what is done."""
        with self._lock:
            self._done += amount
            if self._on_progress is not None:
                self._on_progress(self._done, self._total)


def run_all(tasks: Sequence[Callable[[Event], T]], *, num_workers: int = NUM_WORKERS) -> list[T]:
    """Run tasks in threads and return their results in order.

    Each task receives an event that is set as soon as another task failed or the caller was
    interrupted; it should then give up soon.

    Raises:
        Exception: whatever the first failing task raised.
    """
    stop = Event()
    with ThreadPoolExecutor(min(num_workers, max(len(tasks), 1)), "boothline-transfer") as pool:
        futures = [pool.submit(task, stop) for task in tasks]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


@dataclass
class Traffic:
    """What a process has asked of stores since it began; safe to add to from several threads.

    Attributes: those of `COUNTED`, which says what each means.
    """

    requests: int = 0
    retries: int = 0
    failures: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, name: str, amount: int = 1) -> None:
        """Raise a count by an amount."""
        with self._lock:
            setattr(self, name, getattr(self, name) + amount)

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {name: getattr(self, name) for name in COUNTED}


COUNTED = {
    "requests": "HTTP requests to the object store, repeated ones too.",
    "retries": "Store operations begun again after a failure that may pass.",
    "failures": "Store operations that were given up.",
    "sent_bytes": "Bytes in the bodies of requests to the object store.",
    "received_bytes": "Bytes read of objects.",
}
"""What each count means."""

TRAFFIC = Traffic()
"""Of this process, with all its stores."""
