"""The ledger: every promotion and rollback, in one order that all processes agree on.

Entries are records `ledger/promotions/<number>.json`, written once each by a conditional put:
whoever writes entry n + 1 has seen entry n. The entries of one model form a stack: a promotion puts
a version on the champion it beat, a rollback takes the top off.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from boothline.errors import StoreError
from boothline.store import ManifestRef, Store, layout

MAX_PARALLEL_READS = 16

Action = Literal["promote", "rollback"]


class LedgerEntry(BaseModel):
    """One promotion or rollback.

    Attributes:
        number: position in the ledger, from 1 without gaps.
        action: what happened.
        model_name: the registered model.
        version: version that is champion from now on.
        ref: manifest of that version.
        below: number of the entry under it in the stack, which made the champion before; 0: none.
        evidence: manifest of the promotion step whose verdict this carries out; empty for a
            rollback and for a promotion past the gate.
        forced: whether a person put the version past the gate.
        reason: why, in words.
        actor: who asked: a run or a person.
        time: seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    action: Action
    model_name: str
    version: int = Field(ge=1)
    ref: ManifestRef
    below: int = Field(default=0, ge=0)
    evidence: str = ""
    forced: bool = False
    reason: str
    actor: str
    time: float = Field(default_factory=time.time)


def append(store: Store, entry: LedgerEntry) -> None:
    """Write an entry at its number.

    Raises:
        ConflictError: another process has that number; read the ledger again and decide again.
    """
    store.put_record(layout.promotion(entry.number), entry.model_dump(mode="json"), if_absent=True)


def size(store: Store) -> int:
    """Return the number of the newest entry; 0 for an empty ledger."""
    paths = store.list_records(layout.PROMOTIONS)
    return _number_of(paths[-1]) if paths else 0


def read(store: Store, number: int) -> LedgerEntry:
    """Return one entry.

    Raises:
        StoreError: the entry is missing although a later one exists.
    """
    value = store.get_record(layout.promotion(number))
    if value is None:
        raise StoreError(
            f"Entry {number} of the ledger is missing.",
            remedy=f"Restore {layout.promotion(number)} from a copy of the bucket.",
        )
    return LedgerEntry.model_validate(value)


class View:
    """All entries of one model, read once and extended as the ledger grows.

    Args:
        store: holds the ledger.
        model_name: the registered model.

    Attributes:
        size: number of the newest entry of the ledger that was read, of whatever model.
        entries: those of the model from the oldest to the newest.
    """

    def __init__(self, store: Store, model_name: str) -> None:
        self._store = store
        self._model_name = model_name
        self.size = 0
        self.entries: list[LedgerEntry] = []
        self.refresh()

    @property
    def champion(self) -> LedgerEntry | None:
        """The entry that made the current champion champion, or None."""
        return self.entries[-1] if self.entries else None

    def refresh(self) -> None:
        """Read the entries that were written since the last time."""
        newest = size(self._store)
        added = _read_all(self._store, range(self.size + 1, newest + 1))
        self.entries += [entry for entry in added if entry.model_name == self._model_name]
        self.size = newest


def history(store: Store, model_name: str = "") -> list[LedgerEntry]:
    """Return the entries of a model, or of all models, from the oldest to the newest."""
    entries = _read_all(store, range(1, size(store) + 1))
    return [entry for entry in entries if model_name in ("", entry.model_name)]


def champion(store: Store, model_name: str) -> LedgerEntry | None:
    """Return the entry that made the current champion of a model champion, or None."""
    end, length = size(store), 1
    while end > 0:
        start = max(1, end - length + 1)
        for entry in reversed(_read_all(store, range(start, end + 1))):
            if entry.model_name == model_name:
                return entry
        end, length = start - 1, min(4 * length, MAX_PARALLEL_READS)
    return None


def before(store: Store, entry: LedgerEntry) -> LedgerEntry | None:
    """Return the entry under another in its model's stack: that of the champion it beat."""
    return read(store, entry.below) if entry.below else None


def champion_to_beat(store: Store, model_name: str, candidate: ManifestRef) -> ManifestRef | None:
    """Return the model that a candidate is compared with, or None when it is the first.

    That is the champion; for the champion itself, the one it beat: so judging it again asks the
    same question as the first time.

    Args:
        store: holds the ledger.
        model_name: the registered model.
        candidate: manifest of the model to be judged.
    """
    current = champion(store, model_name)
    if current is not None and current.ref == candidate:
        current = before(store, current)
    return None if current is None else current.ref


def _read_all(store: Store, numbers: Sequence[int]) -> list[LedgerEntry]:
    """Return entries in the order of their numbers, several read at a time."""
    if len(numbers) < 2:
        return [read(store, number) for number in numbers]
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
        return list(pool.map(lambda number: read(store, number), numbers))


def _number_of(path: str) -> int:
    return int(path.rsplit("/", 1)[-1].removesuffix(".json"))
