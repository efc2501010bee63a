"""The registered models, as a person looks at them and changes them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from boothline.errors import ConfigError, DataError, GateRefusedError, NotFoundError, TrackingError
from boothline.launch.local.session import Session, actor_of
from boothline.registry import ledger
from boothline.registry import promotion as promotions
from boothline.registry.drift import Drift, find_drift
from boothline.registry.ledger import LedgerEntry
from boothline.registry.versions import (
    CHALLENGER,
    CHAMPION,
    ModelVersion,
    challenger,
    resolve,
    versions,
)
from boothline.results import Evaluation, Promotion
from boothline.runs import StepRecord
from boothline.store import Manifest, ManifestRef, Store, layout

MAX_PARALLEL_READS = 16


class ListedVersion(BaseModel):
    """One version of a registered model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int
    alias: str
    digest: str
    verdict: str = Field(default="", description="What the gate said last; empty: not judged.")
    scores: dict[str, float] = Field(
        default_factory=dict, description="Mean scores of the newest evaluation, by metric."
    )
    created_at: float | None = Field(default=None, description="Seconds since the epoch.")
    champion_since: float | None = Field(
        default=None, description="When the champion became it, in seconds since the epoch."
    )
    forced: bool = Field(default=False, description="Whether it is champion past the gate.")


def list_models(store: Store) -> list[ListedVersion]:
    """Return every version of every registered model, by name and number."""
    names = {
        match[1]
        for path in store.list_records(layout.REGISTRY)
        if (match := layout.VERSION.fullmatch(path))
    }
    if not names:
        return []
    judged = _judged(store)
    return [listed for name in sorted(names) for listed in _listed(store, name, judged)]


def drift_of(session: Session) -> tuple[list[Drift], str]:
    """Return where MLflow's aliases differ from the ledger, and why that is unknown, if it is.

    Args:
        session: the open home folder.
    """
    try:
        return find_drift(session.store, session.settings), ""
    except (ConfigError, TrackingError) as error:
        return [], str(error)


def promote_version(
    session: Session, model: str, version: str, *, reason: str, force: bool = False
) -> LedgerEntry:
    """Make a version the champion: by the verdict that a run's gate gave it, or past the gate.

    Args:
        session: the open home folder.
        model: the registered model.
        version: a version number.
        reason: why, in words; needed to go past the gate.
        force: go past the gate.

    Raises:
        ConfigError: `force` without a reason, or there is no such version.
        GateRefusedError: the gate refused the version or never judged it.
        ConflictError: another model became champion since it was judged.
        TrackingError: MLflow's alias could not be moved.
    """
    store, settings = session.store, session.settings
    chosen = resolve(store, model, version)
    actor = actor_of(settings)
    if force:
        if not reason:
            raise ConfigError(
                "A promotion past the gate needs a reason.",
                remedy="Pass --reason TEXT; the ledger keeps it with your name.",
            )
        return promotions.promote_past_gate(
            store, settings, model, ref=chosen.ref, reason=reason, actor=actor
        )
    evidence, verdict = _passing_verdict(store, chosen)
    before, words = verdict.champion_before, verdict.reason
    entry = promotions.promote(
        store,
        settings,
        model,
        ref=chosen.ref,
        beaten=ManifestRef.parse(before) if before else None,
        evidence=evidence,
        reason=f"{reason}: {words}" if reason else words,
        actor=actor,
    )
    if entry is None:
        raise GateRefusedError(
            f"Version {version} of {model} was champion before and lost its place since.",
            remedy=_FORCE,
        )
    return entry


_FORCE = "boothline promote ... --force --reason TEXT goes past the gate; the ledger keeps who did."


def _passing_verdict(store: Store, chosen: ModelVersion) -> tuple[ManifestRef, Promotion]:
    """Return the newest verdict on a version, with its reference.

    Raises:
        GateRefusedError: it is a refusal, or there is none.
    """
    name = f"Version {chosen.version} of {chosen.name}"
    found = _judged(store).get(str(chosen.ref), {}).get("promote")
    if found is None:
        raise GateRefusedError(f"{name} has not been judged by a gate.", remedy=_FORCE)
    ref, manifest = found
    verdict = Promotion.of(manifest, name=str(ref))
    if not verdict.promoted:
        reasons = [rule.text for rule in verdict.rules if not rule.passed]
        raise GateRefusedError(
            f"The gate refused {name[0].lower()}{name[1:]}.", remedy="\n".join([*reasons, _FORCE])
        )
    return ref, verdict


Judged = dict[str, dict[str, tuple[ManifestRef, Manifest]]]


def _judged(store: Store) -> Judged:
    """Return the newest evaluation and verdict of each model, by its reference and the step."""
    paths = [
        path
        for path in sorted(store.list_records(layout.RUNS), reverse=True)
        if path.endswith(("/steps/evaluate.json", "/steps/promote.json"))
    ]
    found: Judged = {}
    with ThreadPoolExecutor(max_workers=MAX_PARALLEL_READS) as pool:
        for step, ref, manifest in filter(None, pool.map(partial(_result, store), paths)):
            if manifest.inputs:
                found.setdefault(manifest.inputs[0], {}).setdefault(step, (ref, manifest))
    return found


def results_of(store: Store, version: ModelVersion) -> dict[str, tuple[ManifestRef, Manifest]]:
    """Return the newest evaluation and verdict of a version, by step: `evaluate`, `promote`."""
    return _judged(store).get(str(version.ref), {})


def _result(store: Store, path: str) -> tuple[str, ManifestRef, Manifest] | None:
    """Return the step, reference and manifest that a step record names, if they can be read."""
    record = StepRecord.model_validate(store.get_record(path))
    if record.status != "done":
        return None
    ref = ManifestRef.parse(record.manifest)
    try:
        return record.step, ref, store.read(ref)
    except (NotFoundError, DataError):  # a list of models is of use without a deleted run
        return None


def _listed(store: Store, name: str, judged: Judged) -> Iterator[ListedVersion]:
    """Yield the versions of one model."""
    champion = ledger.champion(store, name)
    rival = challenger(store, name)
    for version in versions(store, name):
        is_champion = champion is not None and champion.ref == version.ref
        alias = CHAMPION if is_champion else ""
        if version == rival:
            alias = CHALLENGER
        results = judged.get(str(version.ref), {})
        yield ListedVersion(
            name=name,
            version=version.version,
            alias=alias,
            digest=version.digest,
            verdict=Promotion.of(results["promote"][1]).verdict if "promote" in results else "",
            scores=Evaluation.of(results["evaluate"][1]).means() if "evaluate" in results else {},
            created_at=_created_at(store, version.ref),
            champion_since=champion.time if champion is not None and is_champion else None,
            forced=is_champion and champion is not None and champion.forced,
        )


def _created_at(store: Store, ref: ManifestRef) -> float | None:
    """Return when a model was committed, in seconds since the epoch; None when it is gone."""
    try:
        return datetime.fromisoformat(store.read(ref).created_at).timestamp()
    except (NotFoundError, DataError):
        return None
