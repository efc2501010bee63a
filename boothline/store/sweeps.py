"""How a garbage collection and concurrent writers learn of each other (docs/adr/0011).

A sweep deletes blobs that no manifest names. A writer that found such a blob in place, and commits
a manifest that names it, must not lose it. So a sweep announces itself before it looks at the
manifests for the last time, and a writer looks for announcements after its manifest is committed:
whichever of the two comes later sees the other.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from boothline.errors import ConflictError, IntegrityError
from boothline.store import layout

if TYPE_CHECKING:
    from boothline.store.store import Store

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""A sweep deletes nothing that long after its announcement."""
LEASE_SECONDS = 600.0
"""A sweep that was announced that long ago is over, whether it said so or not."""
_POLL_SECONDS = 0.2


class Sweep(BaseModel):
    """The newest sweep.

    Attributes:
        number: counts the sweeps of a store; 0 before the first.
        active: it may delete right now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 0
    active: bool = False


def current(store: "Store") -> Sweep:
    """Return the newest sweep; a damaged announcement counts as none, the next one replaces it."""
    try:
        value = store.get_record(layout.CURRENT_SWEEP)
    except IntegrityError as error:
        logger.warning("the announcement of the last sweep is damaged: %s", error)
        return Sweep(number=-1)
    return Sweep() if value is None else Sweep.model_validate(value)


def begin(store: "Store") -> Sweep:
    """Announce a sweep; no other one can begin until it ends, or its lease does.

    Raises:
        ConflictError: another sweep is under way.
    """
    keys = store.bucket.keys(layout.SWEEPS)
    claimed = [int(match[1]) for key in keys if (match := layout.SWEEP.match(key))]
    for number in claimed:
        began = (store.get_record(layout.sweep(number)) or {}).get("started_at")
        if isinstance(began, int | float) and time.time() - began < LEASE_SECONDS:
            raise _under_way(store)
    sweep = Sweep(number=max([current(store).number, *claimed]) + 1, active=True)
    try:
        store.put_record(layout.sweep(sweep.number), {"started_at": time.time()}, if_absent=True)
    except ConflictError as error:
        raise _under_way(store) from error
    store.put_record(layout.CURRENT_SWEEP, sweep.model_dump())
    for number in claimed:
        store.bucket.delete(layout.sweep(number))
    return sweep


def end(store: "Store", sweep: Sweep) -> None:
    """Say that a sweep deletes nothing any more."""
    over = sweep.model_copy(update={"active": False})
    store.put_record(layout.CURRENT_SWEEP, over.model_dump())
    store.bucket.delete(layout.sweep(sweep.number))


def undisturbed_since(
    store: "Store", mark: Sweep, *, sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Return whether no sweep ran since a mark was taken; one that runs now is waited for.

    Args:
        store: the store.
        mark: what `current` returned then.
        sleep: waits.
    """
    now = current(store)
    if now == mark and not now.active:
        return True
    logger.info("a sweep ran meanwhile; what was stored is looked at again")
    until = time.monotonic() + 2 * SWEEP_SECONDS
    while now.active and time.monotonic() < until:
        sleep(_POLL_SECONDS)
        now = current(store)
    return False


def _under_way(store: "Store") -> ConflictError:
    return ConflictError(
        f"Another garbage collection of {store.bucket.uri('')} is under way.",
        remedy=f"Wait until it ends; one that was killed blocks for {LEASE_SECONDS / 60:.0f} min.",
    )
