"""The gate: whether an evaluated model may become champion, rule by rule."""

import math
from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict

from boothline.config.promotion import (
    MetricMargins,
    PromotionConfig,
    PromotionRule,
    Statistic,
)
from boothline.measures import METRICS, Score
from boothline.results import BASE, CHAMPION, FINE_TUNED, Evaluation, RuleResult

NEEDED = ("dino", "clip_t", "score")
JUDGES = "judges"
_OTHER_BOUND: Final[Mapping[Statistic, Statistic]] = {"low": "high", "mean": "mean", "high": "low"}
_BOUNDS = {"low": "the lower bound", "high": "the upper bound"}


class Verdict(BaseModel):
    """What the gate decides, with all of its reasons."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[RuleResult, ...]

    @property
    def promoted(self) -> bool:
        """Whether every rule passes."""
        return all(rule.passed for rule in self.rules)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the rules that refuse."""
        return tuple(rule.text for rule in self.rules if not rule.passed)


def judge_each(evaluations: Mapping[str, Evaluation], promotion: PromotionConfig) -> Verdict:
    """Judge a model of several subjects, each of which has to pass.

    Args:
        evaluations: by the subject's name; one subject has none.
        promotion: the rules, which hold for every subject.
    """
    rules = [
        rule.model_copy(update={"name": f"{name}.{rule.name}", "text": f"{name}: {rule.text}"})
        if name
        else rule
        for name, evaluation in evaluations.items()
        for rule in judge(evaluation, promotion).rules
    ]
    return Verdict(rules=tuple(rules))


def judge(evaluation: Evaluation, promotion: PromotionConfig) -> Verdict:
    """Judge a model by its evaluation.

    Args:
        evaluation: scores and gains, with the bounds of their confidence intervals.
        promotion: the rules; switched off it refuses every model, whatever its scores.
    """
    if evaluation.not_judged:
        return Verdict(rules=(_not_judged_rule(evaluation), *_switch(promotion)))
    margins = promotion.margins
    rules = [_subject_rule(evaluation, margins), _prompt_rule(evaluation, margins)]
    if margins.max_prior_loss is not None:
        rules.append(_prior_rule(evaluation, margins.statistic, bound=margins.max_prior_loss))
    if margins.max_diversity_loss is not None:
        rules.append(
            _diversity_rule(evaluation, margins.statistic, bound=margins.max_diversity_loss)
        )
    if evaluation.champion:
        rules.append(_champion_rule(evaluation, margins))
    rules += [_configured(evaluation, rule) for rule in promotion.rules]
    rules.append(_finite_rule(evaluation))
    return Verdict(rules=(*rules, *_switch(promotion)))


def _switch(promotion: PromotionConfig) -> tuple[RuleResult, ...]:
    """Return the rule that refuses everything where promotion is switched off."""
    if promotion.enabled:
        return ()
    text = "Promotion is switched off (promotion.enabled is false): refused."
    return (RuleResult(name="enabled", passed=False, text=text),)


def _not_judged_rule(evaluation: Evaluation) -> RuleResult:
    """Refuse a model whose scores mean nothing."""
    text = f"Not judged: {evaluation.not_judged}: refused."
    return RuleResult(name=JUDGES, passed=False, text=text)


def _subject_rule(evaluation: Evaluation, margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, BASE, "dino")
    bound = margins.min_subject_gain
    return _result(
        "subject_gain",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=_part(gain, margins.statistic) >= bound,
        claim=f"{METRICS['dino'].subject} gains {{value}} over the base; at least {{bound}} needed",
    )


def _prompt_rule(evaluation: Evaluation, margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, BASE, "clip_t")
    bound = -margins.max_prompt_loss
    return _result(
        "prompt_loss",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=_part(gain, margins.statistic) >= bound,
        claim=f"{METRICS['clip_t'].subject} changes {{value}} against the base; a fall of at most "
        f"{margins.max_prompt_loss:.3f} is allowed",
    )


def _prior_rule(evaluation: Evaluation, statistic: Statistic, *, bound: float) -> RuleResult:
    """Compare the rise of PRES, which is a loss: with confidence by its upper bound."""
    title = METRICS["pres"].subject
    ours, base = (_score(evaluation, model, "pres") for model in (FINE_TUNED, BASE))
    if ours is None or base is None:
        return _unmeasured("prior_loss", f"{title} was not measured", bound=bound)
    rise, other = _difference(ours, base), _OTHER_BOUND[statistic]
    return _result(
        "prior_loss",
        rise,
        bound=bound,
        statistic=other,
        passed=_part(rise, other) <= bound,
        claim=f"{title} changes {{value}} against the base; a rise of at most {bound:.3f} is "
        "allowed",
    )


def _diversity_rule(evaluation: Evaluation, statistic: Statistic, *, bound: float) -> RuleResult:
    title = METRICS["div"].subject
    gain = _gain(evaluation, BASE, "div")
    if gain is None:
        reason = f"{title} is measured with several pictures of a prompt alone"
        return _unmeasured("diversity_loss", reason, bound=-bound)
    return _result(
        "diversity_loss",
        gain,
        bound=-bound,
        statistic=statistic,
        passed=_part(gain, statistic) >= -bound,
        claim=f"{title} changes {{value}} against the base; a fall of at most {bound:.3f} is "
        "allowed",
    )


def _unmeasured(name: str, reason: str, *, bound: float) -> RuleResult:
    """Pass a standing rule on what this evaluation does not measure, and say so."""
    return RuleResult(name=name, passed=True, bound=bound, text=f"{reason}: not judged: passed.")


def _difference(ours: Score, theirs: Score) -> Score:
    """Return the difference of two scores that are not paired, with its interval.

    The limits are those of Zou and Donner, "Construction of confidence limits about effect
    measures", Statistics in Medicine 2008: each side adds the squares of the two distances.
    """
    mean = ours.mean - theirs.mean
    down = math.hypot(ours.mean - _part(ours, "low"), _part(theirs, "high") - theirs.mean)
    up = math.hypot(_part(ours, "high") - ours.mean, theirs.mean - _part(theirs, "low"))
    return Score(mean=mean, low=mean - down, high=mean + up)


def _champion_rule(evaluation: Evaluation, margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, CHAMPION, "score")
    bound = margins.min_champion_gain
    needed = "more than {bound} needed" if bound else "it must beat the champion"
    return _result(
        "champion_gain",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=_part(gain, margins.statistic) > bound,
        claim=f"{METRICS['score'].subject} gains {{value}} over the champion; {needed}",
    )


def _configured(evaluation: Evaluation, rule: PromotionRule) -> RuleResult:
    """Return what one rule of `promotion.rules` says."""
    title = METRICS[rule.metric].subject
    is_floor = rule.at_least is not None
    bound = rule.at_least if rule.at_least is not None else rule.at_most
    name = f"{rule.metric}_{rule.against}_{rule.statistic}_{'floor' if is_floor else 'ceiling'}"
    if rule.against == "champion" and not evaluation.champion:
        text = f"{title}: there is no champion to compare with: passed."
        return RuleResult(name=name, passed=True, bound=bound, text=text)
    if rule.against == "none":
        score = _score(evaluation, FINE_TUNED, rule.metric)
        what = "is {value}"
    else:
        score = _gain(evaluation, rule.against, rule.metric)
        what = f"changes {{value}} against the {rule.against}"
    value = _part(score, rule.statistic)
    return _result(
        name,
        score,
        bound=float(bound or 0.0),
        statistic=rule.statistic,
        passed=value >= float(bound or 0.0) if is_floor else value <= float(bound or 0.0),
        claim=f"{title} {what}; at {'least' if is_floor else 'most'} {{bound}} needed",
    )


def _finite_rule(evaluation: Evaluation) -> RuleResult:
    """Refuse scores that are not finite; null says that one was not measured."""
    numbers = dict(evaluation.written())
    finetuned = evaluation.metrics.get(FINE_TUNED, {})
    missing = [f"metrics.{FINE_TUNED}.{name}" for name in NEEDED if finetuned.get(name) is None]
    broken = missing + sorted(
        name for name, value in numbers.items() if value is not None and not math.isfinite(value)
    )
    text = f"All {len(numbers)} scores are finite numbers: passed."
    if broken:
        text = f"{len(broken)} scores are missing or not finite ({', '.join(broken)}): refused."
    return RuleResult(name="finite_scores", passed=not broken, text=text)


def _result(
    name: str,
    score: Score | None,
    *,
    bound: float,
    statistic: Statistic,
    passed: bool,
    claim: str,
) -> RuleResult:
    """Put a comparison into words; a score that is missing or not finite never passes."""
    compared, mean = _part(score, statistic), _part(score, "mean")
    is_finite = math.isfinite(mean) and math.isfinite(compared)
    value = "no finite number"
    if is_finite:
        value = f"{mean:+z.3f}{_interval(score)}"
    elif math.isfinite(mean):
        value = f"{mean:+z.3f} (without an interval)"
    part = f" by {_BOUNDS[statistic]}" if statistic in _BOUNDS else ""
    outcome = "passed" if passed and is_finite else "refused"
    return RuleResult(
        name=name,
        passed=passed and is_finite,
        value=compared if is_finite else None,
        bound=bound,
        text=f"{claim.format(value=value, bound=f'{bound:+z.3f}')}{part}: {outcome}.",
    )


def _score(evaluation: Evaluation, model: str, metric: str) -> Score | None:
    return evaluation.metrics.get(model, {}).get(metric)


def _gain(evaluation: Evaluation, over: str, metric: str) -> Score | None:
    return evaluation.gains.get(over, {}).get(metric)


def _part(score: Score | None, statistic: Statistic) -> float:
    """Return the mean or a bound of a score; NaN where there is none."""
    value = getattr(score, statistic, None)
    return math.nan if value is None else float(value)


def _interval(score: Score | None) -> str:
    """Return the interval of a score in words; empty where a bound is not known."""
    low, high = _part(score, "low"), _part(score, "high")
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f" (95 % interval: {low:+z.3f} to {high:+z.3f})"
