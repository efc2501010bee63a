"""Many transfers at once: the first failure, or Ctrl-C, stops the others."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import TypeVar

NUM_WORKERS = 8

OnProgress = Callable[[int, int], None]
T = TypeVar("T")


class ByteCounter:
    """Counts transferred bytes over threads and reports them.

    Args:
        total_bytes: what there is to transfer.
        on_progress: called with (done, total) in bytes, one call at a time; None reports nothing.
    """

    def __init__(self, total_bytes: int, on_progress: OnProgress | None) -> None:
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._done_bytes = 0
        self._lock = Lock()

    def add(self, num_bytes: int) -> None:
        """Add to the bytes that are done (a repeated part is subtracted by a negative number)."""
        with self._lock:
            self._done_bytes += num_bytes
            if self._on_progress is not None:
                self._on_progress(self._done_bytes, self._total_bytes)


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
