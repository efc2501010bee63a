"""Rank the trials of a sweep by the score of their evaluations and name the best."""

import json
import logging
import math

from boothline import settings as environment
from boothline.components.compare_trials import ABOUT
from boothline.errors import DataError
from boothline.measures import METRICS
from boothline.report.render import render_trials
from boothline.results import Evaluation, Leaderboard, TrialRow
from boothline.steps import Step, StepContext, StepInputs, StepKey
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.trials import FAILED_TRIAL, failure_of_trial, in_words

logger = logging.getLogger(__name__)

PAGE_FILE = "leaderboard.html"
DATA_FILE = "leaderboard.json"


class Inputs(StepInputs):
    """Inputs of the step.

    Attributes:
        models: references of the trials' models, in the order of the trials; `failed` in place of
            one that there is none of.
        evaluations: references of their evaluations, likewise.
    """

    models: list[str]
    evaluations: list[str]


def key(context: StepContext, inputs: Inputs) -> StepKey:
    """Return what the ranking depends on: the trials' settings, models and evaluations."""
    failures = {str(number): why for number, why in _failures(context, inputs).items()}
    return StepKey(
        config={
            "model_name": context.config.model_name,
            "trials": [dict(trial) for trial in context.config.sweep.trials],
            **({"failures": failures} if failures else {}),
        },
        inputs=_compared(inputs),
    )


def produce(context: StepContext, inputs: Inputs) -> ManifestDraft:
    """Rank the trials.

    Raises:
        DataError: every trial failed, none has a finite score, or models, evaluations and trials do
            not pair up.
    """
    rows = _ranked(context, inputs)
    best = rows[0]
    logger.info("trial %s is the best: %s", best.trial, best.settings)
    context.progress.update(
        len(rows), len(rows), unit="trials", note=f"best: {in_words(best.settings)}"
    )
    leaderboard = Leaderboard(model_name=context.config.model_name, best=best, trials=tuple(rows))
    return leaderboard.draft(
        {
            DATA_FILE: json.dumps(leaderboard.facts()["trials"], indent=2, sort_keys=True).encode(),
            PAGE_FILE: render_trials(context.config.model_name, rows).encode(),
        },
        inputs=_compared(inputs),
    )


STEP = Step(name=ABOUT.name, inputs=Inputs, version=1, key=key, produce=produce)
run = STEP.run


def best(leaderboard: str) -> dict[str, str]:
    """Return the references of the best trial's `model` and `evaluation`."""
    row = _store().read_as(Leaderboard, leaderboard).best
    return {"model": row.model, "evaluation": row.evaluation}


def html(leaderboard: str) -> bytes:
    """Return the page of a leaderboard manifest, as UTF-8."""
    return _store().read_bytes(leaderboard, PAGE_FILE)


def _store() -> Store:
    return Store.connect(environment.current())


def _compared(inputs: Inputs) -> tuple[ManifestRef, ...]:
    """Return the models and evaluations of the trials that ended well."""
    return tuple(
        ManifestRef.parse(ref)
        for ref in (*inputs.models, *inputs.evaluations)
        if ref != FAILED_TRIAL
    )


def _failures(context: StepContext, inputs: Inputs) -> dict[int, str]:
    """Return why trials failed, by their numbers."""
    failures = {}
    for number, evaluation in enumerate(inputs.evaluations):
        if evaluation != FAILED_TRIAL:
            continue
        record = failure_of_trial(context.store, context.run_id, number)
        failure = record.failure if record else None
        failures[number] = f"{record.step}: {failure.message}" if record and failure else "a step"
    return failures


def _ranked(context: StepContext, inputs: Inputs) -> list[TrialRow]:
    """Return one row a trial, the best first; equal scores keep the order of the trials.

    Raises:
        DataError: every trial failed, none has a finite score, or models, evaluations and trials do
            not pair up.
    """
    failures = _failures(context, inputs)
    trials = context.config.sweep.trials
    if not len(trials) == len(inputs.models) == len(inputs.evaluations):
        raise DataError(
            f"{len(trials)} trials left {len(inputs.models)} models and "
            f"{len(inputs.evaluations)} evaluations.",
            remedy="Resume the sweep: it continues with the trials that are missing.",
        )
    rows: list[TrialRow] = []
    for number, (trial, model, evaluation) in enumerate(
        zip(trials, inputs.models, inputs.evaluations, strict=True)
    ):
        if number in failures:
            failure = failures[number]
            rows.append(TrialRow(trial=number, settings=trial, scores={}, failure=failure))
            continue
        means = context.store.read_as(Evaluation, evaluation).means()
        scores = {name: mean for name, mean in means.items() if name in METRICS}
        rows.append(
            TrialRow(
                trial=number, settings=trial, scores=scores, model=model, evaluation=evaluation
            )
        )
    if len(failures) == len(rows):
        raise DataError(
            f"All {len(rows)} trials failed; the first at {failures[0]}",
            remedy="Try other settings: lower learning rates, say.",
        )
    if all("score" not in row.scores for row in rows):
        raise DataError(
            "No trial has a finite score.", remedy="Try other settings: lower learning rates, say."
        )
    return sorted(rows, key=lambda row: -row.scores.get("score", -math.inf))
