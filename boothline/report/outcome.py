"""Decides how a run ended, and says it in words."""

import re

from boothline.catalogue import has_gate, steps_of
from boothline.measures import METRICS, Score
from boothline.report.drawing import number, signed
from boothline.report.model import FailureNote, Rule, Tone, Verdict
from boothline.report.sources import RunSources
from boothline.results import (
    BASE,
    CHAMPION,
    REFUSED,
    Choice,
    Decision,
    Evaluation,
    Promotion,
    RuleResult,
)
from boothline.runs import RunStatus, StepRecord

INTERRUPTED_EXIT_CODE = 130
NOT_FINISHED = "It never reported its end: its process was killed, or its machine went away."
NEVER_STARTED = "It left no record, although everything before it is done."
RULE_NAMES = {
    "subject_gain": "Looks like the subject",
    "prompt_loss": "Still follows the prompt",
    "prior_loss": "Still draws the class",
    "diversity_loss": "Still draws different pictures",
    "champion_gain": "Beats the champion",
    "judges": "Judged by encoders that fit the base",
    "finite_scores": "Every score is a number",
    "enabled": "The gate is switched on",
}
_OUTCOME = re.compile(r": (passed|refused)\.$")


def required_steps(pipeline: str) -> tuple[str, ...]:
    """Return the steps without which a run of this pipeline is not done."""
    reached = {"always", "trained", *(() if has_gate(pipeline) else ("promoted",))}
    return tuple(
        step.name
        for step in steps_of(pipeline)
        if step.runs in reached
        and not step.optional
        and not (pipeline == "sweep" and step.in_trials)  # which may fail, one trial or the other
    )


def missing_steps(run: RunSources) -> tuple[str, ...]:
    """Return the required steps that have no record; a retraining may find nothing to do."""
    present = {step.step for step in run.steps}
    triggers = run.read("check_triggers", Decision, "The decision to train")
    if triggers is not None and triggers.decision == "skip":
        return ()
    return tuple(name for name in required_steps(run.record.pipeline) if name not in present)


def final_status(run: RunSources) -> RunStatus:
    """Return the status of a run that no step works on any more.

    A step that is still marked as running was killed before it could say so, and a required step
    without a record could not start: both make the run failed.
    """
    failed = [step for step in run.steps if step.status == "failed"]
    if any(step.failure and step.failure.exit_code == INTERRUPTED_EXIT_CODE for step in failed):
        return "interrupted"
    unfinished = any(step.status == "running" for step in run.steps)
    missing = missing_steps(run)
    if failed or unfinished or missing:
        return "failed"
    promotion = read_promotion(run)
    return "refused" if promotion and promotion.verdict == REFUSED else "done"


def read_promotion(run: RunSources) -> Promotion | None:
    """Return what the gate decided, if it was reached."""
    return run.read("promote", Promotion, "The verdict of the gate")


def read_evaluation(run: RunSources) -> Evaluation | None:
    """Return what the evaluation measured, if it was reached."""
    return run.read("evaluate", Evaluation, "The evaluation")


def verdict_of(
    run: RunSources,
    status: RunStatus,
    *,
    promotion: Promotion | None,
    evaluation: Evaluation | None,
) -> Verdict:
    """Return the outcome in words: what happened, why, and what to do next."""
    rules = tuple(rule_in_words(rule) for rule in promotion.rules) if promotion else ()
    name = (promotion.model_name if promotion else "") or (
        run.config.model_name if run.config else ""
    )
    if status in ("failed", "interrupted"):
        return _stopped(run, status, rules)
    if status == "running":
        done = sum(step.status == "done" for step in run.steps)
        return Verdict(
            tone="busy",
            word="Running",
            title=f"{run.record.run_id} is still running",
            sentences=(
                f"{done} of {len(run.steps)} started steps are done; this page shows them.",
            ),
            rules=rules,
        )
    sentences = _gains_in_words(evaluation)
    if promotion is None:
        if (choice := run.read("choose_model", Choice, "The choice of the model")) is not None:
            return Verdict(
                tone="plain",
                word="Done",
                title=f"{name} made its pictures",
                sentences=(f"Version {choice.version} was served, as {choice.selector}.",),
            )
        sentences = ("This run has no gate, so no model was promoted.", *sentences)
        return Verdict(tone="plain", word="Done", title=f"{name} is trained", sentences=sentences)
    if promotion.promoted:
        return Verdict(
            tone="good",
            word="Promoted",
            title=f"{name} has a new champion",
            sentences=(_predecessor(promotion), *sentences),
            rules=rules,
        )
    title = "The champion stays" if promotion.champion_before else "No model was promoted"
    return Verdict(
        tone="held",
        word="Not judged" if _is_unjudged(rules) else "Refused",
        title=title,
        sentences=(*_refusal(promotion), *sentences),
        rules=rules,
    )


def _is_unjudged(rules: tuple[Rule, ...]) -> bool:
    """Return whether the gate could not judge the model."""
    return any(rule.name.endswith(RULE_NAMES["judges"]) for rule in rules)


def _refusal(promotion: Promotion) -> tuple[str, ...]:
    """Return why the gate refused: how many rules are broken, and the first of them."""
    broken = [_sentence(rule) for rule in promotion.rules if not rule.passed]
    return (
        f"The new model breaks {len(broken)} of the {len(promotion.rules)} rules of the gate.",
        *broken[:2],
    )


def _predecessor(promotion: Promotion) -> str:
    """Return the sentence on what the new champion replaces."""
    if promotion.champion_before:
        return "It passed every rule of the gate and takes the place of the former champion."
    return "It passed every rule of the gate and is the first champion of its name."


def _stopped(run: RunSources, status: RunStatus, rules: tuple[Rule, ...]) -> Verdict:
    """Return the verdict of a run that a step stopped."""
    notes = tuple(
        failure_note(step, run.record.run_id) for step in run.steps if step.status != "done"
    )
    missing = missing_steps(run)
    if not notes and missing:
        notes = (
            FailureNote(
                step=missing[0],
                kind="",
                message=NEVER_STARTED,
                remedy="Look at the log of the pipeline: `boothline logs`.",
                resume_command=resume_command(run.record.run_id),
            ),
        )
    first = notes[0].step if notes else "unknown"
    done = sum(step.status == "done" for step in run.steps)
    kept = (
        f"{done} finished {'step is' if done == 1 else 'steps are'} kept; "
        "resuming continues from there."
    )
    tone: Tone = "bad" if status == "failed" else "held"
    word = "Failed" if status == "failed" else "Interrupted"
    verb = "failed" if status == "failed" else "was interrupted"
    return Verdict(
        tone=tone,
        word=word,
        title=f"Step {first} {verb}",
        sentences=(kept,),
        rules=rules,
        failures=notes,
    )


def resume_command(run_id: str) -> str:
    """Return the command that continues a run."""
    return f"boothline resume {run_id}"


def failure_note(step: StepRecord, run_id: str) -> FailureNote:
    """Return what is known about a step that did not finish."""
    failure = step.failure
    return FailureNote(
        step=step.label,
        kind=failure.type if failure else "",
        message=failure.message if failure else NOT_FINISHED,
        remedy=failure.remedy if failure else "",
        resume_command=resume_command(run_id),
    )


def rule_in_words(rule: RuleResult) -> Rule:
    """Return a rule with a name and a sentence for people; the mark next to it says the outcome."""
    subject, _, key = rule.name.rpartition(".")
    name = RULE_NAMES.get(key, key.replace("_", " ").capitalize())
    name = f"{subject}: {name}" if subject else name
    text = _sentence(rule).removeprefix(f"{subject}: ")  # the name has it already
    return Rule(name=name, passed=rule.passed, text=text)


def _sentence(rule: RuleResult) -> str:
    """Return what a rule says without the outcome, its negative numbers with a true minus sign."""
    text = _OUTCOME.sub(".", rule.text)
    if not text and rule.value is not None and rule.bound is not None:
        text = f"{signed(rule.value)} measured; the bound is {signed(rule.bound)}."
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)


def _gains_in_words(evaluation: Evaluation | None) -> tuple[str, ...]:
    """Return one sentence on what changed against the base, and one against the champion."""
    if evaluation is None:
        return ()
    sentences = []
    for opponent, name in ((CHAMPION, "the champion"), (BASE, "the base model")):
        gains = evaluation.gained(opponent)
        parts = [
            f"{METRICS[key].label.lower()} {_gain_in_words(gains[key])}"
            for key in ("dino", "clip_t")
            if key in gains
        ]
        if parts:
            sentences.append(f"Against {name}, {' and '.join(parts)}.")
    return tuple(sentences)


def _gain_in_words(gain: Score) -> str:
    """Return a gain with its interval: `rises by 0.271 (+0.240 to +0.308)`."""
    verb = "rises" if gain.mean >= 0 else "falls"
    text = f"{verb} by {number(abs(gain.mean))}"
    if gain.low is None or gain.high is None:
        return text
    return f"{text} ({signed(gain.low)} to {signed(gain.high)})"
