"""Versions of a model: one number per manifest, given by the store.

A number is claimed by a conditional put of `registry/<model name>/numbers/<number>.json`, and the
record `registry/<model name>/<manifest digest>.json` is what Boothline reads. MLflow shows the same
versions (`boothline.registry.mirror`); whatever numbers it gives them, ours is a tag there.
"""

import logging
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import count

from pydantic import BaseModel, ConfigDict, Field

from boothline.errors import ConflictError, DataError, ModelNotFoundError
from boothline.registry import ledger, mirror
from boothline.registry.standing import Standing
from boothline.runs import trial_of
from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout

logger = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = mirror.CHALLENGER


class ModelVersion(BaseModel):
    """A registered version of a model, pinned to its manifest.

    Attributes:
        name: of the registered model.
        version: number, from 1.
        digest: sha256 of the manifest.
        ref: the manifest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = Field(ge=1)
    digest: str
    ref: ManifestRef


def ensure_version(
    store: Store,
    settings: Settings,
    *,
    model_name: str,
    ref: ManifestRef,
    origin: mirror.Origin | None = None,
    patience_seconds: float = mirror.PATIENCE_SECONDS,
    on_wait: Callable[[], object] = lambda: None,
) -> ModelVersion:
    """Return the version of a model manifest, registered now if it is not yet.

    However often and from however many processes it is called, a manifest gets one version. A new
    version becomes the challenger in MLflow, unless it is the trial of a sweep.

    Args:
        store: holds the manifest and the record of the version.
        settings: has the tracking server, if any.
        model_name: the registered model; made if need be.
        ref: manifest of the model.
        origin: the run that made it; None: it is not known.
        patience_seconds: how long to wait for a server that does not answer.
        on_wait: called whenever it is waited for.

    Raises:
        TrackingError: MLflow is unreachable for longer than that, or refuses the version.
    """
    existing = find(store, model_name, ref)
    if existing is not None:
        return existing
    number = next_number(store, model_name, ref)
    made = ModelVersion(name=model_name, version=number, digest=ref.digest, ref=ref)
    if settings.mlflow_uri:
        mirror.register_patiently(
            store,
            settings,
            made,
            origin=origin or mirror.Origin(),
            is_challenger=not (origin and trial_of(origin.run_id)),
            patience_seconds=patience_seconds,
            on_wait=on_wait,
        )
    try:
        path = layout.version(model_name, ref.digest)
        store.put_record(path, made.model_dump(mode="json"), if_absent=True)
    except ConflictError:  # another process registered the same manifest: equal by construction
        return find(store, model_name, ref) or made
    logger.info("%s version %d is %s", model_name, number, ref)
    return made


def find(store: Store, model_name: str, ref: ManifestRef) -> ModelVersion | None:
    """Return the version of a model manifest, or None when it is not registered."""
    value = store.get_record(layout.version(model_name, ref.digest))
    return None if value is None else ModelVersion.model_validate(value)


def model_names(store: Store) -> list[str]:
    """Return the names of the registered models, sorted."""
    return sorted(
        {
            match["model_name"]
            for path in store.list_records(layout.REGISTRY)
            if (match := layout.VERSION.fullmatch(path))
        }
    )


def versions(store: Store, model_name: str) -> list[ModelVersion]:
    """Return the registered versions of a model by number."""
    found = [
        ModelVersion.model_validate(store.get_record(path))
        for path in store.list_records(layout.registered(model_name))
        if layout.VERSION.fullmatch(path)
    ]
    return sorted(found, key=lambda version: version.version)


def resolve(store: Store, model_name: str, selector: str) -> ModelVersion:
    """Return the version that an alias or a number means now, pinned to its manifest.

    Args:
        store: holds the ledger and the records of versions.
        model_name: the registered model.
        selector: `champion` (by the ledger), `challenger` (the newest version that may still
            become champion) or a version number.

    Raises:
        ModelNotFoundError: there is no such model, or no such version of it.
        DataError: two versions have that number.
    """
    check_known(store, model_name)
    registered = versions(store, model_name)
    by_number = {str(version.version): version for version in registered}
    if (num := [str(version.version) for version in registered].count(selector)) > 1:
        raise DataError(
            f"{num} versions of {model_name!r} have the number {selector}.",
            remedy="`boothline registry repair` gives each a number of its own.",
        )
    if selector == CHAMPION:
        entry = ledger.champion(store, model_name)
        chosen = None if entry is None else find(store, model_name, entry.ref)
    elif selector == CHALLENGER:
        chosen = challenger(store, model_name)
    else:
        chosen = by_number.get(selector)
    if chosen is None:
        raise _missing(model_name, selector, numbers=sorted(by_number, key=int))
    return chosen


def _missing(model_name: str, selector: str, *, numbers: Sequence[str]) -> ModelNotFoundError:
    """Return the error that a model has no such version, with what it has."""
    known = f"Its versions are: {', '.join(numbers)}."
    if selector == CHAMPION:
        message = f"Model {model_name!r} has no champion yet: the gate has let no version through."
        remedy = f"{known} Name one, such as {model_name}@{numbers[-1]}."
    elif selector == CHALLENGER:
        message = f"Model {model_name!r} has no challenger: no version may still become champion."
        remedy = known
    else:
        message, remedy = f"Model {model_name!r} has no version {selector!r}.", known
    return ModelNotFoundError(message, remedy=remedy)


def check_known(store: Store, model_name: str) -> None:
    """Refuse the name of a model that is not registered, and name those like it.

    Raises:
        ModelNotFoundError: there is no such model.
    """
    known = model_names(store)
    if model_name in known:
        return
    near = [name for name in known if model_name in name]
    near += [name for name in get_close_matches(model_name, known) if name not in near]
    remedy = "No model is registered yet: `boothline run` makes the first."
    if known:
        remedy = f"The registered models are {', '.join(known)}."
    if near:
        remedy = f"Did you mean {' or '.join(near[:3])}?"
    raise ModelNotFoundError(f"There is no model {model_name!r}.", remedy=remedy)


def challenger(store: Store, model_name: str) -> ModelVersion | None:
    """Return the newest version that has never been champion and is not out of the running.

    Out of the running are those that a gate refused, and the trials of a sweep that did not win it.
    """
    crowned = {entry.ref for entry in ledger.history(store, model_name)}
    standing = Standing(store)
    return next(
        (
            version
            for version in reversed(versions(store, model_name))
            if version.ref not in crowned and standing.may_challenge(version.ref)
        ),
        None,
    )


def next_number(store: Store, model_name: str, ref: ManifestRef) -> int:
    """Return the number that a manifest has claimed, or claim the one after the highest.

    Numbers of versions that were recorded without a claim are never given again.
    """
    known = versions(store, model_name)
    of_others = {version.version for version in known if version.digest != ref.digest}
    claimed = [
        int(match["number"])
        for path in store.list_records(layout.registered(model_name))
        if (match := layout.VERSION_NUMBER.fullmatch(path))
    ]
    for number in sorted(set(claimed) - of_others):
        if claimant(store, model_name, number) == ref.digest:
            return number
    for number in count(max([0, *(version.version for version in known), *claimed]) + 1):
        if claim(store, model_name, number, ref.digest):
            break
    return number


def claim(store: Store, model_name: str, number: int, digest: str) -> bool:
    """Return whether a number belongs to a manifest, by a claim that is made now or stands."""
    try:
        path = layout.version_number(model_name, number)
        store.put_record(path, {"digest": digest}, if_absent=True)
    except ConflictError:
        return claimant(store, model_name, number) == digest
    return True


def claimant(store: Store, model_name: str, number: int) -> str:
    """Return the digest of the manifest that has claimed a number; empty: none."""
    value = store.get_record(layout.version_number(model_name, number)) or {}
    return str(value.get("digest", ""))
