"""The gate: whether an evaluated model may become champion, rule by rule."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from boothline.config.promotion import (
    MetricMargins,
    PromotionConfig,
    PromotionRule,
    Statistic,
)

NEEDED = ("dino", "clip_t", "score")
TITLES = {
    "dino": "Subject fidelity (DINO)",
    "clip_i": "Subject fidelity (CLIP-I)",
    "clip_t": "Prompt fidelity (CLIP-T)",
    "div": "Diversity (DIV)",
    "pres": "Likeness of class pictures to the subject (PRES)",
    "score": "The score",
}
_BOUNDS = {"low": "the lower bound", "high": "the upper bound"}


class RuleResult(BaseModel):
    """What one rule of the gate says.

    Attributes:
        name: of the rule.
        passed: whether the model passes.
        value: what was measured; None when there is no single finite number.
        bound: what it was held against; None where there is no number.
        text: value, bound and outcome in one sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    value: float | None = None
    bound: float | None = None
    text: str


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


def judge(evaluation: Mapping[str, Any], promotion: PromotionConfig) -> Verdict:
    """Judge a model by the metadata of its evaluation.

    Args:
        evaluation: metadata of an evaluation manifest: `metrics` and `gains`, each score a number
            or `{mean, low, high}` with the bounds of its confidence interval, and `champion`.
        promotion: the rules; switched off it refuses every model, whatever its scores.
    """
    margins = promotion.margins
    rules = [_subject_rule(evaluation, margins), _prompt_rule(evaluation, margins)]
    if evaluation.get("champion"):
        rules.append(_champion_rule(evaluation, margins))
    rules += [_configured(evaluation, rule) for rule in promotion.rules]
    rules.append(_finite_rule(evaluation))
    if not promotion.enabled:
        rules.append(
            RuleResult(
                name="enabled",
                passed=False,
                text="Promotion is switched off (promotion.enabled is false): refused.",
            )
        )
    return Verdict(rules=tuple(rules))


@dataclass(frozen=True)
class _Score:
    """A mean with the bounds of its confidence interval, NaN where unknown."""

    mean: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            return ""
        return f" (interval {self.low:+.3f} to {self.high:+.3f})"

    def of(self, statistic: Statistic) -> float:
        """Return the mean or a bound."""
        return {"mean": self.mean, "low": self.low, "high": self.high}[statistic]


def _subject_rule(evaluation: Mapping[str, Any], margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, "base", "dino")
    bound = margins.min_subject_gain
    return _result(
        "subject_gain",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=gain.of(margins.statistic) >= bound,
        claim="Subject fidelity (DINO) gains {value} over the base; at least {bound} needed",
    )


def _prompt_rule(evaluation: Mapping[str, Any], margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, "base", "clip_t")
    bound = -margins.max_prompt_loss
    return _result(
        "prompt_loss",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=gain.of(margins.statistic) >= bound,
        claim="Prompt fidelity (CLIP-T) changes {value} against the base; {bound} or more needed",
    )


def _champion_rule(evaluation: Mapping[str, Any], margins: MetricMargins) -> RuleResult:
    gain = _gain(evaluation, "champion", "score")
    bound = margins.min_champion_gain
    return _result(
        "champion_gain",
        gain,
        bound=bound,
        statistic=margins.statistic,
        passed=gain.of(margins.statistic) > bound,
        claim="The score gains {value} over the champion; more than {bound} needed",
    )


def _configured(evaluation: Mapping[str, Any], rule: PromotionRule) -> RuleResult:
    """Return what one rule of `promotion.rules` says."""
    title = TITLES[rule.metric]
    is_floor = rule.at_least is not None
    bound = rule.at_least if rule.at_least is not None else rule.at_most
    name = f"{rule.metric}_{rule.against}_{rule.statistic}_{'floor' if is_floor else 'ceiling'}"
    if rule.against == "champion" and not evaluation.get("champion"):
        text = f"{title}: there is no champion to be held against: passed."
        return RuleResult(name=name, passed=True, bound=bound, text=text)
    if rule.against == "none":
        score = _score_of(evaluation.get("metrics", {}).get("finetuned", {}).get(rule.metric))
        what = "is {value}"
    else:
        score = _gain(evaluation, rule.against, rule.metric)
        what = f"changes {{value}} against the {rule.against}"
    value = score.of(rule.statistic)
    return _result(
        name,
        score,
        bound=float(bound or 0.0),
        statistic=rule.statistic,
        passed=value >= float(bound or 0.0) if is_floor else value <= float(bound or 0.0),
        claim=f"{title} {what}; at {'least' if is_floor else 'most'} {{bound}} needed",
    )


def _finite_rule(evaluation: Mapping[str, Any]) -> RuleResult:
    """Refuse scores that are no finite numbers; null says that one was not measured."""
    sections = {"metrics": evaluation.get("metrics", {}), "gains": evaluation.get("gains", {})}
    scores = dict(_leaves(sections))
    finetuned = sections["metrics"].get("finetuned", {})
    missing = [f"metrics.finetuned.{name}" for name in NEEDED if finetuned.get(name) is None]
    broken = missing + sorted(
        name
        for name, value in scores.items()
        if value is not None and not math.isfinite(_number(value))
    )
    text = f"All {len(scores)} scores are finite numbers: passed."
    if broken:
        text = f"{len(broken)} scores are missing or not finite ({', '.join(broken)}): refused."
    return RuleResult(name="finite_scores", passed=not broken, text=text)


def _result(
    name: str, score: _Score, *, bound: float, statistic: Statistic, passed: bool, claim: str
) -> RuleResult:
    """Put a comparison into words; a score that is missing or not finite never passes."""
    compared = score.of(statistic)
    is_finite = math.isfinite(score.mean) and math.isfinite(compared)
    value = "no finite number"
    if is_finite:
        value = f"{score.mean:+.3f}{score.interval}"
    elif math.isfinite(score.mean):
        value = f"{score.mean:+.3f} (without an interval)"
    part = f" by {_BOUNDS[statistic]}" if statistic in _BOUNDS else ""
    outcome = "passed" if passed and is_finite else "refused"
    return RuleResult(
        name=name,
        passed=passed and is_finite,
        value=compared if is_finite else None,
        bound=bound,
        text=f"{claim.format(value=value, bound=f'{bound:+.3f}')}{part}: {outcome}.",
    )


def _gain(evaluation: Mapping[str, Any], over: str, metric: str) -> _Score:
    return _score_of(evaluation.get("gains", {}).get(over, {}).get(metric))


def _score_of(score: object) -> _Score:
    """Return a score that is a number or `{mean, low, high}`."""
    if not isinstance(score, Mapping):
        return _Score(_number(score), math.nan, math.nan)
    return _Score(*(_number(score.get(part)) for part in ("mean", "low", "high")))


def _number(value: object) -> float:
    """Return a number as float; anything else, as JSON has no NaN, is NaN."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else math.nan  # type: ignore[arg-type]


def _leaves(value: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
