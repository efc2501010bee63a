"""Versions of a model: numbered once for each manifest, in MLflow and in the store.

The store's records `registry/<model name>/<manifest digest>.json` are what Boothline reads; MLflow
is asked only to register a manifest that has no record yet. Without a tracking server the numbers
come from conditional puts of `registry/<model name>/numbers/<number>.json`.
"""

import logging
from itertools import count
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from boothline.errors import ConflictError, ModelNotFoundError, TrackingError
from boothline.registry import ledger
from boothline.settings import Settings
from boothline.store import ManifestRef, Store, layout
from boothline.tracking.client import RejectedError, connect, translated

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

DIGEST_TAG = "boothline.manifest_digest"
REF_TAG = "boothline.manifest"
CHAMPION = "champion"
CHALLENGER = "challenger"
# Registration is the one call to MLflow that a run cannot do without: an outage of a minute is
# waited out.
PATIENCE_SECONDS = 75.0


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
    patience_seconds: float = PATIENCE_SECONDS,
) -> ModelVersion:
    """Return the version of a model manifest, registered now if it is not yet.

    However often and from however many processes it is called, a manifest gets one version. A new
    version becomes the challenger.

    Args:
        store: holds the manifest and the record of the version.
        settings: tells the tracking server, if any.
        model_name: the registered model; made if need be.
        ref: manifest of the model.
        patience_seconds: how long to wait for a server that does not answer.

    Raises:
        TrackingError: MLflow is unreachable for longer than that, or refuses the version.
    """
    existing = find(store, model_name, ref)
    if existing is not None:
        return existing
    if settings.mlflow_uri:
        number = _register_patiently(
            store, settings, model_name=model_name, ref=ref, patience_seconds=patience_seconds
        )
    else:
        number = _claim_number(store, model_name, ref)
    made = ModelVersion(name=model_name, version=number, digest=ref.digest, ref=ref)
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
        selector: `champion` (by the ledger), `challenger` (the newest version, unless it is the
            champion) or a version number.

    Raises:
        ModelNotFoundError: there is no such version.
    """
    registered = versions(store, model_name)
    by_number = {str(version.version): version for version in registered}
    if selector == CHAMPION:
        entry = ledger.champion(store, model_name)
        chosen = None if entry is None else find(store, model_name, entry.ref)
    elif selector == CHALLENGER:
        chosen = challenger(store, model_name)
    else:
        chosen = by_number.get(selector)
    if chosen is None:
        known = ", ".join(by_number) or "none"
        raise ModelNotFoundError(
            f"Model {model_name!r} has no version {selector!r}.",
            remedy=f"Its versions are: {known}; champion and challenger work where there is one.",
        )
    return chosen


def challenger(store: Store, model_name: str) -> ModelVersion | None:
    """Return the newest version of a model unless it is the champion."""
    newest = next(reversed(versions(store, model_name)), None)
    entry = ledger.champion(store, model_name)
    if newest is None or (entry is not None and entry.ref == newest.ref):
        return None
    return newest


def _register_patiently(
    store: Store,
    settings: Settings,
    *,
    model_name: str,
    ref: ManifestRef,
    patience_seconds: float,
) -> int:
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

    client = connect(settings.mlflow_uri)
    retrying = Retrying(
        stop=stop_after_delay(patience_seconds),
        wait=wait_exponential_jitter(multiplier=0.5, max=5),
        retry=retry_if_exception(_is_outage),
        before_sleep=lambda state: logger.warning(
            "registering %s again: %s", model_name, state.outcome
        ),
        reraise=True,
    )
    return retrying(_register, client, store, model_name, ref)


def _is_outage(error: BaseException) -> bool:
    return isinstance(error, TrackingError) and not isinstance(error, RejectedError)


def _register(client: "MlflowClient", store: Store, model_name: str, ref: ManifestRef) -> int:
    """Return the MLflow version that carries the manifest's digest, made if there is none.

    Two processes may each make one at the same time. The lower number stays, since nobody can have
    seen only the higher one; whoever made the other deletes it.
    """
    numbers = _numbers_of(client, model_name, ref)
    if not numbers:
        _ensure_model(client, model_name)
        with translated(f"register {ref} as a version of {model_name}"):
            made = client.create_model_version(
                model_name,
                store.uri_of(ref),
                tags={DIGEST_TAG: ref.digest, REF_TAG: str(ref)},
                await_creation_for=0,
            )
        numbers = _numbers_of(client, model_name, ref)
        if int(made.version) != numbers[0]:
            with translated(f"delete the second version of {ref}"):
                client.delete_model_version(model_name, made.version)
    with translated(f"make version {numbers[0]} of {model_name} the challenger"):
        client.set_registered_model_alias(model_name, CHALLENGER, str(numbers[0]))
    return numbers[0]


def _numbers_of(client: "MlflowClient", model_name: str, ref: ManifestRef) -> list[int]:
    with translated(f"list the versions of {model_name}"):
        found = client.search_model_versions(
            f"name = '{model_name}' and tags.`{DIGEST_TAG}` = '{ref.digest}'"
        )
    return sorted(int(version.version) for version in found)


def _ensure_model(client: "MlflowClient", model_name: str) -> None:
    try:
        with translated(f"create the model {model_name}"):
            client.create_registered_model(model_name)
    except RejectedError:  # it exists
        with translated(f"show the model {model_name}"):
            client.get_registered_model(model_name)


def _claim_number(store: Store, model_name: str, ref: ManifestRef) -> int:
    """Return the number that a manifest has without MLflow: the next free one if it has none."""
    for number in count(1):
        path = layout.version_number(model_name, number)
        taken = store.get_record(path)
        if taken is None:
            try:
                store.put_record(path, {"digest": ref.digest}, if_absent=True)
                break
            except ConflictError:
                taken = store.get_record(path) or {}
        if taken.get("digest") == ref.digest:
            break
    return number
