"""Hashes everything that manifests name, straight from the store, and names what is damaged."""

from collections.abc import Iterable, Mapping
from functools import partial
from threading import Event

from pydantic import BaseModel, ConfigDict

from boothline.store import FileEntry, Store, inventory, layout
from boothline.store.blobs import receive_checked
from boothline.store.references import OnProgress, References
from boothline.store.transfers import Counter, run_all

_MAX_USERS = 20


class Damage(BaseModel):
    """One object that is not what it should be.

    Attributes:
        uri: the object.
        problem: what is wrong with it.
        used_by: the manifests that need it, at most twenty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    problem: str
    used_by: tuple[str, ...] = ()


class Verification(BaseModel):
    """What was read, and what was wrong.

    Attributes:
        num_manifests, num_records, num_blobs: what was read.
        num_bytes: length of all blobs together.
        damages: what is wrong; empty when everything is as it was written.
        missing_inputs: manifests that others were made from and that are gone: lineage ends there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_manifests: int
    num_records: int
    num_blobs: int
    num_bytes: int
    damages: tuple[Damage, ...]
    missing_inputs: tuple[str, ...] = ()


def verify(store: Store, *, on_progress: OnProgress | None = None) -> Verification:
    """Read every manifest, record and blob of a store, and compare them with their digests.

    The local cache plays no part.

    Args:
        store: the store.
        on_progress: called with (done, total) bytes of blobs.

    Raises:
        ServiceError: the store cannot be reached.
    """
    listed = inventory.objects(store.bucket)
    known = References()
    known.read(store, sorted(listed))
    users = known.users_of_blobs(known.manifests)
    entries = {
        entry.sha256: entry for manifest in known.manifests.values() for entry in manifest.files
    }
    problems = _hash_all(store, entries.values(), on_progress=on_progress)
    bad_blobs = [
        Damage(
            uri=store.bucket.uri(layout.blob(sha256)),
            problem=problem,
            used_by=tuple(users[sha256][:_MAX_USERS]),
        )
        for sha256, problem in sorted(problems.items())
    ]
    bad_objects = [
        Damage(uri=store.bucket.uri(key), problem=problem, used_by=_namers(known, key))
        for key, problem in sorted(known.unreadable.items())
    ]
    inputs = {text.partition("@")[0] for found in known.manifests.values() for text in found.inputs}
    return Verification(
        num_manifests=len(known.manifests),
        num_records=len(known.named),
        num_blobs=len(entries),
        num_bytes=sum(entry.size_bytes for entry in entries.values()),
        damages=(
            *bad_objects,
            *_missing(store, known),
            *_ledger_gaps(store, known, listed),
            *bad_blobs,
        ),
        missing_inputs=tuple(
            sorted(p for p in inputs - set(known.manifests) if f"{p}/manifest.json" not in listed)
        ),
    )


def _hash_all(
    store: Store, entries: Iterable[FileEntry], *, on_progress: OnProgress | None
) -> dict[str, str]:
    """Return what is wrong with blobs, by sha256."""
    wanted = sorted(entries, key=lambda entry: entry.sha256)
    counter = Counter(sum(entry.size_bytes for entry in wanted), on_progress)

    def check(entry: FileEntry, stop: Event) -> str:
        return receive_checked(store.bucket, entry, lambda chunk: counter.add(len(chunk)))

    problems = run_all([partial(check, entry) for entry in wanted])
    return {entry.sha256: found for entry, found in zip(wanted, problems, strict=True) if found}


def _missing(store: Store, known: References) -> list[Damage]:
    """Return the manifests that models in the registry and the ledger need and that are gone."""
    pinned: dict[str, list[str]] = {}
    for key, paths in known.named.items():
        if key.startswith((layout.REGISTRY, layout.LEDGER)):
            for path in paths - set(known.manifests):
                pinned.setdefault(path, []).append(key)
    return [
        Damage(
            uri=f"{store.bucket.uri(path)}/manifest.json",
            problem="is gone",
            used_by=tuple(sorted(keys)[:_MAX_USERS]),
        )
        for path, keys in sorted(pinned.items())
        if f"{path}/manifest.json" not in known.unreadable
    ]


def _ledger_gaps(store: Store, known: References, listed: Mapping[str, object]) -> list[Damage]:
    """Return the ledger entries that are missing: those below the newest one that is known of."""
    numbers = {int(match[1]) for key in listed if (match := layout.PROMOTION.fullmatch(key))}
    newest = max(numbers, default=0)
    for key in listed:
        if layout.ALIASES.fullmatch(key) and key not in known.unreadable:
            number = (store.get_record(key) or {}).get("number")
            newest = max(newest, number if isinstance(number, int) else 0)
    return [
        Damage(uri=store.bucket.uri(layout.promotion(number)), problem="is gone")
        for number in range(1, newest + 1)
        if number not in numbers
    ]


def _namers(known: References, key: str) -> tuple[str, ...]:
    """Return the records and manifests that name a damaged manifest."""
    path = key.rpartition("/")[0]
    records = [record for record, paths in known.named.items() if path in paths]
    manifests = [
        owner
        for owner, manifest in known.manifests.items()
        if any(text.partition("@")[0] == path for text in manifest.inputs)
    ]
    return tuple(sorted([*records, *manifests])[:_MAX_USERS])
