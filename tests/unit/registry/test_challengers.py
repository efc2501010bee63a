"""Who is challenger: never the champion, a refused version or the loser of a sweep."""

from pathlib import Path

import pytest

from boothline.errors import ModelNotFoundError
from boothline.registry.promotion import promote_past_gate, rollback
from boothline.registry.versions import ensure_version, resolve
from boothline.results import Leaderboard, Model, Promotion, RuleResult, TrialRow
from boothline.runs import StepRecord, write_step
from boothline.settings import Settings
from boothline.store import ManifestRef, Store
from boothline.store.memory import memory_store

NAME = "boothline-fish"
SWEEP = "20260101-000000-abcd"
OFF = RuleResult(name="enabled", passed=False, text="Promotion is switched off.")
WEAK = RuleResult(name="subject_gain", passed=False, text="It gains nothing.")
FINE = RuleResult(name="subject_gain", passed=True, text="It gains.")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return memory_store(tmp_path / "blobs")


def published(store: Store, label: str, *, run_id: str = "20260101-000000-0000") -> ManifestRef:
    """Register a model that a run published."""
    model = Model(model_name=NAME, state=label)
    ref = store.commit(f"steps/publish_checkpoint/{label}", model.draft())
    record = StepRecord(step="publish_checkpoint", status="done", manifest=str(ref), started_at=1.0)
    write_step(store, run_id, record)
    ensure_version(store, Settings(), model_name=NAME, ref=ref)
    return ref


def judged(store: Store, ref: ManifestRef, *rules: RuleResult) -> None:
    """Commit what a gate says of a model."""
    passed = all(rule.passed for rule in rules)
    verdict = Promotion(
        verdict="promoted" if passed else "refused", rules=rules, model=str(ref), model_name=NAME
    )
    store.commit(f"steps/promote/{ref.digest[:8]}{rules[0].name}", verdict.draft(inputs=(ref,)))


def challenger(store: Store) -> int:
    """Return the number of the challenger; 0: there is none."""
    try:
        return resolve(store, NAME, "challenger").version
    except ModelNotFoundError:
        return 0


def test_challenger_is_the_newest_that_is_still_to_be_judged(store: Store) -> None:
    published(store, "a")
    published(store, "b")
    assert challenger(store) == 2


def test_challenger_is_never_a_refused_version(store: Store) -> None:
    published(store, "a")
    judged(store, published(store, "b"), WEAK)
    assert challenger(store) == 1


def test_challenger_may_be_a_version_that_passed_and_waits(store: Store) -> None:
    judged(store, published(store, "a"), FINE)
    judged(store, published(store, "b"), FINE, WEAK)
    assert challenger(store) == 1


def test_verdict_of_a_gate_that_is_switched_off_refuses_nobody(store: Store) -> None:
    judged(store, published(store, "a"), OFF)
    assert challenger(store) == 1


def test_challenger_of_a_sweep_is_its_winner_until_the_gate_refuses_it(store: Store) -> None:
    published(store, "plain")
    winner, loser = (published(store, f"t{n}", run_id=f"{SWEEP}-t0{n}") for n in range(2))
    assert challenger(store) == 1  # trials are compared first
    rows = tuple(TrialRow(trial=n, model=str(ref)) for n, ref in enumerate((winner, loser)))
    board = Leaderboard(model_name=NAME, best=rows[0], trials=rows)
    store.commit("steps/compare_trials/a", board.draft(inputs=(winner, loser)))
    assert challenger(store) == 2

    judged(store, winner, WEAK)

    assert challenger(store) == 1


def test_trial_that_a_run_of_its_own_publishes_again_may_challenge(store: Store) -> None:
    published(store, "t", run_id=f"{SWEEP}-t00")
    assert challenger(store) == 0
    published(store, "t")
    assert challenger(store) == 1


def test_champion_that_was_rolled_back_is_no_challenger_again(store: Store) -> None:
    for label in "ab":
        ref = published(store, label)
        promote_past_gate(store, Settings(), NAME, ref=ref, reason="r", actor="x")
    assert challenger(store) == 0

    rollback(store, Settings(), NAME, reason="two tails", actor="x")

    assert resolve(store, NAME, "champion").version == 1
    assert challenger(store) == 0


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("champion", "no champion yet: the gate has let no version through"),
        ("challenger", "no challenger: no version may still become champion"),
        ("3", "no version '3'"),
    ],
)
def test_model_that_no_gate_let_through_is_drawn_with_by_number(
    store: Store, selector: str, said: str
) -> None:
    for label in ("a", "b"):
        judged(store, published(store, label), WEAK)
    with pytest.raises(ModelNotFoundError, match=said) as caught:
        resolve(store, NAME, selector)
    assert caught.value.remedy.startswith("Its versions are: 1, 2.")
    assert (f"such as {NAME}@2" in caught.value.remedy) == (selector == "champion")
