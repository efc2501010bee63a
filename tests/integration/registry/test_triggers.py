"""What makes a model be trained again: each trigger, and that none does so twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from boothline.config import RunConfig
from boothline.registry import ledger
from boothline.registry.promotion import promote, promote_past_gate, rollback
from boothline.registry.triggers import SECONDS_A_DAY, Decision, claim, decide
from boothline.registry.versions import ensure_version
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services
CONFIG = RunConfig()
NAME = CONFIG.model_name


def config_with(**retrain: object) -> RunConfig:
    return RunConfig.model_validate({"retrain": retrain})


def dataset(store: Store, label: str) -> ManifestRef:
    draft = ManifestDraft(kind="dataset", files={"a.png": label.encode()})
    return store.commit(f"steps/validate_data/{label}", draft)


def digest(store: Store, label: str) -> str:
    return store.read(dataset(store, label)).content_digest


def model(store: Store, settings: Settings, label: str, *, pictures: str) -> ManifestRef:
    training = store.commit(
        f"steps/train/{label}",
        ManifestDraft(kind="training", files={}, inputs=(dataset(store, pictures),)),
    )
    ref = store.commit(
        f"steps/publish_checkpoint/{label}",
        ManifestDraft(kind="model", files={}, inputs=(training,), metadata={"label": label}),
    )
    ensure_version(store, settings, model_name=NAME, ref=ref)
    return ref


def crown(
    store: Store,
    settings: Settings,
    ref: ManifestRef,
    *,
    score: float,
    beaten: ManifestRef | None = None,
) -> None:
    label = ref.digest[:8]
    evaluation = store.commit(
        f"steps/evaluate/{label}",
        ManifestDraft(
            kind="evaluation",
            files={},
            inputs=(ref,),
            metadata={"metrics": {"finetuned": {"score": {"mean": score}}}},
        ),
    )
    evidence = store.commit(
        f"steps/promote/{label}",
        ManifestDraft(kind="promotion", files={}, inputs=(ref, evaluation)),
    )
    promote(
        store,
        settings,
        NAME,
        ref=ref,
        beaten=beaten,
        evidence=evidence,
        reason="it is better",
        actor="run r1",
    )


def word(decision: Decision) -> tuple[str, list[tuple[str, bool]]]:
    return decision.decision, [(trigger.name, trigger.fired) for trigger in decision.triggers]


@pytest.mark.proves("F36/data")
def test_new_pictures_fire_and_pictures_of_any_version_do_not(
    store: Store, store_settings: Settings
) -> None:
    fresh = decide(store, CONFIG, dataset=digest(store, "a"))
    model(store, store_settings, "m1", pictures="a")
    model(store, store_settings, "m2", pictures="b")

    assert word(fresh) == ("train", [("new_data", True)])
    assert "no version yet" in fresh.triggers[0].text
    assert word(decide(store, CONFIG, dataset=digest(store, "a")))[0] == "skip"
    assert word(decide(store, CONFIG, dataset=digest(store, "b")))[0] == "skip"
    again = decide(store, CONFIG, dataset=digest(store, "c"))
    assert "none of 2 versions was trained on them" in again.triggers[0].text


def test_claimed_pictures_train_no_other_run_and_the_same_run_again(store: Store) -> None:
    pictures = digest(store, "a")

    first = claim(store, CONFIG, dataset=pictures, run_id="r1")
    other = claim(store, CONFIG, dataset=pictures, run_id="r2")
    resumed = claim(store, CONFIG, dataset=pictures, run_id="r1")

    assert [first.decision, other.decision, resumed.decision] == ["train", "skip", "train"]
    assert other.triggers[0].claimed_by == "r1"
    assert "Run r1 trains or has trained for it." in other.triggers[0].text
    assert decide(store, CONFIG, dataset=pictures).decision == "skip"


def test_looking_claims_nothing(store: Store) -> None:
    pictures = digest(store, "a")
    for _ in range(3):
        assert decide(store, CONFIG, dataset=pictures).decision == "train"
    assert store.list_records("retrain/") == []


@pytest.mark.proves("F36/once")
def test_twenty_runs_at_once_train_once(store: Store, store_settings: Settings) -> None:
    config = config_with(max_champion_age_days=1)
    promote_past_gate(
        store,
        store_settings,
        NAME,
        ref=model(store, store_settings, "m1", pictures="a"),
        reason="r",
        actor="x",
    )
    pictures = digest(store, "b")
    later = ledger.history(store)[-1].time + 2 * SECONDS_A_DAY

    def run(number: int) -> str:
        return claim(store, config, dataset=pictures, run_id=f"r{number}", now=later).decision

    with ThreadPoolExecutor(max_workers=20) as pool:
        outcomes = list(pool.map(run, range(20)))

    assert sorted(outcomes) == ["skip"] * 19 + ["train"]


@pytest.mark.proves("F36/age")
def test_old_champion_fires_once_each_period(store: Store, store_settings: Settings) -> None:
    config = config_with(on_new_data=False, max_champion_age_days=10)
    nobody = decide(store, config, dataset="d")
    crown(store, store_settings, model(store, store_settings, "m1", pictures="a"), score=0.5)
    start = ledger.history(store)[-1].time

    def ask(days: float, run_id: str) -> str:
        now = start + days * SECONDS_A_DAY
        return claim(store, config, dataset="d", run_id=run_id, now=now).decision

    assert nobody.decision == "skip"
    assert "no champion" in nobody.triggers[0].text
    assert [ask(9.9, "r1"), ask(10, "r2"), ask(19.9, "r3"), ask(20, "r4"), ask(25, "r5")] == [
        "skip",
        "train",
        "skip",
        "train",
        "skip",
    ]


def test_low_score_of_the_champion_fires_once_for_its_evaluation(
    store: Store, store_settings: Settings
) -> None:
    config = config_with(on_new_data=False, min_champion_score=0.6)
    first = model(store, store_settings, "m1", pictures="a")
    crown(store, store_settings, first, score=0.5)
    low = claim(store, config, dataset="d", run_id="r1")
    second = model(store, store_settings, "m2", pictures="a")
    crown(store, store_settings, second, score=0.6, beaten=first)
    good = decide(store, config, dataset="d")
    rollback(store, store_settings, NAME, reason="two tails", actor="x")

    assert low.decision == "train"
    assert "score is 0.500; at least 0.600: too low" in low.triggers[0].text
    assert good.decision == "skip"
    back = decide(store, config, dataset="d", run_id="r9")
    assert (back.triggers[0].fired, back.triggers[0].claimed_by) == (True, "r1")


def test_champion_past_the_gate_has_no_score_to_fire_on(
    store: Store, store_settings: Settings
) -> None:
    ref = model(store, store_settings, "m1", pictures="a")
    promote_past_gate(store, store_settings, NAME, ref=ref, reason="r", actor="x")

    found = decide(store, config_with(on_new_data=False, min_champion_score=0.9), dataset="d")

    assert found.triggers[0].text == "No evaluation of a champion is known."
