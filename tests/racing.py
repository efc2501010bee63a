"""Races for tests: several threads that set off at the same moment."""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.5


def race(contenders: Sequence[Callable[[], T]], *, limit_seconds: float = 120.0) -> list[T]:
    """Call each contender in a thread of its own, all at once, and return their results.

    No wait in here is without an end: a thread that stands still fails the test and tells where it
    stands, instead of holding up the suite.

    Args:
        contenders: what the threads do; whatever needs no race is best done before.
        limit_seconds: how long each may take.

    Raises:
        TimeoutError: a contender has not ended in time; the message has its stack.
        Exception: the first one that a contender raised.
    """
    gate = threading.Event()
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        while not gate.wait(POLL_SECONDS):
            pass
        try:
            results[number] = contenders[number]()
        except BaseException as error:  # noqa: BLE001  (raised again by the caller)
            errors.append(error)

    # Daemons: a thread that stands still must not hold up the end of the process either.
    threads = [
        threading.Thread(target=run, args=(number,), daemon=True)
        for number in range(len(contenders))
    ]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(limit_seconds)
    frames = sys._current_frames()
    standing = [frames[thread.ident] for thread in threads if thread.ident in frames]
    stacks = ["".join(traceback.format_stack(frame)) for frame in standing]
    if stacks:
        raise TimeoutError(f"{len(stacks)} of {len(threads)} stand still:\n" + "\n".join(stacks))
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(contenders))]
