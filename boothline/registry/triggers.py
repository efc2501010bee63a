"""What makes a model be trained again, and the records that keep a trigger from doing it twice.

Each occurrence of a trigger has a key: the digest of the new pictures, the champion and the period
of its age, the evaluation whose score is low. The run that trains for some of them claims their
keys with one record `retrain/<model name>/<number>.json`, written by a conditional put: whoever
writes claim n + 1 has seen claim n, so that of several runs that look at once one trains.
"""

import logging
import time
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from boothline.config import RunConfig
from boothline.errors import ConflictError, DataError, NotFoundError
from boothline.registry import ledger
from boothline.registry.ledger import LedgerEntry
from boothline.registry.provenance import nearest
from boothline.registry.versions import versions
from boothline.results import Dataset, Decision, Evaluation, Trigger
from boothline.store import ManifestRef, Store, layout

logger = logging.getLogger(__name__)

SECONDS_A_DAY = 86400.0
MAX_ATTEMPTS = 100


def decide(
    store: Store, config: RunConfig, *, dataset: str, run_id: str = "", now: float | None = None
) -> Decision:
    """Say whether a run would train, without claiming anything.

    Args:
        store: holds the ledger, the versions and the claims.
        config: names the model and sets the triggers.
        dataset: content digest of the dataset manifest of today's pictures.
        run_id: the run that asks: its own claims do not count against it.
        now: seconds since the epoch; None: the clock's.
    """
    claims = _Claims(store, config.model_name)
    return _decision(store, config, claims, dataset=dataset, run_id=run_id, now=now)


def claim(
    store: Store, config: RunConfig, *, dataset: str, run_id: str, now: float | None = None
) -> Decision:
    """Decide, and claim what the run is going to train for; repeated, it says the same.

    Args:
        store: holds the ledger, the versions and the claims.
        config: names the model and sets the triggers.
        dataset: content digest of the dataset manifest of today's pictures.
        run_id: the run that trains.
        now: seconds since the epoch; None: the clock's.

    Raises:
        ConflictError: the claims of the model change all the time.
    """
    for _ in range(MAX_ATTEMPTS):
        claims = _Claims(store, config.model_name)
        decision = _decision(store, config, claims, dataset=dataset, run_id=run_id, now=now)
        free = [
            trigger for trigger in decision.triggers if trigger.fired and not trigger.claimed_by
        ]
        if decision.decision == "skip" or not free or claims.add(run_id, free):
            return decision
    raise ConflictError(
        f"The claims of {config.model_name!r} changed {MAX_ATTEMPTS} times while run {run_id} "
        "decided.",
        remedy="Try again.",
    )


class _Claim(BaseModel):
    """A run that trains for the keys of triggers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    keys: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    time: float = 0.0


class _Claims:
    """Which run trains for which key, as read now.

    Args:
        store: holds the claims.
        model_name: the registered model.
    """

    def __init__(self, store: Store, model_name: str) -> None:
        self._store = store
        self._model_name = model_name
        self._paths = store.list_records(layout.claims(model_name))
        self.owners: dict[str, str] = {}
        for path in self._paths:
            if (value := store.get_record(path)) is not None:
                claim = _Claim.model_validate(value)
                self.owners |= dict.fromkeys(claim.keys, claim.run_id)

    def add(self, run_id: str, triggers: Sequence[Trigger]) -> bool:
        """Claim triggers for a run unless another claim was made since; return whether it was."""
        claim = _Claim(
            run_id=run_id,
            keys=tuple(trigger.key for trigger in triggers),
            reasons=tuple(trigger.text for trigger in triggers),
            time=time.time(),
        )
        path = layout.claim(self._model_name, len(self._paths) + 1)
        try:
            self._store.put_record(path, claim.model_dump(mode="json"), if_absent=True)
        except ConflictError:
            return False
        logger.info("run %s trains for %s", run_id, ", ".join(t.key for t in triggers))
        return True


def _decision(
    store: Store,
    config: RunConfig,
    claims: _Claims,
    *,
    dataset: str,
    run_id: str,
    now: float | None,
) -> Decision:
    """Return whether a run trains, given the claims that were made so far."""
    at = time.time() if now is None else now
    triggers = tuple(
        _with_claim(trigger, claims) for trigger in _look(store, config, dataset=dataset, now=at)
    )
    wanted = any(trigger.fired and trigger.claimed_by in ("", run_id) for trigger in triggers)
    return Decision(
        decision="train" if wanted else "skip",
        model_name=config.model_name,
        dataset=dataset,
        triggers=triggers,
    )


def _look(store: Store, config: RunConfig, *, dataset: str, now: float) -> Iterator[Trigger]:
    """Yield what each trigger that is switched on says."""
    settings, model_name = config.retrain, config.model_name
    champion = ledger.champion(store, model_name)
    if settings.on_new_data:
        yield _new_data(store, model_name, dataset)
    if settings.max_champion_age_days is not None:
        yield _age(champion, settings.max_champion_age_days, now=now)
    if settings.min_champion_score is not None:
        yield _score(store, champion, settings.min_champion_score)


def _new_data(store: Store, model_name: str, dataset: str) -> Trigger:
    """Compare today's pictures with those of every registered version."""
    registered = versions(store, model_name)
    for version in reversed(registered):
        if _dataset_of(store, version.ref) == dataset:
            return Trigger(
                name="new_data",
                fired=False,
                text=f"Version {version.version} was already trained on these pictures "
                f"({dataset[:12]}).",
            )
    known = {0: "no version yet was", 1: "the one version was not"}.get(
        len(registered), f"none of {len(registered)} versions was"
    )
    return Trigger(
        name="new_data",
        fired=True,
        key=f"data-{dataset[:32]}",
        text=f"The pictures are new: {known} trained on them ({dataset[:12]}).",
    )


def _age(champion: LedgerEntry | None, max_days: float, *, now: float) -> Trigger:
    """Compare the champion's age with the limit."""
    if champion is None:
        return Trigger(name="champion_age", fired=False, text="There is no champion to be too old.")
    days = (now - champion.time) / SECONDS_A_DAY
    periods = int(days // max_days)
    text = f"The champion, version {champion.version}, is {days:.1f} days old; at most {max_days:g}"
    return Trigger(
        name="champion_age",
        fired=periods >= 1,
        key=f"age-{champion.number}-{periods}" if periods >= 1 else "",
        text=f"{text}: {'too old' if periods >= 1 else 'young enough'}.",
    )


def _score(store: Store, champion: LedgerEntry | None, floor: float) -> Trigger:
    """Compare the score of the champion's evaluation with the floor."""
    found = None if champion is None else _evaluation_of(store, champion)
    if found is None:
        return Trigger(
            name="champion_score", fired=False, text="No evaluation of a champion is known."
        )
    evaluation, digest = found
    score = evaluation.means().get("score")
    if score is None:
        return Trigger(
            name="champion_score", fired=False, text="The champion's evaluation has no score."
        )
    fired = score < floor
    return Trigger(
        name="champion_score",
        fired=fired,
        key=f"score-{digest[:32]}" if fired else "",
        text=f"The champion's score is {score:.3f}; at least {floor:.3f}: "
        f"{'too low' if fired else 'good enough'}.",
    )


def _dataset_of(store: Store, ref: ManifestRef) -> str:
    """Return the content digest of the pictures that a model was trained on; empty: unknown."""
    try:
        found = nearest(store, ref, Dataset.kind)
    except (NotFoundError, DataError) as error:
        logger.warning("the pictures of %s are not known: %s", ref, error)
        return ""
    return "" if found is None else found[1].content_digest


def _evaluation_of(store: Store, champion: LedgerEntry) -> tuple[Evaluation, str] | None:
    """Return the evaluation that a champion was promoted by, also before a rollback to it.

    With it goes the content digest of its manifest.
    """
    for entry in reversed(ledger.history(store, champion.model_name)):
        if entry.ref == champion.ref and entry.evidence:
            found = nearest(store, ManifestRef.parse(entry.evidence), Evaluation.kind)
            return found and (Evaluation.of(found[1]), found[1].content_digest)
    return None


def _with_claim(trigger: Trigger, claims: _Claims) -> Trigger:
    """Return a trigger with the run that claimed it."""
    run_id = claims.owners.get(trigger.key, "") if trigger.fired else ""
    if not run_id:
        return trigger
    text = f"{trigger.text} Run {run_id} trains or has trained for it."
    return trigger.model_copy(update={"claimed_by": run_id, "text": text})
