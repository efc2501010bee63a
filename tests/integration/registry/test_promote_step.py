"""The step promote on a real store: verdict, ledger, and what a kill in between leaves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from boothline.components.promote import step
from boothline.config import RunConfig
from boothline.errors import ConflictError, DataError
from boothline.progress import Progress
from boothline.registry import ledger
from boothline.settings import Settings
from boothline.steps import StepContext
from boothline.store import ManifestDraft, ManifestRef, Store
from boothline.tracking import MemoryTracker

pytestmark = pytest.mark.services

# The scores here have no intervals.
CONFIG = RunConfig.model_validate({"promotion": {"margins": {"statistic": "mean"}}})
NAME = CONFIG.model_name
Enact = Callable[[step.Inputs], ManifestRef]


@pytest.fixture
def context(store: Store, store_settings: Settings, tmp_path: Path) -> StepContext:
    return StepContext(
        run_id="20260101-000000-abcd",
        config=CONFIG,
        settings=store_settings,
        store=store,
        progress=Progress("promote"),
        tracker=MemoryTracker(),
        folder=tmp_path,
    )


@pytest.fixture
def enact(context: StepContext) -> Enact:
    """Run key, produce and finish as `execute` does."""

    def run(inputs: step.Inputs) -> ManifestRef:
        parts = [str(ref) for ref in step.key(context, inputs).inputs]
        path = f"steps/promote/{abs(hash(tuple(parts))):x}"
        ref = context.store.find(path) or context.store.commit(path, step.produce(context, inputs))
        step.finish(context, inputs, ref)
        return ref

    return run


def model(store: Store, label: str) -> ManifestRef:
    draft = ManifestDraft(kind="model", files={}, metadata={"label": label})
    return store.commit(f"steps/publish_checkpoint/{label}", draft)


def inputs_for(
    store: Store, candidate: ManifestRef, *, gain: float, champion: ManifestRef | None = None
) -> step.Inputs:
    scores = {"dino": {"mean": 0.8}, "clip_t": {"mean": 0.3}, "score": {"mean": 0.5}}
    gains = {"base": {"dino": {"mean": gain}, "clip_t": {"mean": 0.0}}}
    if champion is not None:
        gains["champion"] = {"score": {"mean": gain}}
    evaluation = store.commit(
        f"steps/evaluate/{candidate.digest[:8]}-{gain}-{champion.digest[:8] if champion else ''}",
        ManifestDraft(
            kind="evaluation",
            files={},
            inputs=(candidate,),
            metadata={
                "metrics": {"finetuned": scores},
                "gains": gains,
                "champion": str(champion or ""),
            },
        ),
    )
    return step.Inputs(
        run_id="20260101-000000-abcd", config="{}", model=str(candidate), evaluation=str(evaluation)
    )


@pytest.mark.proves("F34/gate")
def test_promote_of_better_model_makes_it_champion(
    store: Store, context: StepContext, enact: Enact
) -> None:
    candidate = model(store, "a")
    ref = enact(inputs_for(store, candidate, gain=0.2))
    facts = store.read(ref).metadata
    assert facts["verdict"] == "promoted"
    assert all(rule["passed"] for rule in facts["rules"])
    entry = ledger.champion(store, NAME)
    assert entry is not None
    assert (entry.ref, entry.evidence, entry.version) == (candidate, str(ref), 1)
    assert "gains +0.200 over the base" in entry.reason
    assert isinstance(context.tracker, MemoryTracker)
    step.ABOUT.show(context, ref)
    assert context.tracker.logged_tags == {"boothline.verdict": "promoted"}


@pytest.mark.proves("F34/gate")
def test_promote_of_worse_model_writes_no_entry(store: Store, enact: Enact) -> None:
    ref = enact(inputs_for(store, model(store, "a"), gain=-0.2))
    facts = store.read(ref).metadata
    assert facts["verdict"] == "refused"
    assert [rule["name"] for rule in facts["rules"] if not rule["passed"]] == ["subject_gain"]
    assert ledger.history(store) == []


def test_promote_repeated_changes_nothing(store: Store, enact: Enact) -> None:
    inputs = inputs_for(store, model(store, "a"), gain=0.2)
    assert enact(inputs) == enact(inputs)
    assert len(ledger.history(store)) == 1


def test_promote_killed_between_verdict_and_entry_is_completed_by_the_next_run(
    store: Store, context: StepContext
) -> None:
    inputs = inputs_for(store, model(store, "a"), gain=0.2)
    ref = store.commit("steps/promote/k", step.produce(context, inputs))
    assert ledger.champion(store, NAME) is None
    step.finish(context, inputs, ref)
    step.finish(context, inputs, ref)
    assert [entry.evidence for entry in ledger.history(store)] == [str(ref)]


def test_promote_with_outdated_evaluation_is_a_conflict(store: Store, enact: Enact) -> None:
    enact(inputs_for(store, model(store, "a"), gain=0.2))
    with pytest.raises(ConflictError, match="Resume the run"):
        enact(inputs_for(store, model(store, "b"), gain=0.3))


def test_promote_against_the_champion_needs_a_better_score(store: Store, enact: Enact) -> None:
    first, second, third = (model(store, label) for label in "abc")
    enact(inputs_for(store, first, gain=0.2))
    refused = enact(inputs_for(store, second, gain=0.0, champion=first))
    promoted = enact(inputs_for(store, third, gain=0.1, champion=first))
    names = [rule["name"] for rule in store.read(refused).metadata["rules"] if not rule["passed"]]
    assert names == ["subject_gain", "champion_gain"]
    assert store.read(promoted).metadata["champion_before"] == str(first)
    assert ledger.champion_to_beat(store, NAME, third) == first


def trained(store: Store, label: str, noun: str, *pictures: bytes) -> ManifestRef:
    """A model with a dataset above it, as a run leaves it."""
    files = {f"images/{number:03d}.png": data for number, data in enumerate(pictures)}
    draft = ManifestDraft(
        kind="dataset", files=files | {"class/images/0.png": b"any"}, metadata={"class_noun": noun}
    )
    dataset = store.commit(f"steps/validate_data/{label}", draft)
    training = store.commit(
        f"steps/train/{label}", ManifestDraft(kind="training", files={}, inputs=(dataset,))
    )
    return store.commit(
        f"steps/publish_checkpoint/{label}",
        ManifestDraft(kind="model", files={}, inputs=(training,), metadata={"label": label}),
    )


@pytest.mark.proves("F70/gate")
@pytest.mark.parametrize(
    ("noun", "pictures", "verdict"),
    [
        ("cat", (b"c1", b"c2"), "refused"),
        ("cat", (b"c1", b"d2"), "promoted"),
        ("Dog", (b"c1", b"c2"), "promoted"),
    ],
    ids=["another-subject", "shared-picture", "same-noun"],
)
def test_promote_over_a_champion_of_another_subject(
    store: Store, context: StepContext, noun: str, pictures: tuple[bytes, ...], verdict: str
) -> None:
    dog = trained(store, "a", "dog", b"d1", b"d2")
    other = trained(store, "b", noun, *pictures)
    facts = step.produce(context, inputs_for(store, other, gain=0.2, champion=dog)).metadata
    rule = next(rule for rule in facts["rules"] if rule["name"] == "same_subject")
    assert facts["verdict"] == verdict
    assert rule["passed"] == (verdict == "promoted")
    if verdict == "refused":
        assert "its class is 'dog', this model's is 'cat'" in rule["text"]
        assert "subject.name" in rule["text"]


def test_promote_with_evaluation_of_another_model_is_refused(
    store: Store, context: StepContext
) -> None:
    of_first = inputs_for(store, model(store, "a"), gain=0.2)
    wrong = of_first.model_copy(update={"model": str(model(store, "b"))})
    with pytest.raises(DataError, match="belongs to a different model"):
        step.produce(context, wrong)


def test_promote_accepts_the_evaluation_of_a_model_of_equal_content(
    store: Store, context: StepContext
) -> None:
    of_first = inputs_for(store, model(store, "a"), gain=0.2)
    twin = store.commit(
        "steps/publish_checkpoint/twin",
        ManifestDraft(kind="model", files={}, metadata={"label": "a"}),
    )
    draft = step.produce(context, of_first.model_copy(update={"model": str(twin)}))
    assert draft.metadata["model"] == str(twin)


def test_promote_key_depends_on_margins_but_not_on_training(
    store: Store, context: StepContext
) -> None:
    inputs = inputs_for(store, model(store, "a"), gain=0.2)
    config = step.key(context, inputs).config
    assert config["promotion"]["margins"]["min_subject_gain"] == 0.02
    assert set(config) == {"model_name", "promotion"}


def test_promote_key_names_later_rules_where_they_are_asked_for(
    store: Store, context: StepContext
) -> None:
    """So that a verdict from before there were such rules is found by whoever switches them off."""
    inputs = inputs_for(store, model(store, "a"), gain=0.2)

    def margins(**values: object) -> set[str]:
        config = RunConfig.model_validate({"promotion": {"margins": values}})
        key = step.key(replace(context, config=config), inputs)
        return set(key.config["promotion"]["margins"])

    old = {"min_subject_gain", "max_prompt_loss", "min_champion_gain", "statistic"}
    assert margins(max_prior_loss=None, max_diversity_loss=None) == old
    assert margins(max_prior_loss=None) == old | {"max_diversity_loss"}
    assert margins() == old | {"max_diversity_loss", "max_prior_loss"}
