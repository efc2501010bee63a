"""The gate: which scores pass, and that its sentences say why."""

import math
from typing import Any

import pytest

from boothline.config.promotion import MetricMargins
from boothline.registry.gate import judge

MARGINS = MetricMargins(min_subject_gain=0.02, max_prompt_loss=0.10, min_champion_gain=0.0)


def evaluation(
    *,
    subject: object = 0.05,
    prompt: object = -0.05,
    champion: object = None,
    dino: object = 0.8,
    pres: object = 0.3,
) -> dict[str, Any]:
    scores = {"dino": dino, "clip_t": 0.3, "score": 0.5, "pres": pres}
    gains: dict[str, Any] = {"base": {"dino": {"mean": subject}, "clip_t": {"mean": prompt}}}
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
    verdict = judge(facts, MARGINS)
    assert {rule.name for rule in verdict.rules if not rule.passed} == refused_by
    assert verdict.promoted == (not refused_by)
    assert len(verdict.reasons) == len(refused_by)


def test_gate_without_champion_has_no_champion_rule() -> None:
    assert "champion_gain" not in [rule.name for rule in judge(evaluation(), MARGINS).rules]


def test_gate_switched_off_refuses_the_best_model() -> None:
    verdict = judge(evaluation(champion=0.9), MARGINS, enabled=False)
    assert not verdict.promoted
    assert verdict.reasons == ("Promotion is switched off (promotion.enabled is false): refused.",)


def test_gate_sentence_says_value_interval_bound_and_outcome() -> None:
    rules = {rule.name: rule for rule in judge(evaluation(champion=0.04), MARGINS).rules}
    assert rules["champion_gain"].text == (
        "The score gains +0.040 (interval -0.010 to +0.090) over the champion; "
        "more than +0.000 needed: passed."
    )
    assert rules["subject_gain"].text == (
        "Subject fidelity (DINO) gains +0.050 over the base; at least +0.020 needed: passed."
    )
    assert (rules["subject_gain"].value, rules["subject_gain"].bound) == (0.05, 0.02)


def test_gate_sentence_names_a_score_that_is_not_finite() -> None:
    rules = {rule.name: rule for rule in judge(evaluation(dino=math.nan), MARGINS).rules}
    assert "metrics.finetuned.dino" in rules["finite_scores"].text


def test_gate_result_fits_into_a_manifest() -> None:
    rules = judge(evaluation(subject=math.nan), MARGINS).rules
    assert rules[0].value is None
    assert "no finite number" in rules[0].text
