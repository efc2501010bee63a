"""Mends the registry: numbers that two versions share, and what MLflow lost or shows wrong.

The store is right: its records of versions and its ledger. MLflow is made to show the same, however
much of it is gone. What is in MLflow alone stays there.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from boothline.errors import DataError, NotFoundError
from boothline.registry import ledger, mirror
from boothline.registry.drift import expected
from boothline.registry.ledger import LedgerEntry
from boothline.registry.versions import (
    ModelVersion,
    claim,
    claimant,
    model_names,
    next_number,
    versions,
)
from boothline.settings import Settings
from boothline.store import Store, layout
from boothline.tracking.client import Client


class Repair(BaseModel):
    """One thing that was mended, or would be.

    Attributes:
        name: the registered model.
        action: `number`: a version got a number of its own; `claim`: a number was claimed for its
            version; `version`: MLflow shows a version again; `tag`: MLflow names a version's
            number; `alias`: an alias in MLflow means what the ledger says.
        version: number of the version; None: an alias is taken away.
        text: what is done, as a sentence without its full stop.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    action: Literal["number", "claim", "version", "tag", "alias"]
    version: int | None
    text: str


def repair(store: Store, settings: Settings, *, dry_run: bool = False) -> list[Repair]:
    """Mend all registered models and return what was done; a second call finds nothing to do.

    Args:
        store: holds the records of versions and the ledger, which are right.
        settings: name the tracking server; without one only numbers are mended.
        dry_run: change nothing, and return what would be done.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    client = Client(settings.mlflow_uri) if settings.mlflow_uri else None
    done: list[Repair] = []
    for name in model_names(store):
        done += _numbers(store, name, dry_run=dry_run)
        if client is not None:
            done += _versions(client, store, name, dry_run=dry_run)
            done += _aliases(client, store, name, dry_run=dry_run)
    return done


def _numbers(store: Store, name: str, *, dry_run: bool) -> Iterator[Repair]:
    """Give every version a number of its own, and claim it."""
    by_number: dict[int, list[ModelVersion]] = defaultdict(list)
    for version in versions(store, name):
        by_number[version.version].append(version)
    for number, rivals in sorted(by_number.items()):
        keeper = _keeper(store, name, number, rivals)
        for version in rivals:
            if version != keeper:
                yield _renumber(store, version, dry_run=dry_run)
        if keeper is not None and not claimant(store, name, number):
            if not dry_run:
                claim(store, name, number, keeper.digest)
            text = f"number {number} of {name} is claimed for its version"
            yield Repair(name=name, action="claim", version=number, text=text)


def _keeper(
    store: Store, name: str, number: int, rivals: Sequence[ModelVersion]
) -> ModelVersion | None:
    """Return which of the versions with a number keeps it.

    Whoever claimed it; without a claim whoever the ledger named by it first, then the older model.
    None: a manifest has claimed it that is not registered yet.
    """
    if digest := claimant(store, name, number):
        return next((version for version in rivals if version.digest == digest), None)
    if len(rivals) == 1:
        return rivals[0]
    entries = ledger.history(store, name)
    return min(rivals, key=lambda version: _rank(store, entries, version))


def _rank(
    store: Store, entries: Sequence[LedgerEntry], version: ModelVersion
) -> tuple[float, str, str]:
    """Return what orders versions that share a number which nobody has claimed."""
    named = [
        entry.number
        for entry in entries
        if entry.version == version.version and entry.ref == version.ref
    ]
    try:
        created_at = store.read(version.ref).created_at
    except (NotFoundError, DataError):
        created_at = "~"  # after every date
    return (min(named, default=math.inf), created_at, version.digest)


def _renumber(store: Store, version: ModelVersion, *, dry_run: bool) -> Repair:
    """Give a version the next free number."""
    text = f"version {version.version} of {version.name} with digest {version.digest[:12]}"
    if dry_run:
        number, text = None, f"{text} gets a number of its own"
    else:
        number = next_number(store, version.name, version.ref)
        record = version.model_copy(update={"version": number}).model_dump(mode="json")
        store.put_record(layout.version(version.name, version.digest), record)
        text = f"{text} is version {number} now"
    return Repair(name=version.name, action="number", version=number, text=text)


def _versions(client: Client, store: Store, name: str, *, dry_run: bool) -> Iterator[Repair]:
    """Show every version in MLflow under its number."""
    for version in versions(store, name):
        shown = mirror.find(client, version)
        number = version.version
        if shown is None:
            if not dry_run:
                mirror.show(client, store, version)
            text = f"version {number} of {name} is registered in MLflow again"
            yield Repair(name=name, action="version", version=number, text=text)
        elif mirror.tags(client, name, shown).get(mirror.NUMBER_TAG) != str(number):
            if not dry_run:
                mirror.tag_number(client, version, shown)
            text = f"MLflow's version {shown} of {name} is tagged as version {number}"
            yield Repair(name=name, action="tag", version=number, text=text)


def _aliases(client: Client, store: Store, name: str, *, dry_run: bool) -> Iterator[Repair]:
    """Point MLflow's aliases to what the ledger says."""
    aliases = mirror.aliases(client, name)
    for alias, version in expected(store, name).items():
        shown = aliases.get(alias)
        number = None if version is None else mirror.find(client, version)
        is_right = shown == number and not (number is None and version is not None)
        if is_right:
            continue
        if not dry_run:
            mirror.set_alias(client, name, alias, number)
        means = "nothing" if version is None else f"version {version.version}"
        yield Repair(
            name=name,
            action="alias",
            version=None if version is None else version.version,
            text=f"the {alias} of {name} is {means} in MLflow",
        )
