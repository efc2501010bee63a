"""The ledger on a real store: order, races, promotion, rollback."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from boothline.errors import ConfigError, ConflictError, ModelNotFoundError
from boothline.registry import ledger
from boothline.registry import versions as registry_versions
from boothline.registry.promotion import promote, promote_past_gate, rollback
from boothline.registry.versions import ensure_version, resolve
from boothline.settings import Settings
from boothline.store import ManifestDraft, ManifestRef, Store

pytestmark = pytest.mark.services

NAME = "boothline-bear"


def ref_of(label: str, step: str = "publish_checkpoint") -> ManifestRef:
    return ManifestRef(path=f"steps/{step}/{label}", digest=f"{hash((label, step)) % 16**12:064x}")


def crown(
    store: Store, settings: Settings, label: str, *, beaten: str = "", name: str = NAME,
    verdict: str = "",
) -> ledger.LedgerEntry | None:  # fmt: skip
    return promote(
        store,
        settings,
        name,
        ref=ref_of(label),
        beaten=ref_of(beaten) if beaten else None,
        evidence=ref_of(verdict or f"{label}-over-{beaten}", "promote"),
        reason="it is better",
        actor="run r1",
    )


def labels(store: Store, name: str = NAME) -> list[tuple[str, str]]:
    return [(e.action, e.ref.path.rsplit("/", 1)[-1]) for e in ledger.history(store, name)]


def champion_label(store: Store) -> str:
    entry = ledger.champion(store, NAME)
    return "" if entry is None else entry.ref.path.rsplit("/", 1)[-1]


def test_ledger_empty_has_no_champion_and_nothing_to_beat(store: Store) -> None:
    assert ledger.champion(store, NAME) is None
    assert ledger.champion_to_beat(store, NAME, ref_of("a")) is None
    assert ledger.history(store) == []


@pytest.mark.proves("F34/ledger")
def test_ledger_append_at_a_taken_number_is_a_conflict(
    store: Store, store_settings: Settings
) -> None:
    entry = crown(store, store_settings, "a")
    assert entry is not None
    with pytest.raises(ConflictError):
        ledger.append(store, entry)


def test_champion_to_beat_of_the_champion_itself_is_the_one_it_beat(
    store: Store, store_settings: Settings
) -> None:
    crown(store, store_settings, "a")
    assert ledger.champion_to_beat(store, NAME, ref_of("a")) is None
    crown(store, store_settings, "b", beaten="a")
    assert ledger.champion_to_beat(store, NAME, ref_of("b")) == ref_of("a")
    assert ledger.champion_to_beat(store, NAME, ref_of("c")) == ref_of("b")


def test_promote_repeated_writes_one_entry(store: Store, store_settings: Settings) -> None:
    first = crown(store, store_settings, "a")
    assert crown(store, store_settings, "a") == first
    assert labels(store) == [("promote", "a")]


def test_promote_after_another_became_champion_is_a_conflict(
    store: Store, store_settings: Settings
) -> None:
    crown(store, store_settings, "a")
    crown(store, store_settings, "b", beaten="a")
    with pytest.raises(ConflictError, match=r"version 2 \(entry 2\)"):
        crown(store, store_settings, "c", beaten="a")
    assert champion_label(store) == "b"


@pytest.fixture
def rolled_back(store: Store, store_settings: Settings) -> Store:
    """A store in which `b` followed `a` as the champion and was rolled back."""
    crown(store, store_settings, "a")
    crown(store, store_settings, "b", beaten="a")
    rollback(store, store_settings, NAME, reason="it drew two tails", actor="someone")
    return store


@pytest.mark.parametrize("verdict", ["", "judged-by-other-margins"], ids=["same", "other"])
def test_promote_after_rollback_leaves_the_rollback(
    rolled_back: Store, store_settings: Settings, verdict: str
) -> None:
    again = crown(rolled_back, store_settings, "b", beaten="a", verdict=verdict)
    assert again is None
    assert champion_label(rolled_back) == "a"


def test_promote_past_the_gate_after_rollback_says_who_and_why(
    rolled_back: Store, store_settings: Settings
) -> None:
    store = rolled_back
    entry = promote_past_gate(
        store,
        store_settings,
        NAME,
        ref=ref_of("b"),
        reason="the two tails are fine",
        actor="someone",
    )
    assert (entry.number, entry.forced, entry.evidence, entry.below) == (4, True, "", 3)
    assert (entry.actor, entry.reason) == ("someone", "the two tails are fine")
    assert ledger.history(store, NAME)[-1] == entry
    assert champion_label(store) == "b"
    assert not any(earlier.forced for earlier in ledger.history(store, NAME)[:-1])


def test_rollback_goes_down_the_stack_one_champion_at_a_time(
    store: Store, store_settings: Settings
) -> None:
    for label, beaten in (("a", ""), ("b", "a"), ("c", "b")):
        crown(store, store_settings, label, beaten=beaten)
    rollback(store, store_settings, NAME, reason="r", actor="x")
    assert champion_label(store) == "b"
    crown(store, store_settings, "d", beaten="b")
    rollback(store, store_settings, NAME, reason="r", actor="x")
    rollback(store, store_settings, NAME, reason="r", actor="x")
    assert champion_label(store) == "a"
    with pytest.raises(ConfigError, match="no earlier champion"):
        rollback(store, store_settings, NAME, reason="r", actor="x")
    assert [action for action, _ in labels(store)] == [
        *["promote"] * 3,
        "rollback",
        "promote",
        "rollback",
        "rollback",
    ]


def test_champion_to_beat_after_rollback_is_as_at_first(
    store: Store, store_settings: Settings
) -> None:
    for label, beaten in (("a", ""), ("b", "a"), ("c", "b")):
        crown(store, store_settings, label, beaten=beaten)
    rollback(store, store_settings, NAME, reason="r", actor="x")
    assert ledger.champion_to_beat(store, NAME, ref_of("b")) == ref_of("a")
    assert ledger.champion_to_beat(store, NAME, ref_of("c")) == ref_of("b")


def test_ledger_keeps_models_apart(store: Store, store_settings: Settings) -> None:
    crown(store, store_settings, "a")
    crown(store, store_settings, "z", name="boothline-mug")
    crown(store, store_settings, "b", beaten="a")
    assert labels(store) == [("promote", "a"), ("promote", "b")]
    assert labels(store, "boothline-mug") == [("promote", "z")]
    assert ledger.champion_to_beat(store, NAME, ref_of("b")) == ref_of("a")
    assert [entry.number for entry in ledger.history(store)] == [1, 2, 3]


@pytest.mark.proves("F34/ledger")
def test_fifty_concurrent_promotions_have_one_winner(
    store: Store, store_settings: Settings
) -> None:
    crown(store, store_settings, "first")

    def attempt(number: int) -> str:
        try:
            crown(store, store_settings, f"rival-{number}", beaten="first")
        except ConflictError:
            return "refused"
        return "won"

    with ThreadPoolExecutor(max_workers=50) as pool:
        outcomes = Counter(pool.map(attempt, range(50)))
    assert outcomes == {"won": 1, "refused": 49}
    assert len(ledger.history(store)) == 2


def test_concurrent_promotions_of_different_models_all_get_a_number(
    store: Store, store_settings: Settings
) -> None:
    with ThreadPoolExecutor(max_workers=12) as pool:
        futures = [
            pool.submit(crown, store, store_settings, "a", name=f"boothline-{number}")
            for number in range(12)
        ]
        numbers = [future.result().number for future in futures if future.result()]
    assert sorted(numbers) == list(range(1, 13))


def test_versions_without_mlflow_are_numbered_once_each(
    store: Store, store_settings: Settings
) -> None:
    def ensure(number: int) -> int:
        ref = ref_of(f"m{number % 3}")
        return ensure_version(store, store_settings, model_name=NAME, ref=ref).version

    with ThreadPoolExecutor(max_workers=12) as pool:
        numbers = list(pool.map(ensure, range(24)))
    assert sorted(set(numbers)) == [1, 2, 3]
    assert all(len({numbers[i] for i in range(first, 24, 3)}) == 1 for first in range(3))


def test_manifest_that_was_recorded_meanwhile_claims_no_second_number(
    store: Store, store_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = ref_of("m")
    made = ensure_version(store, store_settings, model_name=NAME, ref=ref)
    find, looks = registry_versions.find, iter([None])  # it was recorded after the first look
    monkeypatch.setattr(registry_versions, "find", lambda *args: next(looks, find(*args)))
    assert ensure_version(store, store_settings, model_name=NAME, ref=ref) == made
    assert ensure_version(store, store_settings, model_name=NAME, ref=ref_of("n")).version == 2


def test_resolve_pins_alias_and_number_to_a_manifest(
    store: Store, store_settings: Settings
) -> None:
    crown(store, store_settings, "a")
    ensure_version(store, store_settings, model_name=NAME, ref=ref_of("b"))
    assert resolve(store, NAME, "champion").ref == ref_of("a")
    assert resolve(store, NAME, "challenger").ref == ref_of("b")
    assert resolve(store, NAME, "1").digest == ref_of("a").digest
    crown(store, store_settings, "b", beaten="a")
    with pytest.raises(ModelNotFoundError, match="no challenger: no version may still"):
        resolve(store, NAME, "challenger")


def test_resolve_of_unknown_version_lists_the_known_ones(
    store: Store, store_settings: Settings
) -> None:
    crown(store, store_settings, "a")
    with pytest.raises(ModelNotFoundError, match=r"no version '7'\. Its versions are: 1\."):
        resolve(store, NAME, "7")


def test_stored_ref_is_found_by_another_store_object(
    store: Store, store_settings: Settings
) -> None:
    ref = store.commit("steps/publish_checkpoint/k", ManifestDraft(kind="model", files={}))
    made = ensure_version(store, store_settings, model_name=NAME, ref=ref)
    assert resolve(Store.connect(store_settings), NAME, "1") == made
