import pytest

from boothline.catalogue import steps_of
from boothline.config import RunConfig
from boothline.report.outcome import final_status, rule_in_words, verdict_of
from boothline.report.sources import RunSources
from boothline.results import Evaluation, Promotion, RuleResult
from boothline.runs import Failure, RunRecord, StepRecord


def step(name: str, status: str = "done", *, failure: Failure | None = None) -> StepRecord:
    return StepRecord(step=name, status=status, started_at=1.0, failure=failure)


def sources(*steps: StepRecord, pipeline: str = "dreambooth") -> RunSources:
    record = RunRecord(run_id="r1", pipeline=pipeline, status="running", config={}, created_at=1.0)
    return RunSources(store=None, record=record, config=RunConfig(), steps=list(steps))


def all_done() -> list[StepRecord]:
    return [step(one.name) for one in steps_of("dreambooth") if one.runs != "end"]


def verdict(run: RunSources, status: str, **facts):
    return verdict_of(run, status, promotion=facts.get("promotion"), evaluation=facts.get("scores"))


def test_final_status_of_finished_steps_is_done() -> None:
    assert final_status(sources(*all_done())) == "done"


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(1, "failed"), (3, "failed"), (130, "interrupted")]
)
def test_final_status_of_a_failed_step_follows_its_exit_code(exit_code, expected) -> None:
    failure = Failure(type="DataError", message="bad", exit_code=exit_code)

    assert final_status(sources(step("validate_data", "failed", failure=failure))) == expected


def test_final_status_of_a_killed_step_is_failed() -> None:
    steps = [*all_done()[:-1], step("batch_infer", "running")]

    assert final_status(sources(*steps)) == "failed"


def test_final_status_without_a_required_step_is_failed() -> None:
    assert final_status(sources(*all_done()[:3])) == "failed"


def test_final_status_of_an_unknown_pipeline_requires_no_step() -> None:
    assert final_status(sources(step("validate_data"), pipeline="other")) == "done"


def test_verdict_of_a_failure_names_step_message_remedy_and_command() -> None:
    failure = Failure(type="NonFiniteLossError", message="NaN at step 41.", remedy="Lower it.")

    found = verdict(sources(step("train", "failed", failure=failure)), "failed")

    assert found.tone == "bad"
    assert found.title == "Step train failed"
    (note,) = found.failures
    assert (note.message, note.remedy) == ("NaN at step 41.", "Lower it.")
    assert note.resume_command == "boothline resume r1"


def test_verdict_of_a_missing_step_names_it() -> None:
    found = verdict(sources(*all_done()[:3]), "failed")

    assert found.title == "Step publish_checkpoint failed"


def promotion(outcome: str, *, champion: str = "") -> Promotion:
    rules = (
        RuleResult(name="subject_gain", passed=True, text="It gains."),
        RuleResult(name="prompt_loss", passed=outcome == "promoted", text="It loses."),
    )
    return Promotion(
        verdict=outcome, rules=rules, model_name="boothline-bear", champion_before=champion
    )


def test_verdict_of_a_promotion_says_what_it_replaces() -> None:
    first = verdict(sources(*all_done()), "done", promotion=promotion("promoted"))
    next_one = verdict(
        sources(*all_done()), "done", promotion=promotion("promoted", champion="m@x")
    )

    assert first.word == next_one.word == "Promoted"
    assert "first champion" in first.sentences[0]
    assert "former champion" in next_one.sentences[0]


def test_verdict_of_a_refusal_says_the_broken_rules() -> None:
    found = verdict(sources(*all_done()), "refused", promotion=promotion("refused", champion="m@x"))

    assert found.title == "The champion stays"
    assert "breaks 1 of the 2 rules" in found.sentences[0]
    assert found.sentences[1] == "It loses."


def test_verdict_of_a_model_that_no_encoder_could_judge_says_so() -> None:
    rule = RuleResult(name="judges", passed=False, text="Not judged: it cannot see: refused.")
    gate = promotion("refused").model_copy(update={"rules": (rule,)})

    found = verdict(sources(*all_done()), "refused", promotion=gate)

    assert found.word == "Not judged"
    assert found.rules[0].name == "Judged by encoders that fit the base"
    assert "Not judged: it cannot see." in found.sentences
    plain = verdict(sources(*all_done()), "refused", promotion=promotion("refused"))
    assert plain.word == "Refused"


def test_verdict_says_gains_with_intervals() -> None:
    scores = Evaluation.model_validate(
        {"gains": {"base": {"dino": {"mean": 0.25, "low": 0.2, "high": 0.3}, "clip_t": -0.01}}}
    )

    found = verdict(sources(*all_done()), "done", promotion=promotion("promoted"), scores=scores)

    assert found.sentences[1] == (
        "Against the base model, subject fidelity rises by 0.250 (+0.200 to +0.300)"
        " and prompt fidelity falls by 0.010."
    )


def test_rule_in_words_leaves_the_outcome_to_the_mark() -> None:
    rule = rule_in_words(RuleResult(name="prompt_loss", passed=False, text="It is -0.2: refused."))

    assert rule.text == "It is \N{MINUS SIGN}0.2."


def test_rule_in_words_without_text_states_value_and_bound() -> None:
    rule = rule_in_words(RuleResult(name="new_rule", passed=True, value=0.5, bound=0.1))

    assert rule.name == "New rule"
    assert rule.text == "+0.500 measured; the bound is +0.100."


def test_evaluation_leaves_out_scores_that_are_not_finite() -> None:
    record = Evaluation.model_validate(
        {"metrics": {"finetuned": {"dino": float("nan"), "clip_t": 0.3, "score": None}}}
    )

    assert set(record.scores()) == {"clip_t"}


def test_rule_in_words_of_one_of_several_subjects_names_it_once() -> None:
    text = "bear: Subject fidelity gains -0.100 over the base: refused."
    rule = rule_in_words(RuleResult(name="bear.subject_gain", passed=False, text=text))

    assert rule.name == "bear: Looks like the subject"
    assert rule.text == "Subject fidelity gains \N{MINUS SIGN}0.100 over the base."


def test_verdict_of_a_refusal_of_several_subjects_says_whose_rules_are_broken() -> None:
    rules = (RuleResult(name="bear.prompt_loss", passed=False, text="bear: It loses."),)
    refused = Promotion(verdict="refused", rules=rules, model_name="boothline-bears")

    found = verdict(sources(*all_done()), "refused", promotion=refused)

    assert found.sentences[1] == "bear: It loses."
