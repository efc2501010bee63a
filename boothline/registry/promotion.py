"""Promotion and rollback: the ledger first, then MLflow's alias, then a look at both."""

import logging
from collections.abc import Callable
from typing import TypeVar

from boothline.errors import ConfigError, ConflictError, TrackingError
from boothline.registry import ledger, mirror
from boothline.registry.ledger import LedgerEntry
from boothline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    ModelVersion,
    challenger,
    check_known,
    ensure_version,
    find,
)
from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout
from boothline.tracking.client import Client, MissingError, RejectedError

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 100
DecidedT = TypeVar("DecidedT", LedgerEntry, LedgerEntry | None)


def promote(
    store: Store,
    settings: Settings,
    model_name: str,
    *,
    ref: ManifestRef,
    beaten: ManifestRef | None,
    evidence: ManifestRef,
    reason: str,
    actor: str,
) -> LedgerEntry | None:
    """Make a model champion, at most once per verdict.

    Args:
        store: holds the ledger.
        settings: has the tracking server, if any.
        model_name: the registered model.
        ref: manifest of the model that becomes champion.
        beaten: the champion that it was compared with; None when there was none.
        evidence: manifest of the promotion step, whose verdict is carried out once.
        reason: why, in words.
        actor: who asks.

    Returns:
        The entry that made the model champion; None when it was promoted over the same champion
        earlier and has lost its place since, which is left so: only a person undoes a rollback.

    Raises:
        ConflictError: another model has become champion since the evaluation.
        TrackingError: MLflow's alias could not be moved; the next call repairs it.
    """
    version = ensure_version(store, settings, model_name=model_name, ref=ref)

    def decide(view: ledger.View) -> LedgerEntry | None:
        current = view.champion
        if current is not None and current.ref == ref:
            return current
        if _was_carried_out(view, ref, beaten=beaten, evidence=evidence):
            logger.info("%s was promoted over %s before and is not again", ref, beaten)
            return None
        if (None if current is None else current.ref) != beaten:
            raise _changed(model_name, current)
        draft = _next(view, version, reason=reason, actor=actor)
        return draft.model_copy(update={"evidence": str(evidence)})

    return _write(store, settings, model_name, decide)


def promote_past_gate(
    store: Store,
    settings: Settings,
    model_name: str,
    *,
    ref: ManifestRef,
    reason: str,
    actor: str,
) -> LedgerEntry:
    """Make a model champion whatever the gate says; the entry is marked as forced.

    Args:
        store: holds the ledger.
        settings: has the tracking server, if any.
        model_name: the registered model.
        ref: manifest of the model that becomes champion.
        reason: why, in words.
        actor: who asks.

    Raises:
        ConflictError: another process changed the champion at the same time.
        TrackingError: MLflow's alias could not be moved; the next call repairs it.
    """
    version = ensure_version(store, settings, model_name=model_name, ref=ref)
    first = ledger.champion(store, model_name)

    def decide(view: ledger.View) -> LedgerEntry:
        current = view.champion
        if current is not None and current.ref == ref:
            return current
        if current != first:
            raise _changed(model_name, current)
        draft = _next(view, version, reason=reason, actor=actor)
        return draft.model_copy(update={"forced": True})

    return _write(store, settings, model_name, decide)


def rollback(
    store: Store, settings: Settings, model_name: str, *, reason: str, actor: str
) -> LedgerEntry:
    """Make the champion before the current one champion again.

    Args:
        store: holds the ledger.
        settings: has the tracking server, if any.
        model_name: the registered model.
        reason: why, in words.
        actor: who asks.

    Raises:
        ConfigError: there is no such model, no champion, or none before it.
        ConflictError: another process changed the champion at the same time.
        TrackingError: MLflow's alias could not be moved; the ledger has the rollback.
    """
    check_known(store, model_name)
    first = ledger.champion(store, model_name)
    restored = None if first is None else ledger.before(store, first)
    if restored is None:
        raise ConfigError(
            f"Model {model_name!r} has no earlier champion to go back to.",
            remedy="A rollback needs two promotions.",
        )

    def decide(view: ledger.View) -> LedgerEntry:
        if view.champion != first:
            raise _changed(model_name, view.champion)
        return LedgerEntry(
            number=view.size + 1,
            action="rollback",
            model_name=model_name,
            version=restored.version,
            ref=restored.ref,
            below=restored.below,
            reason=reason,
            actor=actor,
        )

    return _write(store, settings, model_name, decide)


def _write(
    store: Store,
    settings: Settings,
    model_name: str,
    decide: Callable[[ledger.View], DecidedT],
) -> DecidedT:
    """Write the entry that is decided on, then make MLflow follow the ledger.

    Args:
        store: holds the ledger.
        settings: has the tracking server, if any.
        model_name: the registered model.
        decide: given the model's entries, returns the next one to write, one that is there already,
            or None to leave everything as it is; called again when another process was faster.

    Raises:
        ConflictError: the ledger is too busy.
        TrackingError: MLflow's alias could not be moved; the ledger has the entry.
    """
    view = ledger.View(store, model_name)
    for _ in range(MAX_ATTEMPTS):
        entry = decide(view)
        if entry is None:
            return entry
        if entry.number <= view.size or _try_append(store, entry):
            sync_aliases(store, settings, model_name)
            return entry
        view.refresh()
    raise ConflictError(
        f"The ledger is too busy: no free entry for {model_name!r} in {MAX_ATTEMPTS} attempts.",
        remedy="Try again.",
    )


def sync_aliases(
    store: Store, settings: Settings, model_name: str, *, thorough: bool = False
) -> None:
    """Make MLflow's aliases say what the ledger says.

    Whoever moves an alias looks at the ledger again afterwards, so of several processes the last
    one to move it has seen the newest entry. The entry that was mirrored is noted in the store, so
    that a repeated call costs one read.

    Args:
        store: holds the ledger.
        settings: has the tracking server; without one there is nothing to do.
        model_name: the registered model.
        thorough: ask MLflow even when the ledger has not changed since the last call.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    if not settings.mlflow_uri:
        return
    path = layout.aliases(model_name)
    entry = ledger.champion(store, model_name)
    if entry is None or (not thorough and store.get_record(path) == {"number": entry.number}):
        return
    client = Client(settings.mlflow_uri)
    while entry is not None:
        _move(client, store, entry)
        store.put_record(path, {"number": entry.number})
        newest = ledger.champion(store, model_name)
        entry = None if newest == entry else newest


def sync_challenger(store: Store, settings: Settings, model_name: str) -> None:
    """Make MLflow's challenger that of the store, after a refusal; without MLflow nothing is done.

    An outage is logged and left: `boothline models` shows the difference, and the next promotion or
    `boothline registry repair` mends it.
    """
    if not settings.mlflow_uri:
        return
    try:
        _move_challenger(Client(settings.mlflow_uri), store, model_name)
    except TrackingError as error:
        logger.warning("MLflow keeps the challenger of %s: %s", model_name, error)


def _move(client: Client, store: Store, entry: LedgerEntry) -> None:
    """Set both aliases, and show the champion in MLflow if it is not there.

    Raises:
        TrackingError: MLflow is unreachable.
    """
    name = entry.model_name
    champion = find(store, name, entry.ref) or ModelVersion(
        name=name, version=entry.version, digest=entry.ref.digest, ref=entry.ref
    )
    mirror.set_alias(client, name, CHAMPION, mirror.show(client, store, champion))
    logger.info("champion of %s is version %d (entry %d)", name, champion.version, entry.number)
    try:
        _move_challenger(client, store, name)
    except (MissingError, RejectedError) as error:
        logger.info("%s keeps its challenger: %s", name, error)


def _move_challenger(client: Client, store: Store, name: str) -> None:
    """Set the alias of the challenger, or take it away where there is none.

    Raises:
        TrackingError: MLflow is unreachable, or refuses it.
    """
    rival = challenger(store, name)
    number = None if rival is None else mirror.show(client, store, rival)
    if mirror.aliases(client, name).get(CHALLENGER) != number:
        mirror.set_alias(client, name, CHALLENGER, number)


def _next(view: ledger.View, version: ModelVersion, *, reason: str, actor: str) -> LedgerEntry:
    """Return the entry that puts a version on top of a model's stack."""
    current = view.champion
    return LedgerEntry(
        number=view.size + 1,
        action="promote",
        model_name=version.name,
        version=version.version,
        ref=version.ref,
        below=0 if current is None else current.number,
        reason=reason,
        actor=actor,
    )


def _was_carried_out(
    view: ledger.View, ref: ManifestRef, *, beaten: ManifestRef | None, evidence: ManifestRef
) -> bool:
    """Return whether a verdict, or another on the same two models, has been carried out before."""
    beaten_by_number = {entry.number: entry.ref for entry in view.entries}
    return any(
        entry.evidence == str(evidence)
        or (
            entry.action == "promote"
            and entry.ref == ref
            and beaten_by_number.get(entry.below) == beaten
        )
        for entry in view.entries
    )


def _try_append(store: Store, entry: LedgerEntry) -> bool:
    """Append an entry unless its number is taken by now."""
    try:
        ledger.append(store, entry)
    except ConflictError:
        return False
    logger.info("ledger entry %d: %s %s", entry.number, entry.action, entry.ref)
    return True


def _changed(model_name: str, current: LedgerEntry | None) -> ConflictError:
    now = "nothing" if current is None else f"version {current.version} (entry {current.number})"
    return ConflictError(
        f"The champion of {model_name!r} is another than the one compared with: it is {now} now.",
        remedy="Resume the run: it is evaluated against the new champion.",
    )
