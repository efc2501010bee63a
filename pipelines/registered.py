"""The registered models, as a person looks at them and changes them."""

import getpass
import re

from pydantic import BaseModel, ConfigDict

from boothline.errors import ModelNotFoundError
from boothline.registry import ledger
from boothline.registry import promotion as promotions
from boothline.registry.ledger import LedgerEntry
from boothline.registry.versions import CHALLENGER, CHAMPION, challenger, resolve, versions
from boothline.store import Store
from pipelines.local.session import Session


class ListedVersion(BaseModel):
    """One version of a registered model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    alias: str
    digest: str


def list_models(store: Store) -> list[ListedVersion]:
    """Return every version of every registered model, by name and number."""
    names = {
        match[1]
        for path in store.list_records("registry/")
        if (match := re.fullmatch(r"registry/([^/]+)/[0-9a-f]{64}\.json", path))
    }
    listed = []
    for name in sorted(names):
        champion, rival = ledger.champion(store, name), challenger(store, name)
        for version in versions(store, name):
            alias = ""
            if champion is not None and champion.ref == version.ref:
                alias = CHAMPION
            elif rival is not None and rival.ref == version.ref:
                alias = CHALLENGER
            listed.append(
                ListedVersion(
                    name=name, version=version.version, alias=alias, digest=version.digest
                )
            )
    return listed


def promote_by_hand(session: Session, model: str, version: str, *, reason: str) -> LedgerEntry:
    """Make a version the champion, whatever the gate said.

    Raises:
        ModelNotFoundError: there is no such version.
        ConflictError: another process changed the champion at the same time.
        TrackingError: MLflow's alias could not be moved.
    """
    store = session.store
    chosen = resolve(store, model, version)
    champion = ledger.champion(store, model)
    entry = promotions.promote(
        store,
        session.settings,
        model,
        ref=chosen.ref,
        beaten=champion.ref if champion else None,
        evidence=None,
        reason=reason,
        actor=person(),
    )
    if entry is None:
        raise ModelNotFoundError(
            f"Version {version} of {model} was promoted by hand before and lost its place since.",
            remedy="Use boothline rollback to return to it.",
        )
    return entry


def person() -> str:
    """Return who works at this machine, for the ledger."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
