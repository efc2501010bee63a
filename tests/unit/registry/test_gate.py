"""The gate: which scores pass, and that its sentences say why."""

import math
from typing import Any

import pytest
from pydantic import ValidationError

from boothline.config import RunConfig
from boothline.config.loading import resolve
from boothline.config.promotion import MetricMargins, PromotionConfig
from boothline.errors import ConfigError
from boothline.registry import gate
from boothline.registry.gate import Verdict
from boothline.results import Evaluation

GATE = PromotionConfig(
    margins=MetricMargins(
        min_subject_gain=0.02, max_prompt_loss=0.10, min_champion_gain=0.0, statistic="mean"
    )
)


def judge(facts: dict[str, Any], promotion: PromotionConfig) -> Verdict:
    """Judge by what the manifest of an evaluation says."""
    return gate.judge(Evaluation.model_validate(facts), promotion)


def score(value: object) -> object:
    return value if isinstance(value, dict) else {"mean": value}


def evaluation(
    *,
    subject: object = 0.05,
    prompt: object = -0.05,
    champion: object = None,
    dino: object = 0.8,
    pres: object = 0.3,
) -> dict[str, Any]:
    scores = {"dino": dino, "clip_t": 0.3, "score": 0.5, "pres": pres}
    gains: dict[str, Any] = {"base": {"dino": score(subject), "clip_t": score(prompt)}}
    if champion is not None:
        gains["champion"] = {"score": {"mean": champion, "low": -0.01, "high": 0.09}}
    return {
        "metrics": {"finetuned": {name: {"mean": value} for name, value in scores.items()}},
        "gains": gains,
        "champion": "" if champion is None else f"steps/publish_checkpoint/k@sha256:{'0' * 64}",
    }


@pytest.mark.parametrize(
    ("facts", "refused_by"),
    [
        (evaluation(), set()),
        (evaluation(subject=0.02), set()),
        (evaluation(subject=0.0199), {"subject_gain"}),
        (evaluation(subject=-0.3), {"subject_gain"}),
        (evaluation(prompt=-0.10), set()),
        (evaluation(prompt=-0.101), {"prompt_loss"}),
        (evaluation(prompt=0.2), set()),
        (evaluation(champion=0.001), set()),
        (evaluation(champion=0.0), {"champion_gain"}),
        (evaluation(champion=-0.2, subject=0.0), {"champion_gain", "subject_gain"}),
        (evaluation(subject=math.nan), {"subject_gain", "finite_scores"}),
        (evaluation(subject=math.inf), {"subject_gain", "finite_scores"}),
        (evaluation(subject="nan"), {"subject_gain", "finite_scores"}),
        (evaluation(subject=True), {"subject_gain", "finite_scores"}),
        (evaluation(subject=None), {"subject_gain"}),
        (evaluation(champion=math.nan), {"champion_gain", "finite_scores"}),
        (evaluation(dino=math.nan), {"finite_scores"}),
        (evaluation(pres=None), set()),
        ({}, {"subject_gain", "prompt_loss", "finite_scores"}),
        ({**evaluation(), "champion": "some/model"}, {"champion_gain"}),
    ],
)
def test_gate_refuses_by_exactly_the_rules_that_fail(
    facts: dict[str, Any], refused_by: set[str]
) -> None:
    verdict = judge(facts, GATE)
    assert {rule.name for rule in verdict.rules if not rule.passed} == refused_by
    assert verdict.promoted == (not refused_by)
    assert len(verdict.reasons) == len(refused_by)


def test_gate_without_champion_has_no_champion_rule() -> None:
    assert "champion_gain" not in [rule.name for rule in judge(evaluation(), GATE).rules]


def test_gate_switched_off_refuses_the_best_model() -> None:
    verdict = judge(evaluation(champion=0.9), GATE.model_copy(update={"enabled": False}))
    assert not verdict.promoted
    assert verdict.reasons == ("Promotion is switched off (promotion.enabled is false): refused.",)


def test_gate_sentence_says_value_interval_bound_and_outcome() -> None:
    rules = {rule.name: rule for rule in judge(evaluation(champion=0.04), GATE).rules}
    assert rules["champion_gain"].text == (
        "The score gains +0.040 (95 % interval: -0.010 to +0.090) over the champion; "
        "it must beat the champion: passed."
    )
    assert rules["subject_gain"].text == (
        "Subject fidelity (DINO) gains +0.050 over the base; at least +0.020 needed: passed."
    )
    assert (rules["subject_gain"].value, rules["subject_gain"].bound) == (0.05, 0.02)


def test_gate_sentence_names_a_score_that_is_not_finite() -> None:
    rules = {rule.name: rule for rule in judge(evaluation(dino=math.nan), GATE).rules}
    assert "metrics.finetuned.dino" in rules["finite_scores"].text


def test_gate_result_fits_into_a_manifest() -> None:
    rules = judge(evaluation(subject=math.nan), GATE).rules
    assert rules[0].value is None
    assert "no finite number" in rules[0].text


def gate_with(*rules: dict[str, Any], **margins: object) -> PromotionConfig:
    margins = {"statistic": "mean", **margins}
    return PromotionConfig.model_validate({"margins": margins, "rules": rules})


def interval(low: float, mean: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}


def judged(facts: dict[str, Any], rule: dict[str, Any]) -> tuple[bool, str]:
    """Judge by one configured rule and return its outcome and sentence."""
    result = judge(facts, gate_with(rule)).rules[-2]
    return result.passed, result.text


@pytest.mark.proves("F45/bounds")
def test_gate_margin_by_the_lower_bound_refuses_what_the_mean_lets_pass() -> None:
    facts = evaluation(subject=interval(-0.01, 0.05, 0.11), prompt=interval(0.0, 0.01, 0.02))
    by_mean = judge(facts, gate_with())
    by_low = judge(facts, gate_with(statistic="low"))
    assert by_mean.promoted
    assert by_low.reasons == (
        "Subject fidelity (DINO) gains +0.050 (95 % interval: -0.010 to +0.110) over the base; "
        "at least +0.020 needed by the lower bound: refused.",
    )
    assert by_low.rules[0].value == -0.01


def test_gate_margin_by_a_bound_refuses_a_score_without_an_interval() -> None:
    refused = judge(evaluation(), gate_with(statistic="low"))
    assert [rule.name for rule in refused.rules if not rule.passed] == [
        "subject_gain",
        "prompt_loss",
    ]
    assert "+0.050 (without an interval)" in refused.rules[0].text


@pytest.mark.parametrize(
    ("low", "passes"), [(-0.02, True), (-0.021, False), (0.1, True), (math.nan, False)]
)
def test_gate_rule_no_worse_than_the_champion_with_confidence(low: float, passes: bool) -> None:
    facts = evaluation(champion=0.01)
    facts["gains"]["champion"]["clip_t"] = interval(low, 0.15, 0.2)
    rule = {"metric": "clip_t", "against": "champion", "statistic": "low", "at_least": -0.02}
    assert judged(facts, rule)[0] is passes


def test_gate_rule_against_the_champion_passes_while_there_is_none() -> None:
    passed, text = judged(evaluation(), {"metric": "clip_t", "at_least": 0.5})
    assert passed
    assert "there is no champion" in text


def test_gate_rule_on_an_absolute_score_says_value_and_bound() -> None:
    floor = judged(evaluation(), {"metric": "dino", "against": "none", "at_least": 0.85})
    ceiling = judged(evaluation(), {"metric": "pres", "against": "none", "at_most": 0.4})
    assert floor == (
        False,
        "Subject fidelity (DINO) is +0.800; at least +0.850 needed: refused.",
    )
    assert ceiling == (
        True,
        "Likeness of class pictures to the subject (PRES) is +0.300; at most +0.400 needed: "
        "passed.",
    )


def test_gate_rule_on_a_score_that_was_not_measured_refuses() -> None:
    passed, text = judged(evaluation(), {"metric": "div", "against": "base", "at_least": -1})
    assert not passed
    assert "no finite number" in text


def test_gate_with_a_failing_rule_is_not_promoted_although_the_margins_pass() -> None:
    verdict = judge(
        evaluation(), gate_with({"metric": "score", "against": "none", "at_least": 0.9})
    )
    assert [rule.name for rule in verdict.rules if not rule.passed] == ["score_none_mean_floor"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{metric: dino}", "either at_least or at_most"),
        ("{metric: dino, at_least: 0, at_most: 1}", "either at_least or at_most"),
        ("{metric: pres, against: base, at_most: 0}", "against: none"),
        ("{metric: beauty, at_least: 0}", "promotion.rules.0.metric"),
    ],
)
def test_gate_rule_that_means_nothing_is_a_configuration_error(rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve([], [f"promotion.rules=[{rule}]"])


def test_gate_margins_written_before_there_were_rules_still_hold() -> None:
    config = RunConfig.model_validate({"promotion": {"margins": {"min_subject_gain": 0.1}}})
    facts = evaluation(subject=interval(0.04, 0.05, 0.06), prompt=interval(-0.06, -0.05, -0.04))
    verdict = judge(facts, config.promotion)
    assert [rule.name for rule in verdict.rules if not rule.passed] == ["subject_gain"]


@pytest.mark.parametrize(
    ("bound", "measured", "passes"),
    [
        ({"at_least": 0.0}, 0.0, True),
        ({"at_least": 0.0}, -0.001, False),
        ({"at_least": 0.0}, 0.5, True),
        ({"at_least": 0.7}, 0.7, True),
        ({"at_most": 0.0}, 0.0, True),
        ({"at_most": 0.0}, 0.5, False),
        ({"at_most": 0.0}, -0.5, True),
        ({"at_most": 0.4}, 0.4, True),
        ({"at_most": 0.4}, 0.401, False),
    ],
)
def test_gate_rule_holds_at_its_bound_and_not_beyond(
    bound: dict[str, float], measured: float, passes: bool
) -> None:
    rule = {"metric": "dino", "against": "none", **bound}
    (number,) = bound.values()
    passed, text = judged(evaluation(dino=measured), rule)
    assert passed is passes
    assert f"{number:+.3f} needed" in text
    result = judge(evaluation(dino=measured), gate_with(rule)).rules[-2]
    assert (result.value, result.bound) == (measured, number)


@pytest.mark.parametrize(
    ("low", "high"), [(0.01, math.nan), (math.nan, 0.09), (math.nan, math.inf)]
)
def test_gate_sentence_names_an_interval_only_with_both_bounds(low: float, high: float) -> None:
    facts = evaluation(subject={"mean": 0.05, "low": low, "high": high})
    assert "interval" not in judge(facts, GATE).rules[0].text


def test_gate_sentence_gives_a_change_that_rounds_to_nothing_no_sign_of_a_fall() -> None:
    facts = evaluation(subject={"mean": -0.0004, "low": -0.0001, "high": 0.0})
    assert "+0.000 (95 % interval: +0.000 to +0.000)" in judge(facts, GATE).rules[0].text


def test_gate_verdict_cannot_be_changed_after_it_was_given() -> None:
    verdict = judge(evaluation(subject=0.0), GATE)
    with pytest.raises(ValidationError, match="frozen"):
        verdict.rules = ()
    with pytest.raises(ValidationError, match="frozen"):
        verdict.rules[0].passed = True


def rule_named(name: str, facts: dict[str, Any], **margins: object) -> Any:
    """Return what one standing rule says, by the default statistic unless another is named."""
    promotion = PromotionConfig.model_validate({"margins": margins})
    return {rule.name: rule for rule in judge(facts, promotion).rules}[name]


def with_pres(ours: object, base: object) -> dict[str, Any]:
    facts = evaluation()
    facts["metrics"]["finetuned"]["pres"] = score(ours)
    facts["metrics"]["base"] = {"pres": score(base)}
    return facts


@pytest.mark.proves("F51/rules")
def test_gate_prior_rule_compares_the_upper_bound_of_the_rise() -> None:
    # The distances of the bounds are 0.03 and 0.04, together 0.05: a rise of 0.30 to 0.40.
    facts = with_pres(interval(0.62, 0.65, 0.68), interval(0.26, 0.30, 0.34))
    found = rule_named("prior_loss", facts)
    assert (found.passed, found.value, found.bound) == (False, pytest.approx(0.40), 0.35)
    assert found.text == (
        "Likeness of class pictures to the subject (PRES) changes +0.350 (95 % interval: +0.300 to "
        "+0.400) against the base; a rise of at most 0.350 is allowed by the upper bound: refused."
    )
    assert rule_named("prior_loss", facts, max_prior_loss=0.4001).passed
    by_mean = rule_named("prior_loss", facts, max_prior_loss=0.3501, statistic="mean")
    assert (by_mean.passed, by_mean.value) == (True, pytest.approx(0.35))
    by_high = rule_named("prior_loss", facts, max_prior_loss=0.31, statistic="high")
    assert (by_high.passed, by_high.value) == (True, pytest.approx(0.30))


def test_gate_difference_of_scores_adds_the_squares_of_each_sides_distances() -> None:
    facts = with_pres(interval(0.57, 0.60, 0.68), interval(0.24, 0.30, 0.34))
    rise = math.hypot(0.08, 0.06), math.hypot(0.03, 0.04)
    found = rule_named("prior_loss", facts)
    assert found.value == pytest.approx(0.30 + rise[0])
    found = rule_named("prior_loss", facts, statistic="high")
    assert found.value == pytest.approx(0.30 - rise[1])


def test_gate_difference_of_scores_holds_for_wide_intervals() -> None:
    # Bounds so far away that the rest of a division could not stand for a distance.
    facts = with_pres(interval(0.1, 0.3, 0.9), interval(0.1, 0.25, 0.8))
    assert rule_named("prior_loss", facts).value == pytest.approx(0.05 + math.hypot(0.6, 0.15))
    found = rule_named("prior_loss", facts, statistic="high")
    assert found.value == pytest.approx(0.05 - math.hypot(0.2, 0.55))


@pytest.mark.parametrize(("bound", "passes"), [(0.25, True), (0.2499, False)])
def test_gate_prior_rule_passes_a_rise_of_just_its_bound(bound: float, passes: bool) -> None:
    facts = with_pres(0.5, 0.25)
    found = rule_named("prior_loss", facts, max_prior_loss=bound, statistic="mean")
    assert (found.passed, found.value) == (passes, 0.25)


@pytest.mark.proves("F51/rules")
@pytest.mark.parametrize(("low", "passes"), [(-0.45, True), (-0.451, False), (0.1, True)])
def test_gate_diversity_rule_compares_the_lower_bound_of_the_gain(low: float, passes: bool) -> None:
    facts = evaluation()
    facts["gains"]["base"]["div"] = interval(low, 0.2, 0.3)
    found = rule_named("diversity_loss", facts)
    assert (found.passed, found.value, found.bound) == (passes, low, -0.45)
    assert "a fall of at most 0.450 is allowed by the lower bound" in found.text


@pytest.mark.parametrize(("name", "bound"), [("prior_loss", 0.35), ("diversity_loss", -0.45)])
def test_gate_rule_on_what_is_not_measured_passes_and_says_so(name: str, bound: float) -> None:
    found = rule_named(name, evaluation())
    assert (found.passed, found.bound) == (True, bound)
    assert found.text.endswith("not judged: passed.")


@pytest.mark.parametrize(
    ("name", "margin"),
    [("prior_loss", "max_prior_loss"), ("diversity_loss", "max_diversity_loss")],
)
def test_gate_rule_that_is_unset_is_not_there(name: str, margin: str) -> None:
    promotion = PromotionConfig.model_validate({"margins": {margin: None}})
    assert name not in [rule.name for rule in judge(evaluation(), promotion).rules]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_gate_prior_rule_refuses_a_score_that_is_not_finite(broken: float) -> None:
    facts = with_pres(broken, interval(0.2, 0.3, 0.4))
    assert not rule_named("prior_loss", facts).passed


@pytest.mark.proves("F51/judges")
def test_gate_of_an_evaluation_by_encoders_that_do_not_fit_says_not_judged() -> None:
    facts = {**evaluation(subject=0.9), "not_judged": "evaluation.dino_model x cannot judge those"}
    verdict = judge(facts, GATE)
    assert not verdict.promoted
    assert verdict.reasons == ("Not judged: evaluation.dino_model x cannot judge those: refused.",)
    assert [rule.name for rule in verdict.rules] == ["judges"]


@pytest.mark.proves("F51/bound")
def test_gate_by_default_compares_the_lower_bound() -> None:
    facts = evaluation(subject=interval(0.01, 0.3, 0.6), prompt=interval(-0.05, 0.0, 0.05))
    default = judge(facts, PromotionConfig())
    assert [rule.name for rule in default.rules if not rule.passed] == ["subject_gain"]
    assert judge(facts, GATE).promoted


@pytest.mark.proves("F27/gate")
def test_model_of_several_subjects_passes_when_each_does() -> None:
    good, bad = (Evaluation.model_validate(evaluation(subject=gain)) for gain in (0.05, 0.01))
    assert gate.judge_each({"bear": good, "robot": good}, GATE).promoted
    verdict = gate.judge_each({"bear": good, "robot": bad}, GATE)
    assert not verdict.promoted
    assert [rule.name for rule in verdict.rules if not rule.passed] == ["robot.subject_gain"]
    assert verdict.reasons[0].startswith("robot: Subject fidelity (DINO) gains +0.010")


def test_model_of_one_subject_is_judged_as_it_is() -> None:
    one = Evaluation.model_validate(evaluation())
    assert gate.judge_each({"": one}, GATE) == gate.judge(one, GATE)
